"""To which run an image belongs that arrives by itself: said only where there is no doubt, else a person is asked."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from edge_app.capture.intake import Source
from edge_app.store.views import Film, RunRow
from shared.radiograph import DeviceLabels

CLOCKS: Final = timedelta(hours=12)
"""By how much an X-ray device's clock may be wrong, its time zone included, before an exposure counts as another's."""


def run_for(film: Film, labels: DeviceLabels, runs: Sequence[RunRow]) -> UUID | None:
    """The run an image belongs to, or None where it must be asked.

    Only the one run that was under way can have it, if it began before the image arrived, neither name nor time of
    exposure speak against it, and, for a file, which may be of any age, the time speaks for it.

    Args:
        film: the image, not read before: whoever was asked is asked until they answer.
        labels: what the X-ray device wrote beside it.
        runs: those under way, or ended after the image arrived.
    """
    if len(runs) != 1:
        return None
    run = runs[0]
    began = run.encounter.started_at
    if began is None or began > film.received_at or contradicts(labels.name, run.who.name):
        return None
    exposed = exposed_at(labels.acquired_at)
    if exposed is not None and exposed < began - CLOCKS:
        return None
    if film.source != Source.DICOM and (exposed is None or exposed > film.received_at + CLOCKS):
        return None
    return run.id


def exposed_at(text: str | None) -> datetime | None:
    """The moment that a device wrote as DICOM's DA and TM (PS3.5 6.2), by this machine's time zone; None where none is.

    A date alone stands for its last second.
    """
    day, time, *_ = [*(text or "").split(), "", ""]
    day, time = day.replace(".", ""), time.partition(".")[0].replace(":", "")  # the older forms have them in between
    if len(day) != 8:
        return None
    try:
        return datetime.strptime(day + (time.ljust(6, "0") if time else "235959"), "%Y%m%d%H%M%S").astimezone()
    except (ValueError, OverflowError):
        return None


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
