"""Runs with everything recorded of them, gathered with a handful of queries for many at once: what exports write."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict
from sqlmodel import Session, col, select

from shared.diagnosis import Diagnosis
from shared.records import DiagnosisFields, EncounterFields, PatientFields, RadiographFields, VitalSignsFields
from sync_server.db.tables import (
    AgreementRow,
    ConfirmedReadingRow,
    DiagnosisRow,
    EncounterRow,
    HistoryRow,
    ImageRow,
    PatientRow,
    RadiographRow,
    ServerReadingRow,
    VitalSignsRow,
)
from sync_server.domain.readings import Manner


class _Whole(BaseModel):
    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)


class Film(_Whole):
    """A film and what was said of it.

    Attributes:
        id, fields: the radiograph.
        held: whether the hospital has its original.
        reading: the device's latest; None where there is none yet.
        second: the hospital's latest full-precision reading in the same manner, or None.
        differs: the two differ significantly.
        confirmed: physicians' readings, earliest first.
    """

    id: UUID
    fields: RadiographFields
    held: bool
    reading: DiagnosisFields | None
    second: Diagnosis | None
    differs: bool
    confirmed: tuple[ConfirmedReadingRow, ...]


class Run(_Whole):
    """A run; ``patient`` is whom it belongs to after merges, ``vital_signs`` and ``films`` are in order of time."""

    id: UUID
    device: UUID
    patient_id: UUID | None
    patient: PatientFields
    encounter: EncounterFields
    vital_signs: tuple[VitalSignsFields, ...]
    films: tuple[Film, ...]


def whole(session: Session, rows: Sequence[HistoryRow]) -> list[Run]:
    """The runs of these histories, in their order; what was deleted of them is left out."""
    ids = [row.encounter for row in rows]
    encounters = {row.id: row for row in _standing(session, EncounterRow, EncounterRow.id, ids)}
    patients = {
        row.id: PatientFields.model_validate(row.content)
        for row in _standing(session, PatientRow, PatientRow.id, [row.patient for row in rows if row.patient])
    }
    vital_signs: dict[Any, list[VitalSignsFields]] = defaultdict(list)
    for row in _standing(session, VitalSignsRow, VitalSignsRow.encounter, ids):
        vital_signs[row.encounter].append(VitalSignsFields.model_validate(row.content))
    films: dict[Any, list[Film]] = defaultdict(list)
    for encounter, film in _films(session, ids):
        films[encounter].append(film)
    return [
        Run(
            id=row.encounter,
            device=row.device,
            patient_id=row.patient if row.patient in patients else None,
            patient=patients.get(row.patient, PatientFields()) if row.patient else PatientFields(),
            encounter=EncounterFields.model_validate(encounters[row.encounter].content),
            vital_signs=tuple(sorted(vital_signs[row.encounter], key=lambda one: str(one.taken_at))),
            films=tuple(sorted(films[row.encounter], key=lambda film: str(film.fields.received_at))),
        )
        for row in rows
        if row.encounter in encounters
    ]


def _films(session: Session, runs: Sequence[UUID]) -> Iterable[tuple[UUID, Film]]:
    radiographs = _standing(session, RadiographRow, RadiographRow.encounter, runs)
    ids = [row.id for row in radiographs]
    hashes = [row.sha256 for row in radiographs if row.sha256]
    held = set(session.exec(select(ImageRow.sha256).where(col(ImageRow.sha256).in_(hashes))).all())
    readings: dict[Any, DiagnosisRow] = {}
    for row in sorted(
        _standing(session, DiagnosisRow, DiagnosisRow.radiograph, ids), key=lambda one: str(one.content.get("made_at"))
    ):
        readings[row.radiograph] = row
    second: dict[tuple[str, str], Diagnosis] = {}
    query = select(ServerReadingRow).where(col(ServerReadingRow.sha256).in_(hashes), ServerReadingRow.state == "done")
    for answer in session.exec(query.order_by(col(ServerReadingRow.done_at))).all():
        if answer.result is not None:
            second[answer.sha256, answer.manner] = Diagnosis.model_validate(answer.result)
    differing = select(AgreementRow.radiograph).where(
        col(AgreementRow.radiograph).in_(ids), col(AgreementRow.significant).is_(True)
    )
    differs = set(session.exec(differing).all())
    confirmed: dict[UUID, list[ConfirmedReadingRow]] = defaultdict(list)
    said = select(ConfirmedReadingRow).where(col(ConfirmedReadingRow.radiograph).in_(ids))
    for one in session.exec(said.order_by(col(ConfirmedReadingRow.at))).all():
        confirmed[one.radiograph].append(one)
    for row in radiographs:
        reading = readings.get(row.id)
        manner = str(Manner.of(reading.content)) if reading else ""
        yield (
            row.encounter,
            Film(
                id=row.id,
                fields=RadiographFields.model_validate(row.content),
                held=row.sha256 in held,
                reading=DiagnosisFields.model_validate(reading.content) if reading else None,
                second=second.get((row.sha256, manner)),
                differs=row.id in differs,
                confirmed=tuple(confirmed[row.id]),
            ),
        )


def _standing(session: Session, table: Any, column: Any, ids: Sequence[UUID]) -> Sequence[Any]:
    """Rows neither deleted, hidden nor purged."""
    query = select(table).where(
        col(column).in_(ids),
        col(table.deleted).is_(None),
        col(table.hidden_at).is_(None),
        col(table.purged_at).is_(None),
    )
    return session.exec(query).all()
