"""What a probability is worth: calibration, operating points, net benefit, with patient-clustered intervals.

Every function takes one row of ``weights`` ``[R, N]`` per resample (:func:`training.metrics.patient_weights`; a row of
ones gives the plain figure) and returns one value a row, ``[R]``. ``label`` is 0 or 1 and ``probability`` in 0..1, both
``[N]``: films whose label is unknown are left out before. NaN where a resample lacks what a figure needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.calibration import sigmoid
from training.detection_metrics import interval
from training.metrics import Floats, Interval, patient_weights

BINS = 10
"""Bins of the expected calibration error, with equally many films each."""

CHUNK = 4_000_000
"""Weights that are handed to a metric at once, which bounds the memory of a resampling."""

Metric = Callable[[Floats], Floats]
"""Weights ``[R, N]`` -> one value a row."""


def with_interval(metric: Metric, patients: npt.NDArray[Any], resamples: int = 1000) -> Interval:
    """A figure on all films, and the central 95 % of it over resamples of patients; NaN where it has no value."""
    value = float(metric(np.ones((1, len(patients)), np.float32))[0])
    drawn = _drawn(metric, patients, resamples)
    if np.isnan(value) or np.isnan(drawn).all():
        return Interval(value, float("nan"), float("nan"))
    return interval(value, drawn)


def centred_interval(metric: Metric, patients: npt.NDArray[Any], resamples: int = 1000) -> Interval:
    """:func:`with_interval` for a figure that resampling inflates: the resamples' spread, centred on the figure."""
    value = float(metric(np.ones((1, len(patients)), np.float32))[0])
    drawn = _drawn(metric, patients, resamples)
    return interval(value, np.maximum(drawn - drawn.mean() + value, 0))


def mean_known(values: Floats) -> Floats:
    """Mean over the last axis of what is not NaN; NaN where nothing is."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(-1) / np.where(known.any(-1), known.sum(-1), np.nan)


def brier(label: Floats, probability: Floats, weights: Floats) -> Floats:
    """Mean squared distance of probability and truth (Brier, 1950)."""
    return _mean(weights, (probability - label) ** 2)


def brier_skill(label: Floats, probability: Floats, weights: Floats) -> Floats:
    """1 minus the Brier score over that of stating the films' own prevalence for all; 0 is worthless, 1 perfect."""
    prevalence = _mean(weights, label)
    with np.errstate(invalid="ignore", divide="ignore"):
        return 1 - brier(label, probability, weights) / (prevalence * (1 - prevalence))


def expected_calibration_error(label: Floats, probability: Floats, weights: Floats, bins: int = BINS) -> Floats:
    """Mean distance of stated and observed share over equal-mass bins (Nixon et al., CVPR workshops 2019).

    Films are sorted by probability and cut into ``bins`` parts of equal size, once for all resamples. On few films the
    figure is above 0 even for a perfect model, because the observed shares are noisy (:func:`perfect_calibration_error`
    says how far), and resamples are noisier still: take :func:`centred_interval`.
    """
    order = np.argsort(probability, kind="stable")
    total = np.zeros(len(weights))
    for members in np.array_split(order, min(bins, len(order))):
        gap = (weights[:, members].astype(np.float64) * (probability[members] - label[members])).sum(1)
        total += np.abs(gap)
    return total / weights.sum(1)


def perfect_calibration_error(probability: Floats, draws: int = 200, bins: int = BINS, seed: int = 0) -> float:
    """The calibration error that films of these probabilities show on average if every probability is exactly right."""
    drawn = np.random.default_rng(seed).random((draws, len(probability))) < probability
    one = np.ones((1, len(probability)), np.float32)
    return float(np.mean([expected_calibration_error(row, probability, one, bins)[0] for row in drawn.astype(float)]))


def calibration_slope(label: Floats, probability: Floats, weights: Floats) -> Floats:
    """Slope of a logistic regression of the truth on the log-odds (Cox, 1958): 1 is right, below 1 over-confident."""
    return _recalibrated(label, probability, weights)[0]


def calibration_intercept(label: Floats, probability: Floats, weights: Floats) -> Floats:
    """Calibration in the large: what must be added to the log-odds, slope 1, for the mean to be right; 0 is right."""
    log_odds = _log_odds(probability)[None]
    shift = np.zeros((len(weights), 1))
    w = weights.astype(np.float64)
    for _ in range(50):
        p = sigmoid(log_odds + shift)
        step = (w * (label - p)).sum(1, keepdims=True) / np.maximum((w * p * (1 - p)).sum(1, keepdims=True), 1e-12)
        shift += np.clip(step, -2, 2)
    return np.where(_both_classes(label, weights), shift[:, 0], np.nan)


def sensitivity_at_specificity(label: Floats, score: Floats, weights: Floats, specificity: float = 0.9) -> Floats:
    """Largest share of positives called from a threshold up that leaves ``specificity`` of the negatives uncalled."""
    order = np.argsort(-score, kind="stable")
    sorted_score, positive = score[order], label[order] > 0
    w = weights[:, order].astype(np.float64)
    called_positive, called_negative = np.cumsum(w * positive, axis=1), np.cumsum(w * ~positive, axis=1)
    last_of_tie = np.searchsorted(-sorted_score, -sorted_score, "right") - 1
    allowed = called_negative[:, last_of_tie] <= (1 - specificity) * called_negative[:, -1:] + 1e-9
    best = np.where(allowed, called_positive[:, last_of_tie], 0.0).max(axis=1)
    return np.where(_both_classes(label, weights), best / np.maximum(called_positive[:, -1], 1e-12), np.nan)


def share(flag: Floats, among: Floats, weights: Floats) -> Floats:
    """Share of the films marked in ``among`` that are marked in ``flag``, both ``[N]`` of 0 and 1."""
    chosen = weights * among
    with np.errstate(invalid="ignore", divide="ignore"):
        return (chosen @ flag) / chosen.sum(1)


def net_benefit(label: Floats, probability: Floats, weights: Floats, threshold: float) -> Floats:
    """Net benefit of acting from ``threshold`` up (Vickers & Elkin, Medical Decision Making 2006), per film.

    True positives minus false positives, each false one counted as the odds of the threshold. Acting on nobody is 0.
    """
    called = (probability >= threshold).astype(np.float64)
    return _mean(weights, called * label) - _mean(weights, called * (1 - label)) * threshold / (1 - threshold)


def top_hits(labels: Floats, scores: Floats, number: int = 3) -> Floats:
    """Whether any of a film's ``number`` highest-scored findings is there: 1, 0, or NaN on films with no finding.

    Args:
        labels: ``[N, F]``, 1, 0 or NaN for unknown, which is no hit.
        scores: ``[N, F]``; findings never offered are minus infinity.
        number: how many findings are offered.
    """
    order = np.argsort(-scores, axis=1, kind="stable")[:, :number]
    hit = (np.take_along_axis(labels, order, 1) == 1).any(1)
    return np.where((labels == 1).any(1), hit.astype(np.float64), np.nan)


def average_precision(label: Floats, score: Floats, weights: Floats) -> Floats:
    """Area under the precision-recall curve, as a step function; equal scores count as one. Prevalence is worthless."""
    order = np.argsort(-score, kind="stable")
    sorted_score, positive = score[order], label[order] > 0
    w = weights[:, order].astype(np.float64)
    hits, called = np.cumsum(w * positive, axis=1), np.cumsum(w, axis=1)
    last_of_tie = np.searchsorted(-sorted_score, -sorted_score, "right") - 1
    precision = np.divide(hits, called, out=np.zeros_like(hits), where=called > 0)[:, last_of_tie]
    with np.errstate(invalid="ignore", divide="ignore"):
        return (precision * w * positive).sum(1) / hits[:, -1]


def roc_curve(label: Floats, score: Floats) -> tuple[Floats, Floats]:
    """False and true positive rate at every threshold, from (0, 0) to (1, 1)."""
    called, hits, number = _cumulated(label, score)
    negatives = len(label) - number
    return np.r_[0.0, (called - hits) / negatives], np.r_[0.0, hits / number]


def precision_recall_curve(label: Floats, score: Floats) -> tuple[Floats, Floats]:
    """Recall and precision at every threshold."""
    called, hits, number = _cumulated(label, score)
    return hits / number, hits / called


def reliability(label: Floats, probability: Floats, bins: int = BINS) -> tuple[Floats, Floats, Floats, Floats]:
    """Per equal-mass bin: mean probability, observed share, and its 95 % Wilson interval (low, high)."""
    order = np.argsort(probability, kind="stable")
    parts = np.array_split(order, min(bins, len(order)))
    stated = np.array([probability[part].mean() for part in parts])
    observed = np.array([label[part].mean() for part in parts])
    low, high = wilson(observed, np.array([len(part) for part in parts]))
    return stated, observed, low, high


def wilson(observed: Floats, number: Floats) -> tuple[Floats, Floats]:
    """95 % interval of a share of ``number`` independent films (Wilson, 1927)."""
    z = 1.959964
    centre = (observed + z * z / (2 * number)) / (1 + z * z / number)
    half = z * np.sqrt(observed * (1 - observed) / number + z * z / (4 * number**2)) / (1 + z * z / number)
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


def _drawn(metric: Metric, patients: npt.NDArray[Any], resamples: int) -> Floats:
    """The metric on each resample, ``[resamples]``; the parts depend on sizes alone."""
    rows = max(1, CHUNK // len(patients))
    starts = range(0, resamples, rows)
    return np.concatenate(
        [
            metric(patient_weights(patients, min(rows, resamples - start), seed=part))
            for part, start in enumerate(starts)
        ]
    )


def _mean(weights: Floats, values: Floats) -> Floats:
    return (weights @ values) / weights.sum(1)


def _log_odds(probability: Floats) -> Floats:
    clipped = np.clip(probability, 1e-7, 1 - 1e-7).astype(np.float64)
    return np.log(clipped / (1 - clipped))


def _both_classes(label: Floats, weights: Floats) -> npt.NDArray[np.bool_]:
    return ((weights @ label) > 0) & ((weights @ (1 - label)) > 0)


def _recalibrated(label: Floats, probability: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Slope and intercept of the logistic regression of truth on log-odds, each ``[R]`` (Newton's method).

    A ridge of 0.01 on the slope's distance from 1 keeps a resample whose classes are separable finite.
    """
    x, y, w, ridge = _log_odds(probability)[None], label[None], weights.astype(np.float64), 0.01
    slope, intercept = np.ones((len(w), 1)), np.zeros((len(w), 1))
    for _ in range(50):
        p = sigmoid(slope * x + intercept)
        residual, curvature = w * (y - p), w * p * (1 - p)
        g1 = (residual * x).sum(1, keepdims=True) - ridge * (slope - 1)
        g0 = residual.sum(1, keepdims=True)
        h11 = (curvature * x * x).sum(1, keepdims=True) + ridge
        h10, h00 = (curvature * x).sum(1, keepdims=True), curvature.sum(1, keepdims=True)
        determinant = np.maximum(h11 * h00 - h10**2, 1e-12)
        step1, step0 = (h00 * g1 - h10 * g0) / determinant, (h11 * g0 - h10 * g1) / determinant
        slope, intercept = slope + np.clip(step1, -1, 1), intercept + np.clip(step0, -2, 2)
        if max(np.abs(step1).max(), np.abs(step0).max()) < 1e-8:
            break
    usable = _both_classes(label, weights)
    return np.where(usable, slope[:, 0], np.nan), np.where(usable, intercept[:, 0], np.nan)


def _cumulated(label: Floats, score: Floats) -> tuple[Floats, Floats, int]:
    """At each distinct score, best first: films called, positives among them; and the number of positives."""
    order = np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.r_[np.diff(score[order]) != 0, True])
    hits = np.cumsum(label[order] > 0)[last].astype(np.float64)
    return (last + 1).astype(np.float64), hits, int((label > 0).sum())
