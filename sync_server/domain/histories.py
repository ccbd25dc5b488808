"""Rebuilding :class:`HistoryRow`: what lists and boards show of a run, from everything that is known of it.

A film's likely findings are those of the device's latest diagnosis, those of the hospital's reading too where the two
differ in a way that matters, and a physician's word over both. The top finding is the likeliest of the device's, or of
the hospital's reading where they differ.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from itertools import islice
from typing import Any, Final
from uuid import UUID

from sqlalchemy import BindParameter, bindparam, delete, func, insert, select
from sqlmodel import Session, SQLModel

from shared.calibration import State
from shared.findings import BY_KEY, Urgency
from shared.hospital import Presence
from shared.records import RecordType
from sync_server.db.engine import among, table_of
from sync_server.db.tables import (
    AcknowledgementRow,
    AgreementRow,
    ConfirmedReadingRow,
    DiagnosisRow,
    EncounterRow,
    HistoryRow,
    PatientRow,
    RadiographRow,
    ServerReadingRow,
    VitalSignsRow,
)
from sync_server.domain.folding import folded
from sync_server.domain.urgency import Seen, rank, urgent

_SOME: Final = 400
_LONGEST_MERGE: Final = 64
_SEARCHED: Final = 400
"""Letters that a search looks through (:class:`HistoryRow`)."""
_OPEN: Final = (State.UNCERTAIN.value, State.NOT_ASSESSED.value)
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)
_IDS: Final[BindParameter[Any]] = bindparam("ids", expanding=True)
_HISTORY: Final = table_of(HistoryRow)
_FORGET: Final = delete(_HISTORY).where(_HISTORY.c.encounter.in_(_IDS))
_ACKNOWLEDGEMENT: Final = table_of(AcknowledgementRow)
_ACKNOWLEDGED: Final = (
    select(_ACKNOWLEDGEMENT.c.encounter, func.max(_ACKNOWLEDGEMENT.c.at, type_=_ACKNOWLEDGEMENT.c.at.type))
    .where(_ACKNOWLEDGEMENT.c.encounter.in_(_IDS))
    .group_by(_ACKNOWLEDGEMENT.c.encounter)
)
_SHOWN: Final = ("id", "device", "content", "deleted", "hidden_at", "purged_at", "first_at")
"""Columns of a record that its history depends on."""


def refresh(session: Session, encounters: Iterable[UUID]) -> None:
    """Rebuild the histories of these runs, in the caller's transaction, after everything else it changes.

    Locks the runs until the end of the transaction, so that of two who change the same run the later sees all. A run
    that is not known, or of which nothing is left, has no history.
    """
    ordered = iter(sorted(set(encounters)))
    while some := list(islice(ordered, _SOME)):
        session.flush()
        known = _Known(session, some)
        session.execute(_FORGET, {"ids": some})
        now = datetime.now(UTC)
        rows = [row for run in known.runs if (row := _history(known, run, now)) is not None]
        if rows:
            session.execute(insert(_HISTORY), rows)


def touched_by(session: Session, touched: Mapping[RecordType, Iterable[UUID]]) -> set[UUID]:
    """The runs whose histories depend on these records."""
    session.flush()
    films = _values(session, DiagnosisRow, "id", "radiograph", touched.get(RecordType.DIAGNOSIS, ()))
    films |= set(touched.get(RecordType.RADIOGRAPH, ()))
    runs = set(touched.get(RecordType.ENCOUNTER, ())) | of_patients(session, touched.get(RecordType.PATIENT, ()))
    runs |= _values(session, RadiographRow, "id", "encounter", films)
    return runs | _values(session, VitalSignsRow, "id", "encounter", touched.get(RecordType.VITAL_SIGNS, ()))


def of_patients(session: Session, patients: Iterable[UUID]) -> set[UUID]:
    """The runs of these patients and of all that were merged into them."""
    session.flush()
    everyone = latest = set(patients)
    while latest:
        latest = _values(session, PatientRow, "merged_into", "id", latest) - everyone
        everyone = everyone | latest
    return _values(session, EncounterRow, "patient", "id", everyone)


def _pieces(ids: Iterable[UUID]) -> Iterator[list[UUID]]:
    ordered = iter(sorted(set(ids)))
    while some := list(islice(ordered, _SOME)):
        yield some


class _Known:
    """Everything that is known of some runs, read by a dozen queries however many they are; as plain rows."""

    def __init__(self, session: Session, encounters: Sequence[UUID]) -> None:
        of_runs = among(EncounterRow, "id", *_SHOWN, "patient", lock="update")
        self.runs = session.execute(of_runs, {"ids": encounters}).all()
        self.patients = _patients(session, {run.patient for run in self.runs if run.patient})
        self.vital_signs = _grouped(session, VitalSignsRow, "encounter", encounters)
        self.films = _grouped(session, RadiographRow, "encounter", encounters)
        films = [film for some in self.films.values() for film in some]
        ids = [film.id for film in films]
        self.diagnoses = _grouped(session, DiagnosisRow, "radiograph", ids)
        agreements = _found(session, AgreementRow, "radiograph", ids)
        self.readings = {
            row.id: row.result
            for row in _found(session, ServerReadingRow, "id", {one.reading for one in agreements if one.significant})
        }
        self.agreements = {one.diagnosis: one for one in sorted(agreements, key=lambda one: one.at)}
        self.confirmed = {
            row.radiograph: row
            for row in sorted(_found(session, ConfirmedReadingRow, "radiograph", ids), key=lambda row: row.at)
        }
        self.acknowledged = dict(session.execute(_ACKNOWLEDGED, {"ids": encounters}).all())

    def patient_of(self, run: Any) -> Any:
        """After merges; one that was deleted or purged since says nothing of those who were merged into it."""
        patient = found = self.patients.get(run.patient) if run.patient else None
        for _ in range(_LONGEST_MERGE):
            if patient is None or patient.merged_into is None:
                break
            patient = self.patients.get(patient.merged_into)
            if patient is not None and _visible(patient):
                found = patient
        return found


def _patients(session: Session, ids: set[UUID]) -> dict[UUID, Any]:
    """The patients, and those they were merged into; they stay as they are until the end of the transaction."""
    found: dict[UUID, Any] = {}
    for _ in range(_LONGEST_MERGE):
        if not ids:
            break
        statement = among(PatientRow, "id", *_SHOWN, "merged_into", lock="share")
        some = session.execute(statement, {"ids": list(ids)}).all()
        found |= {row.id: row for row in some}
        ids = {row.merged_into for row in some if row.merged_into} - found.keys()
    return found


def _found(session: Session, table: type[SQLModel], by: str, ids: Iterable[UUID], *names: str) -> list[Any]:
    rows: list[Any] = []
    for some in _pieces(ids):
        rows += session.execute(among(table, by, *names), {"ids": some})
    return rows


def _values(session: Session, table: type[SQLModel], by: str, name: str, ids: Iterable[UUID]) -> set[UUID]:
    """What is in one column of these rows, where it is known."""
    return {value for (value,) in _found(session, table, by, ids, name) if value is not None}


def _grouped(session: Session, table: type[SQLModel], by: str, ids: Iterable[UUID]) -> dict[UUID, list[Any]]:
    """The records that are neither deleted nor hidden, by what they belong to."""
    grouped: dict[UUID, list[Any]] = defaultdict(list)
    for row in _found(session, table, by, ids, *_SHOWN, by):
        if _visible(row):
            grouped[getattr(row, by)].append(row)
    return grouped


def _visible(row: Any) -> bool:
    return row.deleted is None and row.hidden_at is None and row.purged_at is None


def _history(known: _Known, run: Any, now: datetime) -> dict[str, Any] | None:
    started = _moment(run.content.get("started_at"))
    if started is None or run.purged_at is not None:
        return None
    patient = known.patient_of(run)
    who = patient.content if patient is not None and _visible(patient) else {}
    films = known.films[run.id]
    seen = [_seen(known, film) for film in films]
    likely = set().union(*(one.likely for one in seen))
    vital_signs = _latest(known.vital_signs[run.id], "taken_at")
    top, probability = _top(known, films)
    numbers = [str(number.get("value", "")) for number in who.get("identifiers") or []]
    age, estimated = _age(who, started.date())
    texts = (who.get("name"), *numbers, run.content.get("incident_number"), run.content.get("chief_complaint"))
    return {
        "encounter": run.id,
        "patient": patient.id if patient is not None else run.patient,
        "device": run.device,
        "started_at": started,
        "ended_at": (ended := _moment(run.content.get("ended_at"))),
        "expected_arrival": _moment(run.content.get("expected_arrival")),
        "under_way": ended is None,
        "visible": _visible(run),
        "name": who.get("name"),
        "sex": who.get("sex"),
        "age": age,
        "age_estimated": estimated,
        "complaint": run.content.get("chief_complaint"),
        "incident_number": run.content.get("incident_number"),
        "vital_signs": vital_signs.content if vital_signs is not None else None,
        "films": len(films),
        "rank": int(rank(seen, vital_signs.content if vital_signs is not None else None)),
        "urgent": urgent(likely),
        "top": top,
        "top_probability": probability,
        "found": f",{','.join(sorted(likely))}," if likely else "",
        "differs": any(one.differs for one in seen),
        "confirmed": bool(films) and all(film.id in known.confirmed for film in films),
        "acknowledged_at": known.acknowledged.get(run.id),
        "news_at": max(_news(known, films), default=None),
        "search": folded(" ".join(text for text in texts if text))[:_SEARCHED],
        "changed_at": now,
    }


def _news(known: _Known, films: Iterable[Any]) -> Iterator[datetime]:
    """When each film, each reading by the device, and each that differs from it came to the hospital."""
    for film in films:
        yield film.first_at
        for diagnosis in known.diagnoses[film.id]:
            yield diagnosis.first_at
            agreement = known.agreements.get(diagnosis.id)
            if agreement is not None and agreement.significant:
                yield agreement.at


def _seen(known: _Known, film: Any) -> Seen:
    diagnosis = _latest(known.diagnoses[film.id], "made_at")
    result = (diagnosis.content.get("result") if diagnosis is not None else None) or {}
    theirs = _differing(known, diagnosis)
    likely = _in_state(result, State.LIKELY.value) | _in_state(theirs or {}, State.LIKELY.value)
    deadly = {key for key in _in_state(result, *_OPEN) if BY_KEY[key].urgency is Urgency.IMMEDIATE}
    confirmed = known.confirmed.get(film.id)
    said = confirmed.findings if confirmed is not None else {}
    present = {key for key, word in said.items() if word == Presence.PRESENT and key in BY_KEY}
    absent = {key for key, word in said.items() if word == Presence.ABSENT}
    return Seen(
        likely=frozenset((likely | present) - absent),
        open=bool(deadly - absent - present),
        read=bool(result.get("states")) or confirmed is not None,
        differs=theirs is not None,
    )


def _differing(known: _Known, diagnosis: Any) -> Mapping[str, Any] | None:
    """The hospital's reading where it differs significantly from the device's."""
    agreement = known.agreements.get(diagnosis.id) if diagnosis is not None else None
    if agreement is None or not agreement.significant:
        return None
    return known.readings.get(agreement.reading) or {}


def _in_state(result: Mapping[str, Any], *states: str) -> set[str]:
    return {key for key, state in (result.get("states") or {}).items() if state in states and key in BY_KEY}


def _top(known: _Known, films: Iterable[Any]) -> tuple[str | None, float | None]:
    """The likeliest finding of all films and its probability."""
    ranked: list[tuple[float, str]] = []
    for film in films:
        diagnosis = _latest(known.diagnoses[film.id], "made_at")
        ours = (diagnosis.content.get("result") if diagnosis is not None else None) or {}
        result = _differing(known, diagnosis) or ours
        ranked += [(one["probability"], one["finding"]) for one in result.get("top3") or [] if one["finding"] in BY_KEY]
    if not ranked:
        return None, None
    probability, finding = max(ranked)
    return finding, probability


def _latest(rows: Sequence[Any], by: str) -> Any:
    return max(rows, key=lambda row: (_moment(row.content.get(by)) or _LONG_AGO, row.id), default=None)


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _age(who: Mapping[str, Any], on: date) -> tuple[int | None, bool]:
    """Age in whole years, and whether it was only estimated."""
    if born := who.get("birth_date"):
        birth = date.fromisoformat(born)
        return max(0, on.year - birth.year - ((on.month, on.day) < (birth.month, birth.day))), False
    age = who.get("estimated_age")
    return age, age is not None
