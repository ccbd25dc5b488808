"""Two crews registered the same patient: an admin finds one to be the other, and may take it back.

Nothing of either patient is changed: the one points to the other (``merged_into``), and the histories of its runs are
rebuilt under it. So a merge is undone without loss, also after both patients have been changed by their crews.
"""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict
from sqlmodel import Session, col, select

from shared.errors import FirstRayError
from shared.identity import new_id
from shared.records import PatientFields
from sync_server.db.tables import HistoryRow, MergeRow, PatientRow
from sync_server.domain import audit, histories
from sync_server.domain.changes import BOARD, publish, run_of
from sync_server.domain.hiding import needed


class Side(BaseModel):
    """One of two patients, as it is shown before they are merged."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    id: UUID
    fields: PatientFields
    runs: tuple[HistoryRow, ...]


class Merged(BaseModel):
    """A merge that stands, with both patients' own fields."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    merge: MergeRow
    patient: PatientFields
    into: PatientFields


def side(session: Session, patient: UUID) -> Side:
    """A patient with its runs, latest first, those of patients merged into it included.

    Raises:
        FirstRayError: ``patient_unknown``.
    """
    row = _patient(session, patient)
    runs = session.exec(
        select(HistoryRow)
        .where(HistoryRow.patient == patient, col(HistoryRow.visible).is_(True))
        .order_by(col(HistoryRow.started_at).desc())
    ).all()
    return Side(id=row.id, fields=PatientFields.model_validate(row.content), runs=tuple(runs))


def merge(session: Session, patient: UUID, into: UUID, reason: str, by: UUID, actor: str) -> MergeRow:
    """From now on the runs of ``patient`` are those of ``into``.

    Args:
        session: of a writing transaction.
        patient, into: both standing for themselves so far.
        reason: why they are thought to be the same.
        by, actor: the admin, as an account and as the audit log names them.

    Raises:
        FirstRayError: ``reason_missing``, ``patient_unknown``, ``same_patient`` or ``already_merged``.
    """
    reason = needed(reason)
    if patient == into:
        raise FirstRayError("same_patient", "This is one patient already.", "Choose two different patients.")
    rows = {row: _patient(session, row, lock=True) for row in sorted((patient, into))}
    if any(row.merged_into is not None for row in rows.values()):
        raise FirstRayError(
            "already_merged",
            "One of the two has been merged with another patient meanwhile.",
            "Load the list again; merge with the patient it was found to be, or undo that merge.",
        )
    rows[patient].merged_into = into
    row = MergeRow(id=new_id(), patient=patient, into=into, reason=reason, by=by, at=datetime.now(UTC))
    session.add_all((rows[patient], row))
    _follow(session, patient)
    audit.record(session, actor, "patient.merged", str(patient), into=str(into), reason=reason)
    return row


def unmerge(session: Session, merge: UUID, by: UUID, actor: str) -> None:
    """Take a merge back: the runs go back to their own patient.

    Raises:
        FirstRayError: ``merge_unknown``, or ``patient_unknown`` where the patient was purged meanwhile.
    """
    row = session.exec(select(MergeRow).where(MergeRow.id == merge).with_for_update()).first()
    if row is None or row.undone_at is not None:
        raise FirstRayError(
            "merge_unknown", "There is no such merge, or it was undone already.", "Load the list again."
        )
    patient = _patient(session, row.patient, lock=True)
    patient.merged_into = None
    row.undone_at, row.undone_by = datetime.now(UTC), by
    session.add_all((patient, row))
    _follow(session, row.patient)
    audit.record(session, actor, "patient.unmerged", str(row.patient), into=str(row.into))


def standing(session: Session) -> list[Merged]:
    """Merges that can be undone, latest first; of a patient who was purged since nothing is known."""
    rows = session.exec(
        select(MergeRow).where(col(MergeRow.undone_at).is_(None)).order_by(col(MergeRow.at).desc()).limit(500)
    ).all()
    ids = {row.patient for row in rows} | {row.into for row in rows}
    found = session.exec(select(PatientRow).where(col(PatientRow.id).in_(ids))).all()
    fields = {row.id: PatientFields.model_validate(row.content) for row in found if row.purged_at is None}
    return [
        Merged(merge=row, patient=fields[row.patient], into=fields.get(row.into, PatientFields()))
        for row in rows
        if row.patient in fields
    ]


def _patient(session: Session, patient: UUID, lock: bool = False) -> PatientRow:
    query = select(PatientRow).where(PatientRow.id == patient)
    row = session.exec(query.with_for_update() if lock else query).first()
    if row is None or row.deleted is not None or row.purged_at is not None:
        raise FirstRayError("patient_unknown", "There is no such patient, or it was deleted.", "Load the list again.")
    return row


def _follow(session: Session, patient: UUID) -> None:
    """Rebuild the histories of a patient's runs, and of those who were merged into it."""
    session.flush()
    runs = histories.of_patients(session, [patient])
    histories.refresh(session, runs)
    publish(session, BOARD, *(run_of(run) for run in runs))
