"""What is on the keys of the on-screen keyboard, page by page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from edge_app.ui.hangul import jamo_of

Action = Literal["shift", "backspace", "language", "symbols", "letters", "space", "enter", "newline", "hide"]


@dataclass(frozen=True, slots=True)
class KeyCap:
    """One key.

    Attributes:
        text: what it types, or where it has an action what is written on it; empty where the view writes it.
        action: what it does instead of typing.
        width: in widths of a letter key.
    """

    text: str
    action: Action | None = None
    width: float = 1.0


Page = tuple[tuple[KeyCap, ...], ...]
"""Rows of keys, from the top."""

LETTER_ROWS: Final = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
SYMBOL_ROWS: Final = ("1234567890", "-/:;()%&@#", ".,?!'\"+~")
PAD_ROWS: Final = ("123", "456", "789")
ADDRESS_ROWS: Final = ("1234567890", "qwertyuiop-", "asdfghjkl.:", "zxcvbnm/")
CODE_ROWS: Final = ("23456789", "QWERTYP", "ASDFGHJK", "ZXCVBNM")
"""The alphabet of enrolment codes (:data:`shared.enrolment.ALPHABET`)."""


def letters(language: str, shifted: bool, multiline: bool) -> Page:
    """Letters of a language: ``"ko"`` is dubeolsik (KS X 5002), anything else QWERTY."""

    def face(letter: str) -> str:
        letter = letter.upper() if shifted else letter
        return jamo_of(letter) if language == "ko" else letter

    rows = [tuple(KeyCap(face(letter)) for letter in row) for row in LETTER_ROWS]
    rows[2] = (KeyCap("▲" if shifted else "△", "shift", 1.5), *rows[2], KeyCap("", "backspace", 1.5))
    return (*rows, _bottom(KeyCap("?123", "symbols", 1.4), language, multiline))


def symbols(language: str, multiline: bool) -> Page:
    """Digits and punctuation."""
    rows = [tuple(KeyCap(sign) for sign in row) for row in SYMBOL_ROWS]
    rows[2] = (*rows[2], KeyCap("", "backspace", 1.5))
    return (*rows, _bottom(KeyCap("가나다" if language == "ko" else "ABC", "letters", 1.4), language, multiline))


def pad(point: bool) -> Page:
    """Digits alone, in the order of a telephone; ``point`` adds a decimal point."""
    right = (KeyCap("", "backspace"), KeyCap("▼", "hide"), KeyCap("." if point else ""))
    rows = [(*(KeyCap(digit) for digit in row), side) for row, side in zip(PAD_ROWS, right, strict=True)]
    return (*rows, (KeyCap("0", width=2.0), KeyCap("", "enter", 2.0)))


def address() -> Page:
    """What addresses of servers are made of, on one page."""
    rows = [tuple(KeyCap(sign) for sign in row) for row in ADDRESS_ROWS]
    return (
        (*rows[0], KeyCap("", "backspace")),
        rows[1],
        rows[2],
        (*rows[3], KeyCap("▼", "hide"), KeyCap("", "enter", 2.0)),
    )


def code() -> Page:
    """What codes are made of: nothing that could be read for something else."""
    rows = [tuple(KeyCap(sign) for sign in row) for row in CODE_ROWS]
    return (
        (*rows[0], KeyCap("", "backspace", 1.5)),
        rows[1],
        (*rows[2], KeyCap("▼", "hide", 1.5)),
        (*rows[3], KeyCap("", "enter", 2.5)),
    )


def _bottom(switch: KeyCap, language: str, multiline: bool) -> tuple[KeyCap, ...]:
    newline = (KeyCap("", "newline", 1.2),) if multiline else ()
    return (
        switch,
        KeyCap("EN" if language == "ko" else "한글", "language", 1.4),
        KeyCap("한국어" if language == "ko" else "English", "space", 4.0 - (1.2 if multiline else 0)),
        *newline,
        KeyCap("▼", "hide", 1.0),
        KeyCap("", "enter", 2.2),
    )
