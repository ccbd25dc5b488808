"""The columns that are listed, searched and joined, as they follow from what a record says."""

from __future__ import annotations

import unicodedata
from typing import TypeVar
from uuid import UUID

from sqlalchemy import update
from sqlmodel import Session, col, select

from edge_app.store.errors import StoreError
from edge_app.store.tables import (
    DiagnosisRow,
    EncounterRow,
    FindingRow,
    InboxRow,
    PatientRow,
    RadiographRow,
    RecordRow,
    VitalSignsRow,
)
from shared.records import (
    DiagnosisFields,
    EncounterFields,
    Fields,
    PatientFields,
    RadiographFields,
    VitalSignsFields,
)

Row = TypeVar("Row", PatientRow, EncounterRow, VitalSignsRow, RadiographRow, DiagnosisRow)


def folded(*texts: str | None) -> str:
    """What a search compares: composed (NFC), without case, one line."""
    joined = " ".join(part for part in texts if part)
    return " ".join(unicodedata.normalize("NFC", joined).casefold().split())


def visible(session: Session, table: type[Row], id: UUID | None) -> Row:
    """A record that exists and is not being deleted; raises ``record_unknown``."""
    row = session.get(table, id) if id else None
    if row is None or getattr(row, "hidden", None) is not None:
        raise StoreError("record_unknown")
    return row


def fill(session: Session, row: RecordRow, fields: Fields) -> None:
    """Set a row's derived columns, and those of other rows that depend on it.

    Raises:
        StoreError: ``record_unknown`` where the fields name a record that does not exist.
    """
    match row, fields:
        case PatientRow(), PatientFields():
            row.search = folded(fields.name, *(number.value for number in fields.identifiers))
            for run in session.exec(select(EncounterRow).where(col(EncounterRow.patient) == row.id)):
                run.search = _run_search(row, EncounterFields.model_validate_json(run.content))
                session.add(run)
        case EncounterRow(), EncounterFields(started_at=started) if started is not None:
            patient = visible(session, PatientRow, fields.patient)
            row.patient, row.started_at, row.ended_at = patient.id, started, fields.ended_at
            row.search = _run_search(patient, fields)
        case VitalSignsRow(), VitalSignsFields(taken_at=taken) if taken is not None:
            row.encounter, row.taken_at = visible(session, EncounterRow, fields.encounter).id, taken
        case RadiographRow(), RadiographFields(received_at=received) if received is not None:
            row.encounter = visible(session, EncounterRow, fields.encounter).id if fields.encounter else None
            row.sha256, row.received_at = fields.sha256 or "", received
            for follower in (FindingRow, InboxRow):
                of_film = col(follower.radiograph) == row.id
                session.execute(update(follower).where(of_film).values(encounter=row.encounter))
        case DiagnosisRow(), DiagnosisFields(made_at=made) if made is not None:
            row.radiograph, row.made_at = visible(session, RadiographRow, fields.radiograph).id, made
        case _:
            raise TypeError(f"{type(row).__name__} does not hold {type(fields).__name__}")


def _run_search(patient: PatientRow, run: EncounterFields) -> str:
    return folded(patient.search, run.incident_number, run.chief_complaint)
