"""Boxes around findings: decoding a detector's raw heads, removing duplicates, fusing readers, overlap.

Everything is NumPy, so that training, conversion and the bedside compute boxes alike. Corners are (x1, y1, x2, y2) with
the origin at the top left; which unit (pixels or fractions) is up to the caller except where said.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from shared.findings import KEYS
from shared.preprocess import Letterbox

Floats = npt.NDArray[np.float32]

STRIDES = (8, 16, 32)
"""Pixels between neighbouring anchor points at the three levels of a YOLOv5/v8 head."""

BINS = 16
"""Bins of the distribution over a side's distance from its anchor point, in strides."""

RIVALS = (("Mass", "Nodule"),)
"""Findings that differ by size only: one place can show one of them, not both."""

LEAST = 0.01
"""Score from which a detector's candidate is looked at; below it they count for next to nothing."""

MAX_CANDIDATES = 1000
"""Candidates that enter duplicate removal: the best by score. A radiograph has a handful of true boxes."""


class Box(BaseModel):
    """One box on a radiograph, as results carry it.

    Attributes:
        finding: key of :data:`shared.findings.KEYS`.
        score: 0..1; comparable within one source only.
        x, y, w, h: top-left corner and size in fractions of the whole image.
        source: ``detector``, or ``activation`` for a region read off the classifier's activation map.
    """

    model_config = ConfigDict(frozen=True)

    finding: str
    score: float = Field(ge=0, le=1)
    x: float = Field(ge=0, le=1)
    y: float = Field(ge=0, le=1)
    w: float = Field(ge=0, le=1)
    h: float = Field(ge=0, le=1)
    source: Literal["detector", "activation"]


class Detections(NamedTuple):
    """Boxes of one image as arrays, in any order unless said.

    Attributes:
        corners: float32 ``[N, 4]``.
        finding: int64 ``[N]``, index into :data:`shared.findings.KEYS`.
        score: float32 ``[N]`` in 0..1.
    """

    corners: Floats
    finding: npt.NDArray[np.int64]
    score: Floats

    @classmethod
    def none(cls) -> Detections:
        """No boxes."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32))

    def take(self, chosen: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Detections:
        """The boxes of an index array or a boolean mask."""
        return Detections(self.corners[chosen], self.finding[chosen], self.score[chosen])


def anchor_points(side: int) -> tuple[Floats, Floats]:
    """Anchor points ``[A, 2]`` (x, y) in pixels of a ``side`` x ``side`` image and their strides ``[A]``.

    Level by level (:data:`STRIDES`), row by row, each point at the centre of its cell.
    """
    points, strides = [], []
    for stride in STRIDES:
        centres = (np.arange(side // stride, dtype=np.float32) + 0.5) * stride
        y, x = np.meshgrid(centres, centres, indexing="ij")
        points.append(np.column_stack([x.ravel(), y.ravel()]))
        strides.append(np.full(x.size, stride, np.float32))
    return np.concatenate(points), np.concatenate(strides)


def decode(boxes: Floats, scores: Floats, side: int, min_score: float) -> Detections:
    """Raw heads of the detector -> candidate boxes, best first.

    Each side's distance from its anchor point is the expectation of a softmax over :data:`BINS` bins, times the stride
    (distribution focal loss, Li et al., NeurIPS 2020). One anchor may carry several findings.

    Args:
        boxes: ``[1, 64, A]`` logits; channels are left, top, right, bottom, each with 16 bins.
        scores: ``[1, 13, A]`` in 0..1.
        side: side of the model's square image in pixels, a multiple of 32.
        min_score: candidates below it are dropped; at most :data:`MAX_CANDIDATES` stay.

    Returns:
        Corners in pixels of the square, possibly beyond its edge. Duplicates are still there (see :func:`suppress`).

    Raises:
        ValueError: the arrays do not have the shapes of a ``side`` x ``side`` image.
    """
    points, strides = anchor_points(side)
    if boxes.shape != (1, 4 * BINS, len(points)) or scores.shape != (1, len(KEYS), len(points)):
        raise ValueError(f"Heads of shapes {boxes.shape} and {scores.shape} do not belong to a {side} px image.")
    finding, anchor = np.nonzero(scores[0] >= min_score)
    score = scores[0, finding, anchor]
    best = np.argsort(-score, kind="stable")[:MAX_CANDIDATES]
    finding, anchor, score = finding[best], anchor[best], score[best]
    logits = boxes[0][:, anchor].reshape(4, BINS, -1).astype(np.float32)
    weight = np.exp(logits - logits.max(axis=1, keepdims=True))
    distance = np.einsum("sbn,b->sn", weight, np.arange(BINS, dtype=np.float32)) / weight.sum(axis=1)
    distance = (distance * strides[anchor]).T
    centre = points[anchor]
    corners = np.concatenate([centre - distance[:, :2], centre + distance[:, 2:]], axis=1)
    return Detections(corners.astype(np.float32), finding.astype(np.int64), score.astype(np.float32))


def overlap(a: Floats, b: Floats) -> Floats:
    """Intersection over union of every box of ``a`` ``[N, 4]`` with every box of ``b`` ``[M, 4]``: ``[N, M]``."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared_area = np.prod(np.clip(high - low, 0, None), axis=2)
    area_a, area_b = (np.prod(np.clip(box[:, 2:] - box[:, :2], 0, None), axis=1) for box in (a, b))
    union = area_a[:, None] + area_b[None, :] - shared_area
    return np.divide(shared_area, union, out=np.zeros_like(shared_area), where=union > 0).astype(np.float32)


def suppress(detections: Detections, max_overlap: float = 0.4) -> Detections:
    """Per finding, keep a box only if no better one overlaps it by more than ``max_overlap``; best first."""
    kept: list[int] = []
    for finding in np.unique(detections.finding):
        members = np.flatnonzero(detections.finding == finding)
        members = members[np.argsort(-detections.score[members], kind="stable")]
        overlaps = overlap(detections.corners[members], detections.corners[members]) > max_overlap
        alive = np.ones(len(members), bool)
        for number in range(len(members)):
            if alive[number]:
                alive[number + 1 :] &= ~overlaps[number, number + 1 :]
        kept.extend(members[alive].tolist())
    chosen = np.array(kept, np.int64)
    return detections.take(chosen[np.argsort(-detections.score[chosen], kind="stable")])


def fuse(detections: Detections, min_overlap: float = 0.4, readers: int = 1) -> Detections:
    """Weighted box fusion (Solovyev, Wang & Gabruseva, Image and Vision Computing 107, 2021), best first.

    Boxes of one finding that overlap a cluster's fused box by more than ``min_overlap`` join it. A cluster's corners
    are the mean of its members' weighted by their scores; its score is their mean score times min(members, readers)
    / readers, so with ``readers`` > 1 a box that few of them drew counts less.
    """
    corners: list[Floats] = []
    findings: list[int] = []
    scores: list[float] = []
    for finding in np.unique(detections.finding):
        members = detections.take(detections.finding == finding)
        clusters: list[list[int]] = []
        centres = np.zeros((0, 4), np.float32)
        for index in np.argsort(-members.score, kind="stable"):
            overlaps = overlap(members.corners[index][None], centres)[0]
            if clusters and overlaps.max() > min_overlap:
                cluster = int(overlaps.argmax())
                clusters[cluster].append(int(index))
            else:
                cluster = len(clusters)
                clusters.append([int(index)])
                centres = np.concatenate([centres, np.zeros((1, 4), np.float32)])
            joined = members.take(np.array(clusters[cluster]))
            centres[cluster] = np.average(joined.corners, axis=0, weights=np.maximum(joined.score, 1e-9))
        corners.extend(centres)
        findings.extend([int(finding)] * len(clusters))
        scores.extend(float(members.score[c].mean()) * min(len(c), readers) / readers for c in clusters)
    fused = Detections(
        np.array(corners, np.float32).reshape(-1, 4), np.array(findings, np.int64), np.array(scores, np.float32)
    )
    return fused.take(np.argsort(-fused.score, kind="stable"))


def locate(boxes: Floats, scores: Floats, square: Letterbox, min_score: float, max_overlap: float = 0.4) -> Detections:
    """Raw heads -> the boxes of one radiograph in fractions of it, cut at its edge, without duplicates, best first.

    Args as for :func:`decode` and :func:`suppress`; ``square`` is where the radiograph lies in the model's image.
    """
    found = suppress(decode(boxes, scores, square.side, min_score), max_overlap)
    return found._replace(corners=square.to_fractions(found.corners))


def one_a_place(boxes: Sequence[Box], share: float = 0.6) -> tuple[Box, ...]:
    """Of boxes of one finding, or of :data:`RIVALS`, that show one place, keep the best; the order stays.

    Two boxes show one place if they share at least ``share`` (0..1) of the smaller one: a nodule
    inside a mass is the mass.
    """
    rivals = {key: other for pair in RIVALS for key, other in (pair, pair[::-1])}
    kept: list[int] = []
    for number in sorted(range(len(boxes)), key=lambda n: -boxes[n].score):
        box = boxes[number]
        alike = (box.finding, rivals.get(box.finding))
        if not any(boxes[other].finding in alike and _shared_of_smaller(box, boxes[other]) >= share for other in kept):
            kept.append(number)
    return tuple(boxes[number] for number in sorted(kept))


def _shared_of_smaller(a: Box, b: Box) -> float:
    """Share of the smaller box's area that lies in the other."""
    width = min(a.x + a.w, b.x + b.w) - max(a.x, b.x)
    height = min(a.y + a.h, b.y + b.h) - max(a.y, b.y)
    smaller = min(a.w * a.h, b.w * b.h)
    return width * height / smaller if width > 0 and height > 0 and smaller > 0 else 0.0
