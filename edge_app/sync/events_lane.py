"""Events to the hospital: in batches sized to the link, outcome by outcome, healing what the hospital lacks."""

from __future__ import annotations

import gzip
import logging
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Final

from pydantic import ValidationError

from edge_app.sync.answers import Next, Plan, follows, plan
from edge_app.sync.lane import Desk, Lane
from edge_app.sync.problems import Failed
from shared.errors import FirstRayError
from shared.events import Event, Position
from shared.hospital import MOST_EVENTS, BatchAnswer, EventBatch, OutcomeStatus

log = logging.getLogger(__name__)

LIKELY_EVENT_BYTES: Final = 900
RENEWAL_S: Final = 600.0
"""Between two times that a chain is given up, at least."""


class EventsLane(Lane):
    """Sends what has no receipt, lowest number first."""

    name = "events"

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self._limit = MOST_EVENTS
        self._resend: Position | None = None
        self._healed_to = -1
        self._sent: Position | None = None

    async def step(self) -> None:
        """Send one batch, or wait for one."""
        bell = self._desk.bell
        bell.events.clear()
        batch = await self._batch()
        if batch:
            bell.urgent_done.clear()
            await self._deliver(batch)
        elif self._resend is not None:
            self._resend, self._healed_to = None, -1
        else:
            bell.urgent_done.set()
            self._desk.idle(self.name)
            await bell.events.wait()

    async def rest(self, error: FirstRayError, at_least: float = 0.0) -> None:
        """As every lane; images go on meanwhile, and a heal begins anew."""
        bell = self._desk.bell
        self._resend, self._healed_to, self._sent = None, -1, None
        bell.resting = True
        bell.urgent_done.set()
        try:
            await super().rest(error, at_least)
        finally:
            bell.resting = False

    async def _batch(self) -> Sequence[Event]:
        desk = self._desk
        most = desk.pace.event_bytes()
        position = self._resend
        if position is None:
            return await desk.blocking(desk.outbox.next_events, self._limit, most)
        limit = max(1, min(self._limit, most // LIKELY_EVENT_BYTES))
        try:
            events: list[Event] = await desk.blocking(desk.outbox.events_from, position, limit)
        except FirstRayError as error:
            if error.code != "events_wiped":
                raise
            await self._renew(desk.outbox.restate, error.code)
            return []
        if events and not follows(events, position):
            await self._renew(desk.outbox.fork, position.chain, "fork")
            return []
        return events

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
        if what.next is Next.FORK:
            await self._renew(self._desk.outbox.fork, answer.expected.chain, what.detail)
        elif what.next is Next.RESEND and what.position is not None and what.position.number == 0:
            await self._renew(self._desk.outbox.restate, "hospital_lost_all")
        elif what.next is Next.RESEND and what.position is not None and what.position.number > self._healed_to:
            log.warning("the hospital lacks events from number %d on", what.position.number + 1)
            self._resend, self._healed_to = what.position, what.position.number
        elif what.next is Next.GO_ON and self._moved(batch, answer):
            if self._resend is not None:
                self._resend = batch[-1].position
            self._desk.worked(self.name)
        else:
            log.warning("a batch was not taken: %s", what.detail or what.next)
            raise Failed("hospital_answer_unreadable")

    def _moved(self, batch: Sequence[Event], answer: BatchAnswer) -> bool:
        """Whether the answer settles the batch: the same batch after a perfect answer would go round for ever."""
        stored = [outcome for outcome in answer.outcomes if outcome.status is OutcomeStatus.STORED]
        again = self._resend is None and self._sent == batch[0].position
        self._sent = batch[0].position
        return not again and all(outcome.receipt is not None for outcome in stored)

    async def _renew(self, how: Callable[..., None], *details: object) -> None:
        """Give up the chain for a new one; seldom, or a hospital that makes no sense would fill this device's disk."""
        desk, now = self._desk, time.monotonic()
        if desk.renewed_at is not None and now - desk.renewed_at < RENEWAL_S:
            raise Failed("hospital_answer_unreadable")
        log.error("the chain of events does not fit the hospital's (%s): a new one begins", details[-1])
        self._resend, self._healed_to, self._sent = None, -1, None
        desk.renewed_at = now
        await desk.blocking(how, *details)
        desk.bell.events.set()


def _packed(batch: Sequence[Event]) -> bytes:
    return gzip.compress(EventBatch(events=tuple(batch)).model_dump_json().encode(), 6)
