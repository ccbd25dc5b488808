"""How fast the link is, how much to send at once, how long to wait: all measured, nothing configured.

A round trip is estimated from small exchanges, the link's speed from larger ones with the round trip taken off, so that
a satellite's 600 ms do not make 50 kbit/s look like 10.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Final

FIRST_RATE: Final = 12_000.0
"""Bytes per second assumed before anything was measured: low, since too large a first chunk costs more than one too
small."""
SMALL: Final = 1_500
"""Bytes up to which an exchange tells about the round trip rather than the speed."""
LEAST: Final = 4_096
COMPRESSION: Final = 2.5
"""Events shrink about so much; hashes and ids do not."""
MOST_EVENT_BYTES: Final = 256_000
MOST_CHUNK: Final = 4 << 20
SHORT_CHUNK_S: Final = 1.2
"""How long an event may have to wait behind a chunk of an original."""
LONG_CHUNK_S: Final = 2.4
"""The same for a preview, which the emergency room waits for too."""


class Pace:
    """Measures the link. For one thread.

    Attributes:
        rate: bytes per second that can be expected.
        seen: bytes per second as measured; None before.
        round_trip: seconds, of a small exchange with the hospital's own time in it.
    """

    def __init__(self) -> None:
        self.rate = FIRST_RATE
        self.seen: float | None = None
        self.round_trip = 0.3
        self._stalls = 0
        self._before = self.rate
        self._chunk = LEAST

    def measured(self, size: int, seconds: float) -> None:
        """An exchange of ``size`` bytes, up and down, was answered after ``seconds``."""
        self._stalls = max(0, self._stalls - 1)
        if size <= SMALL:
            weight = 0.5 if seconds < self.round_trip else 0.1
            self.round_trip += weight * (seconds - self.round_trip)
            return
        seen = size / max(seconds - self.round_trip, 0.1 * seconds, 1e-4)
        self.rate = self.seen = max((self.rate * seen) ** 0.5, 100.0)
        self._chunk = size

    def stalled(self) -> None:
        """An exchange took too long: expect less of the link and be more patient, until it answers again."""
        if not self._stalls:
            self._before = self.rate
        self._stalls = min(self._stalls + 1, 5)
        self.rate = max(self.rate / 3, 500.0)

    def interrupted(self) -> None:
        """There was no link at all, so a stall said nothing about it."""
        if self._stalls:
            self._stalls, self.rate = 0, self._before

    def slower(self) -> None:
        """A chunk had to be broken off for something more urgent."""
        self.rate = max(self.rate / 3, 500.0)

    def patience(self, size: int) -> float:
        """Seconds after which an exchange of ``size`` bytes counts as stalled: 4 to 120."""
        usual = min(max(4.0, 4 * self.round_trip), 15.0) + 3 * size / self.rate
        return min(usual * 2**self._stalls, 120.0)

    def chunk(self, seconds: float) -> int:
        """Bytes of an image that take about ``seconds``, at most four times the last; 4 KiB to 4 MiB."""
        wanted = min(int(self.rate * seconds), 4 * self._chunk, MOST_CHUNK)
        return max(LEAST, wanted // 1024 * 1024)

    def event_bytes(self) -> int:
        """Size of a batch of events before compression: about a second and a half of the link."""
        return int(min(max(self.rate * 1.5 * COMPRESSION, LEAST), MOST_EVENT_BYTES))


class Backoff:
    """Full jitter: a random wait between 0 and a limit that doubles with each failure in a row.

    Args:
        first, cap: seconds of the first and of the greatest limit.
        uniform: as ``random.uniform``.
    """

    def __init__(
        self, first: float = 1.0, cap: float = 60.0, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        self._first = first
        self._cap = cap
        self._uniform = uniform
        self._failures: Counter[Hashable] = Counter()

    def failed(self, what: Hashable, at_least: float = 0.0) -> float:
        """``what`` failed once more: seconds to wait, ``at_least`` those that the hospital asked for (10 minutes at
        most).
        """
        self._failures[what] += 1
        limit = min(self._cap, self._first * 2.0 ** min(self._failures[what] - 1, 16))
        return max(self._uniform(0.0, limit), min(at_least, 600.0))

    def worked(self, what: Hashable) -> None:
        """``what`` worked: its next failure counts as the first."""
        self._failures.pop(what, None)

    def failing(self) -> frozenset[Hashable]:
        """What failed and has not worked since."""
        return frozenset(self._failures)
