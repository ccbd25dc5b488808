"""The locked screen: choose a PIN at the first start, type it afterwards, and what to do if the store does not open."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from edge_app.ui.presenters.desk import Desk, Presenter
from shared.errors import FirstRayError

if TYPE_CHECKING:
    from edge_app.station import Station
    from edge_app.store.views import Backup

LEAST_DIGITS: Final = 6
MOST_DIGITS: Final = 12
LEAST_LETTERS: Final = 10
MOST_LETTERS: Final = 200
"""Of a PIN, and of a passphrase (:func:`edge_app.store.keys.check_pin`)."""

PIN_CODES: Final = frozenset({"pin_wrong", "pin_wait", "pin_too_short", "pin_too_simple", "pin_differs"})
"""Errors that are answered by typing again; any other is trouble with the store."""


class Step(StrEnum):
    """What the user is asked for."""

    CHOOSE = "choose"
    REPEAT = "repeat"
    ENTER = "enter"


@dataclass(frozen=True, slots=True)
class Unlock:
    """State of the locked screen.

    Attributes:
        step: what is asked for.
        digits: how many digits or letters were typed.
        passphrase: a passphrase is typed, not a PIN.
        busy: the PIN is being checked.
        error: what was wrong with it.
        tries: wrong tries in a row, as far as known here.
        wait_until: on the monotonic clock in seconds; no try is taken before.
        trouble: why the store does not open; shown on a page of its own.
        backups: what it can be restored from, newest first.
        lost_key: the records were made with a key that was destroyed, so that nobody can read them.
    """

    step: Step
    digits: int = 0
    passphrase: bool = False
    busy: bool = False
    error: FirstRayError | None = None
    tries: int = 0
    wait_until: float = 0.0
    trouble: FirstRayError | None = None
    backups: tuple[Backup, ...] = ()
    lost_key: bool = False

    @property
    def ready(self) -> bool:
        """Enough was typed to try."""
        return self.digits >= (LEAST_LETTERS if self.passphrase else LEAST_DIGITS) and not self.busy


class UnlockPresenter(Presenter[Unlock]):
    """Takes digits, and says when the device is open.

    Args:
        desk, station: as in :class:`Presenter`.
        opened: called once the PIN was right and the store is open.
        clock: monotonic seconds.
    """

    def __init__(
        self, desk: Desk, station: Station, opened: Callable[[], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(desk, station, Unlock(Step.CHOOSE if station.is_new else Step.ENTER))
        self._opened = opened
        self._clock = clock
        self._pin = ""
        self._first = ""

    def reset(self) -> None:
        """Begin anew: after the screen was locked, or the key was destroyed."""
        self._pin = self._first = ""
        step = Step.CHOOSE if self._station.is_new else Step.ENTER
        self._set(step=step, digits=0, error=None, trouble=None)

    def seconds_left(self) -> int:
        """Whole seconds until the next try is taken; 0 if it is taken now."""
        return max(0, int(self._state.wait_until - self._clock() + 0.999))

    def digit(self, digit: str) -> None:
        """One more digit; ignored while one has to wait, and beyond :data:`MOST_DIGITS`."""
        if self._state.busy or self.seconds_left() or len(self._pin) == MOST_DIGITS:
            return
        self._pin += digit
        self._set(digits=len(self._pin), error=None)

    def write(self, text: str) -> None:
        """The passphrase as far as it is typed; ignored while one is checked."""
        if not self._state.busy and text != self._pin:
            self._pin = text
            self._set(digits=len(text), error=None if text else self._state.error)

    def use_passphrase(self, passphrase: bool) -> None:
        """Have a passphrase typed, or a PIN; what was typed so far is dropped. Stays so until it is called again."""
        if not self._state.busy and passphrase != self._state.passphrase:
            self._pin = self._first = ""
            step = Step.ENTER if self._state.step is Step.ENTER else Step.CHOOSE
            self._set(passphrase=passphrase, step=step, digits=0, error=None)

    def erase(self) -> None:
        """Take the last digit back."""
        if not self._state.busy:
            self._pin = self._pin[:-1]
            self._set(digits=len(self._pin))

    def submit(self) -> None:
        """Go on with what was typed."""
        if not self._state.ready or self.seconds_left():
            return
        match self._state.step:
            case Step.CHOOSE:
                self._first, self._pin = self._pin, ""
                self._set(step=Step.REPEAT, digits=0, error=None)
            case Step.REPEAT if self._pin != self._first:
                self._again(FirstRayError("pin_differs", "The two PINs differ.", "Choose a PIN again."), Step.CHOOSE)
            case Step.REPEAT:
                self._try(self._station.set_up)
            case Step.ENTER:
                self._try(self._station.unlock)

    def retry(self) -> None:
        """Try to open the store once more, with the PIN typed before."""
        self._set(trouble=None)
        if self._pin:
            self._try(self._station.unlock)

    def restore(self, backup: Backup | None) -> None:
        """Put a backup (None: empty records) in the place of the damaged store; the PIN typed before opens it."""
        pin = self._pin

        def work() -> None:
            self._station.restore(pin, backup)
            self._station.unlock(pin)

        self._set(busy=True)
        self._do(work, lambda _: self._right(), self._wrong, long=True)

    def _fetch(self, state: Unlock) -> dict[str, object]:
        del state
        return {}

    def _try(self, attempt: Callable[[str], None]) -> None:
        pin = self._pin
        self._set(busy=True, error=None)
        self._do(lambda: attempt(pin), lambda _: self._right(), self._wrong, long=True)

    def _right(self) -> None:
        self._pin = self._first = ""
        self._set(
            step=Step.ENTER,
            digits=0,
            busy=False,
            error=None,
            tries=0,
            wait_until=0.0,
            trouble=None,
            backups=(),
            lost_key=False,
        )
        self._opened()

    def _wrong(self, error: FirstRayError) -> None:
        if error.code not in PIN_CODES:
            lost_key = self._state.lost_key or (self._state.step is Step.REPEAT and error.code == "store_damaged")
            self._set(busy=False, trouble=error, lost_key=lost_key)
            if lost_key:
                return
            self._do(lambda: tuple(self._station.backups()), lambda found: self._set(backups=found))
            return
        again = Step.ENTER if self._state.step is Step.ENTER else Step.CHOOSE
        self._again(error, again)
        self._set(
            tries=getattr(error, "tries", self._state.tries),
            wait_until=self._clock() + getattr(error, "wait_seconds", 0),
        )

    def _again(self, error: FirstRayError, step: Step) -> None:
        self._pin = self._first = ""
        self._set(step=step, digits=0, busy=False, error=error)
