"""Where the user is: a stack of places, with the four tabs at its bottom."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from uuid import UUID


class Screen(StrEnum):
    """The kinds of screen."""

    RUNS = "runs"
    CAPTURE = "capture"
    HISTORY = "history"
    STATUS = "status"
    BEGIN = "begin"
    KNOWN = "known"
    RUN = "run"
    PATIENT = "patient"
    VITALS = "vitals"
    ASSIGN = "assign"
    RESULT = "result"
    COMPARE = "compare"
    DELETIONS = "deletions"
    SETTINGS = "settings"
    PIN = "pin"
    ENROL = "enrol"


TABS: Final = (Screen.RUNS, Screen.CAPTURE, Screen.HISTORY, Screen.STATUS)
"""Screens that can be reached from everywhere, in the order of the bar."""

FORMS: Final = frozenset(
    {Screen.BEGIN, Screen.PATIENT, Screen.VITALS, Screen.SETTINGS, Screen.PIN, Screen.ENROL, Screen.ASSIGN}
)
"""Screens one works on: nothing that arrives takes their place."""


@dataclass(frozen=True, slots=True)
class Place:
    """A screen, and what it is about: a run, a radiograph or a patient, and for a comparison the other radiograph."""

    screen: Screen
    id: UUID | None = None
    other: UUID | None = None


HOME: Final = Place(Screen.RUNS)
