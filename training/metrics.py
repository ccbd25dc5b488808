"""Discrimination figures that respect unknown labels, with patient-clustered bootstrap intervals.

Images of one patient are not independent, so a resample draws patients, not images (cluster bootstrap, Field & Welsh,
JRSS-B 2007). A difference of two models is taken within each resample (paired).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from training.tables import Table

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Interval:
    """A figure with the central 95 % of its bootstrap resamples."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def patient_weights(patients: npt.NDArray[Any], resamples: int, seed: int = 0) -> Floats:
    """How often each image counts in each resample of patients: float32 ``[resamples, N]``."""
    _, group = np.unique(patients, return_inverse=True)
    number = int(group.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(number, np.full(number, 1 / number), size=resamples)
    return drawn[:, group].astype(np.float32)


def weighted_auc(label: Floats, score: Floats, weights: Floats) -> Floats:
    """Area under the ROC curve for each row of ``weights`` ``[R, N]``; NaN where a class is absent. Ties count half.

    ``label`` is 0, 1 or NaN (left out), ``score`` any real, both ``[N]``.
    """
    known = ~np.isnan(label)
    order = np.argsort(score[known], kind="stable")
    sorted_score, positive = score[known][order], label[known][order] > 0
    w = weights[:, known][:, order].astype(np.float64)
    w_pos, w_neg = w * positive, w * ~positive
    below = np.cumsum(w_neg, axis=1)
    first = np.searchsorted(sorted_score, sorted_score, "left")
    last = np.searchsorted(sorted_score, sorted_score, "right") - 1
    before_tie = np.where(first > 0, below[:, np.maximum(first - 1, 0)], 0.0)
    wins = (w_pos * (before_tie + below[:, last]) / 2).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return wins / (w_pos.sum(1) * w_neg.sum(1))


def auc_per_finding(labels: Floats, scores: Floats) -> Floats:
    """AUC of each column, ``[F]``."""
    one = np.ones((1, len(labels)), np.float32)
    return np.array([weighted_auc(labels[:, f], scores[:, f], one)[0] for f in range(labels.shape[1])])


def stratified_auc(label: Floats, score: Floats, strata: npt.NDArray[Any], weights: Floats) -> Floats:
    """AUC within strata, averaged over them by their number of positives (Janes & Pepe, Biometrika 2009): ``[R]``.

    A positive is compared with negatives of its own stratum only, so a score gains nothing by telling strata apart
    whose prevalences differ. As :func:`weighted_auc` otherwise; ``strata`` ``[N]`` names the stratum of each image, and
    one without both classes does not count.
    """
    wins, cases = np.zeros(len(weights)), np.zeros(len(weights))
    for stratum in np.unique(strata):
        there = strata == stratum
        auc = weighted_auc(label[there], score[there], weights[:, there])
        positives = np.where(np.isnan(auc), 0, weights[:, there] @ (label[there] == 1))
        wins += positives * np.nan_to_num(auc)
        cases += positives
    with np.errstate(invalid="ignore"):
        return wins / cases


def mean_auc(labels: Floats, scores: Floats, patients: npt.NDArray[Any], resamples: int = 1000) -> Interval:
    """Mean over findings of the AUC, with its patient-clustered interval."""
    return _interval(auc_per_finding(labels, scores), _resampled_aucs(labels, scores, patients, resamples))


def mean_auc_difference(
    labels: Floats, scores: Floats, reference: Floats, patients: npt.NDArray[Any], resamples: int = 1000
) -> Interval:
    """Mean AUC of ``scores`` minus that of ``reference`` on the same images, paired within each resample."""
    value = auc_per_finding(labels, scores) - auc_per_finding(labels, reference)
    drawn = _resampled_aucs(labels, scores, patients, resamples) - _resampled_aucs(
        labels, reference, patients, resamples
    )
    return _interval(value, drawn)


CHUNK = 20_000_000
"""Image weights held at a time: resamples of large sets are drawn in parts."""


def _resampled_aucs(labels: Floats, scores: Floats, patients: npt.NDArray[Any], resamples: int) -> Floats:
    """AUC of each resample and finding, ``[resamples, 13]``; parts depend on sizes alone, so pairs stay pairs."""
    at_once = max(1, CHUNK // len(labels))
    parts = []
    for part, start in enumerate(range(0, resamples, at_once)):
        weights = patient_weights(patients, min(at_once, resamples - start), seed=part)
        parts.append([weighted_auc(labels[:, f], scores[:, f], weights) for f in range(labels.shape[1])])
    return np.concatenate([np.stack(part, axis=1) for part in parts])


def _interval(value: Floats, drawn: Floats) -> Interval:
    low, high = np.nanpercentile(np.nanmean(drawn, axis=1), [2.5, 97.5])
    return Interval(float(np.nanmean(value)), float(low), float(high))


def shortcut_scores(train: Table, judged: Table) -> Floats:
    """Scores ``[N, 13]`` of the trivial baseline: logistic regression on view, sex and age, no pixels.

    A finding that is always or never there in ``train`` scores 0 everywhere.
    """
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["view", "sex"]), (StandardScaler(), ["age"])
    )

    def features(table: Table) -> pd.DataFrame:
        rows = table.rows[["view", "sex", "age"]].copy()
        rows["age"] = pd.to_numeric(rows["age"], errors="coerce").clip(0, 100).fillna(50)
        return rows

    scores = np.zeros(judged.labels.shape, np.float64)
    for finding in range(train.labels.shape[1]):
        known = ~np.isnan(train.labels[:, finding])
        if len(np.unique(train.labels[known, finding])) < 2:
            continue
        model = make_pipeline(columns, LogisticRegression(max_iter=1000))
        model.fit(features(train)[known], train.labels[known, finding])
        scores[:, finding] = model.predict_proba(features(judged))[:, 1]
    return scores
