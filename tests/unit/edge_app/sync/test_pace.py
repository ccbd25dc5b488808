"""How much is sent at once and how long is waited."""

import pytest

from edge_app.sync.pace import LEAST, MOST_CHUNK, Backoff, Pace


def over(pace: Pace, bytes_per_second: float, round_trip: float, times: int = 12) -> Pace:
    """A link of that kind, used a while."""
    for _ in range(times):
        pace.measured(200, round_trip)
        size = pace.chunk(1.2)
        pace.measured(size, round_trip + size / bytes_per_second)
    return pace


@pytest.mark.parametrize("bytes_per_second", [6_250, 60_000, 1_000_000])
def test_a_chunk_takes_about_the_time_it_may(bytes_per_second: float) -> None:
    pace = over(Pace(), bytes_per_second, 0.6)
    assert 0.6 < pace.chunk(1.2) / bytes_per_second < 1.8
    assert pace.rate == pytest.approx(bytes_per_second, rel=0.35)


def test_chunks_and_batches_stay_within_their_limits() -> None:
    fast = over(Pace(), 1e9, 0.001, 30)
    assert fast.chunk(1.2) == MOST_CHUNK
    assert fast.event_bytes() == 256_000
    slow = over(Pace(), 100, 2.0)
    assert slow.chunk(1.2) == LEAST
    assert slow.event_bytes() == LEAST


def test_a_chunk_grows_step_by_step() -> None:
    pace = Pace()
    pace.measured(pace.chunk(1.2), 0.31)
    first = pace.chunk(1.2)
    pace.measured(first, 0.31)
    assert pace.chunk(1.2) <= 4 * first


def test_a_stall_makes_patient_and_cautious_until_answers_come() -> None:
    pace = over(Pace(), 6_250, 0.6)
    before = pace.patience(7_000)
    assert before > 4.0
    pace.stalled()
    assert pace.patience(7_000) >= 2 * before
    assert pace.chunk(1.2) == LEAST
    for _ in range(20):
        pace.stalled()
    assert pace.patience(1_000_000) == 120.0
    over(pace, 6_250, 0.6)
    assert pace.patience(7_000) == pytest.approx(before, rel=0.4)


def test_an_outage_is_not_taken_for_a_slow_link() -> None:
    pace = over(Pace(), 60_000, 0.1)
    before = (pace.rate, pace.patience(5_000))
    pace.stalled()
    pace.stalled()
    pace.interrupted()
    assert (pace.rate, pace.patience(5_000)) == before


def test_back_off_is_full_jitter_with_a_cap_and_honours_the_hospital() -> None:
    limits: list[float] = []

    def highest(low: float, high: float) -> float:
        assert low == 0
        limits.append(high)
        return high

    backoff = Backoff(uniform=highest)
    for _ in range(9):
        backoff.failed("events")
    assert limits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert backoff.failed("inbox") == 1
    assert backoff.failed("inbox", at_least=30) == 30
    assert backoff.failed("inbox", at_least=1e9) == 600
    assert backoff.failing() == {"events", "inbox"}
    backoff.worked("events")
    assert backoff.failed("events") == 1


def test_back_off_spreads_devices_out() -> None:
    waits = [Backoff(first=8).failed("events") for _ in range(200)]
    assert min(waits) < 2
    assert 6 < max(waits) <= 8
