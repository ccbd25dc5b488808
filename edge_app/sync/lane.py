"""What the lanes have in common. A lane is one thing that is done while there is a link: events, images, the inbox."""

from __future__ import annotations

import asyncio
import logging
import traceback
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, NoReturn

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from edge_app.sync.link import Link, LinkEvent
from edge_app.sync.pace import Backoff, Pace
from edge_app.sync.ports import Outbox, Shelf
from edge_app.sync.problems import Denied, Failed, Foreign, Lost, Revoked, SyncError
from edge_app.sync.wire import Answer, Wire
from shared.errors import FirstRayError

log = logging.getLogger(__name__)

LANES: Final = frozenset({"events", "uploads", "inbox"})


class Bell:
    """Says that there may be something new to send, and lets images wait while events are on their way.

    ``urgent_done`` is set while no event is being sent; images move only then.
    """

    def __init__(self) -> None:
        self.events = asyncio.Event()
        self.uploads = asyncio.Event()
        self.probe = asyncio.Event()
        self.urgent_done = asyncio.Event()
        self.resting = False

    def ring(self) -> None:
        """There may be something new."""
        for one in (self.events, self.uploads, self.probe):
            one.set()
        if not self.resting:
            self.urgent_done.clear()


@dataclass
class Desk:
    """What the lanes work with.

    Attributes:
        blocking: runs a function of the outbox on the one thread that is for it.
        keys: of the hospital's receipts.
        shelf: keeps model releases; None where none are taken.
        take: called on that thread with each release offered, before it counts as taken.
        contacted: the hospital did what it was asked since the link came up.
        haste: seconds to wait before it is looked for again.
        renewed_at: when a chain was last given up (``time.monotonic``); None where none was.
        compared_at: when the hospital last confirmed where our chain ends; None before it did.
    """

    outbox: Outbox
    wire: Wire
    pace: Pace
    link: Link
    keys: Mapping[str, Ed25519PublicKey]
    blocking: Callable[..., Awaitable[Any]]
    take: Callable[[Any], None]
    shelf: Shelf | None = None
    bell: Bell = field(default_factory=Bell)
    backoff: Backoff = field(default_factory=Backoff)
    contacted: bool = False
    haste: float = 0.0
    renewed_at: float | None = None
    compared_at: float | None = None

    def worked(self, lane: str) -> None:
        """A lane did what it should."""
        self.contacted = True
        self.backoff.worked(lane)
        self.backoff.worked("link")
        self._show()

    def idle(self, lane: str) -> None:
        """A lane has nothing to do, so nothing it could fail at."""
        if lane in self.backoff.failing():
            self.backoff.worked(lane)
            if self.contacted:
                self._show()

    def _show(self) -> None:
        failing = self.backoff.failing()
        if failing & LANES:
            self.link.contact()
            return
        self.link.happened(LinkEvent.ANSWERED)
        if not failing:
            self.link.settled()


class Lane(ABC):
    """Does one step after the other until the link ends; failures of the hospital or the store make it rest."""

    name: str

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def run(self) -> None:
        """Go on until cancelled.

        Raises:
            Lost, Foreign, Denied, Revoked: the link has ended for all lanes.
        """
        while True:
            try:
                await self.step()
            except (Foreign, Denied, Revoked):
                raise
            except Lost:
                self._desk.haste = self._desk.backoff.failed(self.name)
                raise
            except Failed as error:
                await self.rest(error, error.retry_after)
            except FirstRayError as error:
                log.warning("%s: %s", self.name, error.code)
                await self.rest(error)
            except Exception as error:  # noqa: BLE001  a defect must not end the sending for good
                await self.rest(internal_error(self.name, error))

    @abstractmethod
    async def step(self) -> None:
        """One step; waits where there is nothing to do."""

    def refused(self, reply: Answer) -> NoReturn:
        """The hospital refuses what this lane does at all; raises."""
        log.warning("%s: HTTP %d %s", self.name, reply.status, reply.code)
        raise Denied if reply.status == HTTPStatus.FORBIDDEN else Failed("hospital_answer_unreadable")

    async def rest(self, error: FirstRayError, at_least: float = 0.0) -> None:
        """Show the error, and wait."""
        seconds = self._desk.backoff.failed(self.name, at_least)
        self._desk.link.happened(LinkEvent.FAILED, error)
        await asyncio.sleep(seconds)


def internal_error(where: str, defect: BaseException) -> SyncError:
    """Log a defect, without its text, which may hold patient data; gives the error to show."""
    frames = "".join(traceback.format_tb(defect.__traceback__))
    log.error("%s: %s\n%s", where, type(defect).__name__, frames)
    return SyncError("sync_internal_error")
