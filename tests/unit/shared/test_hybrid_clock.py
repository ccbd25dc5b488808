"""Stamps only grow, and their texts sort as they do."""

import threading
from itertools import pairwise
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import FirstRayError
from shared.hybrid_clock import LAST_COUNT, MAX_AHEAD_MS, HybridClock, Stamp

DEVICE = UUID(int=7)
stamps = st.builds(
    Stamp,
    st.integers(0, 2**48 - 1),
    st.integers(0, LAST_COUNT),
    st.uuids().map(lambda id: id.hex),
)


@given(stamps, stamps)
def test_texts_sort_as_stamps_do(one: Stamp, other: Stamp) -> None:
    assert (str(one) < str(other)) is (one < other)
    assert Stamp.parse(str(one)) == one


@given(st.text() | stamps.map(str).map(str.upper).filter(lambda text: text != text.lower()))
def test_anything_else_is_not_a_stamp(text: str) -> None:
    with pytest.raises(ValueError, match="not a stamp"):
        Stamp.parse(text)


@given(st.lists(st.integers(-5, 2**47), min_size=2))
def test_stamps_grow_whatever_the_wall_clock_does(walls: list[int]) -> None:
    turn = iter(walls)
    clock = HybridClock(DEVICE, wall_ms=lambda: next(turn))
    given_out = [clock.now() for _ in walls]
    assert all(before < after for before, after in pairwise(given_out))
    assert all(str(before) < str(after) for before, after in pairwise(given_out))
    assert given_out[-1].wall_ms >= max(walls)


def test_a_full_counter_runs_into_the_next_millisecond() -> None:
    clock = HybridClock(DEVICE, Stamp(100, LAST_COUNT, DEVICE.hex), wall_ms=lambda: 100)
    assert clock.now() == Stamp(101, 0, DEVICE.hex)
    assert clock.now() == Stamp(101, 1, DEVICE.hex)


def test_a_clock_goes_on_after_what_it_was_made_with_and_what_it_saw() -> None:
    other = uuid4().hex
    clock = HybridClock(DEVICE, Stamp(900, 4, other), wall_ms=lambda: 500)
    assert clock.now() == Stamp(900, 5, DEVICE.hex)
    clock.observe(Stamp(1200, 9, other))
    clock.observe(Stamp(3, 0, other))
    assert clock.now() == Stamp(1200, 10, DEVICE.hex)


def test_a_stamp_from_too_far_ahead_is_refused_and_has_no_effect() -> None:
    clock = HybridClock(DEVICE, wall_ms=lambda: 1000)
    clock.observe(Stamp(1000 + MAX_AHEAD_MS, 0, "0" * 32))
    with pytest.raises(FirstRayError) as error:
        clock.observe(Stamp(1001 + MAX_AHEAD_MS, 0, "0" * 32))
    assert error.value.code == "clock_ahead"
    assert clock.now() == Stamp(1000 + MAX_AHEAD_MS, 1, DEVICE.hex)


def test_no_two_threads_get_the_same_stamp() -> None:
    clock = HybridClock(DEVICE, wall_ms=lambda: 1)
    seen: list[list[Stamp]] = [[] for _ in range(4)]
    threads = [threading.Thread(target=lambda mine=mine: mine.extend(clock.now() for _ in range(500))) for mine in seen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({stamp for mine in seen for stamp in mine}) == 2000
    assert all(mine == sorted(mine) for mine in seen)
