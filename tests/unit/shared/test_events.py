"""A chain shows every event that was changed, left out, moved or put in its place."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.events import FIRST_PREVIOUS, Delete, Event, OpenChain, Position, Put, first_break, next_event
from shared.hybrid_clock import HybridClock
from shared.records import RecordType

DEVICE, CHAIN = UUID(int=1), UUID(int=2)
START = Position(chain=CHAIN, number=0)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
actions = st.one_of(
    st.builds(OpenChain),
    st.builds(
        Put, type=st.sampled_from(RecordType), id=st.uuids(), fields=st.dictionaries(st.text(), json_values, max_size=4)
    ),
    st.builds(Delete, type=st.sampled_from(RecordType), id=st.uuids(), reason=st.none() | st.just("why")),
)


def chain(said: list[Any], after: Position = START, device: UUID = DEVICE) -> list[Event]:
    clock = HybridClock(device)
    events: list[Event] = []
    for action in said:
        events.append(next_event(device, after, datetime.now(UTC), clock.now(), action))
        after = events[-1].position
    return events


chains = st.lists(actions, min_size=2, max_size=6).map(chain)


@given(chains)
def test_a_whole_chain_has_no_break_and_survives_json(events: list[Event]) -> None:
    assert first_break(START, events) is None
    sent = [Event.model_validate_json(event.model_dump_json()) for event in events]
    assert sent == events
    assert first_break(START, sent) is None
    assert events[0].previous == FIRST_PREVIOUS
    for cut in range(1, len(events)):
        assert first_break(events[cut - 1].position, events[cut:]) is None


@given(chains, st.data())
def test_an_altered_event_is_found(events: list[Event], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(events) - 1))
    event = events[place]
    changes: dict[str, Any] = {
        "device": uuid4(),
        "chain": uuid4(),
        "number": event.number + 1,
        "previous": "f" * 64,
        "at": datetime(2020, 1, 1, tzinfo=UTC),
        "clock": f"{1:012x}-0000-{DEVICE.hex}",
        "action": Delete(type=RecordType.PATIENT, id=uuid4()),
        "hash": "e" * 64,
    }
    field = data.draw(st.sampled_from(sorted(changes)))
    forged = event.model_copy(update={field: changes[field]})
    broken = first_break(START, [*events[:place], forged, *events[place + 1 :]])
    assert broken is not None
    assert broken.kind == "altered"


@given(chains, st.data())
def test_a_dropped_event_is_found(events: list[Event], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(events) - 2))
    broken = first_break(START, events[:place] + events[place + 1 :])
    assert broken is not None
    assert (broken.kind, broken.number) == ("gap", place + 2)


@given(chains, st.data())
def test_events_in_another_order_are_found(events: list[Event], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(events))
    if shuffled != events:
        assert first_break(START, shuffled) is not None


@given(chains, st.data())
def test_a_repeated_event_is_found(events: list[Event], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(events) - 1))
    broken = first_break(START, [*events[: place + 1], events[place]])
    assert broken is not None
    assert (broken.kind, broken.number) == ("fork", place + 1)


@given(chains, st.data())
def test_a_forked_chain_is_found(events: list[Event], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(events) - 1))
    before = events[place - 1].position if place else START
    (other,) = chain([Delete(type=RecordType.PATIENT, id=uuid4())], before)
    assert first_break(START, [*events[:place], other]) is None
    broken = first_break(START, [*events[:place], other, *events[place + 1 :]])
    if place + 1 < len(events):
        assert broken is not None
        assert broken.kind == "fork"
    held = first_break(events[place].position, [other])
    assert held is not None
    assert held.kind == "fork"


@given(chains)
def test_events_of_another_chain_do_not_follow(events: list[Event]) -> None:
    foreign = chain([OpenChain()], Position(chain=uuid4(), number=len(events), hash=events[-1].hash))
    broken = first_break(START, [*events, *foreign])
    assert broken is not None
    assert broken.kind == "other_chain"


def test_the_hash_does_not_depend_on_the_order_of_fields() -> None:
    one = Put(type=RecordType.PATIENT, id=UUID(int=3), fields={"a": 1, "b": {"x": 1.0, "y": None}})
    other = Put(type=RecordType.PATIENT, id=UUID(int=3), fields={"b": {"y": None, "x": 1.0}, "a": 1})
    at, stamp = datetime.now(UTC), HybridClock(DEVICE).now()
    assert next_event(DEVICE, START, at, stamp, one).hash == next_event(DEVICE, START, at, stamp, other).hash


@pytest.mark.parametrize(
    "change",
    [{"number": 0}, {"clock": "yesterday"}, {"at": datetime(2026, 1, 1)}, {"hash": "xyz"}, {"more": 1}, {"version": 2}],
)
def test_what_is_not_an_event_is_refused(change: dict[str, Any]) -> None:
    (event,) = chain([OpenChain()])
    with pytest.raises(ValidationError):
        Event.model_validate(event.model_dump() | change)


def test_the_time_is_kept_in_utc() -> None:
    from datetime import timedelta, timezone

    korea = datetime(2026, 3, 1, 9, 0, tzinfo=timezone(timedelta(hours=9)))
    event = next_event(DEVICE, START, korea, HybridClock(DEVICE).now(), OpenChain())
    assert event.at == datetime(2026, 3, 1, 0, 0, tzinfo=UTC)
    assert event.model_dump(mode="json")["at"].startswith("2026-03-01T00:00:00")
    assert event.intact()
