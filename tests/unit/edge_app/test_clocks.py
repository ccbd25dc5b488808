"""The clock that the lock goes by."""

import time

import pytest

from edge_app.clocks import seconds_since_boot


def test_time_asleep_counts_where_the_system_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a tablet that slept through the time to the lock would wake up open."""
    monkeypatch.setattr(time, "CLOCK_BOOTTIME", 7, raising=False)
    monkeypatch.setattr(time, "clock_gettime", {7: 1234.5}.__getitem__)
    assert seconds_since_boot() == 1234.5
    monkeypatch.delattr(time, "CLOCK_BOOTTIME")
    assert seconds_since_boot() == pytest.approx(time.monotonic(), abs=60)
