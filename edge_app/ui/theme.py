"""Colours and measures of the window: dark for the night, light for glaring sun, large enough for gloves.

``use("light")`` or ``use("dark")`` sets the colours below. Widgets take them when they are made, so whoever switches
makes the screens anew. Read them as ``theme.TEXT``, never import one by value.

Text colours reach a contrast of at least 7:1 on every ground they are used on (WCAG 2.2, success criterion 1.4.6),
and no colour is the only sign of anything. The ground of a radiograph is black in both, with white text on it.
Measures are in density-independent pixels (160 to the inch); a touch target is never below 48.
"""

from __future__ import annotations

from typing import Final, Literal

Colour = tuple[float, float, float, float]
Name = Literal["dark", "light"]


def rgb(code: str, opacity: float = 1.0) -> Colour:
    """``"#rrggbb"`` -> red, green, blue and opacity, each 0..1."""
    return (int(code[1:3], 16) / 255, int(code[3:5], 16) / 255, int(code[5:7], 16) / 255, opacity)


IMAGE_GROUND: Final = rgb("#000000")
IMAGE_TEXT: Final = rgb("#ffffff")
IMAGE_TOOL: Final = rgb("#161d26")
IMAGE_TOOL_PRESSED: Final = rgb("#2a3644")
IMAGE_EDGE: Final = rgb("#b9c4d0")
IMAGE_ACTION: Final = rgb("#ffd23f")
ON_IMAGE_ACTION: Final = rgb("#14100a")
BOX: Final = rgb("#ff3030")
BOX_RIM: Final = rgb("#140000")
BOX_LABEL: Final = rgb("#960000")
NOTE_GROUND: Final = rgb("#3c2d00")
NOTE_TEXT: Final = rgb("#ffd75a")
"""What lies on a radiograph, alike in both palettes: tools, boxes with their labels, the note on a correction."""

NAMES: Final[tuple[Name, ...]] = ("dark", "light")

PALETTES: Final[dict[Name, dict[str, Colour]]] = {
    "dark": {
        "GROUND": rgb("#0a0e13"),
        "CARD": rgb("#161d26"),
        "CARD_PRESSED": rgb("#2a3644"),
        "FIELD": rgb("#05080b"),
        "KEY": rgb("#2a3644"),
        "KEY_ACTION": rgb("#161d26"),
        "TRACK": rgb("#33404f"),
        "TEXT": rgb("#f7fafc"),
        "MUTED": rgb("#bfcad6"),
        "ACTION": rgb("#ffd23f"),
        "ACTION_PRESSED": rgb("#ffe894"),
        "ON_ACTION": rgb("#14100a"),
        "BAR": rgb("#5cc8ff"),
        "GOOD": rgb("#6ee7a0"),
        "WARNING": rgb("#ffb84d"),
        "URGENT": rgb("#ff8585"),
        "URGENT_GROUND": rgb("#8f0000"),
        "URGENT_PRESSED": rgb("#6b0000"),
        "ON_URGENT": rgb("#ffffff"),
        "SCRIM": rgb("#000000", 0.72),
    },
    "light": {
        "GROUND": rgb("#e9eef3"),
        "CARD": rgb("#ffffff"),
        "CARD_PRESSED": rgb("#cfdae6"),
        "FIELD": rgb("#ffffff"),
        "KEY": rgb("#ffffff"),
        "KEY_ACTION": rgb("#dbe4ed"),
        "TRACK": rgb("#c3cfdb"),
        "TEXT": rgb("#0a0f15"),
        "MUTED": rgb("#36424f"),
        "ACTION": rgb("#003b80"),
        "ACTION_PRESSED": rgb("#00254f"),
        "ON_ACTION": rgb("#ffffff"),
        "BAR": rgb("#0058a0"),
        "GOOD": rgb("#004d28"),
        "WARNING": rgb("#663300"),
        "URGENT": rgb("#8f0000"),
        "URGENT_GROUND": rgb("#9b0000"),
        "URGENT_PRESSED": rgb("#6b0000"),
        "ON_URGENT": rgb("#ffffff"),
        "SCRIM": rgb("#000000", 0.6),
    },
}
"""Palette -> name of a colour below -> colour."""

GROUND: Colour
CARD: Colour
CARD_PRESSED: Colour
FIELD: Colour
KEY: Colour
KEY_ACTION: Colour
TRACK: Colour
TEXT: Colour
MUTED: Colour
ACTION: Colour
ACTION_PRESSED: Colour
ON_ACTION: Colour
BAR: Colour
GOOD: Colour
WARNING: Colour
URGENT: Colour
URGENT_GROUND: Colour
URGENT_PRESSED: Colour
ON_URGENT: Colour
SCRIM: Colour
STATE: dict[str, Colour]
"""Colour of a finding's state, beside its mark and its word; a likely finding that is urgent is ``URGENT``."""

KIND: dict[str, Colour]
"""Colour of a status: ``plain``, ``good``, ``warning`` or ``urgent``; :data:`KIND_MARK` tells them apart without it."""
KIND_MARK: Final = {"plain": "○", "good": "●", "warning": "▲", "urgent": "■"}

name: Name = "dark"
"""The palette in use."""


def use(palette: Name) -> None:
    """Set this module's colours; what is on screen already keeps the old ones until it is made anew.

    Raises:
        ValueError: there is no such palette.
    """
    global name, STATE, KIND  # noqa: PLW0603  the module is the one place that holds the colours in use
    if palette not in PALETTES:
        raise ValueError(f"no palette is called {palette!r}")
    name = palette
    colours = PALETTES[palette]
    globals().update(colours)
    STATE = {
        "likely": colours["TEXT"],
        "uncertain": colours["WARNING"],
        "unlikely": colours["MUTED"],
        "not_assessed": colours["MUTED"],
    }
    KIND = {
        "plain": colours["MUTED"],
        "good": colours["GOOD"],
        "warning": colours["WARNING"],
        "urgent": colours["URGENT"],
    }


use("dark")

TARGET: Final = 56
ACTION_HEIGHT: Final = 84
ROW_HEIGHT: Final = 76
PANEL_WIDTH: Final = 440

SMALL: Final = 15
BODY: Final = 18
LARGE: Final = 22
HEADING: Final = 25
FIGURE: Final = 30
