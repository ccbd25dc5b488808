"""The text of a field while it is edited: cursor, the syllable being composed, and what each kind of field takes."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Final

from edge_app.ui.hangul import INITIALS, VOWELS, Composer


class Kind(StrEnum):
    """What a field holds."""

    TEXT = "text"
    MULTILINE = "multiline"
    DIGITS = "digits"
    DECIMAL = "decimal"
    """Digits with at most one point."""
    DATE = "date"
    """``YYYY-MM-DD`` as far as it is typed; the hyphens come by themselves."""
    PIN = "pin"
    """Digits shown as dots."""
    HIDDEN = "hidden"
    """Text shown as dots."""
    ADDRESS = "address"
    """Of a server: what stands in a URL (RFC 3986), no blanks."""
    CODE = "code"
    """Capitals and digits in groups of four; the hyphens come by themselves."""


NUMERIC: Final = frozenset({Kind.DIGITS, Kind.DECIMAL, Kind.DATE, Kind.PIN})
"""Kinds that are typed on the pad of digits."""

LATIN: Final = frozenset({Kind.ADDRESS, Kind.CODE})
"""Kinds without Korean, which have a page of the keyboard of their own."""

DOTTED: Final = frozenset({Kind.PIN, Kind.HIDDEN})
"""Kinds that are shown as dots unless they are revealed."""

GROUPED: Final = frozenset({Kind.DATE, Kind.CODE})
"""Kinds whose hyphens come by themselves."""

DATE_DIGITS: Final = 8
GROUP: Final = 4
DOT: Final = "●"


class Editor:
    """Text, cursor and composer of one field.

    Args:
        kind: what the field takes; anything else that is typed is ignored.
        max_length: most characters of the text; 0 is without limit.
    """

    def __init__(self, kind: Kind = Kind.TEXT, max_length: int = 0) -> None:
        self.kind = kind
        self.max_length = max_length
        self.revealed = False
        self._before = ""
        self._after = ""
        self._composer = Composer()

    @property
    def text(self) -> str:
        """The text, with the syllable being composed."""
        return self._before + self._composer.composing + self._after

    @property
    def cursor(self) -> int:
        """Characters before the cursor, the syllable being composed among them."""
        return len(self._before) + len(self._composer.composing)

    @property
    def composing(self) -> tuple[int, int]:
        """Start and end of the syllable being composed; alike where there is none."""
        return len(self._before), self.cursor

    @property
    def shown(self) -> str:
        """The text as the screen shows it: dots for what is secret and not ``revealed``."""
        return DOT * len(self.text) if self.kind in DOTTED and not self.revealed else self.text

    def set(self, text: str) -> None:
        """Replace the text, as it is; the cursor goes to its end."""
        self._composer.flush()
        self._before, self._after = text, ""

    def type(self, characters: str) -> None:
        """Type characters; a jamo of the layout goes into the syllable being composed where the field takes text."""
        for character in characters:
            if self.kind not in NUMERIC | LATIN and (character in INITIALS or character in VOWELS):
                self._jamo(character)
            else:
                self.settle()
                self._insert(character)

    def backspace(self) -> None:
        """Take back the last jamo of the syllable being composed, or else the character before the cursor."""
        if self._composer.backspace():
            return
        end = -2 if self.kind in GROUPED and self._before.endswith("-") else -1
        self._before = self._before[:end]
        self._tidy()

    def move(self, to: int) -> None:
        """Put the cursor after ``to`` characters; ends the syllable being composed."""
        self.settle()
        text = self._before + self._after
        to = min(max(to, 0), len(text))
        self._before, self._after = text[:to], text[to:]

    def settle(self) -> None:
        """End the syllable being composed."""
        self._before += self._composer.flush()

    def _jamo(self, jamo: str) -> None:
        before = (self._composer.initial, self._composer.vowel, self._composer.final)
        done = self._composer.press(jamo)
        self._before += done
        if self._full(0):
            self._before = self._before[: len(self._before) - len(done)]
            self._composer.initial, self._composer.vowel, self._composer.final = before

    def _insert(self, character: str) -> None:
        if self._takes(character) and not self._full(1):
            self._before += character.upper() if self.kind is Kind.CODE else character
            self._tidy()

    def _takes(self, character: str) -> bool:
        match self.kind:
            case Kind.DECIMAL:
                return character in "0123456789" or (character == "." and "." not in self.text)
            case Kind.DATE:
                return character in "0123456789" and sum(c.isdigit() for c in self.text) < DATE_DIGITS
            case Kind.DIGITS | Kind.PIN:
                return character in "0123456789"
            case Kind.ADDRESS | Kind.CODE:
                return "!" <= character <= "~" and (self.kind is Kind.ADDRESS or character.isalnum())
            case Kind.MULTILINE:
                return character == "\n" or character.isprintable()
            case Kind.TEXT | Kind.HIDDEN:
                return character.isprintable()

    def _full(self, more: int) -> bool:
        return 0 < self.max_length < len(self.text) + more

    def _tidy(self) -> None:
        """Put the hyphens where they belong; the cursor stays after the same character."""
        if self.kind not in GROUPED:
            return
        before, after = (part.replace("-", "") for part in (self._before, self._after))
        if self.kind is Kind.CODE:
            text, cut = _groups(before + after), len(_groups(before))
        else:
            text = _date(before + after)
            cut = len(_date(before)) if not after else len(before) + (len(before) > 4) + (len(before) > 6)
        self._before, self._after = text[:cut], text[cut:]


def _date(digits: str) -> str:
    """Digits of a date with hyphens: after the year and after the month, as soon as they are complete."""
    year, month, day = digits[:4], digits[4:6], digits[6:8]
    return year + ("-" if len(year) == 4 else "") + month + ("-" if len(month) == 2 else "") + day


def _groups(characters: str) -> str:
    """Characters of a code with a hyphen between groups."""
    return "-".join(characters[start : start + GROUP] for start in range(0, len(characters), GROUP))


def wrap(text: str, width: float, measure: Callable[[str], float]) -> list[tuple[int, int]]:
    """Lines of a text: (start, end) of each, the newline or space at which it breaks left out.

    Args:
        width: of the longest line.
        measure: width of a text in the same unit.
    """
    lines = []
    start = 0
    for paragraph in text.split("\n"):
        end = start + len(paragraph)
        while start < end:
            stop = _fitting(text, start, end, width, measure)
            if stop < end and (space := text.rfind(" ", start + 1, stop + 1)) > 0:
                lines.append((start, space))
                start = space + 1
            else:
                lines.append((start, stop))
                start = stop
        if not paragraph:
            lines.append((end, end))
        start = end + 1
    return lines


def _fitting(text: str, start: int, end: int, width: float, measure: Callable[[str], float]) -> int:
    """End of the longest piece from ``start`` that fits; at least one character."""
    low, high = start + 1, end
    while low < high:
        middle = (low + high + 1) // 2
        if measure(text[start:middle]) <= width:
            low = middle
        else:
            high = middle - 1
    return low
