"""The frame around the screens: where the user is, what has just come in, the lock, and the state of the link."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from edge_app.clocks import seconds_since_boot
from edge_app.store.views import Deletion, Film
from edge_app.ui.presenters.desk import Desk, Presenter
from edge_app.ui.presenters.places import FORMS, HOME, TABS, Place, Screen
from shared.errors import FirstRayError

if TYPE_CHECKING:
    from edge_app.station import Change, Station
    from edge_app.store.views import Standing
    from edge_app.sync import LinkState


@dataclass(frozen=True, slots=True)
class News:
    """Something to say at the foot of the screen, with one thing to do about it.

    Attributes:
        kind: ``result``, ``waiting``, ``deleted``, ``undone``, ``answer``, ``error``.
        film: what came in.
        deletion: what can be undone.
        error: what went wrong.
        place: where the button leads; None for no button.
    """

    kind: str
    film: Film | None = None
    deletion: Deletion | None = None
    error: FirstRayError | None = None
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Shell:
    """State of the frame.

    Attributes:
        locked: the unlock screen is shown.
        revoked: the hospital no longer trusts the device.
        stack: where the user is, last, and how he came there; never empty.
        waiting: radiographs of no run.
        link: to the hospital; None where none is set up.
        standing: what it holds; None until it is read.
        arrived: radiographs that came in while the screen was locked.
    """

    locked: bool = True
    revoked: bool = False
    stack: tuple[Place, ...] = (HOME,)
    waiting: int = 0
    link: LinkState | None = None
    standing: Standing | None = None
    arrived: int = 0
    error: FirstRayError | None = None

    @property
    def place(self) -> Place:
        """Where the user is."""
        return self.stack[-1]

    @property
    def tab(self) -> Screen:
        """The tab that place belongs to."""
        return self.stack[0].screen


class ShellPresenter(Presenter[Shell]):
    """Moves between places and decides what an arrival does to the screen.

    Args:
        desk, station: as in :class:`Presenter`.
        tell: shows a piece of news at the foot of the screen.
        typing: whether the user is typing just now.
        lock_seconds: without a touch until the screen locks.
        clock: seconds that go on while the device sleeps.
    """

    def __init__(
        self,
        desk: Desk,
        station: Station,
        *,
        tell: Callable[[News], None],
        typing: Callable[[], bool],
        lock_seconds: Callable[[], float],
        clock: Callable[[], float] = seconds_since_boot,
    ) -> None:
        super().__init__(desk, station, Shell())
        self._tell = tell
        self._typing = typing
        self._lock_seconds = lock_seconds
        self._clock = clock
        self._touched_at = clock()
        self._since = datetime.now(UTC)
        self._announced: set[UUID] = set()
        self._missed: list[Change] = []
        self._seen: UUID | None = None  # a film whose result was on the screen before it was stored
        self._changed = False

    # moving about

    def go(self, place: Place) -> None:
        """Open a place; back leads here again."""
        if place == self._state.place:
            return
        stack = self._state.stack
        if place in stack:
            self._set(stack=stack[: stack.index(place) + 1])
        else:
            self._set(stack=(*stack, place))

    def replace(self, place: Place) -> None:
        """Open a place instead of this one: back leads to where this one was opened."""
        stack = self._state.stack[:-1] or (HOME,)
        self._set(stack=stack[: stack.index(place) + 1] if place in stack else (*stack, place))

    def back(self) -> None:
        """Where the user came from; from a tab, home."""
        stack = self._state.stack
        if len(stack) > 1:
            self._set(stack=stack[:-1])
        elif stack[0] != HOME:
            self._set(stack=(HOME,))

    def tab(self, screen: Screen) -> None:
        """The first place of a tab."""
        if screen in TABS:
            self._set(stack=(Place(screen),))

    def leave(self, id: UUID) -> None:
        """A record is gone: no place about it is kept."""
        stack = tuple(place for place in self._state.stack if id not in (place.id, place.other))
        self._set(stack=stack or (HOME,))

    # the lock

    def touched(self) -> None:
        """Somebody is there: the time to the lock begins anew, unless it was over, as after the device slept."""
        if not self._lock_if_due():
            self._touched_at = self._clock()

    def tick(self) -> None:
        """Once a second or so: lock where nobody was there for too long; count again what waits, after changes."""
        self._lock_if_due()
        if self._changed and not self._state.locked:
            self._changed = False
            self.reload()

    def lock(self) -> None:
        """Hide everything until the PIN is typed; images go on arriving and being read."""
        if not self._state.locked:
            self._set(locked=True, arrived=0)

    def unlocked(self) -> None:
        """The PIN was right."""
        self._touched_at = self._clock()
        missed, self._missed = self._missed, []
        self._set(locked=False, arrived=0)
        self.reload()
        for change in missed:
            self.changed(change)

    # what happens on the device

    def changed(self, change: Change) -> None:
        """Look after news; called for every change."""
        if change.kind == "revoked":
            self._set(revoked=True, locked=True)
            return
        if self._state.locked:
            self._miss(change)
            return
        if change.kind == "film" and change.id is not None:
            self._look(change.id, change)
        if change.kind == "reading" and change.id is not None:
            self._expect(change.id)
        if change.kind == "found":
            self._seen = change.id if self._state.place == Place(Screen.RESULT, change.id) else None
        if change.error is not None:
            self._tell(News("error", error=change.error))
        if change.kind in ("inbox", "reviewed") and change.id is not None:
            self._answered(change.id, change)
        self._changed = self._changed or change.kind not in ("reading", "picture", "found")

    def deleted(self, deletion: Deletion) -> None:
        """A run or radiograph was deleted: leave it, and offer to bring it back."""
        self.leave(deletion.subject)
        self._tell(News("deleted", deletion=deletion))

    def undo(self, deletion: Deletion) -> None:
        """Bring back what was deleted."""
        self._do(lambda: self._station.store.undo(deletion.id), lambda _: self._tell(News("undone")), self._say)

    def report(self, error: FirstRayError) -> None:
        """Say what went wrong."""
        self._say(error)

    def _fetch(self, state: Shell) -> dict[str, Any]:
        status = self._station.status()
        waiting = len(self._station.store.waiting_films())
        shut_out = status.link is None or str(status.link.kind) == "revoked"  # not after it was enrolled again
        revoked = state.revoked and shut_out
        return {"waiting": waiting, "link": status.link, "standing": status.standing, "revoked": revoked}

    def _lock_if_due(self) -> bool:
        """Lock where nobody was there for too long; returns whether that was so."""
        due = not self._state.locked and self._clock() - self._touched_at >= self._lock_seconds()
        if due:
            self.lock()
        return due

    def _miss(self, change: Change) -> None:
        """What came in behind the lock is said once the PIN is typed."""
        if change.kind in ("film", "inbox", "reviewed") and change.id is not None and change not in self._missed:
            self._missed.append(change)
            self._set(arrived=sum(missed.kind == "film" for missed in self._missed))

    def _look(self, id: UUID, change: Change) -> None:
        """Fetch a radiograph that changed, and say what is new about it, unless the user is looking at it now."""
        watching = id == self._seen or self._state.place == Place(Screen.RESULT, id)

        def done(found: tuple[Film, list[UUID]]) -> None:
            film, under_way = found
            if self._is_new(film):
                if self._state.locked:
                    self._miss(change)
                else:
                    self._arrived(film, under_way, watching)

        self._do(lambda: self._film_and_runs(id), done, lambda _: None)

    def _film_and_runs(self, id: UUID) -> tuple[Film, list[UUID]]:
        store = self._station.store
        return store.film(id), [row.id for row in store.runs(under_way=True, limit=2)]

    def _expect(self, id: UUID) -> None:
        """A film's first reading begins: show it already, to who waits for it and where only one run can be meant."""

        def done(found: tuple[Film, list[UUID]]) -> None:
            film, under_way = found
            run = film.run or (under_way[0] if len(under_way) == 1 else None)
            if film.waiting_to_be_read and run is not None and self._may_show(run, under_way):
                self._set(stack=(*self._here(run), Place(Screen.RESULT, film.id)))

        self._do(lambda: self._film_and_runs(id), done, lambda _: None)

    def _is_new(self, film: Film) -> bool:
        """Whether its latest reading was made since the start, and nobody was told of it yet."""
        if film.waiting_to_be_read or film.made_at is None or film.made_at < self._since:
            return False
        return film.diagnosis_id not in self._announced

    def _arrived(self, film: Film, under_way: list[UUID], watching: bool) -> None:
        if film.diagnosis_id is not None:
            self._announced.add(film.diagnosis_id)
        place = Place(Screen.RESULT, film.id)
        if watching or place == self._state.place:
            return
        if film.run is None:
            self._tell(News("waiting", film=film, place=Place(Screen.ASSIGN, film.id)))
        elif self._may_show(film.run, under_way):
            self._set(stack=(*self._here(film.run), place))
        else:
            self._tell(News("result", film=film, place=place))

    def _answered(self, id: UUID, change: Change) -> None:
        """Say that the hospital answered, unless the user looks at that run or radiograph already."""

        def work() -> tuple[int, Place]:
            if change.kind == "inbox":
                return self._station.store.run(id).row.news, Place(Screen.RUN, id)
            film = self._station.store.film(id)
            return film.news, Place(Screen.RUN, film.run) if film.run else Place(Screen.RESULT, id)

        def done(found: tuple[int, Place]) -> None:
            news, place = found
            if self._state.locked:
                self._miss(change)
            elif news and self._state.place not in (place, Place(Screen.RESULT, id)):
                self._tell(News("answer", place=place))

        self._do(work, done, lambda _: None)

    def _may_show(self, run: UUID, under_way: list[UUID]) -> bool:
        """Whether the user waits for a film of this run: he is in it, or at home with no other run under way."""
        place = self._state.place
        if self._state.locked or self._typing() or place.screen in FORMS:
            return False
        return place == Place(Screen.RUN, run) or (place == HOME and under_way == [run])

    def _here(self, run: UUID | None) -> tuple[Place, ...]:
        """The stack with the run at its end, so that back from the result leads there."""
        stack, place = self._state.stack, Place(Screen.RUN, run)
        return stack if stack[-1] == place else (*stack, place)

    def _say(self, error: FirstRayError) -> None:
        self._tell(News("error", error=error))
