"""Fit the calibration of one variant: Platt parameters, two thresholds and whether it is assessed, for each finding.

With 10 to 70 positives a finding, a free slope each would follow noise. Slopes are therefore drawn towards the slope
that fits all findings together (a Gaussian prior on the log-slope), intercepts are free.

The thresholds are the finite-sample quantiles of class-conditional split conformal prediction (Vovk, ACML 2012;
Angelopoulos & Bates, Foundations and Trends in Machine Learning 2023): of new films exchangeable with those here, at
least 90 % of the negatives stay below the rule-in threshold and at least 90 % of the positives reach the rule-out
threshold, on average over sets of films of this size. That holds for each class by itself, so another prevalence does
not touch it. Nor does the Platt fit, which keeps a finding's order and so cannot move a film across a quantile.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from shared.calibration import NIH_PREVALENCE, Calibration, FindingCalibration, sigmoid
from shared.errors import FirstRayError
from shared.findings import KEYS
from training.decision_metrics import with_interval
from training.metrics import Floats, Interval, stratified_auc

SLOPE_PRIOR_DEVIATION = 0.25
"""Standard deviation of a finding's log-slope around the common one."""

COVERAGE = 0.90
"""Share of negatives below the rule-in threshold, and of positives at or above the rule-out threshold."""

LEAST_AUC = 0.6
"""A finding is assessed if the lower end of its AUC's 95 % interval is at least this."""


def discrimination(
    labels: Floats, logits: Floats, strata: npt.NDArray[Any], patients: npt.NDArray[Any], resamples: int = 1000
) -> dict[str, Interval]:
    """AUC of each finding within strata (:func:`training.metrics.stratified_auc`), with a patient-clustered interval.

    Args:
        labels, logits: ``[N, 13]``; labels 1, 0 or NaN for unknown.
        strata: ``[N]``, e.g. the image set: pooled over sets that differ in prevalence and sharpness, a network that
            tells the sets apart would seem to tell the findings.
        patients: ``[N]``.
        resamples: of the interval.
    """
    found = {}
    for number, key in enumerate(KEYS):
        metric = partial(stratified_auc, labels[:, number], logits[:, number], strata)
        found[key] = with_interval(metric, patients, resamples)
    return found


def assessable(aucs: Mapping[str, Interval]) -> frozenset[str]:
    """The findings that a network tells reliably enough to be reported."""
    return frozenset(key for key, auc in aucs.items() if auc.low >= LEAST_AUC)


def fit_calibration(
    labels: Floats,
    logits: Floats,
    box_thresholds: Mapping[str, float],
    population: str,
    assessed: Collection[str] = KEYS,
    prevalence: Mapping[str, float] = NIH_PREVALENCE,
) -> Calibration:
    """Calibration of all findings.

    Args:
        labels: ``[N, 13]``, 1, 0 or NaN for unknown.
        logits: ``[N, 13]`` of the variant that will be used, not of another precision.
        box_thresholds: detector score from which a finding's boxes are drawn; a finding that is missing has no
            detector boxes, its region is drawn where it is likely.
        population: in words, whose radiographs these are.
        assessed: the findings that are reported (:func:`assessable`).
        prevalence: at which the probabilities are stated; a finding that is missing is stated at that of these films.

    Raises:
        FirstRayError: ``calibration_impossible`` where a finding is there on none of the films, or on all.
    """
    common = _common_log_slope(labels, logits)
    fitted = {}
    for number, key in enumerate(KEYS):
        known = ~np.isnan(labels[:, number])
        label, logit = labels[known, number], logits[known, number]
        if not 0 < label.sum() < len(label):
            raise FirstRayError(
                "calibration_impossible",
                f"{key} is there on {int(label.sum())} of {len(label)} radiographs, which says nothing about the rest.",
                "Calibrate on radiographs with and without each finding.",
            )
        slope, intercept = _platt(label, logit, common)
        probability = sigmoid(slope * logit + intercept)
        fitted[key] = FindingCalibration(
            slope=slope,
            intercept=intercept,
            prevalence=float(label.mean()),
            threshold=rule_in(probability[label == 0]),
            rule_out=rule_out(probability[label == 1]),
            assessed=key in assessed,
            box_threshold=box_thresholds.get(key, 0.0),
        )
    here = Calibration(
        findings=fitted,
        operating_point=f"rule-in at a specificity of {COVERAGE:.2f}, rule-out at a sensitivity of {COVERAGE:.2f}",
        population=population,
    )
    return here.at(prevalence)


def rule_in(negatives: Floats) -> float:
    """Probability that 90 % of new negatives stay below, from those of known ones ``[n]``; 1 where n is under 9."""
    rank = _rank(len(negatives))
    return float(np.sort(negatives)[rank - 1]) if rank <= len(negatives) else 1.0


def rule_out(positives: Floats) -> float:
    """Probability that 90 % of new positives reach, from those of known ones ``[n]``; 0 where n is under 9."""
    rank = _rank(len(positives))
    return float(np.sort(positives)[-rank]) if rank <= len(positives) else 0.0


def _rank(number: int) -> int:
    """Rank of the conformal quantile among ``number`` scores: the (n + 1) x 90 %-th; above n there is none."""
    return math.ceil((number + 1) * COVERAGE - 1e-9)


def _bce(label: Floats, logit: Floats) -> float:
    return float(np.sum(np.logaddexp(0, logit) - label * logit))


def _common_log_slope(labels: Floats, logits: Floats) -> float:
    """Log of the one slope that, with a free intercept a finding, fits all findings best."""
    known = ~np.isnan(labels)

    def loss(parameters: Floats) -> float:
        scaled = np.exp(parameters[0]) * logits + parameters[1:]
        return _bce(labels[known], scaled[known])

    return float(minimize(loss, np.zeros(1 + len(KEYS)), method="L-BFGS-B").x[0])


def _platt(label: Floats, logit: Floats, common: float) -> tuple[float, float]:
    def loss(parameters: Floats) -> float:
        prior = ((parameters[0] - common) / SLOPE_PRIOR_DEVIATION) ** 2 / 2
        return _bce(label, np.exp(parameters[0]) * logit + parameters[1]) + float(prior)

    log_slope, intercept = minimize(loss, np.array([common, 0.0]), method="L-BFGS-B").x
    return float(np.exp(log_slope)), float(intercept)
