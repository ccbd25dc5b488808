"""Places from the classifier's activation maps: a region where the detector has none, a second opinion on its boxes.

A region is the map's strongest connected part, as a box. It shows where the classifier looked, not the outline of a
lesion, and is always recorded and drawn as such (class activation mapping, Zhou et al., CVPR 2016).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from shared.boxes import Box, Detections
from shared.preprocess import FloatImage, Letterbox

UPSAMPLING = 4
LEVEL = 0.5
"""The region is where the map exceeds its mean by this share of the way to its maximum."""

FILM = 0.25
"""How much of a finding's logit, the mean of its map, is added to the log-odds of its boxes."""

PLACE = 0.25
"""How much of the map's height at a box's centre is added to them, in standard deviations of the map from its mean."""

HIGHEST = 3.0
"""Heights beyond it count as this, in either direction."""


def weighed(found: Detections, maps: FloatImage, letterbox: Letterbox) -> Detections:
    """A detector's boxes with the classifier's opinion in their scores, best first.

    Args:
        found: corners in fractions of the radiograph.
        maps: activation maps ``[13, h, w]`` that cover the letterbox's square.
        letterbox: where the radiograph lies in that square.
    """
    centre = letterbox.from_fractions(found.corners).reshape(-1, 2, 2).mean(axis=1) / letterbox.side
    at, of = found.finding, maps.reshape(len(maps), -1)
    height = (_bilinear(maps, at, centre) - of.mean(axis=1)[at]) / (of.std(axis=1)[at] + 1e-6)
    score = np.clip(found.score.astype(np.float64), 1e-6, 1 - 1e-6)
    odds = np.log(score / (1 - score)) + FILM * of.mean(axis=1)[at] + PLACE * np.clip(height, -HIGHEST, HIGHEST)
    scored = found._replace(score=(1 / (1 + np.exp(-odds))).astype(np.float32))
    return scored.take(np.argsort(-scored.score, kind="stable"))


def _bilinear(maps: FloatImage, finding: npt.NDArray[np.int64], point: FloatImage) -> FloatImage:
    """Values ``[N]`` of the findings' maps at points ``[N, 2]`` (x, y; fractions of the square)."""
    size = np.array(maps.shape[:0:-1])
    position = np.clip(point * size - 0.5, 0, size - 1)
    low = np.floor(position).astype(np.int64)
    high = np.minimum(low + 1, size - 1)
    x, y = (position - low).T
    top = maps[finding, low[:, 1], low[:, 0]] * (1 - x) + maps[finding, low[:, 1], high[:, 0]] * x
    bottom = maps[finding, high[:, 1], low[:, 0]] * (1 - x) + maps[finding, high[:, 1], high[:, 0]] * x
    value: FloatImage = top * (1 - y) + bottom * y
    return value


def region(finding: str, score: float, activation: FloatImage, letterbox: Letterbox) -> Box:
    """The strongest connected part of an activation map ``[h, w]`` that covers the letterbox's square."""
    fine = np.asarray(
        Image.fromarray(activation.astype(np.float32)).resize(
            (activation.shape[1] * UPSAMPLING, activation.shape[0] * UPSAMPLING), Image.Resampling.BILINEAR
        )
    )
    scale = letterbox.side / fine.shape[0]
    rows = slice(int(letterbox.top / scale), int(np.ceil((letterbox.top + letterbox.inner_height) / scale)))
    columns = slice(int(letterbox.left / scale), int(np.ceil((letterbox.left + letterbox.inner_width) / scale)))
    inside = np.full(fine.shape, -np.inf, np.float32)
    inside[rows, columns] = fine[rows, columns]
    peak = np.unravel_index(int(np.argmax(inside)), inside.shape)
    mean = float(fine[rows, columns].mean())
    part = connected(inside >= mean + LEVEL * (float(inside[peak]) - mean), (int(peak[0]), int(peak[1])))
    ys, xs = np.nonzero(part)
    corners = np.array([[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]], np.float32) * scale
    x1, y1, x2, y2 = (float(v) for v in letterbox.to_fractions(corners)[0])
    return Box(finding=finding, score=score, x=x1, y=y1, w=x2 - x1, h=y2 - y1, source="activation")


def connected(mask: npt.NDArray[np.bool_], start: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """The 4-connected part of ``mask`` ``[h, w]`` that holds ``start``."""
    part = np.zeros_like(mask)
    part[start] = mask[start]
    while True:
        grown = part.copy()
        grown[1:] |= part[:-1]
        grown[:-1] |= part[1:]
        grown[:, 1:] |= part[:, :-1]
        grown[:, :-1] |= part[:, 1:]
        grown &= mask
        if (grown == part).all():
            return part
        part = grown
