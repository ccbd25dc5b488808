"""Colours and measures of the window: dark, high contrast, large enough for gloves and arm's length.

Text colours reach a contrast of at least 7:1 on every ground they are used on (WCAG 2.2, success criterion 1.4.6).
Measures are in density-independent pixels (160 to the inch); a touch target is never below 48.
"""

from __future__ import annotations

from typing import Final

Colour = tuple[float, float, float, float]


def rgb(code: str) -> Colour:
    """``"#rrggbb"`` -> red, green, blue and full opacity, each 0..1."""
    return (int(code[1:3], 16) / 255, int(code[3:5], 16) / 255, int(code[5:7], 16) / 255, 1.0)


GROUND: Final = rgb("#0a0e13")
IMAGE_GROUND: Final = rgb("#000000")
CARD: Final = rgb("#161d26")
CARD_PRESSED: Final = rgb("#2a3644")
TRACK: Final = rgb("#33404f")
TEXT: Final = rgb("#f7fafc")
MUTED: Final = rgb("#b9c4d0")
ACTION: Final = rgb("#ffd23f")
ACTION_PRESSED: Final = rgb("#ffe894")
ON_ACTION: Final = rgb("#14100a")
BAR: Final = rgb("#5cc8ff")
URGENT: Final = rgb("#ff5c5c")
URGENT_GROUND: Final = rgb("#8f0000")
WARNING: Final = rgb("#ffb84d")
BOX: Final = rgb("#ff3030")
STATE: Final = {"likely": TEXT, "uncertain": WARNING, "unlikely": MUTED}
"""Colour of a finding's state, beside its mark and its word; a likely finding that is urgent is :data:`URGENT`."""

TARGET: Final = 56
ACTION_HEIGHT: Final = 84
ROW_HEIGHT: Final = 76
PANEL_WIDTH: Final = 440

SMALL: Final = 15
BODY: Final = 18
LARGE: Final = 22
HEADING: Final = 25
FIGURE: Final = 30
