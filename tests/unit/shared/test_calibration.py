"""Probabilities mean what they say: monotone, at the stated prevalence, and complete."""

import numpy as np
import pytest
from pydantic import ValidationError

from shared.calibration import NIH_PREVALENCE, Calibration, FindingCalibration, State, move_prevalence, sigmoid
from shared.findings import KEYS


def expit(logit: np.ndarray | float) -> np.ndarray | float:
    """The textbook formula, for logits that do not overflow it."""
    return 1 / (1 + np.exp(-np.asarray(logit)))


def calibration(**changes: float) -> FindingCalibration:
    values = {"slope": 1.2, "intercept": -0.4, "prevalence": 0.3, "threshold": 0.5, "rule_out": 0.1, "assessed": True}
    return FindingCalibration(**(values | {"box_threshold": 0.2} | changes))


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


@pytest.mark.parametrize(
    ("probability", "rule_out", "threshold", "state"),
    [
        (0.50, 0.1, 0.5, State.LIKELY),
        (0.49, 0.1, 0.5, State.UNCERTAIN),
        (0.10, 0.1, 0.5, State.UNCERTAIN),
        (0.09, 0.1, 0.5, State.UNLIKELY),
        (0.49, 0.6, 0.5, State.UNLIKELY),
        (0.55, 0.6, 0.5, State.LIKELY),
        (0.00, 0.0, 0.5, State.UNCERTAIN),
    ],
)
def test_a_finding_is_likely_uncertain_or_unlikely(probability: float, rule_out: float, threshold: float, state: State):
    """Thresholds that cross leave no uncertain zone; a rule-out threshold of 0 never calls anything unlikely."""
    assert calibration(rule_out=rule_out, threshold=threshold).state(probability) is state


def test_what_is_not_assessed_is_never_called_likely_or_unlikely():
    unreliable = calibration(assessed=False)
    assert {unreliable.state(p) for p in (0.0, 0.3, 1.0)} == {State.NOT_ASSESSED}


def test_a_sites_prevalences_change_the_probabilities_and_never_a_state():
    whole = Calibration(findings={key: calibration() for key in KEYS}, operating_point="x", population="y")
    moved = whole.at({"Mass": 0.01, "Edema": 0.6})
    assert moved.findings["Nodule"] == whole.findings["Nodule"]
    assert (moved.findings["Mass"].prevalence, moved.findings["Edema"].prevalence) == (0.01, 0.6)
    for logit in np.linspace(-5, 5, 101):
        before, after = (
            dict(zip(KEYS, c.probabilities(np.full(13, logit)).tolist(), strict=True)) for c in (whole, moved)
        )
        assert after["Mass"] < before["Mass"]
        assert after["Edema"] > before["Edema"]
        assert whole.states(before) == moved.states(after)


def test_the_prevalences_are_those_of_the_official_table():
    assert tuple(NIH_PREVALENCE) == KEYS
    assert NIH_PREVALENCE["Infiltration"] == pytest.approx(0.1774, abs=1e-4)
    assert NIH_PREVALENCE["Pneumonia"] == pytest.approx(0.0128, abs=1e-4)
