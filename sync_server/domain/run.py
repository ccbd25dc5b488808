"""All there is to say of one run, for the page of its patient."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlmodel import Session, col, select

from shared.diagnosis import Diagnosis
from shared.records import DiagnosisFields, EncounterFields, PatientFields, RadiographFields, VitalSignsFields
from sync_server.db.tables import (
    AcknowledgementRow,
    AgreementRow,
    ConfirmedReadingRow,
    DeviceRow,
    DiagnosisRow,
    HistoryRow,
    ImageRow,
    MessageRow,
    PatientRow,
    RadiographRow,
    ServerReadingRow,
    SupersededRow,
    VitalSignsRow,
)
from sync_server.domain.acts import is_live, live_run
from sync_server.domain.readings import Manner
from sync_server.domain.vital_signs import Mark, marks


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading by the device: its result, or an error's code; ``manner`` as the hospital's readings have it."""

    id: UUID
    fields: DiagnosisFields
    manner: str

    @property
    def result(self) -> Diagnosis | None:
        """What was read."""
        return self.fields.result


@dataclass(frozen=True, slots=True)
class ServerReading:
    """The hospital's own reading; ``state`` as :class:`ServerReadingRow` has it."""

    state: str
    release: str
    result: Diagnosis | None
    error: str | None
    done_at: datetime | None


@dataclass(frozen=True, slots=True)
class Film:
    """One radiograph.

    Attributes:
        readings: by the device, latest first.
        server: the hospital's latest reading, or None while nobody has asked for one.
        agreement: what differs between the latest two, or None while one of them is missing.
        original, preview: whether the hospital holds these bytes.
        confirmed: readings by physicians, latest first.
    """

    id: UUID
    fields: RadiographFields
    readings: tuple[Reading, ...]
    server: ServerReading | None
    agreement: AgreementRow | None
    original: bool
    preview: bool
    confirmed: tuple[ConfirmedReadingRow, ...]

    @property
    def latest(self) -> Reading | None:
        """The device's last word."""
        return self.readings[0] if self.readings else None

    @property
    def moment(self) -> datetime | None:
        """When it arrived in the ambulance."""
        return self.fields.received_at


@dataclass(frozen=True, slots=True)
class Signs:
    """One set of vital signs, and which of them stand out."""

    fields: VitalSignsFields
    marks: dict[str, Mark]


@dataclass(frozen=True, slots=True)
class Run:
    """A run with its patient and all that belongs to it; films and vital signs latest first."""

    id: UUID
    history: HistoryRow | None
    fields: EncounterFields
    patient: PatientFields
    device: str
    signs: tuple[Signs, ...]
    films: tuple[Film, ...]
    acknowledgements: tuple[AcknowledgementRow, ...]
    messages: tuple[MessageRow, ...]
    superseded: tuple[SupersededRow, ...]
    others: tuple[HistoryRow, ...]

    def film(self, wanted: UUID | None) -> Film | None:
        """The film of that id, or the latest."""
        return next((film for film in self.films if film.id == wanted), self.films[0] if self.films else None)


def read(session: Session, encounter: UUID) -> Run:
    """The run; raises FirstRayError ``run_unknown`` where it is gone."""
    row = live_run(session, encounter)
    history = session.get(HistoryRow, encounter)
    fields = EncounterFields.model_validate(row.content)
    patient_id = history.patient if history and history.patient else row.patient
    patient = session.get(PatientRow, patient_id) if patient_id else None
    age = history.age if history else None
    sets = session.exec(select(VitalSignsRow).where(VitalSignsRow.encounter == encounter)).all()
    signs = [
        Signs(VitalSignsFields.model_validate(one.content), marks(one.content, age)) for one in sets if is_live(one)
    ]
    device = session.get(DeviceRow, row.device)
    return Run(
        id=encounter,
        history=history,
        fields=fields,
        patient=PatientFields.model_validate(patient.content) if patient and is_live(patient) else PatientFields(),
        device=device.name if device else "",
        signs=tuple(sorted(signs, key=lambda one: _text(one.fields.taken_at), reverse=True)),
        films=_films(session, encounter),
        acknowledgements=_of_run(session, AcknowledgementRow, encounter),
        messages=_of_run(session, MessageRow, encounter),
        superseded=_superseded(session, [encounter, *([patient.id] if patient else []), *(one.id for one in sets)]),
        others=_others(session, patient_id, encounter),
    )


def _films(session: Session, encounter: UUID) -> tuple[Film, ...]:
    rows = session.exec(select(RadiographRow).where(RadiographRow.encounter == encounter)).all()
    return films(session, [row for row in rows if is_live(row)], _of_run(session, ConfirmedReadingRow, encounter))


def films(
    session: Session, rows: Sequence[RadiographRow], said: Sequence[ConfirmedReadingRow] = ()
) -> tuple[Film, ...]:
    """Radiographs with all that was read in them, latest first; ``said`` are physicians' readings, latest first."""
    ids = [row.id for row in rows]
    hashes = {sha for row in rows for sha in (row.sha256, row.preview_sha256) if sha}
    held = set(session.exec(select(ImageRow.sha256).where(col(ImageRow.sha256).in_(hashes)))) if hashes else set()
    readings: dict[UUID | None, list[Reading]] = defaultdict(list)
    for made in session.exec(select(DiagnosisRow).where(col(DiagnosisRow.radiograph).in_(ids))):
        if is_live(made):
            fields = DiagnosisFields.model_validate(made.content)
            readings[made.radiograph].append(Reading(made.id, fields, str(Manner.of(made.content))))
    confirmed: dict[UUID, list[ConfirmedReadingRow]] = defaultdict(list)
    for one in said:
        confirmed[one.radiograph].append(one)
    found = []
    for row in rows:
        latest_first = sorted(readings[row.id], key=lambda one: _text(one.fields.made_at), reverse=True)
        latest = latest_first[0] if latest_first else None
        server = _server_reading(session, row.sha256, latest.manner if latest else "")
        found.append(
            Film(
                id=row.id,
                fields=RadiographFields.model_validate(row.content),
                readings=tuple(latest_first),
                server=_told(server) if server else None,
                agreement=session.get(AgreementRow, (latest.id, server.id)) if server and latest else None,
                original=row.sha256 in held,
                preview=row.preview_sha256 in held,
                confirmed=tuple(confirmed[row.id]),
            )
        )
    return tuple(sorted(found, key=lambda film: _text(film.moment), reverse=True))


def _server_reading(session: Session, sha256: str | None, manner: str) -> ServerReadingRow | None:
    """The latest that is done, else the latest that was asked for; read in the same manner as the device did."""
    if sha256 is None:
        return None
    statement = select(ServerReadingRow).where(ServerReadingRow.sha256 == sha256, ServerReadingRow.manner == manner)
    rows = session.exec(statement).all()
    return max(rows, key=lambda row: (row.state == "done", row.asked_at), default=None)


def _told(row: ServerReadingRow) -> ServerReading:
    result = Diagnosis.model_validate(row.result) if row.result else None
    return ServerReading(row.state, row.release, result, row.error, row.done_at)


def _of_run(session: Session, table: Any, encounter: UUID) -> tuple[Any, ...]:
    return tuple(session.exec(select(table).where(table.encounter == encounter).order_by(col(table.at).desc())).all())


def _superseded(session: Session, records: Sequence[UUID]) -> tuple[SupersededRow, ...]:
    statement = (
        select(SupersededRow).where(col(SupersededRow.record).in_(records)).order_by(col(SupersededRow.at).desc())
    )
    return tuple(session.exec(statement.limit(100)).all())


def _others(session: Session, patient: UUID | None, encounter: UUID) -> tuple[HistoryRow, ...]:
    if patient is None:
        return ()
    return tuple(
        session.exec(
            select(HistoryRow)
            .where(HistoryRow.patient == patient, HistoryRow.encounter != encounter, col(HistoryRow.visible).is_(True))
            .order_by(col(HistoryRow.started_at).desc())
            .limit(50)
        ).all()
    )


def _text(moment: datetime | None) -> str:
    return moment.isoformat() if moment else ""
