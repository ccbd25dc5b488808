"""Making a hospital known to the device: address and code, whose hospital answers, and the yes to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from edge_app.enrolment import Recognised, address
from edge_app.ui.presenters.desk import Desk, Presenter
from edge_app.ui.presenters.forms import Mistake, mistake
from shared.enrolment import ALPHABET, CODE_LENGTH, FINGERPRINT_LENGTH, EnrolmentCode
from shared.errors import FirstRayError

if TYPE_CHECKING:
    from edge_app.hospital_access import HospitalAccess
    from edge_app.station import Station

LETTERS: Final = CODE_LENGTH + FINGERPRINT_LENGTH
"""Of a whole code, without hyphens."""

AS_BEFORE: Final = frozenset({"enrolment_no_network", "enrolment_no_answer", "enrolment_failed"})
"""Errors after which the same hospital may be asked again as it is; after any other, address or code must change."""


class Doing(StrEnum):
    """What is under way."""

    NOTHING = ""
    LOOKING = "looking"
    ENROLLING = "enrolling"


@dataclass(frozen=True, slots=True)
class Enrol:
    """State of the enrolment.

    Attributes:
        hospital: that the device sends to now; None for none.
        address, code: as typed.
        wrong: field (``address``, ``code``) -> why it was not taken.
        doing: see :class:`Doing`.
        found: whose hospital answered; None before, and once address or code has to be typed again.
    """

    hospital: HospitalAccess | None = None
    address: str = ""
    code: str = ""
    wrong: tuple[tuple[str, Mistake], ...] = ()
    doing: Doing = Doing.NOTHING
    found: Recognised | None = None
    error: FirstRayError | None = None

    @property
    def same(self) -> bool:
        """The hospital found is the one that the device sends to already."""
        if self.hospital is None or self.found is None:
            return False
        now, new = self.hospital.hospital, self.found.hospital
        return (now.url, now.ca_pem) == (new.url, new.ca_pem)


class EnrolPresenter(Presenter[Enrol]):
    """First finds out whose hospital it is; only a yes to that tells it anything.

    Args:
        desk, station: as in :class:`Presenter`.
        finished: called once the hospital has taken the device on.
    """

    def __init__(self, desk: Desk, station: Station, finished: Callable[[], None]) -> None:
        super().__init__(desk, station, Enrol())
        self._finished = finished

    def write(self, **typed: str) -> None:
        """What is typed so far: ``address``, ``code``."""
        if any(getattr(self._state, name) != text for name, text in typed.items()):
            self._set(**typed)

    def look(self) -> None:
        """Find out whose hospital is at the address, without telling it anything."""
        state = self._state
        wrong = _wrong(state.address, state.code)
        self._set(wrong=wrong, error=None)
        if wrong or state.doing:
            return
        self._set(doing=Doing.LOOKING)

        def found(hospital: Recognised) -> None:
            self._set(doing=Doing.NOTHING, found=hospital)

        self._do(lambda: self._station.recognise(state.address, state.code), found, self._not_done, long=True)

    def accept(self) -> None:
        """Yes, this hospital: have it take the device on, and send to it from now on."""
        found = self._state.found
        if found is None or self._state.doing:
            return
        self._set(doing=Doing.ENROLLING, error=None)

        def done(hospital: HospitalAccess) -> None:
            self._set(doing=Doing.NOTHING, hospital=hospital, found=None, code="")
            self._finished()

        self._do(lambda: self._station.register(found), done, self._not_done, long=True)

    def decline(self) -> None:
        """No, another hospital: back to address and code."""
        if not self._state.doing:
            self._set(found=None, error=None)

    def _fetch(self, state: Enrol) -> dict[str, Any]:
        del state
        return {"hospital": self._station.status().hospital}

    def _not_done(self, error: FirstRayError) -> None:
        found = self._state.found if error.code in AS_BEFORE else None
        self._set(doing=Doing.NOTHING, found=found, error=error)


def _wrong(typed: str, code: str) -> tuple[tuple[str, Mistake], ...]:
    """What cannot be an address, or a code."""
    wrong = []
    try:
        address(typed)
    except FirstRayError:
        wrong.append(("address", mistake("As the admin page shows it, such as https://er.hospital.example")))
    try:
        EnrolmentCode.parse(code)
    except FirstRayError:
        wrong.append(("code", _mistyped("".join(letter for letter in code if letter.isalnum()))))
    return tuple(wrong)


def _mistyped(letters: str) -> Mistake:
    if not set(letters.upper()) <= set(ALPHABET):
        return mistake("The letters I, L, O and U and the digits 0 and 1 are in no code.")
    return mistake("{n} of {all} letters and digits.", n=len(letters), all=LETTERS)
