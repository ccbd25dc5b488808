"""Threads for what may take long: an image store that hangs, or a large picture, holds up nobody who asks for another.

Everything else that blocks runs on Starlette's own threads, where events and log-ins must find one free.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import anyio
import anyio.to_thread
from fastapi import Request

from shared.errors import FirstRayError

T = TypeVar("T")

UPLOADS_S: Final = 3.0
"""A device takes a link on which nothing comes for 4 seconds to be broken, for its events too."""
PICTURES_S: Final = 10.0
DRAWING_S: Final = 20.0
"""A very large picture takes as long to draw."""
RETRY_S: Final = 10
"""Whoever found no thread is asked to come again after so many seconds."""


class Lane:
    """Threads of one kind of work.

    Args:
        threads: so many at once.
        patience_s: who waits longer for one of them is turned away.
    """

    def __init__(self, threads: int, patience_s: float) -> None:
        self._threads = anyio.CapacityLimiter(threads)
        self._patience_s = patience_s

    async def run(self, act: Callable[..., T], *arguments: Any) -> T:
        """What ``act`` gives; once begun it is waited for, however long it takes.

        Raises:
            FirstRayError: ``images_busy``, and nothing was done.
        """
        with anyio.move_on_after(self._patience_s):  # only waiting can be cancelled, not what runs
            return await anyio.to_thread.run_sync(act, *arguments, limiter=self._threads)
        raise FirstRayError(
            "images_busy", "The server is busy with other images, or its store does not answer.", "Try again soon."
        )

    async def each(self, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
        """The pieces of an answer, each made on a thread; raises as :meth:`run` does."""
        while (piece := await self.run(next, pieces, None)) is not None:
            yield piece


@dataclass
class Threads:
    """Those of one application.

    Attributes:
        spool: what came of uploads, on this machine's disk.
        uploads: what becomes of them in the image store.
        receipts: whether the store holds an image.
        releases: model releases from the store.
        admins: exports, and releases that are taken in.
        previews: small pictures from the store.
        drawing: display images; a decoded radiograph takes some 100 MB.
    """

    spool: Lane = field(default_factory=lambda: Lane(8, UPLOADS_S))
    uploads: Lane = field(default_factory=lambda: Lane(8, UPLOADS_S))
    receipts: Lane = field(default_factory=lambda: Lane(8, UPLOADS_S))
    releases: Lane = field(default_factory=lambda: Lane(8, UPLOADS_S))
    admins: Lane = field(default_factory=lambda: Lane(4, PICTURES_S))
    previews: Lane = field(default_factory=lambda: Lane(4, PICTURES_S))
    drawing: Lane = field(default_factory=lambda: Lane(2, DRAWING_S))


def threads_of(request: Request) -> Threads:
    """The threads of the application that was asked."""
    found: Threads = request.app.state.threads
    return found
