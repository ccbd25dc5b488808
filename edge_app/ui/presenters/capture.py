"""How images come in: what waits for a run, the X-ray device, picked files, and the folder that is watched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from edge_app.store.views import Film, RunRow
from edge_app.ui.presenters.desk import Desk, Presenter
from shared.errors import FirstRayError

if TYPE_CHECKING:
    from edge_app.station import Station, Status


@dataclass(frozen=True, slots=True)
class Capture:
    """State of the capture screen.

    Attributes:
        waiting: radiographs of no run, oldest first.
        status: of the receiver and the watched folder; None until it is read.
        taking: files that are being taken in.
    """

    waiting: tuple[Film, ...] = ()
    status: Status | None = None
    taking: int = 0
    error: FirstRayError | None = None


class CapturePresenter(Presenter[Capture]):
    """Takes files in and says which run an image belongs to.

    Args:
        desk, station: as in :class:`Presenter`.
        taken: called with the id of a radiograph that was taken from a file.
    """

    def __init__(self, desk: Desk, station: Station, taken: Callable[[UUID], None]) -> None:
        super().__init__(desk, station, Capture())
        self._taken = taken

    def take(self, path: Path, run: UUID | None = None) -> None:
        """Take a file in; it is read by itself."""
        self._set(taking=self._state.taking + 1)
        self._do(lambda: self._station.take_file(path, run), self._done, self._not_done, long=True)

    def _fetch(self, state: Capture) -> dict[str, Any]:
        del state
        store = self._station.store
        return {"waiting": tuple(store.waiting_films()), "status": self._station.status()}

    def _done(self, film: UUID) -> None:
        self._set(taking=self._state.taking - 1)
        self._taken(film)

    def _not_done(self, error: FirstRayError) -> None:
        self._set(taking=self._state.taking - 1, error=error)


@dataclass(frozen=True, slots=True)
class Assign:
    """State of the question which run a radiograph belongs to."""

    film: Film | None = None
    under_way: tuple[RunRow, ...] = ()
    past: tuple[RunRow, ...] = ()
    busy: bool = False
    error: FirstRayError | None = None


class AssignPresenter(Presenter[Assign]):
    """Answers which run a radiograph belongs to.

    Args:
        desk, station: as in :class:`Presenter`.
        film: the radiograph's id.
        assigned: called with the ids of run and radiograph.
    """

    def __init__(self, desk: Desk, station: Station, film: UUID, assigned: Callable[[UUID, UUID], None]) -> None:
        super().__init__(desk, station, Assign())
        self._film = film
        self._assigned = assigned

    def choose(self, run: UUID) -> None:
        """It belongs to this run."""
        self._answer(lambda: self._put(run))

    def begin(self) -> None:
        """It belongs to a run that begins now, of somebody unknown."""
        self._answer(lambda: self._put(self._station.store.start_run()))

    def _fetch(self, state: Assign) -> dict[str, Any]:
        del state
        store = self._station.store
        return {
            "film": store.film(self._film),
            "under_way": tuple(store.runs(under_way=True)),
            "past": tuple(store.runs(under_way=False, limit=10)),
        }

    def _put(self, run: UUID) -> UUID:
        self._station.store.assign(self._film, run)
        return run

    def _answer(self, work: Callable[[], UUID]) -> None:
        if self._state.busy:
            return
        self._set(busy=True)
        self._do(work, lambda run: self._assigned(run, self._film), self._not_done)

    def _not_done(self, error: FirstRayError) -> None:
        self._set(busy=False, error=error)
