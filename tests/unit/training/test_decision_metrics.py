"""Figures of probabilities against scikit-learn, hand calculation and what must hold of any of them."""

import numpy as np
import pytest
from sklearn import metrics as sk
from sklearn.linear_model import LogisticRegression

from training import decision_metrics as metrics

ONE = np.ones((1, 400), np.float32)


@pytest.fixture(scope="module")
def films() -> tuple[np.ndarray, np.ndarray]:
    """400 films: labels, and probabilities that are right, rounded so that many are equal."""
    rng = np.random.default_rng(0)
    probability = np.round(rng.beta(1, 4, 400), 2).clip(0.01, 0.99)
    return (rng.random(400) < probability).astype(float), probability


def test_figures_agree_with_scikit_learn(films: tuple[np.ndarray, np.ndarray]):
    label, probability = films
    assert metrics.brier(label, probability, ONE)[0] == pytest.approx(sk.brier_score_loss(label, probability))
    expected = sk.average_precision_score(label, probability)
    assert metrics.average_precision(label, probability, ONE)[0] == pytest.approx(expected)
    rate, found, _ = sk.roc_curve(label, probability, drop_intermediate=False)
    at_90 = metrics.sensitivity_at_specificity(label, probability, ONE)[0]
    assert at_90 == pytest.approx(found[rate <= 0.1].max())
    mine = metrics.roc_curve(label, probability)
    np.testing.assert_allclose(mine, (rate, found))
    recall, precision = metrics.precision_recall_curve(label, probability)
    theirs = sk.precision_recall_curve(label, probability)
    np.testing.assert_allclose(recall, theirs[1][:-1][::-1])
    np.testing.assert_allclose(precision, theirs[0][:-1][::-1])


def test_slope_and_intercept_are_those_of_a_logistic_regression(films: tuple[np.ndarray, np.ndarray]):
    label, probability = films
    stated = 1 / (1 + np.exp(-(2 * np.log(probability / (1 - probability)) + 3)))  # twice over-confident and too high
    log_odds = np.log(stated / (1 - stated))[:, None]
    fitted = LogisticRegression(C=np.inf, tol=1e-8).fit(log_odds, label)
    slope = metrics.calibration_slope(label, stated, ONE)[0]
    assert slope == pytest.approx(fitted.coef_[0, 0], abs=0.01)
    assert slope == pytest.approx(0.5, abs=0.15)
    shift = metrics.calibration_intercept(label, stated, ONE)[0]
    corrected = 1 / (1 + np.exp(-(log_odds[:, 0] + shift)))
    assert corrected.mean() == pytest.approx(label.mean(), abs=1e-6)
    assert shift < 0


@pytest.mark.parametrize(
    "metric",
    [
        metrics.brier,
        metrics.brier_skill,
        metrics.average_precision,
        metrics.sensitivity_at_specificity,
        metrics.calibration_slope,
        metrics.calibration_intercept,
        lambda y, p, w: metrics.net_benefit(y, p, w, 0.2),
        lambda y, p, w: metrics.share(p > 0.2, y, w),
    ],
)
def test_a_weight_of_two_is_the_film_twice(metric: object, films: tuple[np.ndarray, np.ndarray]):
    label, probability = films
    weights = np.random.default_rng(1).integers(0, 3, (1, 400))
    twice = np.repeat(np.arange(400), weights[0])
    once = np.ones((1, len(twice)), np.float32)
    weighted = metric(label, probability, weights.astype(np.float32))[0]
    assert weighted == pytest.approx(metric(label[twice], probability[twice], once)[0], rel=1e-5)


def test_stating_the_prevalence_has_no_skill_and_the_truth_has_all(films: tuple[np.ndarray, np.ndarray]):
    label, probability = films
    assert metrics.brier_skill(label, np.full(400, label.mean()), ONE)[0] == pytest.approx(0)
    assert metrics.brier_skill(label, label, ONE)[0] == pytest.approx(1)
    assert 0 < metrics.brier_skill(label, probability, ONE)[0] < 1


def test_calibration_error_is_the_gap_and_chance_explains_that_of_right_probabilities(
    films: tuple[np.ndarray, np.ndarray],
):
    label, probability = films
    assert metrics.expected_calibration_error(np.zeros(400), np.full(400, 0.3), ONE)[0] == pytest.approx(0.3)
    by_chance = metrics.perfect_calibration_error(probability)
    right = metrics.expected_calibration_error(label, probability, ONE)[0]
    wrong = metrics.expected_calibration_error(label, np.minimum(probability + 0.15, 1), ONE)[0]
    assert right == pytest.approx(by_chance, abs=0.02)
    assert wrong > by_chance + 0.08
    patients = np.arange(400)
    interval = metrics.centred_interval(
        lambda w: metrics.expected_calibration_error(label, probability, w), patients, 200
    )
    assert interval.low < interval.value < interval.high


def test_net_benefit_weighs_false_calls_by_the_odds_of_the_threshold():
    label, probability = np.array([1, 1, 0, 0, 0.0]), np.array([0.9, 0.1, 0.8, 0.1, 0.1])
    one = np.ones((1, 5), np.float32)
    assert metrics.net_benefit(label, probability, one, 0.5)[0] == pytest.approx(1 / 5 - 1 / 5)
    assert metrics.net_benefit(label, probability, one, 0.2)[0] == pytest.approx(1 / 5 - 1 / 5 * 0.25)
    everybody = metrics.net_benefit(label, np.ones(5), one, 0.4)[0]
    assert everybody == pytest.approx(0)  # at the prevalence, acting on everybody is worth nothing


def test_top_hits_need_one_of_three_and_skip_films_without_a_finding():
    labels = np.array([[1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0], [np.nan, np.nan, 0, 1]])
    scores = np.array([[4, 3, 2, 1]] * 4, float)
    hits = metrics.top_hits(labels, scores)
    np.testing.assert_array_equal(hits, [1, 0, np.nan, 0])
    offered = np.where([True, True, False, True], scores, -np.inf)
    np.testing.assert_array_equal(metrics.top_hits(labels, offered), [1, 1, np.nan, 1])


def test_intervals_cover_about_as_often_as_they_say():
    """Sensitivity of 0.7 measured on 60 positives of 30 patients, two films each, always alike."""
    rng, hits = np.random.default_rng(2), 0
    for _ in range(60):
        found = np.repeat(rng.random(30) < 0.7, 2).astype(float)
        patients = np.repeat(np.arange(30), 2)
        interval = metrics.with_interval(lambda w, f=found: metrics.share(f, np.ones(60), w), patients, 300)
        hits += interval.low <= 0.7 <= interval.high
    assert hits >= 50


def test_drawing_in_parts_gives_the_interval_of_the_whole(monkeypatch: pytest.MonkeyPatch):
    label = (np.arange(100) % 4 == 0).astype(float)
    score, patients = np.random.default_rng(3).random(100), np.arange(100)

    def metric(weights: np.ndarray) -> np.ndarray:
        return metrics.average_precision(label, score, weights)

    whole = metrics.with_interval(metric, patients, 1000)
    monkeypatch.setattr(metrics, "CHUNK", 100 * 130)
    parts = metrics.with_interval(metric, patients, 1000)
    assert parts.value == whole.value
    assert (parts.low, parts.high) == pytest.approx((whole.low, whole.high), abs=0.03)


def test_a_class_that_is_absent_gives_no_figure():
    absent, one = np.zeros(5), np.ones((1, 5), np.float32)
    for metric in (metrics.sensitivity_at_specificity, metrics.calibration_slope, metrics.calibration_intercept):
        assert np.isnan(metric(absent, np.linspace(0.1, 0.9, 5), one)[0])
    assert np.isnan(metrics.share(np.ones(5), absent, one)[0])
