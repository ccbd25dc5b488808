"""What follows from the hospital's answer to a batch."""

from uuid import uuid4

import pytest

from edge_app.sync.answers import Next, plan
from shared.events import Event, Position
from shared.hospital import BatchAnswer, Outcome, OutcomeStatus
from tests.fake_hospital import MemoryOutbox

STORED, REFUSED, NOT_TAKEN = OutcomeStatus.STORED, OutcomeStatus.REFUSED, OutcomeStatus.NOT_TAKEN


@pytest.fixture
def events() -> list[Event]:
    outbox = MemoryOutbox()
    outbox.put(9)
    return outbox.events


def answer(batch: list[Event], expected: Position, *statuses: OutcomeStatus, code: str = "gap") -> BatchAnswer:
    outcomes = tuple(
        Outcome(number=event.number, status=status, code=None if status is STORED else code)
        for event, status in zip(batch, statuses, strict=True)
    )
    return BatchAnswer(outcomes=outcomes, expected=expected)


def test_all_stored_goes_on_and_so_does_a_refusal_among_them(events: list[Event]) -> None:
    batch = events[3:6]
    assert plan(batch, answer(batch, batch[-1].position, STORED, STORED, STORED)).next is Next.GO_ON
    assert plan(batch, answer(batch, batch[-1].position, STORED, REFUSED, STORED)).next is Next.GO_ON


def test_a_gap_is_sent_again_from_where_the_hospital_stands(events: list[Event]) -> None:
    batch = events[6:8]
    found = plan(batch, answer(batch, events[2].position, NOT_TAKEN, NOT_TAKEN))
    assert (found.next, found.position) == (Next.RESEND, events[2].position)


def test_a_fork_is_one_also_where_only_the_hash_tells(events: list[Event]) -> None:
    batch = events[6:8]
    assert plan(batch, answer(batch, events[8].position, NOT_TAKEN, NOT_TAKEN, code="fork")).next is Next.FORK
    other = events[5].position.model_copy(update={"hash": "f" * 64})
    assert plan(batch, answer(batch, other, NOT_TAKEN, NOT_TAKEN)).next is Next.FORK


def test_an_event_damaged_on_its_way_is_sent_again(events: list[Event]) -> None:
    batch = events[6:8]
    found = plan(batch, answer(batch, events[6].position, STORED, NOT_TAKEN, code="altered"))
    assert (found.next, found.detail) == (Next.AGAIN, "altered")


def test_an_answer_that_makes_no_sense_changes_nothing(events: list[Event]) -> None:
    batch = events[6:8]
    of_another_chain = Position(chain=uuid4(), number=0)
    assert plan(batch, answer(batch, of_another_chain, NOT_TAKEN, NOT_TAKEN)).next is Next.AGAIN
    assert plan(batch, answer(batch[:1], batch[0].position, STORED)).next is Next.AGAIN
    assert plan(batch, answer(batch, events[5].position, NOT_TAKEN, NOT_TAKEN)).next is Next.AGAIN
    assert plan(batch, answer(batch, events[8].position, NOT_TAKEN, NOT_TAKEN)).next is Next.AGAIN
