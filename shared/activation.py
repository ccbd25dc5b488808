"""A region for a finding from the classifier's activation map, where the detector has too little to learn from.

The map's strongest connected part, as a box. It shows where the classifier looked, not the outline of a lesion, and is
always recorded and drawn as such (class activation mapping, Zhou et al., CVPR 2016).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from shared.boxes import Box
from shared.preprocess import FloatImage, Letterbox

UPSAMPLING = 4
LEVEL = 0.5
"""The region is where the map exceeds its mean by this share of the way to its maximum."""


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
