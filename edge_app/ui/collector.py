"""Collects garbage between results.

A full round stops the whole program, for up to 0.1 s where it was put off. Left to itself Python begins one while a
result is being drawn, for that is when most is made.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Final

from kivy.clock import Clock

SECONDS: Final = 5.0
"""Between rounds while no film is read."""
REST: Final = 0.05
"""After the outcome of a film was stored: it has been on the screen for a while."""
NEVER: Final = 1 << 30


class Collector:
    """Full rounds of the garbage collector, at moments when nobody waits for a result.

    Args:
        busy: whether a film is being read or waits for it.
    """

    def __init__(self, busy: Callable[[], bool]) -> None:
        self._busy = busy
        self._soon = Clock.create_trigger(lambda _: gc.collect(), REST)

    def start(self) -> None:
        """Take what the start has loaded out of all rounds, and begin with them."""
        gc.collect()
        gc.freeze()
        young, middle, _ = gc.get_threshold()
        gc.set_threshold(young, middle, NEVER)
        Clock.schedule_interval(lambda _: self._busy() or gc.collect(), SECONDS)

    def read(self) -> None:
        """A film was read: what its screens have left behind goes soon, whether or not another follows."""
        self._soon()
