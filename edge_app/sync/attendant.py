"""Keeps the link: looks for the hospital, runs the lanes, rests; as the table of :mod:`edge_app.sync.link` says."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any, Final

from edge_app.sync.events_lane import EventsLane
from edge_app.sync.inbox_lane import InboxLane
from edge_app.sync.lane import LANES, Desk, Lane, internal_error
from edge_app.sync.link import LinkAction, LinkEvent, LinkKind
from edge_app.sync.problems import Denied, Failed, Foreign, Lost, Revoked, SyncError
from edge_app.sync.release_lane import ReleaseLane
from edge_app.sync.uploads_lane import UploadsLane
from shared.hospital import Revocation

PROBE_EVERY_S: Final = 0.5
MOST_PROBES: Final = 8
"""Probes under way at once: a lost packet costs one of them seconds, not the search."""
WAKE_PROBE_S: Final = 0.3
FOREIGN_S: Final = 3.0
"""Rest at least so long between two looks at somebody else's page or certificate; five times that at most."""

EVENTS: Final[dict[type[SyncError], LinkEvent]] = {
    Lost: LinkEvent.LOST,
    Foreign: LinkEvent.FOREIGN,
    Denied: LinkEvent.DENIED,
    Revoked: LinkEvent.REVOKED,
    Failed: LinkEvent.FAILED,
}

Outcome = tuple[LinkEvent, SyncError | None]


class Attendant:
    """Does what the state of the link asks for.

    Args:
        desk: what the lanes work with.
        private: nobody on the way can change what is said, so that an order to wipe is believed.
    """

    def __init__(self, desk: Desk, private: bool) -> None:
        self._desk = desk
        self._uploads = UploadsLane(desk)
        self._private = private

    async def attend(self, on_revoked: Callable[[Revocation], None]) -> None:
        """Until cancelled, or the device is revoked."""
        link = self._desk.link
        action = LinkAction.PROBE
        while action is not LinkAction.HALT:
            try:
                event, error = await self._perform(action)
            except Exception as defect:  # noqa: BLE001  a defect must not end the sending for good
                link.happened(LinkEvent.FAILED, internal_error("link", defect))
                action = LinkAction.REST
                continue
            action = link.happened(event, error)
            if isinstance(error, Revoked):
                await self._desk.blocking(on_revoked, Revocation(wipe=error.wipe))

    def close(self) -> None:
        """Close the image being sent."""
        self._uploads.blob.close()

    async def _perform(self, action: LinkAction) -> Outcome:
        match action:
            case LinkAction.PROBE:
                return await self._probe()
            case LinkAction.WORK:
                return await self._lanes()
            case _:
                await self._rest()
                return LinkEvent.RETRY, None

    async def _rest(self) -> None:
        """Wait; less long where another network would help, which a wake may announce."""
        desk = self._desk
        seconds = desk.backoff.failed("link")
        if desk.link.state.kind is not LinkKind.FOREIGN:
            await asyncio.sleep(seconds)
            return
        await asyncio.sleep(FOREIGN_S)
        desk.bell.probe.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(seconds, 4 * FOREIGN_S)):
                await desk.bell.probe.wait()

    async def _probe(self) -> Outcome:
        """Ask whether the hospital is there until something answers."""
        desk = self._desk
        # Where it was there a moment ago and broke off, it is not besieged.
        hasty, desk.haste = desk.haste, 0.0
        await asyncio.sleep(hasty)
        await desk.wire.renew()
        probes: set[asyncio.Task[Any]] = set()
        try:
            while True:
                if len(probes) < MOST_PROBES:
                    probes.add(asyncio.create_task(desk.wire.hello()))
                if (found := await self._first_answer(probes)) is not None:
                    return found
        finally:
            await _cancel(probes)

    async def _first_answer(self, probes: set[asyncio.Task[Any]]) -> Outcome | None:
        """Wait until it is time for the next probe, or one was answered."""
        bell = self._desk.bell
        until = time.monotonic() + PROBE_EVERY_S
        bell.probe.clear()
        woken: asyncio.Task[Any] = asyncio.create_task(bell.probe.wait())
        try:
            while (left := until - time.monotonic()) > 0:
                done, _ = await asyncio.wait({*probes, woken}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                for probe in done & probes:
                    probes.discard(probe)
                    if (found := self._answered(probe)) is not None:
                        return found
                if woken in done:
                    until = min(until, time.monotonic() + WAKE_PROBE_S)
                    woken = asyncio.create_task(asyncio.sleep(PROBE_EVERY_S))
        finally:
            woken.cancel()
        return None

    def _answered(self, probe: asyncio.Task[Any]) -> Outcome | None:
        error = probe.exception()
        if error is None:
            return LinkEvent.REACHED, None
        if isinstance(error, Lost):
            for lane in LANES:
                self._desk.backoff.worked(lane)
            self._desk.pace.interrupted()
            self._desk.link.happened(LinkEvent.LOST, error)
            return None
        if isinstance(error, SyncError):
            return EVENTS[type(error)], error
        raise error

    async def _lanes(self) -> Outcome:
        """Run the lanes until one finds that the link has ended."""
        desk = self._desk
        desk.contacted = False
        desk.bell.resting = False
        desk.bell.ring()
        if desk.wire.clock_ahead_s is not None:
            desk.link.clock(desk.wire.clock_ahead_s)
        self._uploads.link_is_new()
        lanes: list[Lane] = [EventsLane(desk), self._uploads, InboxLane(desk, self._private)]
        if desk.shelf is not None:
            lanes.append(ReleaseLane(desk, desk.shelf))
        tasks = {asyncio.create_task(lane.run(), name=lane.name) for lane in lanes}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            errors = [error for task in done if (error := task.exception()) is not None]
        finally:
            await _cancel(tasks)
        error = min(errors, key=lambda error: not isinstance(error, Revoked))
        if isinstance(error, SyncError):
            return EVENTS[type(error)], error
        raise error


async def _cancel(tasks: set[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
