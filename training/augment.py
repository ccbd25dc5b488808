"""Randomly moved and re-exposed training images, with their boxes. Classifier and detector see the same changes."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

SOFTEST = 0.3
"""A softened image keeps the detail of one of this share of its side, or more."""


def augmented(
    image: npt.NDArray[np.uint8], targets: Floats, by: dict[str, float], rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """A randomly turned, scaled, moved, mirrored and re-exposed copy of a square image with its boxes.

    Args:
        image: uint8 ``[S, S]``.
        targets: ``[n, 5]``, finding and corners in pixels.
        by: ``rotate_degrees``, ``scale`` and ``shift`` (fractions), ``gamma``, ``contrast``, ``brightness``, ``flip``
            (probability); optional ``soften``, the chance that the image is blurred as if enlarged from a smaller one.
        rng: the source of chance.

    Returns:
        float32 image ``[S, S]`` in 0..1 and targets. A turned box is the bounding box of its turned inscribed ellipse
        (a lesion does not fill its box's corners); one with less than 0.3 of its area left inside is dropped.
    """
    side = image.shape[0]
    angle, scale = rng.uniform(-1, 1) * by["rotate_degrees"], math.exp(rng.uniform(-1, 1) * by["scale"])
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), angle, scale)
    matrix[:, 2] += rng.uniform(-1, 1, 2) * by["shift"] * side
    if rng.random() < by["flip"]:
        matrix = matrix @ np.array([[-1, 0, side - 1], [0, 1, 0], [0, 0, 1]], np.float64)
    if rng.random() < by.get("soften", 0.0):
        small = int(side * rng.uniform(SOFTEST, 1))
        image = cv2.resize(cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA), (side, side))
    moved = cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR)
    grey = (np.arange(256, dtype=np.float32) / 255) ** math.exp(rng.uniform(-1, 1) * by["gamma"])
    grey = (grey - 0.5) * math.exp(rng.uniform(-1, 1) * by["contrast"]) + 0.5 + rng.uniform(-1, 1) * by["brightness"]
    return np.clip(grey, 0, 1).astype(np.float32)[moved], moved_boxes(targets, matrix, side)


def moved_boxes(targets: Floats, matrix: npt.NDArray[np.float64], side: int) -> Floats:
    """Boxes ``[n, 5]`` after the affine ``matrix`` ``[2, 3]``, cut at the square's edge."""
    centre = (targets[:, 1:3] + targets[:, 3:5]) / 2 @ matrix[:, :2].T + matrix[:, 2]
    half = np.sqrt(((targets[:, 3:5] - targets[:, 1:3]) / 2) ** 2 @ (matrix[:, :2].T ** 2))
    corners = np.concatenate([centre - half, centre + half], axis=1)
    inside = np.clip(corners, 0, side)
    kept = np.prod(inside[:, 2:] - inside[:, :2], axis=1) >= 0.3 * np.prod(2 * half, axis=1)
    return np.column_stack([targets[:, 0], inside])[kept].astype(np.float32)
