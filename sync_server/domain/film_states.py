"""What has become of radiographs in the ambulance, by the latest reading of each: for the board."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlmodel import Session, col, select

from shared.calibration import State
from shared.findings import BY_KEY, KEYS, Urgency
from sync_server.db.tables import DiagnosisRow

DEADLY: Final = tuple(key for key in KEYS if BY_KEY[key].urgency is Urgency.IMMEDIATE)
"""Findings that may kill within minutes, in the order of the vocabulary."""


class FilmState(StrEnum):
    """What has become of a radiograph in the ambulance."""

    WAITING = "waiting"
    """Not read yet."""
    UNREADABLE = "unreadable"
    """The file could not be read."""
    REFUSED = "refused"
    """The quality gate refused it."""
    READ = "read"


class LatestReading(NamedTuple):
    """A device's last word on a radiograph: the diagnosis' id and its content."""

    id: UUID
    content: dict[str, Any]

    @property
    def result(self) -> dict[str, Any]:
        """What was read; empty where it could not be."""
        return self.content.get("result") or {}

    @property
    def state(self) -> FilmState:
        """State of the radiograph."""
        if self.content.get("result") is None:
            return FilmState.UNREADABLE
        return FilmState.READ if self.result.get("probabilities") else FilmState.REFUSED

    @property
    def open(self) -> set[str]:
        """As ``Diagnosis.cannot_exclude`` has it."""
        return set(in_state(self.result, State.UNCERTAIN, State.NOT_ASSESSED)) & set(DEADLY)


def latest_readings(session: Session, films: Sequence[UUID]) -> dict[UUID, LatestReading]:
    """Radiograph -> its latest reading by the device; those without one are left out."""
    latest: dict[UUID, LatestReading] = {}
    readings = select(DiagnosisRow.id, DiagnosisRow.radiograph, DiagnosisRow.content).where(
        col(DiagnosisRow.radiograph).in_(films), *standing(DiagnosisRow)
    )
    for id, radiograph, content in session.exec(readings) if films else ():
        known = latest.get(radiograph) if radiograph is not None else None
        if radiograph is not None and (known is None or content.get("made_at", "") >= known.content.get("made_at", "")):
            latest[radiograph] = LatestReading(id, dict(content))
    return latest


def in_state(result: dict[str, Any], *states: State) -> tuple[str, ...]:
    """Findings of a result that are in one of these states, in the order of the vocabulary."""
    said = result.get("states") or {}
    return tuple(key for key in KEYS if said.get(key) in {state.value for state in states})


def standing(table: Any) -> tuple[Any, ...]:
    """SQL: a record is neither deleted by its device nor hidden by the hospital."""
    return (
        col(table.deleted).is_(None),
        col(table.hidden_at).is_(None),
        col(table.purged_at).is_(None),
    )
