"""Clocks that nobody can set."""

from __future__ import annotations

import time


def seconds_since_boot() -> float:
    """Seconds since some moment at or before the program's start, those included that the device slept.

    Where the system has no such clock (only Linux has), sleep does not count.
    """
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)
