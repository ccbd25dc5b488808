"""The radiographs every variant of a release is judged on, as the models see them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from shared.activation import weighed
from shared.boxes import LEAST, Detections, locate
from shared.findings import KEYS
from training.detection_metrics import Truth
from training.detector_data import DetectionTable, load_detection_table
from training.images import square_images
from training.splits import load_folds
from training.tables import LABEL_FILES, Table, load_table

Floats = npt.NDArray[np.float32]
Model = Callable[[Floats], dict[str, Floats]]
"""Image ``[1, 1, S, S]`` in 0..1 -> outputs by name; every :class:`shared.runtime.Runtime` is one."""

SMALL = "nih128"
"""Image set of the small films."""


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
        small_films: the NIH radiographs of 128 px of validation patients, none where the data folder has no such set;
            ``small_squares`` ``[K, S, S]`` uint8 are theirs. Enlarged to the network's side they are too blurred to
            calibrate on, but they are five times as many to learn from which findings the network can tell at all.
        boxed: full-size radiographs (NIH and VinDr) of validation patients: those with reader boxes, and healthy ones;
            ``boxed_squares`` and ``boxed_small_squares`` ``[M, S, S]`` uint8 are theirs, for detector and classifier.
        train: full-size NIH radiographs of the training patients (for the trivial baselines).
        train_boxes: fused reader boxes of the training patients' radiographs.
        calibration: by network, float32 ``[K, 1, S, S]`` in 0..1 of training patients.
    """

    sides: Sides
    films: Table
    film_squares: npt.NDArray[np.uint8]
    small_films: Table
    small_squares: npt.NDArray[np.uint8]
    boxed: DetectionTable
    boxed_squares: npt.NDArray[np.uint8]
    boxed_small_squares: npt.NDArray[np.uint8]
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
    sets = tuple(name for name in ("images", SMALL) if (data / LABEL_FILES[name]).is_file())
    small = load_table(data, sets)
    small = small.where((small.rows["set"] == SMALL) & (load_folds(split, small) == fold))
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
        small_films=small,
        small_squares=square_images(data, small, sides.classifier, cache),
        boxed=boxed,
        boxed_squares=square_images(data, boxed.table, sides.detector, cache),
        boxed_small_squares=square_images(data, boxed.table, sides.classifier, cache),
        train=everything.where(~held & nih),
        train_boxes=detection.where(~detection_held).boxes,
        calibration=squares,
    )


def maps_of(model: Model, squares: npt.NDArray[np.uint8]) -> Floats:
    """Activation maps ``[N, 13, h, w]`` of a classifier on uint8 squares ``[N, S, S]``."""
    return np.array([model(as_input(square))["maps"][0] for square in tqdm(squares, "classifier", leave=False)])


def logits_of(model: Model, squares: npt.NDArray[np.uint8]) -> Floats:
    """Logits ``[N, 13]`` of a classifier on uint8 squares ``[N, S, S]``, of which there may be none."""
    found = [model(as_input(square))["maps"][0].mean((1, 2)) for square in tqdm(squares, "classifier", leave=False)]
    return np.array(found, np.float32).reshape(-1, len(KEYS))


def detections_of(classifier: Model, detector: Model, validation: Validation) -> list[Detections]:
    """Boxes on every boxed radiograph, in fractions of it, as the Diagnoser scores them."""
    boxed, side = validation.boxed, validation.sides.classifier
    found = []
    maps = maps_of(classifier, validation.boxed_small_squares)
    for row, square in enumerate(tqdm(validation.boxed_squares, "detector", leave=False)):
        heads = detector(as_input(square))
        located = locate(heads["boxes"], heads["scores"], boxed.square(row, square.shape[0]), LEAST)
        found.append(weighed(located, maps[row], boxed.square(row, side)))
    return found


def as_input(square: npt.NDArray[np.uint8]) -> Floats:
    """One square ``[S, S]`` as a network's input ``[1, 1, S, S]`` in 0..1."""
    return (square.astype(np.float32) / np.float32(255))[None, None]
