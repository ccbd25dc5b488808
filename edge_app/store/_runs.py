"""Lists of runs and patients, and one run whole. Each stays quick with ten thousand runs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import bindparam, text
from sqlmodel import Session, col, select

from edge_app.store import _delivery, _films
from edge_app.store._columns import folded, visible
from edge_app.store.tables import (
    EncounterRow,
    FindingRow,
    InboxRow,
    PatientRow,
    RadiographRow,
    VitalSignsRow,
    moment_text,
)
from edge_app.store.views import Delivery, Patient, Run, RunRow, VitalSigns
from shared.diagnosis import Diagnosis
from shared.findings import FINDINGS, Urgency
from shared.hospital import Acknowledgement, ErMessage
from shared.records import DiagnosisFields, EncounterFields, PatientFields, VitalSignsFields

NEWS: Final = ("message", "confirmed_reading", "server_diagnosis")
"""What of the hospital's answers the crew should look at."""
_URGENCY: Final = tuple(Urgency)
_ORDER: Final = {finding.key: (_URGENCY.index(finding.urgency), number) for number, finding in enumerate(FINDINGS)}
_PATIENTS: Final = """
    SELECT patient, count(*), max(started_at) AS latest FROM encounterrow
    WHERE hidden IS NULL {which} GROUP BY patient ORDER BY latest DESC, patient DESC LIMIT :limit
"""
_SHOWN: Final = """EXISTS (SELECT 1 FROM findingrow f JOIN radiographrow r ON r.id = f.radiograph
    WHERE f.finding = :finding AND f.encounter = encounterrow.id AND r.hidden IS NULL)"""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which runs to list; see :meth:`edge_app.store.store.Store.runs`."""

    text: str = ""
    under_way: bool | None = None
    open_after: datetime | None = None
    since: datetime | None = None
    until: datetime | None = None
    finding: str | None = None
    patient: UUID | None = None
    limit: int = 50
    before: UUID | None = None


def runs(session: Session, wanted: Filter) -> list[RunRow]:
    """Newest first."""
    conditions: list[str] = ["hidden IS NULL"]
    values: dict[str, Any] = {"limit": wanted.limit}
    conditions += _words(wanted.text, values)
    if wanted.under_way is not None:
        conditions.append(f"ended_at IS {'' if wanted.under_way else 'NOT '}NULL")
    if wanted.open_after:
        conditions.append("(ended_at IS NULL OR ended_at > :open_after)")
        values["open_after"] = moment_text(wanted.open_after)
    if wanted.since:
        conditions.append("started_at >= :since")
        values["since"] = moment_text(wanted.since)
    if wanted.until:
        conditions.append("started_at < :until")
        values["until"] = moment_text(wanted.until)
    if wanted.finding:
        conditions += ["+id IN (SELECT encounter FROM findingrow WHERE finding = :finding)", _SHOWN]
        values["finding"] = wanted.finding
    if wanted.patient:
        conditions.append("patient = :patient")
        values["patient"] = wanted.patient.hex
    if wanted.before:
        last = session.get(EncounterRow, wanted.before)
        if last is None:
            return []
        conditions.append("(started_at, id) < (:started, :before)")
        values |= {"started": moment_text(last.started_at), "before": last.id.hex}
    query = (
        f"SELECT id FROM encounterrow WHERE {' AND '.join(conditions)} ORDER BY started_at DESC, id DESC LIMIT :limit"  # noqa: S608
    )
    return _rows(session, [UUID(id) for id in session.execute(text(query), values).scalars()])


def run(session: Session, id: UUID) -> Run:
    """One run whole; raises ``record_unknown``."""
    row = visible(session, EncounterRow, id)
    taken = select(VitalSignsRow).where(col(VitalSignsRow.encounter) == id)
    vital_signs = session.exec(taken.order_by(col(VitalSignsRow.taken_at).desc(), col(VitalSignsRow.id).desc()))
    heard = session.exec(select(InboxRow).where(col(InboxRow.encounter) == id).order_by(col(InboxRow.id))).all()
    items = [_films.CONTENT.validate_json(item.body) for item in heard]
    return Run(
        row=_rows(session, [id])[0],
        patient=patient(session, row.patient),
        vital_signs=tuple(
            VitalSigns(signs.id, VitalSignsFields.model_validate_json(signs.content)) for signs in vital_signs
        ),
        films=tuple(_films.of_run(session, id)),
        messages=tuple(item for item in items if isinstance(item, ErMessage)),
        acknowledgements=tuple(item for item in items if isinstance(item, Acknowledgement)),
    )


def patients(session: Session, sought: str, limit: int) -> list[Patient]:
    """Those with runs, of the latest run first."""
    values: dict[str, Any] = {"limit": limit}
    words = _words(sought, values)
    which = f"AND patient IN (SELECT id FROM patientrow WHERE {' AND '.join(words)})" if words else ""  # noqa: S608
    found = session.execute(text(_PATIENTS.format(which=which)), values).all()
    rows = {
        row.id: row
        for row in session.exec(select(PatientRow).where(col(PatientRow.id).in_([UUID(id) for id, _, _ in found])))
    }
    return [_patient(rows[UUID(id)], number, latest) for id, number, latest in found]


def patient(session: Session, id: UUID) -> Patient:
    """One; raises ``record_unknown``."""
    row = visible(session, PatientRow, id)
    number, latest = session.execute(
        text("SELECT count(*), max(started_at) FROM encounterrow WHERE hidden IS NULL AND patient = :id"),
        {"id": id.hex},
    ).one()
    return _patient(row, number, latest)


def _patient(row: PatientRow, runs: int, latest: str | None) -> Patient:
    moment = datetime.fromisoformat(latest) if latest else None
    return Patient(row.id, PatientFields.model_validate_json(row.content), runs, moment)


def _words(sought: str, values: dict[str, Any]) -> list[str]:
    """Conditions that every word of the search is somewhere in ``search``."""
    words = folded(sought).split()[:8]
    values |= {f"word{number}": word for number, word in enumerate(words)}
    return [f"instr(search, :word{number}) > 0" for number in range(len(words))]


def _rows(session: Session, ids: Sequence[UUID]) -> list[RunRow]:
    if not ids:
        return []
    rows = {row.id: row for row in session.exec(select(EncounterRow).where(col(EncounterRow.id).in_(ids)))}
    people = {row.patient for row in rows.values()}
    patients = {row.id: row for row in session.exec(select(PatientRow).where(col(PatientRow.id).in_(people)))}
    delivery = _delivery.of_runs(session, ids)
    films = _film_counts(session, ids)
    latest = _latest(session, ids)
    urgent = _urgent(session, ids)
    heard = _heard(session, ids)
    held = [id for id in ids if heard[id]["acknowledgement"] and delivery[id] is Delivery.HELD]
    seen = _delivery.seen(session, held)
    return [
        RunRow(
            id=id,
            patient=rows[id].patient,
            who=PatientFields.model_validate_json(patients[rows[id].patient].content),
            encounter=EncounterFields.model_validate_json(rows[id].content),
            radiographs=films[id]["all"],
            unread=films[id]["unread"],
            latest=latest.get(id),
            urgent=tuple(sorted(urgent[id], key=_ORDER.__getitem__)),
            delivery=delivery[id],
            acknowledged=id in seen,
            news=heard[id]["news"],
        )
        for id in ids
    ]


def _film_counts(session: Session, runs: Sequence[UUID]) -> dict[UUID, Counter[str]]:
    counts: dict[UUID, Counter[str]] = defaultdict(Counter)
    chosen = select(RadiographRow.encounter, RadiographRow.diagnosis).where(
        col(RadiographRow.encounter).in_(runs), col(RadiographRow.hidden).is_(None)
    )
    for run, diagnosis in session.exec(chosen):
        if run:
            counts[run]["all"] += 1
            counts[run]["unread"] += diagnosis is None
    return counts


_LATEST: Final = text("""
    SELECT r.encounter, d.content FROM radiographrow r JOIN diagnosisrow d ON d.id = r.diagnosis
    WHERE r.encounter IN :ids AND r.hidden IS NULL ORDER BY r.encounter, r.received_at DESC, r.id DESC
""").bindparams(bindparam("ids", expanding=True))


def _latest(session: Session, runs: Sequence[UUID]) -> dict[UUID, Diagnosis]:
    """Of each run, the reading of its latest radiograph that was read."""
    latest: dict[UUID, Diagnosis] = {}
    for run, content in session.execute(_LATEST, {"ids": [id.hex for id in runs]}):
        if (id := UUID(run)) not in latest and (result := DiagnosisFields.model_validate_json(content).result):
            latest[id] = result
    return latest


def _urgent(session: Session, runs: Sequence[UUID]) -> dict[UUID, set[str]]:
    found: dict[UUID, set[str]] = defaultdict(set)
    chosen = (
        select(FindingRow.encounter, FindingRow.finding)
        .join(RadiographRow, col(RadiographRow.id) == col(FindingRow.radiograph))
        .where(col(FindingRow.encounter).in_(runs), col(FindingRow.urgent), col(RadiographRow.hidden).is_(None))
    )
    for run, finding in session.exec(chosen):
        if run:
            found[run].add(finding)
    return found


def _heard(session: Session, runs: Sequence[UUID]) -> dict[UUID, Counter[str]]:
    heard: dict[UUID, Counter[str]] = defaultdict(Counter)
    shown = col(RadiographRow.id).is_not(None) & col(RadiographRow.hidden).is_(None)
    chosen = (
        select(InboxRow.encounter, InboxRow.kind, InboxRow.seen)
        .join(RadiographRow, col(RadiographRow.id) == col(InboxRow.radiograph), isouter=True)
        .where(col(InboxRow.encounter).in_(runs), col(InboxRow.radiograph).is_(None) | shown)
    )
    for run, kind, seen in session.exec(chosen):
        if run:
            heard[run][kind] += 1
            heard[run]["news"] += kind in NEWS and not seen
    return heard
