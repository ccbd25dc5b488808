"""Figures agree with scikit-learn and with what is known by construction."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from training.metrics import auc_per_finding, mean_auc, mean_auc_difference, shortcut_scores, weighted_auc
from training.tables import Table


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def test_weighted_auc_is_scikit_learns_with_ties_and_weights(rng: np.random.Generator):
    label = rng.integers(0, 2, 300).astype(np.float32)
    score = np.round(rng.normal(size=300) + label, 1)
    weights = rng.integers(0, 4, (5, 300)).astype(np.float32)
    ours = weighted_auc(label, score, weights)
    theirs = [roc_auc_score(label, score, sample_weight=w) for w in weights]
    assert np.allclose(ours, theirs)


def test_unknown_labels_are_left_out_not_counted_as_absent(rng: np.random.Generator):
    labels = rng.integers(0, 2, (200, 1)).astype(np.float32)
    scores = rng.normal(size=(200, 1)) + labels
    known = auc_per_finding(labels, scores)
    more = np.concatenate([labels, np.full((50, 1), np.nan)])
    assert auc_per_finding(more, np.concatenate([scores, np.full((50, 1), 99.0)])) == pytest.approx(known)


def test_interval_covers_the_true_value_and_clusters_widen_it(rng: np.random.Generator):
    labels = rng.integers(0, 2, (120, 13)).astype(np.float32)
    scores = rng.normal(size=labels.shape) + 1.2 * labels
    single = mean_auc(labels, scores, np.arange(120))
    assert single.low < single.value < single.high
    assert single.low < 0.802 < single.high  # the true AUC of a shift by 1.2 standard deviations
    clustered = mean_auc(np.repeat(labels, 4, 0), np.repeat(scores, 4, 0), np.repeat(np.arange(120), 4))
    assert clustered.high - clustered.low == pytest.approx(single.high - single.low, rel=0.2)


def test_a_paired_difference_is_narrower_than_the_figures_it_compares(rng: np.random.Generator):
    labels = rng.integers(0, 2, (200, 13)).astype(np.float32)
    scores = rng.normal(size=labels.shape) + labels
    nearly = scores + 0.05 * rng.normal(size=labels.shape)
    patients = np.arange(200)
    difference = mean_auc_difference(labels, nearly, scores, patients)
    whole = mean_auc(labels, scores, patients)
    assert difference.low < difference.value < difference.high
    assert difference.high - difference.low < (whole.high - whole.low) / 3


def test_the_shortcut_baseline_finds_a_shortcut_that_is_there(rng: np.random.Generator):
    rows = pd.DataFrame(
        {"view": rng.choice(["PA", "AP"], 400), "sex": rng.choice(["F", "M"], 400), "age": rng.integers(20, 90, 400)}
    )
    labels = np.zeros((400, 13), np.float32)
    labels[:] = ((rows["view"] == "AP") ^ (rng.random(400) < 0.1)).to_numpy()[:, None]
    table = Table(rows, labels)
    scores = shortcut_scores(table.where(np.arange(400) < 200), table.where(np.arange(400) >= 200))
    assert auc_per_finding(labels[200:], scores).mean() > 0.8
