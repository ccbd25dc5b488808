"""What was deleted long ago goes for good: content, image bytes, and what was said about it.

A purged record keeps its ids and nothing else, and an event about it keeps its place and its hash: the chain can still
be verified (an event's ``previous`` is the hash of the one before), and the same event sent again is known. Each step
is a transaction of its own and finds by itself what is left to do: after a crash the next purge goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict
from sqlalchemy import delete, exists, or_, update
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from shared.records import RecordType
from sync_server.db.tables import (
    ROWS,
    AcknowledgementRow,
    AgreementRow,
    ConfirmedReadingRow,
    DiagnosisRow,
    EncounterRow,
    EventRow,
    HistoryRow,
    ImageDeliveryRow,
    ImageRow,
    InboxRow,
    MessageRow,
    PatientRow,
    RadiographRow,
    ServerReadingRow,
    SupersededRow,
    VitalSignsRow,
)
from sync_server.domain import audit, display
from sync_server.domain.changes import BOARD, publish

if TYPE_CHECKING:
    from sync_server.hospital import Hospital

BATCH: Final = 50
"""Runs purged in one transaction: devices that deliver meanwhile wait no longer than for this."""
ACTOR: Final = "system:purge"


class Purged(BaseModel):
    """What a purge removed."""

    model_config = ConfigDict(frozen=True)

    runs: int = 0
    records: int = 0
    images: int = 0


def purge(hospital: Hospital, now: datetime) -> Purged:
    """Remove what was deleted, by the hospital or by a crew, ``settings.purge_days`` before ``now`` or earlier."""
    cutoff = now - timedelta(days=hospital.settings.purge_days)
    runs = records = 0
    with hospital.database.reading() as session:
        due = session.exec(select(EncounterRow.id).where(_due(EncounterRow, cutoff))).all()
    for few in _batched(due):
        gone, erased = hospital.database.write(partial(_purge_runs, runs=few, cutoff=cutoff, now=now))
        runs, records = runs + gone, records + erased
    records += hospital.database.write(partial(_purge_rest, cutoff=cutoff, now=now))
    images = _sweep_images(hospital)
    return Purged(runs=runs, records=records, images=images)


def _due(row: Any, cutoff: datetime) -> Any:
    return (col(row.purged_at).is_(None)) & or_(col(row.hidden_at) <= cutoff, col(row.deleted_at) <= cutoff)


def _purge_runs(session: Session, runs: Sequence[UUID], cutoff: datetime, now: datetime) -> tuple[int, int]:
    """Purge runs with all that hangs on them; those that were shown again meanwhile are left alone."""
    query = select(EncounterRow).where(col(EncounterRow.id).in_(runs), _due(EncounterRow, cutoff))
    encounters = session.exec(query.order_by(col(EncounterRow.id)).with_for_update()).all()
    ids = [row.id for row in encounters]
    vital_signs = session.exec(select(VitalSignsRow).where(col(VitalSignsRow.encounter).in_(ids))).all()
    radiographs = session.exec(select(RadiographRow).where(col(RadiographRow.encounter).in_(ids))).all()
    films = [row.id for row in radiographs]
    diagnoses = session.exec(select(DiagnosisRow).where(col(DiagnosisRow.radiograph).in_(films))).all()
    for table in (AcknowledgementRow, ConfirmedReadingRow, MessageRow, HistoryRow):
        session.exec(delete(table).where(col(table.encounter).in_(ids)))
    _unsay(session, "encounter", ids)
    erased = _erase(session, [*encounters, *vital_signs, *radiographs, *diagnoses], now)
    publish(session, BOARD)
    for run in ids:
        audit.record(session, ACTOR, "run.purged", str(run))
    return len(ids), erased


def _purge_rest(session: Session, cutoff: datetime, now: datetime) -> int:
    erased = _purge_single(session, cutoff, now) + _purge_patients(session, now)
    _sweep_events(session)
    return erased


def _purge_single(session: Session, cutoff: datetime, now: datetime) -> int:
    """Records that the crew deleted one by one, the readings of its films, and what still arrived for purged runs."""
    rows: dict[UUID, Any] = {}
    for kind in (RecordType.PATIENT, RecordType.VITAL_SIGNS, RecordType.RADIOGRAPH, RecordType.DIAGNOSIS):
        rows |= {row.id: row for row in session.exec(select(ROWS[kind]).where(_due(ROWS[kind], cutoff))).all()}
    gone = select(EncounterRow.id).where(col(EncounterRow.purged_at).is_not(None))
    for table in (VitalSignsRow, RadiographRow):
        query = select(table).where(col(table.purged_at).is_(None), col(table.encounter).in_(gone))
        rows |= {row.id: row for row in session.exec(query).all()}
    films = [row.id for row in rows.values() if isinstance(row, RadiographRow)]
    purged = select(RadiographRow.id).where(col(RadiographRow.purged_at).is_not(None))
    readings = select(DiagnosisRow).where(
        col(DiagnosisRow.purged_at).is_(None),
        or_(col(DiagnosisRow.radiograph).in_(films), col(DiagnosisRow.radiograph).in_(purged)),
    )
    rows |= {row.id: row for row in session.exec(readings).all()}
    erased = _erase(session, list(rows.values()), now)
    for row in rows.values():
        audit.record(session, ACTOR, "record.purged", str(row.id), type=row.__tablename__)
    return erased


def _purge_patients(session: Session, now: datetime) -> int:
    """Patients all of whose runs are purged."""
    run, live = aliased(EncounterRow), aliased(EncounterRow)
    other = aliased(PatientRow)
    patients = session.exec(
        select(PatientRow).where(
            col(PatientRow.purged_at).is_(None),
            exists().where(col(run.patient) == col(PatientRow.id), col(run.purged_at).is_not(None)),
            ~exists().where(col(live.patient) == col(PatientRow.id), col(live.purged_at).is_(None)),
            ~exists().where(col(other.merged_into) == col(PatientRow.id), col(other.purged_at).is_(None)),
        )
    ).all()
    erased = _erase(session, patients, now)
    for row in patients:
        audit.record(session, ACTOR, "patient.purged", str(row.id))
    return erased


def _erase(session: Session, rows: Sequence[Any], now: datetime) -> int:
    """Empty records, the events about them and the values that lost; links and hashes of files stay."""
    for row in rows:
        row.content, row.stamps, row.delete_reason = {}, {}, None
        row.purged_at = now
        session.add(row)
    session.flush()
    films = [row.id for row in rows if isinstance(row, RadiographRow)]
    for few in _batched([row.id for row in rows]):
        session.exec(delete(SupersededRow).where(col(SupersededRow.record).in_(few)))
        session.exec(update(EventRow).where(col(EventRow.subject).in_(few)).values(body="", message=None))
    for few in _batched(films):
        session.exec(delete(AgreementRow).where(col(AgreementRow.radiograph).in_(few)))
        session.exec(delete(ConfirmedReadingRow).where(col(ConfirmedReadingRow.radiograph).in_(few)))
    _unsay(session, "radiograph", films)
    return len(rows)


def _unsay(session: Session, field: str, ids: Sequence[UUID]) -> None:
    """Remove what was said to devices about these; ids of an inbox may have gaps."""
    for few in _batched(ids):
        about = InboxRow.content[field].as_string()
        session.exec(delete(InboxRow).where(about.in_([str(one) for one in few])))


def _sweep_events(session: Session) -> None:
    """Events about purged records that arrived after the purge: a device with a new chain says everything again."""
    for row in ROWS.values():
        gone = select(row.id).where(col(row.purged_at).is_not(None))
        query = update(EventRow).where(col(EventRow.subject).in_(gone), col(EventRow.body) != "")
        session.exec(query.values(body="", message=None))


def _sweep_images(hospital: Hospital) -> int:
    """Delete the bytes that purged films alone refer to, their readings with them.

    The bytes go before the row that says they are held, within its transaction: a crash in between leaves the row, and
    the next purge finds it.
    """
    with hospital.database.reading() as session:
        unused = session.exec(select(ImageRow.sha256).where(_orphaned())).all()
    if unused:
        hospital.images.check()  # before anything waits for it in a transaction
    removed = 0
    for sha256 in unused:
        with hospital.images.guarded(sha256), hospital.database.writing() as session:
            query = select(ImageRow).where(ImageRow.sha256 == sha256, _orphaned()).with_for_update()
            if (row := session.exec(query).first()) is None:
                continue
            session.exec(delete(ServerReadingRow).where(col(ServerReadingRow.sha256) == sha256))
            session.exec(delete(ImageDeliveryRow).where(col(ImageDeliveryRow.sha256) == sha256))
            session.delete(row)
            audit.record(session, ACTOR, "image.purged", sha256)
            hospital.images.delete(sha256)
            display.forget(hospital.settings.data, sha256)
            removed += 1
    return removed


def _orphaned() -> Any:
    gone, live = aliased(RadiographRow), aliased(RadiographRow)

    def refers(film: Any) -> Any:
        return or_(col(film.sha256) == col(ImageRow.sha256), col(film.preview_sha256) == col(ImageRow.sha256))

    return exists().where(refers(gone), col(gone.purged_at).is_not(None)) & ~exists().where(
        refers(live), col(live.purged_at).is_(None)
    )


def _batched(ids: Iterable[UUID]) -> Iterable[Sequence[UUID]]:
    every = list(ids)
    return (every[start : start + BATCH] for start in range(0, len(every), BATCH))
