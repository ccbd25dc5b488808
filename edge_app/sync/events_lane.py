"""Events to the hospital: in batches sized to the link, outcome by outcome, healing what the hospital lacks."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from http import HTTPStatus
from typing import Final

from pydantic import ValidationError

from edge_app.sync.answers import Next, Plan, plan
from edge_app.sync.lane import Desk, Lane
from edge_app.sync.problems import Failed
from shared.errors import FirstRayError
from shared.events import Event, Position
from shared.hospital import CLOCK_AHEAD, MOST_EVENTS, BatchAnswer, EventBatch, OutcomeStatus

log = logging.getLogger(__name__)

RENEWAL_S: Final = 600.0
"""Between two times that a chain is given up, at least."""
COMPARE_S: Final = 900.0
NEW_LINK_S: Final = 60.0
"""Between two times that the hospital is held against its receipts: on a link that lasts, and on a new one."""
CLOCK_RIGHT_S: Final = 240.0
"""A clock that is not further off than this is right: below what the hospital refuses."""


class EventsLane(Lane):
    """Sends what has no receipt, lowest number first; now and then, whether the hospital still holds what has one."""

    name = "events"

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self._limit = MOST_EVENTS
        self._healed_to = -1
        self._sent: Position | None = None
        self._compared = False
        self._clock_doubted = True

    async def step(self) -> None:
        """Send one batch, or wait for one."""
        desk, bell = self._desk, self._desk.bell
        bell.events.clear()
        if await self._clock_was_ahead():
            await self._renew(partial(desk.outbox.restate, clock_was_ahead=True), CLOCK_AHEAD)
        batch: Sequence[Event] = await desk.blocking(desk.outbox.next_events, self._limit, desk.pace.event_bytes())
        if batch:
            bell.urgent_done.clear()
            await self._deliver(batch)
            return
        self._healed_to = -1
        bell.urgent_done.set()
        if self._compare_in() <= 0:
            await self._compare()
            return
        desk.idle(self.name)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._compare_in()):
                await bell.events.wait()

    async def rest(self, error: FirstRayError, at_least: float = 0.0) -> None:
        """As every lane; images go on meanwhile, and a heal begins anew."""
        bell = self._desk.bell
        self._healed_to, self._sent = -1, None
        bell.resting = True
        bell.urgent_done.set()
        try:
            await super().rest(error, at_least)
        finally:
            bell.resting = False

    def _compare_in(self) -> float:
        """Seconds until the hospital is to be held against its receipts."""
        if (last := self._desk.compared_at) is None:
            return 0.0
        return last + (COMPARE_S if self._compared else NEW_LINK_S) - time.monotonic()

    async def _compare(self) -> None:
        """Send the last event that has a receipt once more: the answer tells where the chain ends at the hospital."""
        desk = self._desk
        held: Event | None = await desk.blocking(desk.outbox.last_held)
        if held is not None:
            self._sent = None
            await self._deliver([held])
        self._compared, desk.compared_at = True, time.monotonic()

    async def _clock_was_ahead(self) -> bool:
        """Whether events were refused for this device's clock, and it is right now by the hospital's."""
        desk, ahead = self._desk, self._desk.wire.clock_ahead_s
        if not self._clock_doubted or ahead is None or abs(ahead) > CLOCK_RIGHT_S:
            return False
        self._clock_doubted = False
        return bool(await desk.blocking(desk.outbox.refused_for_clock))

    async def _deliver(self, batch: Sequence[Event]) -> None:
        desk = self._desk
        body = await desk.blocking(_packed, batch)
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        reply = await desk.wire.ask("POST", "/v1/events", headers=headers, body=body)
        if reply.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE and len(batch) > 1:
            self._limit = max(1, len(batch) // 2)
            return
        if not reply.well:
            self.refused(reply)
        try:
            answer = BatchAnswer.model_validate_json(reply.body)
        except ValidationError:
            raise Failed("hospital_answer_unreadable") from None
        sent = {event.number for event in batch}
        ours = tuple(outcome for outcome in answer.outcomes if outcome.number in sent)
        await desk.blocking(
            desk.outbox.record_answer, answer.model_copy(update={"outcomes": ours}), batch[0].chain, desk.keys
        )
        self._limit = min(MOST_EVENTS, self._limit * 2)
        await self._follow(batch, answer, plan(batch, answer))

    async def _follow(self, batch: Sequence[Event], answer: BatchAnswer, what: Plan) -> None:
        outbox, position = self._desk.outbox, what.position
        if what.next is Next.FORK and answer.expected.number >= batch[0].number:
            await self._renew(outbox.fork, answer.expected.chain, what.detail)
        elif what.next is Next.FORK:  # what came before these, and has receipts, is not what the hospital has there
            await self._renew(outbox.restate, what.detail)
        elif what.next is Next.RESEND and position is not None and position.number == 0:
            await self._renew(outbox.restate, "hospital_lost_all")
        elif what.next is Next.RESEND and position is not None and position.number > self._healed_to:
            self._healed_to = position.number
            await self._heal(position)
        elif what.next is Next.GO_ON and self._moved(batch, answer):
            self._compared, self._desk.compared_at = True, time.monotonic()
            self._desk.worked(self.name)
        else:
            log.warning("a batch was not taken: %s", what.detail or what.next)
            raise Failed("hospital_answer_unreadable")

    async def _heal(self, position: Position) -> None:
        """Have what the hospital has lost wait again, its images too."""
        desk = self._desk
        log.warning("the hospital lacks events from number %d on", position.number + 1)
        try:
            await desk.blocking(desk.outbox.lost_after, position)
        except FirstRayError as error:
            if error.code not in ("events_wiped", "chain_forked"):
                raise
            await self._renew(desk.outbox.restate, error.code)
        self._sent = None
        desk.bell.events.set()
        desk.bell.uploads.set()

    def _moved(self, batch: Sequence[Event], answer: BatchAnswer) -> bool:
        """Whether the answer settles the batch: the same batch after a perfect answer would go round for ever."""
        stored = [outcome for outcome in answer.outcomes if outcome.status is OutcomeStatus.STORED]
        self._clock_doubted |= any(outcome.code == CLOCK_AHEAD for outcome in answer.outcomes)
        again = self._sent == batch[0].position
        self._sent = batch[0].position
        return not again and all(outcome.receipt is not None for outcome in stored)

    async def _renew(self, how: Callable[..., None], *details: object) -> None:
        """Give up the chain for a new one; seldom, or a hospital that makes no sense would fill this device's disk."""
        desk, now = self._desk, time.monotonic()
        if desk.renewed_at is not None and now - desk.renewed_at < RENEWAL_S:
            raise Failed("hospital_answer_unreadable")
        log.error("the chain of events does not fit the hospital's (%s): a new one begins", details[-1])
        self._healed_to, self._sent = -1, None
        desk.renewed_at = now
        await desk.blocking(how, *details)
        desk.bell.events.set()
        desk.bell.uploads.set()


def _packed(batch: Sequence[Event]) -> bytes:
    return gzip.compress(EventBatch(events=tuple(batch)).model_dump_json().encode(), 6)
