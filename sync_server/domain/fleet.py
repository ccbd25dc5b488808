"""How the devices and the queue of re-inference are: what an admin looks at in the morning."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict
from sqlalchemy import func
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import Select

from shared.records import RecordType
from sync_server.db.engine import among
from sync_server.db.tables import DeviceRow, DiagnosisRow, ImageRow, RadiographRow, ServerReadingRow, UploadRow
from sync_server.domain import inbox
from sync_server.domain.effects import IntakeResult
from sync_server.domain.readings import FRESH

SILENT: Final = timedelta(days=3)
"""A device that has not been heard of for so long is pointed out: it may be lost, or its link broken."""
SLOW: Final = timedelta(minutes=10)
"""A film that waits so long for its full-precision reading is pointed out: no worker may be running."""


class Standing(StrEnum):
    """How a device is, the first that applies."""

    REVOKED = "revoked"
    FLAGGED = "flagged"
    """Its events contradict each other: see ``DeviceRow.flagged``."""
    UNSEEN = "unseen"
    """It has not reported since it was enrolled."""
    SILENT = "silent"
    WELL = "well"


class Device(BaseModel):
    """A device and what is under way between it and the hospital.

    Attributes:
        row: the device.
        standing: how it is.
        unread: what the hospital has said and the device has not fetched yet.
        missing: films it has announced whose original is not here yet.
        uploads: uploads of it under way.
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    row: DeviceRow
    standing: Standing
    unread: int
    missing: int
    uploads: int


class Queue(BaseModel):
    """The queue of full-precision readings.

    Attributes:
        waiting, failed, poison: readings in each state; failed are those whose image cannot be read.
        again: those of the waiting that are read again from the archive, after all others.
        oldest: when the one that waits longest was asked for, those of the archive left aside.
        done_lately: finished within the last hour.
        slow: whether one has waited longer than :data:`SLOW`.
        held_up: codes of what kept those that wait from being read so far, the most frequent first.
    """

    model_config = ConfigDict(frozen=True)

    waiting: int
    again: int
    failed: int
    poison: int
    oldest: datetime | None
    done_lately: int
    slow: bool
    held_up: list[str]


def devices(session: Session, now: datetime) -> list[Device]:
    """All devices: those in need of someone first, then by name."""
    unread = inbox.waiting(session)
    uploads = _by_device(session, select(UploadRow.device, func.count()).group_by(col(UploadRow.device)))
    missing = _by_device(
        session,
        select(RadiographRow.device, func.count())
        .outerjoin(ImageRow, col(ImageRow.sha256) == col(RadiographRow.sha256))
        .where(
            col(ImageRow.sha256).is_(None),
            col(RadiographRow.sha256).is_not(None),
            col(RadiographRow.deleted).is_(None),
            col(RadiographRow.purged_at).is_(None),
        )
        .group_by(col(RadiographRow.device)),
    )
    found = [
        Device(
            row=row,
            standing=_standing(row, now),
            unread=unread.get(row.id, 0),
            missing=missing.get(row.id, 0),
            uploads=uploads.get(row.id, 0),
        )
        for row in session.exec(select(DeviceRow)).all()
    ]
    return sorted(found, key=lambda device: (_ORDER[device.standing], device.row.name.casefold(), device.row.id))


def note_release(session: Session, result: IntakeResult) -> None:
    """A device's latest diagnosis says which model release it runs: kept in its facts for the list of devices."""
    ids = result.touched.get(RecordType.DIAGNOSIS, set())
    device = session.get(DeviceRow, result.device) if ids else None
    if device is None:
        return
    for row in session.execute(among(DiagnosisRow, "id", "content"), {"ids": list(ids)}):
        release = (row.content.get("result") or {}).get("release")
        made_at = row.content.get("made_at")
        known = device.facts.get("diagnosed_at")
        # What an ambulance says once more, in a new chain, is not news.
        if release and made_at and (known is None or datetime.fromisoformat(made_at) > datetime.fromisoformat(known)):
            device.facts = {**device.facts, "release": release, "diagnosed_at": made_at}
    session.add(device)


def queue(session: Session, now: datetime) -> Queue:
    """How the queue of full-precision readings is."""
    row = ServerReadingRow
    counted = dict(session.exec(select(row.state, func.count()).group_by(col(row.state))).all())
    fresh = select(func.count(), func.min(row.asked_at)).where(row.state == "waiting", row.priority == FRESH)
    arrived, oldest = session.exec(fresh).one()
    held_up = select(row.error).where(row.state == "waiting", col(row.error).is_not(None)).group_by(col(row.error))
    lately = select(func.count()).where(row.state == "done", col(row.done_at) >= now - timedelta(hours=1))
    return Queue(
        waiting=counted.get("waiting", 0),
        again=counted.get("waiting", 0) - arrived,
        failed=counted.get("failed", 0),
        poison=counted.get("poison", 0),
        oldest=oldest,
        done_lately=session.exec(lately).one(),
        slow=oldest is not None and now - oldest > SLOW,
        held_up=[code for code in session.exec(held_up.order_by(func.count().desc(), col(row.error))) if code],
    )


def set_aside(session: Session, most: int = 100) -> Sequence[ServerReadingRow]:
    """Images that failed the workers again and again, and those that cannot be read, latest first."""
    row = ServerReadingRow
    query = select(row).where(col(row.state).in_(("poison", "failed"))).order_by(col(row.asked_at).desc()).limit(most)
    return session.exec(query).all()


NEEDY: Final = frozenset({Standing.FLAGGED, Standing.SILENT})
"""Devices that someone should look after."""
_ORDER: Final = {
    standing: rank
    for rank, standing in enumerate(
        (Standing.FLAGGED, Standing.SILENT, Standing.UNSEEN, Standing.WELL, Standing.REVOKED)
    )
}


def _standing(row: DeviceRow, now: datetime) -> Standing:
    if row.revoked_at is not None:
        return Standing.REVOKED
    if row.flagged is not None:
        return Standing.FLAGGED
    if row.seen_at is None:
        return Standing.UNSEEN
    return Standing.SILENT if now - row.seen_at > SILENT else Standing.WELL


def _by_device(session: Session, query: Select[UUID, int]) -> dict[UUID, int]:
    return dict(session.exec(query).all())
