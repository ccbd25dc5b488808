"""Quantiles of timings, and how sure they are.

Timings come in rounds: in one round every contender has its turn. Neighbouring timings share the machine's mood, so the
bootstrap draws whole rounds, not single timings (block bootstrap, Kuensch, Annals of Statistics 1989).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Rounds = Sequence[Sequence[float]]
"""Timings of one contender: a sequence a round. Rounds with the same index were measured next to each other."""

RESAMPLES = 2000
CONFIDENCE = 0.95
SEED = 20261125


@dataclass(frozen=True)
class Estimate:
    """A figure with its bootstrap interval at :data:`CONFIDENCE`."""

    value: float
    low: float
    high: float


def pool(rounds: Rounds) -> list[float]:
    """All timings of all rounds."""
    return [value for turn in rounds for value in turn]


def quantile(rounds: Rounds, share: float) -> float:
    """The quantile ``share`` (0..1) of all timings, linear between neighbours."""
    return float(np.quantile(pool(rounds), share))


def median(rounds: Rounds) -> Estimate:
    """The median of all timings."""
    return _bootstrap(len(rounds), lambda drawn: quantile([rounds[i] for i in drawn], 0.5))


def ratio(slow: Rounds, fast: Rounds) -> Estimate:
    """How many times the median of ``slow`` is that of ``fast``; both are drawn by the same rounds.

    Raises:
        ValueError: they do not have equally many rounds.
    """
    if len(slow) != len(fast):
        raise ValueError(f"{len(slow)} rounds cannot be paired with {len(fast)}.")
    return _bootstrap(
        len(slow),
        lambda drawn: quantile([slow[i] for i in drawn], 0.5) / quantile([fast[i] for i in drawn], 0.5),
    )


def _bootstrap(rounds: int, statistic: Callable[[npt.NDArray[np.int64]], float]) -> Estimate:
    generator = np.random.default_rng(SEED)
    resampled = [statistic(generator.integers(0, rounds, rounds)) for _ in range(RESAMPLES)]
    low, high = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(statistic(np.arange(rounds)), float(low), float(high))
