"""Runs as a table (CSV): what spreadsheets and statisticians take."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Final

from shared.diagnosis import Diagnosis
from shared.findings import FINDINGS
from shared.records import Identifier
from sync_server.domain.whole_runs import Film, Run

MARK: Final = b"\xef\xbb\xbf"
"""Byte order mark: without it spreadsheets garble Korean."""
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What a spreadsheet takes for a formula (OWASP, CSV injection), full-width signs where it is an East Asian one."""
_VITAL_SIGNS: Final = ("spo2", "respiratory_rate", "heart_rate", "systolic", "diastolic", "gcs")


def table(runs: Iterable[Run]) -> Iterator[bytes]:
    """CSV (RFC 4180, UTF-8): a line a film.

    A run without films has one line as well. What is not known is empty, and so is the probability of a finding that
    was not assessed.
    """
    yield MARK + line(COLUMNS)
    for run in runs:
        yield lines(run)


def lines(run: Run) -> bytes:
    """The lines of one run."""
    return b"".join(line(_cells(run, film)) for film in run.films or (None,))


COLUMNS: Final = (
    "run", "patient", "name", "birth_date", "estimated_age", "sex", "identifiers", "incident_number", "started_at",
    "ended_at", "chief_complaint", "notes", *_VITAL_SIGNS, "vital_signs_at", "device", "film", "received_at", "sha256",
    "read_at", "release", "precision", "refused", "urgent", "hospital_differs", "confirmed_by", "confirmed_at",
    "confirmed_text",
    *(f"{finding.key}:{what}" for finding in FINDINGS for what in ("state", "probability", "confirmed")),
)  # fmt: skip
"""Columns of the table; findings by their keys."""


def _cells(run: Run, film: Film | None) -> list[Any]:
    patient, encounter = run.patient, run.encounter
    vital = run.vital_signs[-1] if run.vital_signs else None
    reading = film.reading.result if film and film.reading else None
    error = film.reading.error if film and film.reading else None
    confirmed = film.confirmed[-1] if film and film.confirmed else None
    cells = [
        run.id, run.patient_id, patient.name, patient.birth_date, patient.estimated_age, patient.sex,
        "; ".join(_named(one) for one in patient.identifiers), encounter.incident_number, encounter.started_at,
        encounter.ended_at, encounter.chief_complaint, encounter.notes,
        *(getattr(vital, name) if vital else None for name in _VITAL_SIGNS), vital.taken_at if vital else None,
        run.device,
        film.id if film else None, film.fields.received_at if film else None, film.fields.sha256 if film else None,
        film.reading.made_at if film and film.reading else None, reading.release if reading else None,
        reading.precision if reading else None,
        error or _refused(reading),
        " ".join(reading.urgent) if reading else None, film.differs if film else None,
        confirmed.by_name if confirmed else None, confirmed.at if confirmed else None,
        confirmed.text if confirmed else None,
    ]  # fmt: skip
    for finding in FINDINGS:
        state = reading.states.get(finding.key) if reading else None
        said = state is not None and state.value != "not_assessed"
        probability = reading.probabilities.get(finding.key) if reading and said else None
        cells += [state, probability, confirmed.findings.get(finding.key) if confirmed else None]
    return cells


def _refused(reading: Diagnosis | None) -> str | None:
    if reading is None or not reading.refused:
        return None
    return " ".join(problem.code for problem in reading.verdict.problems)


def _named(identifier: Identifier) -> str:
    return f"{identifier.system} {identifier.value}".strip()


def line(cells: Iterable[Any]) -> bytes:
    """One line; a text that a spreadsheet would take for a formula gets an apostrophe in front."""
    text = io.StringIO()
    csv.writer(text).writerow([_cell(cell) for cell in cells])
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
