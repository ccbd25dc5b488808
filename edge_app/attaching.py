"""To which run an image belongs that arrives by itself: said only where there is no doubt, else a person is asked."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from edge_app.store.views import RunRow


def run_for(received_at: datetime, name_on_image: str | None, under_way: Sequence[RunRow]) -> UUID | None:
    """The run an image belongs to, or None where it must be asked.

    Only the one run under way can have it, if it began before the image arrived and the name that the X-ray device
    wrote does not contradict the patient's.
    """
    if len(under_way) != 1:
        return None
    run = under_way[0]
    if run.encounter.started_at is None or run.encounter.started_at > received_at:
        return None
    return None if contradicts(name_on_image, run.who.name) else run.id


def contradicts(on_image: str | None, patient: str | None) -> bool:
    """Whether two names are both known and have no word in common.

    X-ray devices write family names first, in capitals or in another script; a shared word is enough to agree, and a
    name in another script says nothing.
    """
    left, right = _words(on_image), _words(patient)
    if not left or not right or left & right:
        return False
    return _script(left) == _script(right) and not _same_letters(left, right)


def _words(name: str | None) -> frozenset[str]:
    text = unicodedata.normalize("NFKC", name or "").casefold()
    return frozenset("".join(letter if letter.isalnum() else " " for letter in text).split())


def _same_letters(left: frozenset[str], right: frozenset[str]) -> bool:
    """Korean names are written with and without a space between family and given name."""
    return sorted("".join(left)) == sorted("".join(right))


def _script(words: frozenset[str]) -> frozenset[str]:
    """The scripts of the words' first letters: LATIN, HANGUL, CJK ..."""
    return frozenset(unicodedata.name(word[0], "?").split()[0] for word in words)
