"""What was deleted long ago goes for good: content, image bytes, and what was said about it.

A purged record keeps its ids and nothing else, and an event about it keeps its place and its hash: the chain can still
be verified (an event's ``previous`` is the hash of the one before), and the same event sent again is known. A patient
keeps the stamps besides: what its crew says of it later brings it back (:mod:`sync_server.domain.merge`). Each step is
a transaction of its own and finds by itself what is left to do: after a crash the next purge goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict
from sqlalchemy import and_, delete, exists, or_, update
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from shared.errors import FirstRayError
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
    ReleaseRow,
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
_log = logging.getLogger(__name__)


class Purged(BaseModel):
    """What a purge removed; ``kept`` are images that could not be deleted."""

    model_config = ConfigDict(frozen=True)

    runs: int = 0
    records: int = 0
    images: int = 0
    kept: int = 0


def purge(hospital: Hospital, now: datetime) -> Purged:
    """Remove what was deleted, by the hospital or by a crew, ``settings.purge_days`` before ``now`` or earlier.

    An image that cannot be deleted is logged and left to the next purge.

    Raises:
        FirstRayError: ``image_store_failing`` where the whole store of images does not work.
    """
    cutoff = now - timedelta(days=hospital.settings.purge_days)
    runs = records = 0
    with hospital.database.reading() as session:
        due = session.exec(select(EncounterRow.id).where(_due(EncounterRow, cutoff))).all()
    for few in _batched(due):
        gone, erased = hospital.database.write(partial(_purge_runs, runs=few, cutoff=cutoff, now=now))
        runs, records = runs + gone, records + erased
    records += hospital.database.write(partial(_purge_single, cutoff=cutoff, now=now))
    with hospital.database.reading() as session:
        left = session.exec(select(PatientRow.id).where(_without_runs())).all()
    for few in _batched(left):
        records += hospital.database.write(partial(_purge_patients, patients=few, now=now))
    hospital.database.write(_sweep_events)
    images, kept = _sweep_images(hospital, cutoff)
    return Purged(runs=runs, records=records, images=images, kept=kept)


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


def _without_runs() -> Any:
    """Patients all of whose runs are purged, and those of all who were merged into them."""
    run, live = aliased(EncounterRow), aliased(EncounterRow)
    other = aliased(PatientRow)
    return and_(
        col(PatientRow.purged_at).is_(None),
        exists().where(col(run.patient) == col(PatientRow.id), col(run.purged_at).is_not(None)),
        ~exists().where(col(live.patient) == col(PatientRow.id), col(live.purged_at).is_(None)),
        ~exists().where(col(other.merged_into) == col(PatientRow.id), col(other.purged_at).is_(None)),
    )


def _purge_patients(session: Session, patients: Sequence[UUID], now: datetime) -> int:
    """Purge patients, but for those who have got a run meanwhile."""
    chosen = col(PatientRow.id).in_(patients)
    # First the locks, then the question: a run that comes in holds its patient until all can see it.
    session.exec(select(PatientRow.id).where(chosen).order_by(col(PatientRow.id)).with_for_update()).all()
    rows = session.exec(select(PatientRow).where(chosen, _without_runs())).all()
    erased = _erase(session, rows, now)
    for row in rows:
        audit.record(session, ACTOR, "patient.purged", str(row.id))
    return erased


def _erase(session: Session, rows: Sequence[Any], now: datetime) -> int:
    """Empty records, the events about them and the values that lost; links and hashes of files stay."""
    for row in rows:
        row.content, row.delete_reason = {}, None
        if not isinstance(row, PatientRow):
            row.stamps = {}
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


def _sweep_images(hospital: Hospital, cutoff: datetime) -> tuple[int, int]:
    """Delete the bytes that no film needs any more; gives how many images are gone, and how many could not be deleted.

    The bytes go first, and no transaction waits for that; then all that the database says of them. After a crash in
    between the next purge finds the row, and that bytes are gone already does not matter; nobody is told meanwhile that
    they are held, for whoever asks looks into the store.
    """
    with hospital.database.reading() as session:
        unused = session.exec(select(ImageRow.sha256).where(_orphaned(cutoff))).all()
    removed = 0
    failures: list[str] = []
    for sha256 in unused:
        try:
            removed += _delete_image(hospital, sha256, cutoff)
        except FirstRayError as error:
            failures.append(error.code)
            _refuse_if_away(hospital)
    if failures:
        codes = ", ".join(sorted(set(failures)))
        _log.error("%d images could not be deleted and are tried again by the next purge: %s", len(failures), codes)
    return removed, len(failures)


def _delete_image(hospital: Hospital, sha256: str, cutoff: datetime) -> bool:
    """Delete one image, unless a film needs it again or another purge was first."""
    with hospital.images.guarded(sha256):
        still = select(ImageRow.sha256).where(ImageRow.sha256 == sha256, _orphaned(cutoff))
        with hospital.database.reading() as session:
            if session.exec(still).first() is None:
                return False
        hospital.images.delete(sha256)
        hospital.database.write(partial(_forget_image, sha256=sha256))
    try:
        display.forget(hospital.settings.data, sha256)
    except OSError as error:  # ``display.sweep`` finds them
        _log.error("pictures of a purged image could not be removed: %s", type(error).__name__)
    return True


def _forget_image(session: Session, sha256: str) -> None:
    for table in (ServerReadingRow, ImageDeliveryRow, ImageRow):
        session.exec(delete(table).where(col(table.sha256) == sha256))
    audit.record(session, ACTOR, "image.purged", sha256)


def _refuse_if_away(hospital: Hospital) -> None:
    """Go on only where the store works but for one image: of one that is away every further image would wait long."""
    try:
        hospital.images.check()
    except FirstRayError as error:
        if error.code != "image_store_full":  # what is deleted makes room
            raise


def _orphaned(cutoff: datetime) -> Any:
    """Images that no film names but purged ones, or, such as a preview that was replaced, none at all for long."""
    gone, live = aliased(RadiographRow), aliased(RadiographRow)

    def named_by(film: Any) -> Any:
        return or_(col(film.sha256) == col(ImageRow.sha256), col(film.preview_sha256) == col(ImageRow.sha256))

    return and_(
        ~exists().where(named_by(live), col(live.purged_at).is_(None)),
        ~exists().where(col(ReleaseRow.sha256) == col(ImageRow.sha256)),  # a device delivered a release's own bytes
        or_(
            exists().where(named_by(gone), col(gone.purged_at).is_not(None)),
            col(ImageRow.stored_at) <= cutoff,
        ),
    )


def _batched(ids: Iterable[UUID]) -> Iterable[Sequence[UUID]]:
    every = list(ids)
    return (every[start : start + BATCH] for start in range(0, len(every), BATCH))
