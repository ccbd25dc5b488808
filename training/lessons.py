"""What each image teaches the classifier beside its labels: second reads, places of findings, opinions of teachers.

None of it is needed at run time. Second reads train a head of their own that is dropped afterwards: radiologists looked
again at a third of the images, while NIH's labels were mined from report text. Places pull a finding's activation map
towards its readers' boxes (after Li et al., CVPR 2018). Teachers' probabilities soften the labels (Hinton et al.,
2015).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from shared.findings import KEYS
from shared.preprocess import Letterbox
from training.detector_data import CHESTXDET10, fused_boxes, load_reader_boxes, load_reads
from training.images import ImageReader
from training.tables import Table

Floats = npt.NDArray[np.float32]

MOST_OFFSET = 4.0
"""A finding absent from a group gives no evidence of a larger one."""

READS = ("normal", "lung_opacity", *CHESTXDET10)
"""What second readers said: RSNA's classes, then the findings ChestX-Det10 shares with ours."""


@dataclass(frozen=True)
class Lessons:
    """Lessons of ``N`` images.

    Attributes:
        labels: float32 ``[N, 13]``, 1, 0 or NaN for unknown; between 0 and 1 where teachers softened them.
        reads: float32 ``[N, R]`` in the order of :data:`READS`, NaN where nobody read again.
        places: per image ``[n, 5]``, finding and corners in fractions of the image; findings labelled 1 only.
        sizes: int ``[N, 2]``, width and height of images with places; elsewhere 1.
        offsets: float32 ``[N, 13]``, added to the logits in the loss alone (:func:`level`); 0 where not levelled.
    """

    labels: Floats
    reads: Floats
    places: list[Floats]
    sizes: npt.NDArray[np.int64]
    offsets: Floats

    def targets(self, row: int, side: int) -> Floats:
        """Places of an image in its ``side`` square: ``[n, 5]``, finding and corners in pixels."""
        place = self.places[row]
        square = Letterbox.fit(int(self.sizes[row, 0]), int(self.sizes[row, 1]), side)
        return np.column_stack([place[:, 0], square.from_fractions(place[:, 1:])]).astype(np.float32)


def load_lessons(data: Path, table: Table) -> Lessons:
    """The lessons of a table's images; a data folder without boxes or second reads has none of those."""
    names = (table.rows["set"] + "/" + table.rows["image"]).tolist()
    reads = np.full((len(table), len(READS)), np.nan, np.float32)
    if (data / "radiologist_reads.csv").is_file():
        reads = second_reads(load_reads(data), names)
    places = [np.zeros((0, 5), np.float32)] * len(table)
    sizes = np.ones((len(table), 2), np.int64)
    if (data / "boxes.csv").is_file():
        sets = tuple(table.rows["set"].unique())
        grouped = dict(list(load_reader_boxes(data, sets).groupby("name")))
        reader = ImageReader(data, sets)
        for row, name in enumerate(names):
            if name not in grouped:
                continue
            boxes = fused_boxes(grouped[name])
            known = table.labels[row, boxes.finding] == 1
            places[row] = np.column_stack([boxes.finding, boxes.corners])[known].astype(np.float32)
            if known.any():
                image_set, _, image = name.partition("/")
                sizes[row] = reader.grey(image_set, image).shape[::-1]
    return Lessons(table.labels, reads, places, sizes, np.zeros_like(table.labels))


def second_reads(reads: pd.DataFrame, names: list[str]) -> Floats:
    """Second reads (:func:`training.detector_data.load_reads`) of images named set/image: ``[N, R]``, NaN if unread."""
    out = np.full((len(names), len(READS)), np.nan, np.float32)
    for row, name in enumerate(names):
        if name not in reads.index:
            continue
        rsna, drawn = reads.at[name, "rsna_class"], reads.at[name, "chestxdet10"]
        if rsna:
            out[row, :2] = rsna == "Normal", rsna == "Lung Opacity"
        if drawn:
            out[row, 2:] = [key in drawn.split("|") for key in CHESTXDET10]
    return out


def level(labels: Floats, groups: npt.NDArray[Any]) -> Floats:
    """Log-odds ``[N, 13]`` by which findings are more frequent in an image's group than in all groups together.

    Added to the logits while learning (logit adjustment, Menon et al., ICLR 2021), they take away what the network
    would gain by telling the groups apart: Pneumonia is on a quarter of the sharp images and on one of 500 of the small
    ones, so without them a blurred image is called healthy.

    Args:
        labels: ``[N, 13]``, NaN for unknown.
        groups: ``[N]``, for example the image sets.
    """
    offsets = np.zeros_like(labels)
    for group in np.unique(groups):
        there = groups == group
        known = ~np.isnan(labels[there]).all(axis=0)
        offsets[there] = np.where(known, _smoothed_log_odds(labels[there]) - _smoothed_log_odds(labels), 0)
    return np.clip(offsets, -MOST_OFFSET, MOST_OFFSET)


def _smoothed_log_odds(labels: Floats) -> Floats:
    with_it, known = np.nansum(labels, axis=0), (~np.isnan(labels)).sum(axis=0)
    return np.log((with_it + 1) / (known - with_it + 1))


def softened(labels: Floats, teachers: Floats, share: float) -> Floats:
    """Labels ``[N, 13]`` moved by ``share`` (0..1) towards the teachers' probabilities; unknown ones become these."""
    mixed = (1 - share) * labels + share * teachers
    return np.where(np.isnan(labels), teachers, mixed).astype(np.float32)


def coverage(targets: Floats, side: int, cells: int) -> Floats:
    """How much of each cell of a ``cells`` x ``cells`` grid over the square a finding's boxes cover: ``[13, g, g]``."""
    covered = np.zeros((len(KEYS), cells, cells), np.float32)
    edges = np.arange(cells + 1) * side / cells
    for finding, x1, y1, x2, y2 in targets:
        across = np.clip(np.minimum(edges[1:], x2) - np.maximum(edges[:-1], x1), 0, None)
        down = np.clip(np.minimum(edges[1:], y2) - np.maximum(edges[:-1], y1), 0, None)
        share = np.outer(down, across) / (side / cells) ** 2
        covered[int(finding)] = np.maximum(covered[int(finding)], share)
    return covered
