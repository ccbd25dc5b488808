"""Fits what one variant's classifier is familiar with (:mod:`shared.familiarity`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.covariance import LedoitWolf
from tqdm import tqdm

from shared.familiarity import Familiarity, map_features
from training.gate_samples import load_exceptions
from training.images import square_images
from training.splits import load_folds
from training.tables import load_table

Floats = npt.NDArray[np.float32]
WITHIN = 0.999
"""Share of the training and validation radiographs that the limit leaves familiar."""


@dataclass(frozen=True)
class FamiliarFilms:
    """Full-size upright frontal chest radiographs, as the classifier sees them.

    Attributes:
        squares: uint8 ``[N, S, S]``.
        trained: whether each belongs to a training patient, bool ``[N]``; the others are of validation patients.
    """

    squares: npt.NDArray[np.uint8]
    trained: npt.NDArray[np.bool_]


def load_familiar(data: Path, split: Path, fold: int, side: int, cache: Path) -> FamiliarFilms:
    """All full-size radiographs but those found not to be upright and frontal; ``fold`` holds validation patients."""
    table, exceptions = load_table(data, ("images",)), load_exceptions()
    listed = [key in exceptions for key in zip(table.rows["set"], table.rows["image"], strict=True)]
    table = table.where(~np.array(listed))
    return FamiliarFilms(square_images(data, table, side, cache), load_folds(split, table) != fold)


def fit_familiarity(classifier: Callable[[Floats], dict[str, Floats]], films: FamiliarFilms) -> Familiarity:
    """Mean and Ledoit-Wolf covariance of the training radiographs' features, and the limit.

    The limit comes from training and validation radiographs together: validation alone is too few for a quantile this
    far out, and training radiographs lie no nearer (medians and 99 % quantiles agree within 1 %).

    Args:
        classifier: the variant's network: image ``[1, 1, S, S]`` in 0..1 -> ``{"maps": [1, 13, h, w]}``.
        films: what it is familiar with.
    """
    features = np.stack(
        [
            map_features(classifier(square[None, None].astype(np.float32) / np.float32(255))["maps"][0])
            for square in tqdm(films.squares, "familiarity", leave=False)
        ]
    )
    fitted = LedoitWolf().fit(features[films.trained])
    distances = np.sqrt(fitted.mahalanobis(features))
    trained = int(films.trained.sum())
    return Familiarity.of(
        fitted.location_,
        fitted.covariance_,
        round(float(np.quantile(distances, WITHIN)), 4),
        f"{trained} radiographs of training patients; the limit, {WITHIN:.1%} of them and of {len(features) - trained} "
        "of validation patients",
    )
