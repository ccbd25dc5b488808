"""Probabilities mean what they say: monotone, at the stated prevalence, and complete."""

import numpy as np
import pytest
from pydantic import ValidationError

from shared.calibration import NIH_PREVALENCE, Calibration, FindingCalibration, move_prevalence, sigmoid
from shared.findings import KEYS


def expit(logit: np.ndarray | float) -> np.ndarray | float:
    """The textbook formula, for logits that do not overflow it."""
    return 1 / (1 + np.exp(-np.asarray(logit)))


def calibration(**changes: float) -> FindingCalibration:
    values = {"slope": 1.2, "intercept": -0.4, "prevalence": 0.3, "threshold": 0.5, "box_threshold": 0.2}
    return FindingCalibration(**(values | changes))


def test_sigmoid_is_the_logistic_function_and_never_overflows():
    logits = np.linspace(-30, 30, 101)
    assert np.allclose(sigmoid(logits), expit(logits), rtol=1e-6, atol=1e-12)
    with np.errstate(all="raise"):
        assert sigmoid(np.array([-800.0, 0.0, 800.0])).tolist() == [0.0, 0.5, 1.0]


def test_probabilities_use_each_findings_own_parameters():
    findings = {key: calibration(slope=1.0 + n) for n, key in enumerate(KEYS)}
    whole = Calibration(findings=findings, operating_point="x", population="y")
    logits = np.full((2, 13), 0.3)
    assert np.allclose(whole.probabilities(logits)[1, 4], expit(5.0 * 0.3 - 0.4))


def test_a_missing_or_misplaced_finding_is_refused():
    findings = {key: calibration() for key in KEYS}
    with pytest.raises(ValidationError):
        Calibration(findings=dict(list(findings.items())[1:]), operating_point="x", population="y")
    with pytest.raises(ValidationError):
        Calibration(findings=dict(reversed(findings.items())), operating_point="x", population="y")


def test_moving_the_prevalence_shifts_the_odds_by_exactly_that_much_and_keeps_the_flags():
    before = calibration()
    after = move_prevalence(before, 0.05)
    logits = np.linspace(-4, 4, 41)
    p, q = (expit(c.slope * logits + c.intercept) for c in (before, after))
    ratio = (q / (1 - q)) / (p / (1 - p))
    assert np.allclose(ratio, (0.05 / 0.95) / (0.3 / 0.7))
    assert ((p >= before.threshold) == (q >= after.threshold)).all()
    back = move_prevalence(after, 0.3)
    assert back.intercept == pytest.approx(before.intercept)
    assert back.threshold == pytest.approx(before.threshold)


def test_the_prevalences_are_those_of_the_official_table():
    assert tuple(NIH_PREVALENCE) == KEYS
    assert NIH_PREVALENCE["Infiltration"] == pytest.approx(0.1774, abs=1e-4)
    assert NIH_PREVALENCE["Pneumonia"] == pytest.approx(0.0128, abs=1e-4)
