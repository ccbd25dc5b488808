"""A clock that orders what several devices do, even where their wall clocks disagree.

Hybrid logical clock of Kulkarni et al., "Logical Physical Clocks" (OPODIS 2014): milliseconds of the wall clock, a
counter for what happens within one of them or while the wall clock stands behind, and the device to break ties.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self
from uuid import UUID

from shared.errors import FirstRayError

MAX_AHEAD_MS: Final = 5 * 60 * 1000
"""How far another device's clock may run ahead before its stamp is refused: it would win every later conflict."""

LAST_COUNT: Final = 0xFFFF
_PATTERN: Final = re.compile(r"([0-9a-f]{12})-([0-9a-f]{4})-([0-9a-f]{32})")


@dataclass(frozen=True, slots=True, order=True)
class Stamp:
    """One moment of one device; a later moment compares greater, on every device alike.

    Attributes:
        wall_ms: milliseconds since 1970-01-01 UTC, 0..2^48-1.
        count: 0..65535.
        device: hexadecimal of the device's UUID, 32 digits.
    """

    wall_ms: int
    count: int
    device: str

    def __str__(self) -> str:
        """Text that sorts as the stamps do: ``<12 hex digits>-<4>-<32>``."""
        return f"{self.wall_ms:012x}-{self.count:04x}-{self.device}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The stamp that ``text`` names; raises ValueError for anything else."""
        if not (parts := _PATTERN.fullmatch(text)):
            raise ValueError("not a stamp of a hybrid clock")
        return cls(int(parts[1], 16), int(parts[2], 16), parts[3])


class HybridClock:
    """Gives stamps that only ever grow. Safe to call from several threads.

    Args:
        device: whose stamps these are.
        last: the greatest stamp seen before the clock was made (from the store), or None.
        wall_ms: the wall clock in milliseconds since 1970 UTC.
    """

    def __init__(self, device: UUID, last: Stamp | None = None, wall_ms: Callable[[], int] | None = None) -> None:
        self._device = device.hex
        self._wall_ms = wall_ms or (lambda: time.time_ns() // 1_000_000)
        self._last = (last.wall_ms, last.count) if last else (0, 0)
        self._lock = threading.Lock()

    def now(self) -> Stamp:
        """A stamp greater than every one given or observed before, also where the wall clock was set back."""
        with self._lock:
            wall, count = self._last
            self._last = max((self._wall_ms(), 0), _next(wall, count))
            return Stamp(*self._last, self._device)

    def set_back(self) -> None:
        """Go on from the wall clock, which was ahead and is right now: later stamps may be smaller than earlier ones.

        Only for stamps that nobody has taken (``clock_ahead``).
        """
        with self._lock:
            self._last = min(self._last, (max(self._wall_ms(), 0), 0))

    def observe(self, stamp: Stamp) -> None:
        """Make every later stamp of this clock greater than one that came from elsewhere.

        Raises:
            FirstRayError: ``clock_ahead`` where it lies more than :data:`MAX_AHEAD_MS` in the future.
        """
        with self._lock:
            if stamp.wall_ms > self._wall_ms() + MAX_AHEAD_MS:
                raise FirstRayError(
                    "clock_ahead",
                    "A record comes from a device whose clock is more than five minutes ahead of this one.",
                    "Set both clocks right; the record can then be sent again.",
                )
            self._last = max(self._last, (stamp.wall_ms, stamp.count))


def _next(wall: int, count: int) -> tuple[int, int]:
    return (wall, count + 1) if count < LAST_COUNT else (wall + 1, 0)
