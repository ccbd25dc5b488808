"""Which vital signs stand out: single parameters of the National Early Warning Score 2 (Royal College of Physicians,
2017), without the sum, for adults. Oxygen saturation is on scale 1; whether oxygen is given is not recorded. Instead of
its level of consciousness the Glasgow coma score: 8 or less endangers the airway, less than 15 is not alert.
"""

from __future__ import annotations

import math
from typing import Any, Final, Literal

Mark = Literal["", "warning", "urgent"]

ADULT: Final = 16
"""NEWS2 holds from this age on; below it nothing is marked, for normal values differ by age."""

_BANDS: Final[dict[str, tuple[tuple[float, int], ...]]] = {
    "respiratory_rate": ((8, 3), (11, 1), (20, 0), (24, 2), (math.inf, 3)),
    "spo2": ((91, 3), (93, 2), (95, 1), (math.inf, 0)),
    "systolic": ((90, 3), (100, 2), (110, 1), (219, 0), (math.inf, 3)),
    "heart_rate": ((40, 3), (50, 1), (90, 0), (110, 1), (130, 2), (math.inf, 3)),
    "gcs": ((8, 3), (14, 2), (math.inf, 0)),
}
"""Vital sign -> (highest value, score) from low to high."""

NAMES: Final = ("spo2", "respiratory_rate", "heart_rate", "systolic", "diastolic", "gcs")
"""Fields of ``shared.records.VitalSignsFields`` that are vital signs, in the order they are shown."""


def score(name: str, value: int) -> int:
    """NEWS2 score of one parameter, 0 to 3; 0 for those that NEWS2 does not know."""
    return next((points for highest, points in _BANDS.get(name, ()) if value <= highest), 0)


def mark(name: str, value: int | None, age: int | None) -> Mark:
    """``urgent`` where the parameter alone calls for urgent review (3 points), ``warning`` for 2, else empty.

    An unknown age is read as an adult's.
    """
    if value is None or (age is not None and age < ADULT):
        return ""
    marks: dict[int, Mark] = {3: "urgent", 2: "warning"}
    return marks.get(score(name, value), "")


def marks(signs: dict[str, Any] | None, age: int | None) -> dict[str, Mark]:
    """:func:`mark` of each sign that was taken."""
    taken = {name: signs.get(name) for name in NAMES} if signs else {}
    return {name: mark(name, value, age) for name, value in taken.items() if value is not None}
