"""A figure as a report carries it: value, 95 % interval, number and population; and how many of a kind are enough."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, is_dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from training.decision_metrics import Metric, share, wilson, with_interval
from training.metrics import Floats, Interval

FORMAT = 1
"""Version of the layout of ``figures.json``."""

LEAST_CASES = 5
"""Films with, and films without a finding, that a figure about it needs: below, one film decides."""

LEAST_GROUP = 30
"""Films a subgroup needs to be shown."""

RESAMPLES = 1000


@dataclass(frozen=True)
class Figure:
    """A figure with its central 95 % over resamples of patients (or a Wilson interval where the docstring says so).

    Attributes:
        value, low, high: NaN (``null`` in JSON) where there is no value.
        n: how many films, or other things the population names, it is about.
        population: which, in words.
    """

    value: float
    low: float
    high: float
    n: int
    population: str

    def __str__(self) -> str:
        return "-" if math.isnan(self.value) else f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def figure(interval: Interval, n: int, population: str) -> Figure:
    """An interval with what it is about."""
    return Figure(interval.value, interval.low, interval.high, n, population)


def resampled(metric: Metric, patients: npt.NDArray[Any], population: str, n: int | None = None) -> Figure:
    """A metric with its patient-clustered interval on the films of ``patients``; no value where there is no film."""
    if not len(patients):
        return Figure(math.nan, math.nan, math.nan, 0, population)
    return figure(with_interval(metric, patients, RESAMPLES), len(patients) if n is None else n, population)


def share_of(flag: Floats, among: Floats, patients: npt.NDArray[Any], population: str) -> Figure:
    """Share of the films marked in ``among`` that are marked in ``flag``, both ``[N]`` of 0 and 1.

    Where all or none are, resampling shows no spread; the interval is then Wilson's over the patients concerned.
    """
    found = resampled(partial(share, flag, among), patients, population, int(among.sum()))
    if found.low < found.high or math.isnan(found.value):
        return found
    number = len(set(patients[among > 0]))
    low, high = wilson(np.array([found.value]), np.array([float(number)]))
    return Figure(found.value, float(low[0]), float(high[0]), found.n, population)


def proportion(number: int, of: int, population: str) -> Figure:
    """A share of independent films with its Wilson interval, which stays honest at 0 and 1."""
    if not of:
        return Figure(math.nan, math.nan, math.nan, 0, population)
    low, high = wilson(np.array([number / of]), np.array([float(of)]))
    return Figure(number / of, float(low[0]), float(high[0]), of, population)


def plain(value: Any) -> Any:
    """Figures, arrays and tuples as what JSON knows; NaN and infinities become None."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
