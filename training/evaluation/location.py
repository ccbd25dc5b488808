"""Figures of the boxes: lesion-only average precision, FROC, the pointing game, and what is drawn.

Lesion-only: over the films that carry at least one reader box. A prediction of a finding nobody looked for in a film is
left out (:mod:`training.detection_metrics`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.boxes import Detections, overlap
from shared.findings import KEYS
from training.decision_metrics import Metric, mean_known
from training.detection_metrics import (
    MIN_OVERLAP,
    MIN_SUPPORT,
    Truth,
    found_at,
    match,
    pointing_hits,
    weighted_average_precision,
)
from training.evaluation.baselines import fixed_boxes
from training.evaluation.figures import Figure, resampled, share_of
from training.evaluation.films import Films, truth_where
from training.evaluation.reading import Answers, as_detections
from training.metrics import Floats

FALSE_PER_FILM = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
"""Operating points of the FROC: wrong boxes a film."""


@dataclass(frozen=True)
class Places:
    """Boxes of the same ``N`` films from several hands.

    Attributes:
        truth: the readers'.
        healthy: films labelled with none of the 13 findings, bool ``[N]``.
        product: candidates of the product; ``shown`` those it draws, and of these by source.
        detector, activation: what each network alone offers for every finding.
        fixed: the trivial baseline.
    """

    truth: Truth
    healthy: npt.NDArray[np.bool_]
    product: Sequence[Detections]
    detector: Sequence[Detections]
    activation: Sequence[Detections]
    fixed: Sequence[Detections]
    shown: Sequence[Detections]
    shown_detector: Sequence[Detections]
    shown_activation: Sequence[Detections]

    def where(self, mask: npt.NDArray[np.bool_]) -> Places:
        """The films of a boolean mask ``[N]``."""
        chosen = np.flatnonzero(mask)
        drawn = (self.shown, self.shown_detector, self.shown_activation)
        columns = (self.product, self.detector, self.activation, self.fixed, *drawn)
        truth = truth_where(self.truth, mask)
        return Places(truth, self.healthy[mask], *([column[int(row)] for row in chosen] for column in columns))


def places_of(films: Films, answers: Answers) -> Places:
    """The places of all accepted films."""
    boxes = [diagnosis.boxes for diagnosis in answers.diagnoses]
    shown, by_detector, by_map = (
        [as_detections([box for box in drawn if box.source in sources]) for drawn in boxes]
        for sources in (("detector", "activation"), ("detector",), ("activation",))
    )
    healthy = (films.table.labels == 0).all(axis=1)
    fixed = fixed_boxes(films.truth, films.trained_boxes)
    return Places(
        films.truth, healthy, answers.candidates, answers.by_detector, answers.by_map, fixed, shown, by_detector, by_map
    )


def location(places: Places, source: str, located_by: dict[str, str]) -> dict[str, Any]:
    """All figures of the boxes of one source, or of all films; empty where there is no reader box."""
    boxed = places.truth.counts.sum(1) > 0
    if not boxed.any():
        return {}
    lesions = places.where(boxed)
    supported = np.flatnonzero(lesions.truth.supported())
    whom = f"{source}: {int(boxed.sum())} films with reader boxes of {len(set(lesions.truth.patients))} patients"
    patients = lesions.truth.patients
    figures: dict[str, Any] = {
        "population": whom,
        "films": int(boxed.sum()),
        "findings_in_mean": [KEYS[f] for f in supported],
        "findings": {
            KEYS[f]: finding_figures(lesions, int(f), source, located_by[KEYS[f]])
            for f in np.flatnonzero(lesions.truth.counts.sum(0) > 0)
        },
        "pointing": pointing_figures(lesions, source),
        "froc": froc(places, source),
        "shown": shown_figures(places, source),
    }
    if len(supported):
        mean = f"{whom}; mean of {len(supported)} findings boxed in at least {MIN_SUPPORT} films"
        figures["map"] = resampled(mean_ap(lesions.truth, lesions.product, supported), patients, mean)
        figures["map_fixed_box"] = resampled(mean_ap(lesions.truth, lesions.fixed, supported), patients, mean)
    return figures


def mean_ap(truth: Truth, predictions: Sequence[Detections], findings: npt.NDArray[np.int64]) -> Metric:
    """Mean average precision over findings as a function of weights ``[R, N]``."""
    matches, counts = match(truth, predictions), truth.counts.astype(np.float32)
    each = [(matches.of(int(f)), counts[:, f]) for f in findings]

    def mean(weights: Floats) -> Floats:
        found = [weighted_average_precision(mine, boxes, weights) for mine, boxes in each]
        return mean_known(np.stack(found, axis=1))

    return mean


def finding_figures(places: Places, finding: int, source: str, located_by: str) -> dict[str, Any]:
    """One finding on the films with reader boxes: what the product, each network and a fixed box make of it."""
    counts = places.truth.counts[:, finding]
    films = counts > 0
    found: dict[str, Any] = {
        "boxes": int(counts.sum()),
        "films": int(films.sum()),
        "located_by": located_by,
    }
    if films.sum() < MIN_SUPPORT:
        return found | {"too_few": f"boxed in fewer than {MIN_SUPPORT} films"}
    whom, mine = f"{source}: {int(films.sum())} films with a reader box of {KEYS[finding]}", places.where(films)
    for name, boxes in (("", places.product), ("_detector", places.detector), ("_fixed_box", places.fixed)):
        metric = mean_ap(places.truth, boxes, np.array([finding]))
        found[f"average_precision{name}"] = resampled(metric, places.truth.patients, whom, int(films.sum()))
    hands = {"": mine.product, "_detector": mine.detector, "_activation": mine.activation, "_fixed_box": mine.fixed}
    for name, boxes in hands.items():
        hits = pointing_hits(mine.truth, boxes)[:, finding]
        found[f"pointing{name}"] = share_of(hits, np.ones(len(hits)), mine.truth.patients, whom)
    best = best_overlap(mine.truth, mine.activation, finding)
    found["activation_iou"] = resampled(partial(_mean, best), mine.truth.patients, whom)
    return found


def _mean(values: Floats, weights: Floats) -> Floats:
    return (weights @ values) / weights.sum(1)


def best_overlap(truth: Truth, predictions: Sequence[Detections], finding: int) -> Floats:
    """Per film the largest overlap of the best predicted box with a reader's box, 0..1, ``[N]``."""
    best = np.zeros(len(predictions))
    for row, (drawn, found) in enumerate(zip(truth.boxes, predictions, strict=True)):
        mine, boxes = found.take(found.finding == finding), drawn.corners[drawn.finding == finding]
        if len(mine.score) and len(boxes):
            best[row] = overlap(mine.corners[mine.score.argmax()][None], boxes).max()
    return best


def pointing_figures(places: Places, source: str) -> dict[str, Figure]:
    """The pointing game over all pairs of film and boxed finding: the product, a fixed box, and each network alone."""
    pairs = np.argwhere(places.truth.counts > 0)
    patients = places.truth.patients[pairs[:, 0]]
    whom = f"{source}: {len(pairs)} pairs of film and finding with a reader box"

    def of(predictions: Sequence[Detections]) -> Figure:
        hits = pointing_hits(places.truth, predictions)[pairs[:, 0], pairs[:, 1]]
        return share_of(hits, np.ones(len(hits)), patients, whom)

    return {
        "product": of(places.product),
        "fixed_box": of(places.fixed),
        "detector_alone": of(places.detector),
        "activation_alone": of(places.activation),
    }


def froc(places: Places, source: str) -> list[dict[str, Any]]:
    """Share of reader boxes found where so many wrong boxes a film are allowed, on all films, healthy ones too."""
    number = int(places.truth.counts.sum())
    whom = f"{source}: {number} reader boxes on {len(places.product)} films"
    product, fixed = match(places.truth, places.product), match(places.truth, places.fixed)
    boxes, patients = places.truth.counts.sum(1), places.truth.patients
    return [
        {
            "false_per_film": allowed,
            "found": resampled(partial(found_at, product, boxes, allowed), patients, whom, number),
            "found_by_fixed_box": resampled(partial(found_at, fixed, boxes, allowed), patients, whom, number),
        }
        for allowed in FALSE_PER_FILM
    ]


def shown_figures(places: Places, source: str) -> dict[str, Any]:
    """What is drawn at the release's thresholds: how many boxes hit, how many readers' boxes are found."""
    boxes, patients = places.truth.counts.sum(1), places.truth.patients
    whom = f"{source}: boxes overlapping a reader's by at least {MIN_OVERLAP}"
    figures: dict[str, Any] = {}
    drawn = {"all": places.shown, "detector": places.shown_detector, "activation": places.shown_activation}
    for name, mine in drawn.items():
        hits = match(places.truth, mine)
        ones, owner = np.ones(len(hits.hit)), patients[hits.image]
        population = f"{whom}, of those drawn ({name})"
        figures[f"precision_{name}"] = share_of(hits.hit.astype(np.float64), ones, owner, population)
    matches = match(places.truth, places.shown)
    found = np.bincount(matches.image[matches.hit], minlength=len(boxes))
    figures["recall"] = resampled(partial(_ratio, found, boxes), patients, f"{whom}, of the readers'", int(boxes.sum()))
    if places.healthy.any():
        count = np.array([len(found.score) for found in places.shown], np.float64)[places.healthy]
        whom = f"{source}: {len(count)} films without any of the 13 findings"
        figures["boxes_a_healthy_film"] = resampled(partial(_mean, count), patients[places.healthy], whom)
    return figures


def _ratio(above: npt.NDArray[Any], below: npt.NDArray[Any], weights: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return (weights @ above) / (weights @ below)
