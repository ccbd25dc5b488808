"""The way of an image into the store, and from there to its reading."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final
from uuid import UUID

from edge_app.capture.files import take_file
from edge_app.capture.intake import Arrival, Spool
from edge_app.store.store import Store

KEPT_BYTES: Final = 64 << 20
"""An image of at most so many bytes is kept in memory until it is stored: it is read without being decrypted first."""

Arrived = Callable[[UUID, bytes | None], None]


class Arrivals:
    """What every way in puts its images into: the receiver, the watched folder, and who picks a file.

    Args:
        store: the open store; raises FirstRayError ``store_closed`` where there is none.
        arrived: called with each film that is safely stored, as part of its run if one was given, on any thread; and
            with its bytes where they are still at hand.
    """

    def __init__(self, store: Callable[[], Store], arrived: Arrived) -> None:
        self._store = store
        self._arrived = arrived
        self._keeping = threading.Lock()

    def spool(self) -> Spool:
        """Begin an image."""
        return self._arriving(self._arrived)

    def take_file(self, path: Path, run: UUID | None) -> UUID:
        """Store a picked file, as part of ``run`` if one is given. Takes long.

        Raises:
            FirstRayError: as :func:`edge_app.capture.files.take_file` and ``Store.claim``.
        """
        return take_file(path, self if run is None else _OfRun(self, run))

    def _arriving(self, arrived: Arrived) -> Spool:
        return _Arriving(self._store().spool(), arrived, self._keeping)

    def _arrived_for(self, run: UUID, film: UUID, data: bytes | None) -> None:
        self._store().claim(film, run)
        self._arrived(film, data)


class _Arriving:
    """A spool of the store that tells of the film once it is committed.

    Args:
        spool: the store's.
        arrived: as in :class:`Arrivals`.
        keeping: held by the one image at a time whose bytes are kept.
    """

    def __init__(self, spool: Spool, arrived: Arrived, keeping: threading.Lock) -> None:
        self._spool = spool
        self._arrived = arrived
        self._keeping = keeping
        self._kept: io.BytesIO | None = None

    def __enter__(self) -> _Arriving:
        self._spool.__enter__()
        if self._keeping.acquire(blocking=False):
            self._kept = io.BytesIO()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._let_go()
        self._spool.__exit__(kind, error, trace)

    def write(self, data: bytes) -> None:
        """As the store's spool."""
        self._spool.write(data)
        if self._kept is not None:
            self._kept.write(data)
            if self._kept.tell() > KEPT_BYTES:
                self._let_go()

    def commit(self, arrival: Arrival) -> UUID:
        """As the store's spool."""
        film = self._spool.commit(arrival)
        data = None if self._kept is None else self._kept.getvalue()
        self._let_go()
        self._arrived(film, data)
        return film

    def _let_go(self) -> None:
        if self._kept is not None:
            self._kept = None
            self._keeping.release()


class _OfRun:
    """The way in of a picked file, which knows its run."""

    def __init__(self, arrivals: Arrivals, run: UUID) -> None:
        self._arrivals = arrivals
        self._run = run

    def spool(self) -> Spool:
        """As all arrivals."""
        return self._arrivals._arriving(partial(self._arrivals._arrived_for, self._run))
