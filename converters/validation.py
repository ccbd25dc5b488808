"""The radiographs every variant of a release is judged on, as the models see them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from shared.boxes import Detections, locate
from training.detection_metrics import Truth
from training.detector_data import DetectionTable, load_detection_table
from training.images import square_images
from training.splits import load_folds
from training.tables import Table, load_table

Floats = npt.NDArray[np.float32]
Model = Callable[[Floats], dict[str, Floats]]
"""Image ``[1, 1, S, S]`` in 0..1 -> outputs by name; every :class:`shared.runtime.Runtime` is one."""

MIN_SCORE = 0.01
"""Candidates below it count for next to nothing in an average precision."""


@dataclass(frozen=True)
class Sides:
    """Side of the square input of each network, in pixels."""

    classifier: int
    detector: int
    gate: int


@dataclass(frozen=True)
class Validation:
    """Radiographs of the validation patients, and some of training patients to calibrate quantisation with.

    Attributes:
        sides: of the squares below.
        films: full-size NIH radiographs of validation patients; ``film_squares`` ``[N, S, S]`` uint8 are theirs.
        boxed: full-size radiographs (NIH and VinDr) of validation patients: those with reader boxes, and healthy ones;
            ``boxed_squares`` ``[M, S, S]`` uint8 are theirs.
        train: full-size NIH radiographs of the training patients (for the trivial baselines).
        train_boxes: fused reader boxes of the training patients' radiographs.
        calibration: by network, float32 ``[K, 1, S, S]`` in 0..1 of training patients.
    """

    sides: Sides
    films: Table
    film_squares: npt.NDArray[np.uint8]
    boxed: DetectionTable
    boxed_squares: npt.NDArray[np.uint8]
    train: Table
    train_boxes: list[Detections]
    calibration: dict[str, Floats]

    @property
    def truth(self) -> Truth:
        """What readers drew on the boxed radiographs."""
        return self.boxed.truth


def load_validation(
    data: Path, split: Path, fold: int, sides: Sides, cache: Path, calibration: int = 128
) -> Validation:
    """Read the full-size radiographs, as the networks see them.

    Args:
        data: data folder.
        split: file of folds; patients of ``fold`` are the validation patients.
        fold: as above.
        sides: input sides of the networks.
        cache: where decoded squares are kept.
        calibration: how many training radiographs calibrate the quantisation.
    """
    everything = load_table(data, ("images",))
    held = load_folds(split, everything) == fold
    nih = (everything.rows["source"] == "NIH").to_numpy()
    films = everything.where(held & nih)
    detection = load_detection_table(data, ("images",), background_share=1.0, seed=0)
    detection_held = load_folds(split, detection.table) == fold
    boxed = detection.where(detection_held)
    shown = np.random.default_rng(0).permutation(np.flatnonzero(~held))[:calibration]
    chosen = everything.where(np.isin(np.arange(len(everything)), shown))
    squares = {
        name: square_images(data, chosen, side, cache).astype(np.float32)[:, None] / np.float32(255)
        for name, side in (("classifier", sides.classifier), ("detector", sides.detector), ("gate", sides.gate))
    }
    return Validation(
        sides=sides,
        films=films,
        film_squares=square_images(data, films, sides.classifier, cache),
        boxed=boxed,
        boxed_squares=square_images(data, boxed.table, sides.detector, cache),
        train=everything.where(~held & nih),
        train_boxes=detection.where(~detection_held).boxes,
        calibration=squares,
    )


def logits_of(model: Model, squares: npt.NDArray[np.uint8]) -> Floats:
    """Logits ``[N, 13]`` of a classifier (output ``maps``) on uint8 squares ``[N, S, S]``."""
    maps = [model(as_input(square))["maps"][0] for square in tqdm(squares, "classifier", leave=False)]
    return np.stack(maps).mean((2, 3))


def detections_of(model: Model, boxed: DetectionTable, squares: npt.NDArray[np.uint8]) -> list[Detections]:
    """Boxes of a detector (outputs ``boxes`` and ``scores``) on every radiograph, in fractions of it."""
    found = []
    for row, square in enumerate(tqdm(squares, "detector", leave=False)):
        heads = model(as_input(square))
        found.append(locate(heads["boxes"], heads["scores"], boxed.square(row, square.shape[0]), MIN_SCORE))
    return found


def as_input(square: npt.NDArray[np.uint8]) -> Floats:
    """One square ``[S, S]`` as a network's input ``[1, 1, S, S]`` in 0..1."""
    return (square.astype(np.float32) / np.float32(255))[None, None]
