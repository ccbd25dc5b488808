"""How unlike the radiographs it was trained on a radiograph looks to the classifier.

The Mahalanobis distance of features of the classifier's own activation maps to those of its training radiographs (Lee
et al., NeurIPS 2018). The features say how much and how finely each map varies, not how high it is: an unusual disease
raises maps, while noise, coarse pixels and lost greys roughen or flatten them. They cost nothing beyond the reading.

A distance belongs to one variant of one release: maps in 8 bits are rougher than maps in full precision.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.findings import KEYS
from shared.preprocess import FloatImage

FEATURES = 3 * len(KEYS)
FLOOR = 1e-3
"""Added before the logarithm, for maps that do not vary at all; far below the maps of any radiograph."""


def map_features(maps: npt.NDArray[np.floating]) -> FloatImage:
    """Logarithms of each map's standard deviation and of its mean steps down and across.

    Args:
        maps: ``[..., 13, h, w]``, h and w at least 2.

    Returns:
        float32 ``[..., 39]``.
    """
    values = np.asarray(maps, np.float32)
    down = np.abs(np.diff(values, axis=-2)).mean((-2, -1))
    across = np.abs(np.diff(values, axis=-1)).mean((-2, -1))
    features: FloatImage = np.log(np.concatenate([values.std((-2, -1)), down, across], -1) + np.float32(FLOOR))
    return features


class Familiarity(BaseModel):
    """What the maps of familiar radiographs look like to one variant's classifier; part of the release manifest.

    Attributes:
        mean: of the features of the training radiographs, ``[39]``.
        whitening: inverse of the Cholesky factor of their covariance, the lower triangle row by row, ``[780]``. Both
            are little-endian float32 in Base64.
        limit: distance from which a radiograph is unfamiliar.
        population: in words, the radiographs that mean, covariance and limit come from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: str
    whitening: str
    limit: float = Field(gt=0)
    population: str

    @classmethod
    def of(cls, mean: npt.NDArray[Any], covariance: npt.NDArray[Any], limit: float, population: str) -> Familiarity:
        """From mean ``[39]`` and covariance ``[39, 39]``."""
        whitening = np.linalg.inv(np.linalg.cholesky(np.asarray(covariance, np.float64)))
        triangle = whitening[np.tril_indices(FEATURES)]
        return cls(mean=_pack(mean), whitening=_pack(triangle), limit=limit, population=population)

    @model_validator(mode="after")
    def _complete(self) -> Familiarity:
        lengths = {"mean": FEATURES, "whitening": FEATURES * (FEATURES + 1) // 2}
        for name, length in lengths.items():
            values = _unpack(getattr(self, name))
            if values.shape != (length,) or not np.isfinite(values).all():
                raise ValueError(f"{name} must hold {length} finite numbers")
        return self

    def distance(self, maps: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Mahalanobis distance of maps ``[..., 13, h, w]`` from the familiar ones, ``[...]``."""
        whitening = np.zeros((FEATURES, FEATURES))
        whitening[np.tril_indices(FEATURES)] = _unpack(self.whitening)
        centred = map_features(maps) - _unpack(self.mean)
        distance: npt.NDArray[np.float64] = np.linalg.norm(centred @ whitening.T, axis=-1)
        return distance

    def unfamiliarity(self, maps: npt.NDArray[np.floating]) -> float:
        """Distance of one radiograph's maps ``[13, h, w]`` as a multiple of the limit; from 1 it is unfamiliar."""
        return float(self.distance(maps)) / self.limit


def _pack(values: npt.NDArray[Any]) -> str:
    return base64.b64encode(np.asarray(values, "<f4").tobytes()).decode()


def _unpack(text: str) -> npt.NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(text, validate=True), "<f4")
