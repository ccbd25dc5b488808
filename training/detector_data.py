"""What the detector learns from: radiographs with the fused boxes of their readers, and what nobody looked for.

The sets were read for different findings by different people. A box teaches where a finding is; a missing box teaches
that it is absent only where someone looked. So every image carries a certainty per finding, which weights the loss:

- VinDr: radiologists marked all but Pneumonia, Edema and Emphysema.
- ChestX-Det10 (NIH images): eight of the 13 findings. RSNA (NIH images): Pneumonia.
- Any other NIH image: a finding whose label is 0 is taken as absent; one labelled without a box is somewhere, unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from shared.boxes import Detections, fuse
from shared.findings import KEYS
from shared.preprocess import Letterbox
from training.detection_metrics import Truth
from training.images import ImageReader
from training.tables import Table, load_table

READER_WEIGHTS = {"drpradeepAI": 0.5}
"""Readers whose boxes count less than those of a radiologist, and by how much."""

VINDR_BLIND = ("Pneumonia", "Edema", "Emphysema")
CHESTXDET10 = (
    "Atelectasis", "Consolidation", "Effusion", "Emphysema", "Fibrosis", "Mass", "Nodule", "Pneumothorax",
)  # fmt: skip
OPACITIES = ("Infiltration", "Consolidation", "Pneumonia")
"""Names that readers give to the same shadow: one of them boxed leaves the unboxed others unknown, not absent."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class DetectionTable:
    """Images with boxes, one row each.

    Attributes:
        table: the images.
        boxes: fused boxes of each image, corners in fractions of the image, score the readers' mean weight.
        certainty: float32 ``[N, 13]``, 0..1; 0 where it is unknown whether and where a finding is.
        sizes: int ``[N, 2]``, width and height of each image file.
    """

    table: Table
    boxes: list[Detections]
    certainty: Floats
    sizes: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.boxes)

    def where(self, mask: npt.NDArray[np.bool_]) -> DetectionTable:
        """The rows of a boolean mask ``[N]``."""
        boxes = [self.boxes[row] for row in np.flatnonzero(mask)]
        return DetectionTable(self.table.where(mask), boxes, self.certainty[mask], self.sizes[mask])

    @property
    def truth(self) -> Truth:
        """The boxes as the truth to judge predictions by."""
        return Truth(self.boxes, self.certainty > 0, self.table.rows["patient_id"].to_numpy())

    def square(self, row: int, side: int) -> Letterbox:
        """Where an image lies in its ``side`` square."""
        return Letterbox.fit(int(self.sizes[row, 0]), int(self.sizes[row, 1]), side)

    def targets(self, row: int, side: int) -> Floats:
        """Boxes of an image in its ``side`` square: ``[n, 5]``, finding and corners in pixels."""
        corners = self.square(row, side).from_fractions(self.boxes[row].corners)
        return np.column_stack([self.boxes[row].finding, corners]).astype(np.float32)


def load_detection_table(data: Path, sets: tuple[str, ...], background_share: float, seed: int) -> DetectionTable:
    """Images of ``sets`` that readers boxed, plus background.

    Background: VinDr images in which no box belongs to the 13 findings, and ``background_share`` (0..1) of the NIH
    images of ``sets`` without any finding, drawn by ``seed``.
    """
    table = load_table(data, sets)
    reader_boxes = load_reader_boxes(data, sets)
    names = table.rows["set"] + "/" + table.rows["image"]
    boxed = names.isin(reader_boxes["name"])
    healthy = (table.rows["source"] == "NIH") & (table.labels == 0).all(axis=1) & ~boxed
    drawn = np.random.default_rng(seed).random(len(table)) < background_share
    chosen = (boxed | (healthy & drawn) | (table.rows["source"] == "VinDr")).to_numpy()
    table = table.where(chosen)
    grouped = dict(list(reader_boxes.groupby("name")))
    nothing = reader_boxes.iloc[:0]
    rows = [grouped.get(name, nothing) for name in names[chosen]]
    reader = ImageReader(data, table.rows["set"])
    shapes = [reader.grey(row["set"], row["image"]).shape for row in table.rows.to_dict("records")]
    return DetectionTable(
        table,
        [fused_boxes(boxes) for boxes in rows],
        certainties(table, rows, load_reads(data)),
        np.array([shape[::-1] for shape in shapes], np.int64).reshape(-1, 2),
    )


def load_reader_boxes(data: Path, sets: tuple[str, ...]) -> pd.DataFrame:
    """Every reader's boxes of the 13 findings: columns ``name`` (set/image), ``finding``, ``reader``, x, y, w, h.

    A data folder without ``boxes.csv`` or ``boxes_small.csv`` has none of those.
    """
    columns = ["set", "image", "finding", "reader", "x", "y", "w", "h"]
    parts = [pd.DataFrame(columns=columns)]
    for name in ("boxes.csv", "boxes_small.csv"):
        if (data / name).is_file():
            part = pd.read_csv(data / name, keep_default_na=False)
            parts.append(part if "set" in part else part.assign(set="images"))
    boxes = pd.concat(parts, ignore_index=True)
    boxes = boxes[boxes["finding"].isin(KEYS) & boxes["set"].isin(sets)]
    boxes = boxes.assign(name=boxes["set"] + "/" + boxes["image"])
    return boxes[["name", "finding", "reader", "x", "y", "w", "h"]].reset_index(drop=True)


def load_reads(data: Path) -> pd.DataFrame:
    """Radiologists' second reads, indexed by set/image: ``rsna_class`` and ``chestxdet10``, empty where not read.

    A data folder without ``radiologist_reads.csv`` has none.
    """
    path = data / "radiologist_reads.csv"
    reads = pd.DataFrame(columns=["set", "image", "rsna_class", "chestxdet10"])
    reads = pd.read_csv(path, keep_default_na=False) if path.is_file() else reads
    return reads.set_index(reads["set"] + "/" + reads["image"])[["rsna_class", "chestxdet10"]]


def fused_boxes(boxes: pd.DataFrame) -> Detections:
    """All readers' boxes of one image as one set, fused at an overlap of 0.4."""
    corner, size = boxes[["x", "y"]].to_numpy(np.float32), boxes[["w", "h"]].to_numpy(np.float32)
    corners = np.clip(np.concatenate([corner, corner + size], axis=1), 0, 1)
    finding = np.array([KEYS.index(key) for key in boxes["finding"]], np.int64)
    weight = np.array([READER_WEIGHTS.get(reader, 1.0) for reader in boxes["reader"]], np.float32)
    return fuse(Detections(corners, finding, weight), 0.4)


def certainties(table: Table, boxes: list[pd.DataFrame], reads: pd.DataFrame) -> Floats:
    """How sure the boxes of each image are complete, per finding ``[N, 13]`` (see the module's docstring)."""
    certainty = (table.labels == 0).astype(np.float32)
    names = table.rows["set"] + "/" + table.rows["image"]
    for row, (name, source) in enumerate(zip(names, table.rows["source"], strict=True)):
        if source == "VinDr":
            certainty[row] = [key not in VINDR_BLIND for key in KEYS]
            continue
        drawn = boxes[row]
        keys = set(drawn["finding"])
        if keys & set(OPACITIES):
            certainty[row, [KEYS.index(key) for key in OPACITIES]] = 0
        if name in reads.index and reads.at[name, "chestxdet10"]:
            certainty[row, [KEYS.index(key) for key in CHESTXDET10]] = 1
        if name in reads.index and reads.at[name, "rsna_class"]:
            certainty[row, KEYS.index("Pneumonia")] = 1
        for key in keys:
            weights = [READER_WEIGHTS.get(reader, 1.0) for reader in drawn["reader"][drawn["finding"] == key]]
            certainty[row, KEYS.index(key)] = max(weights)
    return certainty
