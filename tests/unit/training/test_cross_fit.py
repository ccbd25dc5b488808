"""Cross-fitted figures are those of films the calibration has not seen, and say so in JSON."""

import json

import numpy as np
import pytest

from shared.calibration import State, sigmoid
from shared.findings import KEYS
from training.cross_fit import calibration_report, cross_fit


@pytest.fixture(scope="module")
def films() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, logits (the true log-odds) and patients of 400 films, two a patient."""
    rng = np.random.default_rng(5)
    logits = rng.normal(-1.2, 1.5, (400, 13))
    labels = (rng.random(logits.shape) < sigmoid(logits)).astype(np.float32)
    return labels, logits, np.repeat(np.arange(200), 2)


def test_a_film_is_judged_by_the_films_of_other_patients(films: tuple[np.ndarray, np.ndarray, np.ndarray]):
    labels, logits, patients = films
    known = cross_fit(labels, logits, patients)
    assert known.probabilities.shape == (400, 13)
    assert set(known.states.ravel()) <= set(State) - {State.NOT_ASSESSED}
    extreme = logits.copy()
    extreme[:2] = 30.0
    changed = cross_fit(labels, extreme, patients)
    assert (changed.probabilities[:2] > 0.99).all()
    unlike = np.abs(changed.probabilities - known.probabilities).max(axis=1) > 0
    assert 300 <= unlike.sum() <= 330, "the fifth with that patient is judged as before, all others are not"


def test_the_report_finds_good_probabilities_good_and_distorted_ones_bad(
    films: tuple[np.ndarray, np.ndarray, np.ndarray],
):
    labels, logits, patients = films
    good = calibration_report(labels, logits, patients, KEYS[:10], resamples=100)
    json.dumps(good, allow_nan=False)
    assert good["not_assessed"] == list(KEYS[10:])
    summary = good["all_findings"]
    assert summary["brier_skill"][1] > 0.05
    assert summary["slope"][1] < 1 < summary["slope"][2]
    value, low, high = summary["ece"]
    assert low < value < high
    assert value < 1.3 * summary["ece_by_chance"][0]
    for name in ("positives_kept", "negatives_kept"):
        value, low, high = good["assessed_findings"][name]
        assert low < value < high
        assert value == pytest.approx(0.9, abs=0.03)
    rng = np.random.default_rng(6)
    noise = calibration_report(labels, rng.normal(size=logits.shape), patients, resamples=100)
    assert noise["all_findings"]["brier_skill"][0] < 0.01
    assert noise["assessed_findings"]["uncertain"][0] > good["assessed_findings"]["uncertain"][0] + 0.1


def test_a_share_of_all_or_none_still_has_an_interval(films: tuple[np.ndarray, np.ndarray, np.ndarray]):
    labels, logits, patients = (part[:300].copy() for part in films)
    logits[:, 0] = np.where(labels[:, 0] == 1, 5, -5) + 0.1 * logits[:, 0]
    report = calibration_report(labels, logits, patients, resamples=50)
    value, low, high = report["findings"][KEYS[0]]["uncertain"]
    assert (value, low) == (0.0, 0.0)
    assert 0 < high < 0.1
