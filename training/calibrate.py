"""Fit the calibration of one variant: Platt parameters per finding at a stated prevalence, and its thresholds.

With 10 to 70 positives a finding, a free slope each would follow noise. Slopes are therefore drawn towards the slope
that fits all findings together (a Gaussian prior on the log-slope), intercepts are free.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from shared.calibration import NIH_PREVALENCE, Calibration, FindingCalibration, move_prevalence, sigmoid
from shared.findings import KEYS

Floats = npt.NDArray[np.floating]

SLOPE_PRIOR_DEVIATION = 0.25
"""Standard deviation of a finding's log-slope around the common one."""

SPECIFICITY = 0.90


def fit_calibration(labels: Floats, logits: Floats, box_thresholds: dict[str, float], population: str) -> Calibration:
    """Calibration at the prevalence of NIH ChestX-ray14, flagging each finding at 90 % specificity.

    Args:
        labels: ``[N, 13]``, 1, 0 or NaN for unknown.
        logits: ``[N, 13]`` of the variant that will be used, not of another precision.
        box_thresholds: detector score from which a finding's boxes are drawn; a finding that is missing has no
            detector boxes, its region is drawn from its probability threshold.
        population: in words, whose radiographs these are.
    """
    common = _common_log_slope(labels, logits)
    fitted = {}
    for number, key in enumerate(KEYS):
        known = ~np.isnan(labels[:, number])
        label, logit = labels[known, number], logits[known, number]
        slope, intercept = _platt(label, logit, common)
        probability = sigmoid(slope * logit + intercept)
        here = FindingCalibration(
            slope=slope,
            intercept=intercept,
            prevalence=float(label.mean()),
            threshold=float(np.quantile(probability[label == 0], SPECIFICITY)),
            box_threshold=0.0,
        )
        moved = move_prevalence(here, NIH_PREVALENCE[key])
        fitted[key] = moved.model_copy(update={"box_threshold": box_thresholds.get(key, moved.threshold)})
    return Calibration(
        findings=fitted, operating_point=f"specificity {SPECIFICITY:.2f} per finding", population=population
    )


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
