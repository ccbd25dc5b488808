"""Devices that were taken on: whether they are still trusted, when they were last there, how they are shut out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from sqlalchemy import update
from sqlmodel import Session, col, select

from shared.errors import FirstRayError
from shared.hospital import Revocation
from sync_server.db.engine import locked
from sync_server.db.tables import DeviceRow
from sync_server.domain import audit, inbox, releases

if TYPE_CHECKING:
    from sync_server.hospital import Hospital
    from sync_server.settings import Settings

SEEN_EVERY: Final = timedelta(minutes=1)
"""How exactly it is noted when a device was last there."""


class DeviceRevoked(FirstRayError):
    """The hospital has shut the device out; ``wipe`` asks it to destroy its records."""

    def __init__(self, wipe: bool) -> None:
        super().__init__(
            "device_revoked", "The hospital no longer trusts this device.", "Ask the hospital's IT to enrol it again."
        )
        self.wipe = wipe


def token_url(settings: Settings) -> str:
    """Where devices get tokens, and the ``aud`` of their assertions."""
    return f"{settings.public_url.rstrip('/')}/v1/token"


def revoke(hospital: Hospital, device: UUID, by: str, wipe: bool = False) -> None:
    """Shut a device out, from its next request on; with ``wipe`` it is asked to destroy its records.

    Raises:
        FirstRayError: ``device_unknown``.
    """
    with hospital.database.writing() as session:
        row = _row(session, device)
        row.revoked_at, row.revoked_by = row.revoked_at or datetime.now(UTC), row.revoked_by or by
        row.wipe = row.wipe or wipe
        session.add(row)
        # A device that waits for its inbox this moment hears of it at once.
        inbox.say(session, device, Revocation(wipe=row.wipe))
        audit.record(session, by, "device.revoked", str(device), wipe=wipe)


def change(hospital: Hospital, device: UUID, by: str, *, name: str | None = None, ring: str | None = None) -> None:
    """Call a device otherwise, or move it to another ring.

    Raises:
        FirstRayError: ``device_unknown``, ``ring_invalid`` or ``ring_reserved``.
    """
    if ring:
        releases.refuse_as_device_ring(ring)
    changes = {field: value for field, value in (("name", name), ("ring", ring)) if value}
    with hospital.database.writing() as session:
        row = _row(session, device)
        row.sqlmodel_update(changes)
        session.add(row)
        audit.record(session, by, "device.changed", str(device), **changes)


def refuse_revoked(device: DeviceRow) -> None:
    """Raises DeviceRevoked."""
    if device.revoked_at is not None:
        raise DeviceRevoked(device.wipe)


def seen(hospital: Hospital, device: DeviceRow) -> None:
    """The device was there: noted at most every :data:`SEEN_EVERY`."""
    now = datetime.now(UTC)
    due = now - SEEN_EVERY
    if device.seen_at is not None and device.seen_at > due:
        return
    stale = col(DeviceRow.seen_at).is_(None) | (col(DeviceRow.seen_at) <= due)
    with hospital.database.writing() as session:
        session.execute(update(DeviceRow).where(col(DeviceRow.id) == device.id, stale).values(seen_at=now))


def _row(session: Session, device: UUID) -> DeviceRow:
    row: DeviceRow | None = session.exec(
        locked(session, select(DeviceRow).where(col(DeviceRow.id) == device))
    ).one_or_none()
    if row is None:
        raise FirstRayError("device_unknown", "There is no device with this id.", "It may have been removed.")
    return row
