"""How well boxes are found, with patient-clustered bootstrap intervals; nothing here knows a model.

Average precision is the area under the precision envelope (PASCAL VOC 2010 onwards) at an overlap of 0.4, over the
images that carry at least one reader box ("lesion-only"). Predictions of a finding that nobody looked for are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.boxes import Detections, overlap
from shared.findings import KEYS
from training.metrics import Floats, Interval, patient_weights

MIN_OVERLAP = 0.4
MIN_SUPPORT = 5
"""Boxed images a finding needs to enter a mean: below it, one image decides."""


@dataclass(frozen=True)
class Truth:
    """What readers drew on ``N`` images.

    Attributes:
        boxes: each image's boxes, corners in fractions of it.
        known: bool ``[N, 13]``: someone looked for the finding in the image.
        patients: ``[N]``.
    """

    boxes: Sequence[Detections]
    known: npt.NDArray[np.bool_]
    patients: npt.NDArray[np.object_]

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Boxes per image and finding, ``[N, 13]``."""
        return np.stack([np.bincount(boxes.finding, minlength=len(KEYS)) for boxes in self.boxes])

    def supported(self, min_support: int = MIN_SUPPORT) -> npt.NDArray[np.bool_]:
        """Findings boxed in at least ``min_support`` images, bool ``[13]``."""
        return (self.counts > 0).sum(axis=0) >= min_support


@dataclass(frozen=True)
class Matches:
    """All predictions of a set of images, best first, with whether each hits a reader's box: arrays ``[P]``."""

    image: npt.NDArray[np.int64]
    finding: npt.NDArray[np.int64]
    score: npt.NDArray[np.float32]
    hit: npt.NDArray[np.bool_]

    def of(self, finding: int) -> Matches:
        """The predictions of one finding."""
        mask = self.finding == finding
        return Matches(self.image[mask], self.finding[mask], self.score[mask], self.hit[mask])


def match(truth: Truth, predictions: Sequence[Detections], min_overlap: float = MIN_OVERLAP) -> Matches:
    """Give each prediction, best first, the free reader box of its finding that it overlaps most, if by enough."""
    parts = []
    for row, (drawn, found) in enumerate(zip(truth.boxes, predictions, strict=True)):
        found = found.take(truth.known[row, found.finding])
        found = found.take(np.argsort(-found.score, kind="stable"))
        overlaps = overlap(found.corners, drawn.corners) * (found.finding[:, None] == drawn.finding[None, :])
        hit = np.zeros(len(found.score), bool)
        for number in range(len(hit)):
            if overlaps.shape[1] and overlaps[number].max() >= min_overlap:
                hit[number] = True
                overlaps[:, overlaps[number].argmax()] = 0
        parts.append(Matches(np.full(len(hit), row), found.finding, found.score, hit))
    order = np.argsort(-np.concatenate([part.score for part in parts]), kind="stable")
    columns = (np.concatenate([getattr(part, name) for part in parts])[order] for name in Matches.__annotations__)
    return Matches(*columns)


def weighted_average_precision(matches: Matches, boxes: Floats, weights: Floats) -> Floats:
    """Average precision for each row of ``weights`` ``[R, N]``; NaN where there is no box. Equal scores count as one.

    Args:
        matches: one finding's predictions.
        boxes: reader boxes of the finding per image, ``[N]``.
        weights: how often each image counts.
    """
    total = weights @ boxes
    if not len(matches.score):
        return np.where(total > 0, 0.0, np.nan)
    weight = weights[:, matches.image].astype(np.float64)
    hits, seen = np.cumsum(weight * matches.hit, axis=1), np.cumsum(weight, axis=1)
    last_of_tie = np.searchsorted(-matches.score, -matches.score, "right") - 1
    precision = np.divide(hits, seen, out=np.zeros_like(hits), where=seen > 0)[:, last_of_tie]
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        return (envelope * weight * matches.hit).sum(axis=1) / np.where(total > 0, total, np.nan)


def average_precisions(truth: Truth, predictions: Sequence[Detections], weights: Floats | None = None) -> Floats:
    """Lesion-only average precision of each finding for each row of ``weights`` (all ones if None): ``[R, 13]``."""
    counts = truth.counts.astype(np.float32)
    rows = np.ones((1, len(counts)), np.float32) if weights is None else weights
    rows = rows * (counts.sum(axis=1) > 0)
    matches = match(truth, predictions)
    columns = [weighted_average_precision(matches.of(f), counts[:, f], rows) for f in range(len(KEYS))]
    return np.stack(columns, axis=1)


def interval(value: float, drawn: Floats) -> Interval:
    """A figure with the central 95 % of its resamples ``[R]``."""
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return Interval(value, float(low), float(high))


def mean_average_precision(truth: Truth, predictions: Sequence[Detections], resamples: int = 1000) -> Interval:
    """Lesion-only mAP at 0.4: the mean over the supported findings."""
    chosen = truth.supported()
    value = average_precisions(truth, predictions)[0, chosen].mean()
    drawn = average_precisions(truth, predictions, patient_weights(truth.patients, resamples))[:, chosen]
    return interval(float(value), np.nanmean(drawn, axis=1))


def mean_average_precision_difference(
    truth: Truth, predictions: Sequence[Detections], reference: Sequence[Detections], resamples: int = 1000
) -> Interval:
    """mAP of ``predictions`` minus that of ``reference`` on the same images, paired within each resample."""
    chosen = truth.supported()
    weights = patient_weights(truth.patients, resamples)
    value, drawn = (
        average_precisions(truth, predictions, rows)[:, chosen] - average_precisions(truth, reference, rows)[:, chosen]
        for rows in (None, weights)
    )
    return interval(float(value.mean()), np.nanmean(drawn, axis=1))


def pointing_hits(truth: Truth, predictions: Sequence[Detections]) -> Floats:
    """Whether the centre of a finding's best predicted box lies in a reader's box of it: ``[N, 13]`` of 1 and 0.

    NaN where the finding is not boxed. No prediction is a miss (pointing game, Zhang et al., IJCV 2018).
    """
    hits = np.full((len(truth.boxes), len(KEYS)), np.nan)
    for row, (drawn, found) in enumerate(zip(truth.boxes, predictions, strict=True)):
        for finding in np.unique(drawn.finding):
            hits[row, finding] = 0
            candidates = found.take(found.finding == finding)
            if len(candidates.score):
                x1, y1, x2, y2 = candidates.corners[candidates.score.argmax()]
                centre = np.array([x1 + x2, y1 + y2]) / 2
                boxes = drawn.corners[drawn.finding == finding]
                hits[row, finding] = ((boxes[:, :2] <= centre) & (centre <= boxes[:, 2:])).all(axis=1).any()
    return hits


def pointing_game(truth: Truth, predictions: Sequence[Detections], resamples: int = 1000) -> Interval:
    """Share of the (image, finding) pairs with reader boxes that :func:`pointing_hits` counts as hits."""
    each = pointing_hits(truth, predictions)
    pairs, hits = (~np.isnan(each)).sum(axis=1), np.nansum(each, axis=1)
    weights = patient_weights(truth.patients, resamples)
    with np.errstate(invalid="ignore", divide="ignore"):
        return interval(float(hits.sum() / pairs.sum()), (weights @ hits) / (weights @ pairs))


def found_at(matches: Matches, boxes: npt.NDArray[np.int64], false_positives: float, weights: Floats) -> Floats:
    """Share of reader boxes found where ``false_positives`` wrong boxes per image are allowed, for each row of weights.

    Args:
        matches: predictions of all findings.
        boxes: reader boxes per image, ``[N]``.
        false_positives: as above.
        weights: how often each image counts, ``[R, N]``.
    """
    found = np.zeros(len(weights))
    for start in range(0, len(weights), 100):
        part = weights[start : start + 100]
        weight = part[:, matches.image]
        wrong = np.cumsum(weight * ~matches.hit, axis=1, dtype=np.float64)
        allowed = wrong <= false_positives * part.sum(axis=1, keepdims=True)
        found[start : start + 100] = (weight * matches.hit * allowed).sum(axis=1) / (part @ boxes)
    return found


def sensitivity_at(
    truth: Truth, predictions: Sequence[Detections], false_positives: float, resamples: int = 1000
) -> Interval:
    """:func:`found_at` with its interval: a point of the FROC."""
    matches, boxes = match(truth, predictions), truth.counts.sum(axis=1)
    value = found_at(matches, boxes, false_positives, np.ones((1, len(boxes)), np.float32))[0]
    return interval(float(value), found_at(matches, boxes, false_positives, patient_weights(truth.patients, resamples)))


@dataclass(frozen=True)
class ScoreThresholds:
    """From which score a box is shown.

    Attributes:
        score: float ``[13]``.
        own: bool ``[13]``; False where the finding takes the threshold of all findings pooled.
    """

    score: npt.NDArray[np.float64]
    own: npt.NDArray[np.bool_]


def score_thresholds(
    truth: Truth, predictions: Sequence[Detections], min_support: int = 3 * MIN_SUPPORT, min_precision: float = 0.3
) -> ScoreThresholds:
    """Per finding the score with the best F-half over all images, among those from which up enough boxes are right.

    F-half weighs a wrong box twice as heavily as a missed one: who sees wrong boxes stops believing the right ones.

    A finding boxed in fewer than ``min_support`` images, or right less often than ``min_precision`` at every score,
    takes the threshold of all findings pooled.
    """
    matches, counts = match(truth, predictions), truth.counts
    pooled = best_score(matches, int(counts.sum()), min_precision)
    found = [best_score(matches.of(f), int(counts[:, f].sum()), min_precision) for f in range(len(KEYS))]
    own = truth.supported(min_support) & np.array([score is not None for score in found])
    scores = [score if own[f] else pooled for f, score in enumerate(found)]
    return ScoreThresholds(np.array([1.0 if score is None else score for score in scores]), own)


def best_score(matches: Matches, boxes: int, min_precision: float) -> float | None:
    """The score from which up the predictions have the best F-half against ``boxes`` reader boxes.

    Only scores with at least ``min_precision`` above them count; None where there is none.
    """
    hits, shown = np.cumsum(matches.hit), np.arange(1, len(matches.hit) + 1)
    f_half = np.where((hits > 0) & (hits >= min_precision * shown), 1.25 * hits / (shown + 0.25 * boxes), 0.0)
    return float(matches.score[int(f_half.argmax())]) if f_half.any() else None


def mean_box_baseline(train: Sequence[Detections], images: int) -> list[Detections]:
    """The trivial baseline: every finding's mean training box on each of ``images`` images, scored by its frequency."""
    boxes = [np.concatenate(parts) for parts in zip(*train, strict=True)]
    everything = Detections(*boxes)
    present = np.unique(everything.finding)
    corners = [everything.corners[everything.finding == f].mean(axis=0) for f in present]
    share = [np.mean([bool((d.finding == f).any()) for d in train]) for f in present]
    return [Detections(np.array(corners, np.float32), present, np.array(share, np.float32))] * images
