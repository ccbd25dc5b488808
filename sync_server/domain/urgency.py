"""How urgent a run is, for the order of the board: from what was found, what was measured, what is not known yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from shared.findings import BY_KEY, Urgency


class Rank(IntEnum):
    """Smaller is more urgent; kept in ``HistoryRow.rank``."""

    IMMEDIATE_FINDING = 0
    """A likely finding that may kill within minutes."""
    CRITICAL_VITAL_SIGN = 1
    """A vital sign far out of range (:data:`BANDS`)."""
    URGENT_FINDING = 2
    """A likely finding that needs treatment on arrival."""
    READINGS_DIFFER = 3
    """Ambulance and hospital read a film differently, in a way that matters."""
    NOT_EXCLUDED = 4
    """A finding that may kill within minutes is neither likely nor unlikely, or was not assessed."""
    NOT_READ = 5
    """A film was refused, could not be read, or waits to be read."""
    FINDING = 6
    """Other likely findings."""
    NOTHING_LIKELY = 7
    """All films were read; nothing is likely."""
    NO_FILM = 8
    """There is no film yet."""


BANDS: Final[dict[str, tuple[float, float]]] = {
    "spo2": (92, 101),
    "respiratory_rate": (9, 24),
    "heart_rate": (41, 130),
    "systolic": (91, 219),
    "gcs": (9, 15),
}
"""Vital sign -> lowest and highest value that is not critical: outside, NEWS2 (Royal College of Physicians, 2017) gives
three points for that sign alone and asks for an urgent look; a Glasgow coma score of 8 or less endangers the airway."""

_ORDER: Final = {Urgency.IMMEDIATE: 0, Urgency.URGENT: 1}


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of one film: likely findings, whether something deadly stays possible, whether it was read."""

    likely: frozenset[str] = frozenset()
    open: bool = False
    read: bool = False
    differs: bool = False


def rank(films: Iterable[Seen], vital_signs: Mapping[str, Any] | None) -> Rank:
    """The most urgent that applies."""
    films = list(films)
    likely = set().union(*(film.likely for film in films))
    urgencies = {BY_KEY[key].urgency for key in likely}
    applies = {
        Rank.IMMEDIATE_FINDING: Urgency.IMMEDIATE in urgencies,
        Rank.CRITICAL_VITAL_SIGN: bool(critical(vital_signs or {})),
        Rank.URGENT_FINDING: Urgency.URGENT in urgencies,
        Rank.READINGS_DIFFER: any(film.differs for film in films),
        Rank.NOT_EXCLUDED: any(film.open for film in films),
        Rank.NOT_READ: any(not film.read for film in films),
        Rank.FINDING: bool(likely),
        Rank.NOTHING_LIKELY: bool(films),
    }
    return next((rank for rank, holds in applies.items() if holds), Rank.NO_FILM)


def critical(vital_signs: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of vital signs outside :data:`BANDS`; those not measured are left out."""
    return tuple(
        name
        for name, (low, high) in BANDS.items()
        if (value := vital_signs.get(name)) is not None and not low <= value <= high
    )


def urgent(likely: Iterable[str]) -> list[str]:
    """Those findings that need action in the ambulance or on arrival, most urgent first."""
    found = {key: _ORDER[BY_KEY[key].urgency] for key in likely if BY_KEY[key].urgency in _ORDER}
    return sorted(found, key=lambda key: (found[key], key))
