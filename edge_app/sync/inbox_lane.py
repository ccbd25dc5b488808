"""What the hospital has to say: a long poll, so that it comes at once and costs little while there is nothing."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import Any, Final

from pydantic import ValidationError

from edge_app.sync.lane import Desk, Lane
from edge_app.sync.problems import Failed, Revoked
from shared.hospital import Inbox, InboxItem, ReleaseOffer, Revocation

log = logging.getLogger(__name__)

WAIT_S: Final = 25
"""Below what mobile networks let a silent connection live."""
LEAST_S: Final = 1.0
"""An empty answer that comes sooner comes from a server that does not wait: it is not asked at once again."""


class InboxLane(Lane):
    """Asks for items and hands them to the store."""

    name = "inbox"

    def __init__(self, desk: Desk, private: bool) -> None:
        super().__init__(desk)
        self._private = private
        self._greeted = False

    async def step(self) -> None:
        """One poll; the first does not wait, so that the link is known to work, and leaves the way to events."""
        desk = self._desk
        if not self._greeted:
            await desk.bell.urgent_done.wait()
        after = await desk.blocking(desk.outbox.inbox_position)
        wait = WAIT_S if self._greeted else 0
        began = time.monotonic()
        reply = await desk.wire.ask("GET", "/v1/inbox", params={"after": after, "wait": wait}, longer_s=wait)
        if not reply.well:
            self.refused(reply)
        inbox = understood(reply.body)
        await self._take(inbox, after)
        desk.worked(self.name)
        if self._greeted and inbox.after == after and time.monotonic() - began < LEAST_S:
            await asyncio.sleep(LEAST_S)
        self._greeted = True

    async def _take(self, inbox: Inbox, after: int) -> None:
        desk = self._desk
        for index, item in enumerate(inbox.items):
            if isinstance(item.content, Revocation):
                # Not taken: after a restart it is found again.
                before = inbox.items[:index]
                await desk.blocking(
                    desk.outbox.take_inbox, Inbox(items=before, after=before[-1].id if before else after)
                )
                raise Revoked(item.content.wipe and self._private)
            if isinstance(item.content, ReleaseOffer):
                await desk.blocking(desk.take, item.content)
        if inbox.items or inbox.after != after:
            await desk.blocking(desk.outbox.take_inbox, inbox)


def understood(body: bytes) -> Inbox:
    """The inbox without items of kinds that this version does not know, which must not hold up the others.

    Raises:
        Failed: it is not an inbox.
    """
    try:
        raw: Any = json.loads(body)
        items = []
        for number, item in enumerate(raw["items"]):
            try:
                items.append(InboxItem.model_validate_json(json.dumps(item)))
            except ValidationError:
                log.warning("an item of the inbox is not understood and left out (item %d of the answer)", number + 1)
        return Inbox(items=tuple(items), after=raw["after"])
    except (ValueError, KeyError, TypeError):
        raise Failed("hospital_answer_unreadable") from None
