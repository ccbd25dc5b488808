"""What the reading window shows, without Kivy: states, what moves between them, and the worker that does the work.

Decoding, diagnosis and drawing run on one worker thread; their outcome comes back through ``post``, which must run
the function it is given on the user interface's thread (Kivy: ``Clock.schedule_once``). Every opened file gets a
ticket, and an outcome with an older ticket is dropped, so a slow old file never replaces a newer one.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Final

from PIL import Image

from shared.diagnosis import Diagnosis
from shared.errors import FirstRayError
from shared.overlay import Language
from shared.quality import Problem
from shared.radiograph import Radiograph

log = logging.getLogger(__name__)

INTERNAL_ERROR: Final = "internal_error"


@dataclass(frozen=True, slots=True)
class Starting:
    """The models are loading; a file may be opened already and is read as soon as they are there."""


@dataclass(frozen=True, slots=True)
class Idle:
    """Ready, nothing opened."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A file is being decoded and diagnosed."""

    path: Path


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """A diagnosis.

    Attributes:
        path: the file.
        radiograph: what was decoded from it, corrected where that was asked for.
        diagnosis: its probabilities are never empty.
        picture: RGB, the radiograph with its boxes, labelled in ``language``.
        language: ``"en"`` or ``"ko"``.
        seconds: from opening the file, or from asking to read it all the same, until the picture was drawn.
    """

    path: Path
    radiograph: Radiograph
    diagnosis: Diagnosis
    picture: Image.Image
    language: Language
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class Refused:
    """The quality gate refused the radiograph; ``problem`` says why. The other attributes as in :class:`Shown`."""

    path: Path
    radiograph: Radiograph
    diagnosis: Diagnosis
    problem: Problem
    picture: Image.Image
    language: Language
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class Failed:
    """A file (or, where ``path`` is None, the model release) could not be read."""

    path: Path | None
    error: FirstRayError


State = Starting | Idle | Reading | Shown | Refused | Failed


class Event(StrEnum):
    """What moves the window from one state to another."""

    READY = "ready"
    OPEN = "open"
    OVERRIDE = "override"
    CORRECT = "correct"
    ACCEPT = "accept"
    REFUSE = "refuse"
    FAIL = "fail"
    REDRAW = "redraw"


TRANSITIONS: Final[dict[tuple[type[State], Event], type[State]]] = {
    (Starting, Event.READY): Idle,
    (Starting, Event.FAIL): Failed,
    (Starting, Event.OPEN): Reading,
    (Idle, Event.OPEN): Reading,
    (Reading, Event.OPEN): Reading,
    (Reading, Event.ACCEPT): Shown,
    (Reading, Event.REFUSE): Refused,
    (Reading, Event.FAIL): Failed,
    (Shown, Event.OPEN): Reading,
    (Shown, Event.REDRAW): Shown,
    (Refused, Event.OPEN): Reading,
    (Refused, Event.OVERRIDE): Reading,
    (Refused, Event.CORRECT): Reading,
    (Refused, Event.REDRAW): Refused,
    (Failed, Event.OPEN): Reading,
}
"""(state, event) -> next state; a pair that is not here must not happen."""


class ResultPresenter:
    """Holds the window's state and runs the work behind it.

    All methods are called on the user interface's thread, and ``listen`` is called there.

    Args:
        load: decodes a file; raises ``FirstRayError``.
        diagnose: diagnoses a radiograph; the flag reads it in spite of the gate's refusal.
        draw: the radiograph with its boxes as an RGB image of screen size, labelled in the language given.
        warm_up: loads what the first file needs; raises ``FirstRayError``.
        post: runs a function on the user interface's thread, soon.
        listen: called after every change of state.
        language: ``"en"`` or ``"ko"``.
    """

    def __init__(
        self,
        *,
        load: Callable[[Path], Radiograph],
        diagnose: Callable[[Radiograph, bool], Diagnosis],
        draw: Callable[[Radiograph, Diagnosis, Language], Image.Image],
        warm_up: Callable[[], None],
        post: Callable[[Callable[[], None]], None],
        listen: Callable[[State], None],
        language: Language,
    ) -> None:
        self._load = load
        self._diagnose = diagnose
        self._draw = draw
        self._warm_up = warm_up
        self._post = post
        self._listen = listen
        self._language = language
        self._state: State = Starting()
        self._ticket = 0
        self._job: Future[None] | None = None
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="reader")

    @property
    def state(self) -> State:
        """The state now."""
        return self._state

    def start(self) -> None:
        """Load the models in the background."""
        self._submit(None, self._warm)

    def open(self, path: Path) -> None:
        """Read a file; whatever was shown or under way is given up."""
        started = time.perf_counter()
        self._move(Event.OPEN, Reading(path))
        self._submit(path, lambda: self._read(path, self._load(path), False, started))

    def read_anyway(self) -> None:
        """Diagnose a refused radiograph all the same; ignored unless its problem may be overridden."""
        refused = self._state
        if not isinstance(refused, Refused) or not refused.problem.overridable:
            return
        started = time.perf_counter()
        self._move(Event.OVERRIDE, Reading(refused.path))
        self._submit(refused.path, lambda: self._read(refused.path, refused.radiograph, True, started))

    def read_corrected(self) -> None:
        """Turn or invert a refused radiograph as the gate offers and judge it again; ignored where nothing is offered.

        What the gate still refuses then stays refused.
        """
        refused = self._state
        if not isinstance(refused, Refused):
            return
        correction = refused.diagnosis.verdict.correction
        if correction is None:
            return
        started = time.perf_counter()
        self._move(Event.CORRECT, Reading(refused.path))
        self._submit(
            refused.path,
            lambda: self._read(refused.path, refused.radiograph.corrected(correction), False, started),
        )

    def set_language(self, language: Language) -> None:
        """Change the language of the picture's labels, and draw a picture that is shown again."""
        self._language = language
        self._redraw_if_stale()

    def close(self) -> None:
        """Give up what is under way and let the worker end."""
        self._ticket += 1
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _submit(self, path: Path | None, work: Callable[[], tuple[Event, State]]) -> None:
        """Run ``work`` on the worker; its outcome counts only if nothing newer was submitted meanwhile."""
        self._ticket += 1
        if self._job is not None:
            self._job.cancel()
        self._job = self._worker.submit(self._run, self._ticket, path, work)

    def _run(self, ticket: int, path: Path | None, work: Callable[[], tuple[Event, State]]) -> None:
        try:
            event, state = work()
        except FirstRayError as error:
            event, state = Event.FAIL, Failed(path, error)
        except Exception as error:  # noqa: BLE001  the window must outlive a mistake in here, and say so
            place = "".join(traceback.format_tb(error.__traceback__))
            log.error("Reading a radiograph failed: %s\n%s", type(error).__name__, place)  # its text may name a patient
            event, state = Event.FAIL, Failed(path, _internal_error())
        self._post(lambda: self._deliver(ticket, event, state))

    def _deliver(self, ticket: int, event: Event, state: State) -> None:
        if ticket != self._ticket:
            return
        self._move(event, state)
        self._redraw_if_stale()

    def _move(self, event: Event, state: State) -> None:
        if TRANSITIONS.get((type(self._state), event)) is not type(state):
            raise ValueError(f"{event} does not lead from {type(self._state).__name__} to {type(state).__name__}")
        self._state = state
        self._listen(state)

    def _warm(self) -> tuple[Event, State]:
        self._warm_up()
        return Event.READY, Idle()

    def _read(self, path: Path, radiograph: Radiograph, force: bool, started: float) -> tuple[Event, State]:
        diagnosis = self._diagnose(radiograph, force)
        language = self._language
        picture = self._draw(radiograph, diagnosis, language)
        seconds = time.perf_counter() - started
        if diagnosis.probabilities:
            return Event.ACCEPT, Shown(path, radiograph, diagnosis, picture, language, seconds)
        problem = diagnosis.verdict.reason
        if problem is None:
            raise ValueError("a diagnosis without probabilities must say why it was refused")
        return Event.REFUSE, Refused(path, radiograph, diagnosis, problem, picture, language, seconds)

    def _redraw_if_stale(self) -> None:
        shown = self._state
        if isinstance(shown, Shown | Refused) and shown.language != self._language:
            language = self._language
            self._submit(shown.path, lambda: self._redraw(shown, language))

    def _redraw(self, shown: Shown | Refused, language: Language) -> tuple[Event, State]:
        picture = self._draw(shown.radiograph, shown.diagnosis, language)
        return Event.REDRAW, replace(shown, picture=picture, language=language)


def _internal_error() -> FirstRayError:
    return FirstRayError(
        INTERNAL_ERROR,
        "FirstRay met an error of its own and could not read this radiograph.",
        "Open it again. If that does not help, decide without FirstRay and report it.",
    )
