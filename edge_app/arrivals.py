"""The way of an image into the store, and from there to its reading."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from uuid import UUID

from edge_app.capture.files import take_file
from edge_app.capture.intake import Arrival, Spool
from edge_app.store.store import Store


class Arrivals:
    """What every way in puts its images into: the receiver, the watched folder, and who picks a file.

    Args:
        store: the open store; raises FirstRayError ``store_closed`` where there is none.
        arrived: called with each film that is safely stored, as part of its run if one was given, on any thread.
    """

    def __init__(self, store: Callable[[], Store], arrived: Callable[[UUID], None]) -> None:
        self._store = store
        self._arrived = arrived

    def spool(self) -> Spool:
        """Begin an image."""
        return _Arriving(self._store().spool(), self._arrived)

    def take_file(self, path: Path, run: UUID | None) -> UUID:
        """Store a picked file, as part of ``run`` if one is given. Takes long.

        Raises:
            FirstRayError: as :func:`edge_app.capture.files.take_file` and ``Store.claim``.
        """
        return take_file(path, self if run is None else _OfRun(self, run))

    def _arrived_for(self, run: UUID, film: UUID) -> None:
        self._store().claim(film, run)
        self._arrived(film)


class _Arriving:
    """A spool of the store that tells of the film once it is committed."""

    def __init__(self, spool: Spool, arrived: Callable[[UUID], None]) -> None:
        self._spool = spool
        self._arrived = arrived

    def __enter__(self) -> _Arriving:
        self._spool.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._spool.__exit__(kind, error, trace)

    def write(self, data: bytes) -> None:
        """As the store's spool."""
        self._spool.write(data)

    def commit(self, arrival: Arrival) -> UUID:
        """As the store's spool."""
        film = self._spool.commit(arrival)
        self._arrived(film)
        return film


class _OfRun:
    """The way in of a picked file, which knows its run."""

    def __init__(self, arrivals: Arrivals, run: UUID) -> None:
        self._arrivals = arrivals
        self._run = run

    def spool(self) -> Spool:
        """As all arrivals."""
        arrivals, run = self._arrivals, self._run
        return _Arriving(arrivals._store().spool(), lambda film: arrivals._arrived_for(run, film))
