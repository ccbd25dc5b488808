"""What reaches its figures without looking at an image: the trivial baselines a report sets beside its own.

They are fitted on the training patients' films in the same data folder where it has some, otherwise on the evaluated
films themselves by patient-grouped cross-validation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from shared.boxes import Detections
from training.detection_metrics import Truth, mean_box_baseline
from training.metrics import Floats, shortcut_scores
from training.tables import Table

FOLDS = 5
LEAST_FILMS = 200
"""Films of training patients in the folder from which a baseline is fitted on them."""


def patient_folds(patients: npt.NDArray[Any], folds: int = FOLDS, seed: int = 0) -> npt.NDArray[np.int64]:
    """A fold of each film such that a patient's films share one, ``[N]``."""
    _, group = np.unique(patients, return_inverse=True)
    number = int(group.max()) + 1
    return (np.random.default_rng(seed).permutation(number) % folds)[group]


def shortcut(table: Table, train: Table) -> Floats:
    """Scores ``[N, 13]`` of a logistic regression on view, sex and age, source by source.

    A source that states none of the three scores 0.5 throughout. One of which ``train`` has fewer than
    :data:`LEAST_FILMS` films is scored by fits on its other patients; those scores are ranks within the fold, so that
    folds fitted at slightly different prevalences can be pooled.
    """
    scores = np.full(table.labels.shape, 0.5)
    for source in np.unique(table.rows["source"]):
        mine = (table.rows["source"] == source).to_numpy()
        films, others = table.where(mine), train.where(train.rows["source"] == source)
        if (films.rows[["view", "sex"]] == "").all(axis=None) and films.rows["age"].isna().all():
            continue
        scores[mine] = shortcut_scores(others, films) if len(others) >= LEAST_FILMS else _cross_fitted(films)
    return scores


def _cross_fitted(films: Table) -> Floats:
    fold = patient_folds(films.rows["patient_id"].to_numpy())
    scores = np.full(films.labels.shape, 0.5)
    for number in np.unique(fold):
        held = fold == number
        if (~held).any():
            found = shortcut_scores(films.where(~held), films.where(held))
            scores[held] = rankdata(found, axis=0) / (held.sum() + 1)
    return scores


def fixed_boxes(truth: Truth, train: Sequence[Detections]) -> list[Detections]:
    """Each finding's mean box on every film: of ``train`` where it has enough films, else of the other patients."""
    if len(train) >= LEAST_FILMS:
        return mean_box_baseline(train, len(truth.boxes))
    fold = patient_folds(truth.patients)
    found: list[Detections] = [Detections.none()] * len(truth.boxes)
    for number in np.unique(fold):
        others = [truth.boxes[int(row)] for row in np.flatnonzero(fold != number)]
        if any(len(boxes.score) for boxes in others):
            (box,) = mean_box_baseline(others, 1)
            for row in np.flatnonzero(fold == number):
                found[row] = box
    return found
