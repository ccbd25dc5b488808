"""A model release from the hospital: in pieces, by byte ranges (RFC 9110, 14), after everything that is more urgent."""

from __future__ import annotations

import asyncio
import logging
import re
from http import HTTPStatus
from typing import Final

from edge_app.sync.lane import Desk, Lane
from edge_app.sync.pace import SHORT_CHUNK_S
from edge_app.sync.ports import Shelf
from edge_app.sync.problems import Failed
from edge_app.sync.wire import MOST_ANSWER
from shared.hospital import ReleaseOffer

log = logging.getLogger(__name__)

LOOK_S: Final = 2.0
"""Between two looks whether a release is wanted and nothing else is to be sent."""
MOST_PIECE: Final = MOST_ANSWER // 4
_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class ReleaseLane(Lane):
    """Fetches what the shelf wants."""

    name = "releases"

    def __init__(self, desk: Desk, shelf: Shelf) -> None:
        super().__init__(desk)
        self._shelf = shelf

    async def step(self) -> None:
        """One piece; waits while there is nothing to fetch or anything to send."""
        desk = self._desk
        offer = self._shelf.wanted
        if offer is None or await desk.blocking(desk.outbox.next_uploads, None, 1):
            desk.idle(self.name)
            await asyncio.sleep(LOOK_S)
            return
        await desk.bell.urgent_done.wait()
        have = await desk.blocking(self._shelf.fetched, offer)
        if have < offer.size:
            await self._fetch(offer, have)
        if await desk.blocking(self._shelf.fetched, offer) >= offer.size:
            await self._install(offer)

    async def _fetch(self, offer: ReleaseOffer, have: int) -> None:
        desk = self._desk
        last = min(have + min(desk.pace.chunk(SHORT_CHUNK_S), MOST_PIECE), offer.size) - 1
        headers = {"Range": f"bytes={have}-{last}", "If-Range": f'"{offer.sha256}"'}
        reply = await desk.wire.ask("GET", f"/v1/releases/{offer.release}", headers=headers)
        if reply.status in (HTTPStatus.NOT_FOUND, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE):
            log.warning("release %s: HTTP %d %s", offer.release, reply.status, reply.code)
            await desk.blocking(self._shelf.give_up, offer)
            return
        if not reply.well:
            self.refused(reply)
        match = _RANGE.fullmatch(reply.headers.get("Content-Range", ""))
        sent = tuple(int(number) for number in match.groups()) if match else None
        if reply.status != HTTPStatus.PARTIAL_CONTENT or sent != (have, last, offer.size):
            raise Failed("hospital_answer_unreadable")
        if len(reply.body) != last - have + 1:
            raise Failed("hospital_answer_unreadable")
        await desk.blocking(self._shelf.add, offer, reply.body)
        desk.worked(self.name)

    async def _install(self, offer: ReleaseOffer) -> None:
        await asyncio.to_thread(self._shelf.install, offer)  # takes seconds, and must not hold up the outbox
        self._desk.worked(self.name)
