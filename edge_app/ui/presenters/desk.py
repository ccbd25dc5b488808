"""Work off the user interface's thread, and what every presenter has in common."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from shared.errors import FirstRayError

if TYPE_CHECKING:
    from edge_app.station import Station

log = logging.getLogger(__name__)

Result = TypeVar("Result")
State = TypeVar("State")

INTERNAL_ERROR = "app_error"


def internal_error() -> FirstRayError:
    """What the user is told when FirstRay itself is at fault."""
    return FirstRayError(
        INTERNAL_ERROR,
        "FirstRay met an error of its own and could not do this.",
        "Try again. If that does not help, go on without FirstRay and report it.",
    )


def nothing(*_: object) -> None:
    """Do nothing, where a function is asked for."""


class Desk:
    """Runs work on worker threads and hands the outcome back on the user interface's thread.

    Short work (reading and writing records) never queues behind long work (decoding, unlocking, copying files).

    Args:
        post: runs a function on the user interface's thread, soon.
    """

    def __init__(self, post: Callable[[Callable[[], None]], None]) -> None:
        self._post = post
        self._short = ThreadPoolExecutor(max_workers=1, thread_name_prefix="records")
        self._long = ThreadPoolExecutor(max_workers=2, thread_name_prefix="long-work")

    def run(
        self,
        work: Callable[[], Result],
        done: Callable[[Result], None],
        failed: Callable[[FirstRayError], None],
        *,
        long: bool = False,
    ) -> None:
        """Do ``work`` on a worker, then ``done`` or ``failed`` with its outcome on the interface's thread."""
        (self._long if long else self._short).submit(self._work, work, done, failed)

    def close(self) -> None:
        """Give up what has not begun, and let the workers end."""
        for worker in (self._short, self._long):
            worker.shutdown(wait=False, cancel_futures=True)

    def _work(
        self, work: Callable[[], Result], done: Callable[[Result], None], failed: Callable[[FirstRayError], None]
    ) -> None:
        try:
            result = work()
        except FirstRayError as error:
            outcome = error
        except Exception as error:  # noqa: BLE001  the app must outlive a mistake in here, and say so
            place = "".join(traceback.format_tb(error.__traceback__))
            log.error("Work behind a screen failed: %s\n%s", type(error).__name__, place)  # its text may name a patient
            outcome = internal_error()
        else:
            self._post(lambda: done(result))
            return
        self._post(lambda: failed(outcome))


class Presenter(Generic[State]):
    """Base of the presenters: a state that changes only on the user interface's thread.

    A subclass says in :meth:`_fetch` what it reads from the store. After :meth:`close` no outcome arrives any more.

    Args:
        desk: does the work.
        station: the device.
        state: at the beginning, a frozen dataclass with an ``error`` field.
    """

    def __init__(self, desk: Desk, station: Station, state: State) -> None:
        self.listen: Callable[[], None] = nothing
        self._desk = desk
        self._station = station
        self._state = state
        self._closed = False
        self._question = 0
        self._fetching = False
        self._stale = False

    @property
    def state(self) -> State:
        """The state now."""
        return self._state

    def reload(self) -> None:
        """Read again what is shown; where a reading is under way, once more after it."""
        if self._fetching:
            self._stale = True
            return
        self._fetching, self._stale = True, False
        state, question = self._state, self._question
        self._do(
            lambda: self._fetch(state),
            lambda changes: self._fetched(question, changes),
            lambda error: self._fetched(question, {"error": error}),
        )

    def ask(self, **changes: object) -> None:
        """Change what is asked for; an answer to the question before is dropped."""
        self._question += 1
        self._set(**changes)
        self.reload()

    def dismiss(self) -> None:
        """The user has seen the error."""
        self._set(error=None)

    def close(self) -> None:
        """The screen is gone."""
        self._closed = True

    def _fetch(self, state: State) -> dict[str, Any]:
        """Read the store, on a worker; returns the fields of the state that change."""
        raise NotImplementedError

    def _fetched(self, question: int, changes: dict[str, Any]) -> None:
        self._fetching = False
        if question == self._question:
            self._set(**changes)
        if self._stale or question != self._question:
            self.reload()

    def _set(self, **changes: object) -> None:
        self._state = cast("State", replace(cast("Any", self._state), **changes))
        if not self._closed:
            self.listen()

    def _failed(self, error: FirstRayError) -> None:
        self._set(error=error)

    def _do(
        self,
        work: Callable[[], Result],
        done: Callable[[Result], None] = nothing,
        failed: Callable[[FirstRayError], None] | None = None,
        *,
        long: bool = False,
    ) -> None:
        """Do ``work`` on a worker; ``done`` or ``failed`` (by default: shown as the state's error) unless closed."""

        def unless_closed(follow: Callable[..., None]) -> Callable[..., None]:
            return lambda outcome: None if self._closed else follow(outcome)

        self._desk.run(work, unless_closed(done), unless_closed(failed or self._failed), long=long)
