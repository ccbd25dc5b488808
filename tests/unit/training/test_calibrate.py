"""The calibration's promises, on made-up films whose truth is known."""

import numpy as np
import pytest

from shared.calibration import NIH_PREVALENCE, State, sigmoid
from shared.errors import FirstRayError
from shared.findings import KEYS
from training.calibrate import assessable, discrimination, fit_calibration, rule_in, rule_out
from training.metrics import Interval


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


def films(rng: np.random.Generator, number: int, prevalence: float = 0.25) -> tuple[np.ndarray, np.ndarray]:
    """Labels and logits ``[number, 13]``: the logit is the true log-odds, halved and moved, as an odd network's."""
    truth = rng.normal(np.log(prevalence / (1 - prevalence)), 2.0, (number, 13))
    labels = (rng.random(truth.shape) < sigmoid(truth)).astype(np.float32)
    return labels, truth / 2 + 1


def test_probabilities_are_right_at_the_films_own_prevalences_and_moved_to_those_asked_for(rng: np.random.Generator):
    labels, logits = films(rng, 4000)
    own = fit_calibration(labels, logits, {}, "films", prevalence={})
    assert np.abs(own.probabilities(logits).mean(0) - labels.mean(0)).max() < 0.005
    assert [finding.slope for finding in own.findings.values()] == pytest.approx([2.0] * 13, rel=0.15)
    usual = fit_calibration(labels, logits, {"Mass": 0.3}, "films")
    assert {key: finding.prevalence for key, finding in usual.findings.items()} == NIH_PREVALENCE
    assert usual.findings["Mass"].box_threshold == 0.3


@pytest.mark.parametrize("number", [9, 10, 25, 60])
def test_new_films_keep_the_coverage_that_was_promised_however_few_the_known_ones(
    rng: np.random.Generator, number: int
):
    """Over many sets of ``number`` films: at least 90 %, and no more than one film's weight above it."""
    scores = rng.random((4000, number + 1))
    kept = [film[-1] >= rule_out(film[:-1]) for film in scores]
    passed = [film[-1] < rule_in(film[:-1]) for film in scores]
    for covered in (np.mean(kept), np.mean(passed)):
        assert 0.90 - 0.015 <= covered <= 0.90 + 1 / (number + 1) + 0.015


def test_with_too_few_films_nothing_is_ruled_in_or_out():
    few = np.linspace(0.1, 0.9, 8)
    assert (rule_in(few), rule_out(few)) == (1.0, 0.0)


def test_thresholds_leave_a_zone_only_where_the_finding_is_hard_to_tell(rng: np.random.Generator):
    labels, logits = films(rng, 2000)
    logits[:, 0] = 12 * labels[:, 0] + rng.normal(size=2000)
    calibration = fit_calibration(labels, logits, {}, "films", assessed=KEYS[:12])
    easy, hard = calibration.findings[KEYS[0]], calibration.findings[KEYS[1]]
    assert easy.rule_out >= easy.threshold
    assert hard.rule_out < hard.threshold
    states = [calibration.states(dict(zip(KEYS, row, strict=True))) for row in calibration.probabilities(logits)]
    assert {state[KEYS[0]] for state in states} == {State.LIKELY, State.UNLIKELY}
    assert {state[KEYS[1]] for state in states} == {State.LIKELY, State.UNCERTAIN, State.UNLIKELY}
    assert {state[KEYS[12]] for state in states} == {State.NOT_ASSESSED}


def test_a_finding_that_no_film_has_cannot_be_calibrated(rng: np.random.Generator):
    labels, logits = films(rng, 100)
    labels[:, 4] = np.nan
    labels[:50, 4] = 0
    with pytest.raises(FirstRayError, match="Mass is there on 0 of 50") as caught:
        fit_calibration(labels, logits, {}, "films")
    assert caught.value.code == "calibration_impossible"


def test_telling_two_kinds_of_film_apart_is_not_telling_the_finding(rng: np.random.Generator):
    """Half the films are of one kind, which often has the finding; the score knows the kind and nothing else."""
    kind = np.repeat([0, 1], 300)
    labels = np.repeat((rng.random(600) < np.where(kind == 1, 0.5, 0.03))[:, None], 13, axis=1).astype(np.float32)
    scores = np.repeat((kind + 0.01 * rng.normal(size=600))[:, None], 13, axis=1)
    patients = np.arange(600)
    pooled = discrimination(labels, scores, np.zeros(600), patients, resamples=200)
    within = discrimination(labels, scores, kind, patients, resamples=200)
    assert "Mass" in assessable(pooled)
    assert assessable(within) == frozenset()
    assert within["Mass"].low < 0.5 < within["Mass"].high


def test_assessed_is_what_is_told_reliably_and_nothing_unknown():
    aucs = {
        "Mass": Interval(0.8, 0.6, 0.9),
        "Edema": Interval(0.9, 0.599, 1.0),
        "Nodule": Interval(0.8, np.nan, np.nan),
    }
    assert assessable(aucs) == {"Mass"}
