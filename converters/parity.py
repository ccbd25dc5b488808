"""Does a converted file still say what the trained network says? Figures, a table, and a refusal.

Every figure is taken on radiographs of validation patients, against the network in full-precision torch. Differences
come with patient-clustered bootstrap intervals, paired within each resample (:mod:`training.metrics`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.boxes import Detections
from shared.errors import FirstRayError
from training.detection_metrics import Truth, mean_average_precision, mean_average_precision_difference
from training.metrics import Interval, mean_auc, mean_auc_difference

Floats = npt.NDArray[np.floating]

MAX_AUC_LOSS = 0.01
MAX_MAP_LOSS = 0.02
MIN_TOP1_AGREEMENT = 0.95


@dataclass(frozen=True)
class Answers:
    """What one variant (or the reference) answers on the validation radiographs.

    Attributes:
        name: for example ``int8-litert``.
        bytes: size of its files together.
        probabilities: ``[N, 13]``, calibrated, 0..1. Agreement needs every radiograph's.
        detections: boxes of each of the ``M`` boxed radiographs, or None for a release without a detector.
    """

    name: str
    bytes: int
    probabilities: Floats
    detections: Sequence[Detections] | None = None


@dataclass(frozen=True)
class Labelled:
    """What is known about the validation radiographs.

    Attributes:
        labels: ``[N, 13]``, 1, 0 or NaN for unknown.
        patients: ``[N]``.
        truth: readers' boxes on the boxed radiographs, or None.
    """

    labels: Floats
    patients: npt.NDArray[Any]
    truth: Truth | None = None


@dataclass(frozen=True)
class Parity:
    """One variant beside the reference.

    Attributes:
        variant: its name.
        bytes: size of its files together.
        max_difference, mean_difference: of probabilities, over radiographs and findings.
        top1_agreement: share of radiographs with the same likeliest finding.
        top3_overlap: mean share of the reference's three likeliest findings that are among the variant's.
        auc, auc_difference: mean AUC, and minus the reference's; None without labels.
        map, map_difference: lesion-only mAP at an overlap of 0.4, and minus the reference's; None without a detector.
    """

    variant: str
    bytes: int
    max_difference: float
    mean_difference: float
    top1_agreement: float
    top3_overlap: float
    auc: Interval | None = None
    auc_difference: Interval | None = None
    map: Interval | None = None
    map_difference: Interval | None = None

    @property
    def losses(self) -> list[str]:
        """In words, each limit this variant breaks. A figure that is not a number breaks it."""
        broken = []
        if not self.top1_agreement >= MIN_TOP1_AGREEMENT:
            broken.append(f"top-1 agreement is {self.top1_agreement:.1%}, under {MIN_TOP1_AGREEMENT:.0%}")
        if self.auc_difference and not self.auc_difference.value >= -MAX_AUC_LOSS:
            broken.append(f"mean AUC changes by {self.auc_difference}, more than {MAX_AUC_LOSS}")
        if self.map_difference and not self.map_difference.value >= -MAX_MAP_LOSS:
            broken.append(f"mAP changes by {self.map_difference}, more than {MAX_MAP_LOSS}")
        return broken


def compare(variant: Answers, reference: Answers, known: Labelled | None, resamples: int = 1000) -> Parity:
    """Measure ``variant`` against ``reference`` on the same radiographs; without ``known``, agreement only."""
    difference = np.abs(variant.probabilities - reference.probabilities)
    auc = auc_difference = average_precision = average_precision_difference = None
    if known is not None:
        auc = mean_auc(known.labels, variant.probabilities, known.patients, resamples)
        auc_difference = mean_auc_difference(
            known.labels, variant.probabilities, reference.probabilities, known.patients, resamples
        )
        if known.truth and variant.detections is not None and reference.detections is not None:
            average_precision = mean_average_precision(known.truth, variant.detections, resamples)
            average_precision_difference = mean_average_precision_difference(
                known.truth, variant.detections, reference.detections, resamples
            )
    return Parity(
        variant=variant.name,
        bytes=variant.bytes,
        max_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        top1_agreement=float(np.mean(ranked(variant.probabilities, 1) == ranked(reference.probabilities, 1))),
        top3_overlap=top_overlap(variant.probabilities, reference.probabilities, 3),
        auc=auc,
        auc_difference=auc_difference,
        map=average_precision,
        map_difference=average_precision_difference,
    )


def ranked(probabilities: Floats, number: int) -> npt.NDArray[np.int64]:
    """The ``number`` likeliest findings of each radiograph, likeliest first: ``[N, number]``."""
    return np.argsort(-probabilities, axis=1, kind="stable")[:, :number]


def top_overlap(probabilities: Floats, reference: Floats, number: int) -> float:
    """Mean share of the ``number`` likeliest findings that two sets of probabilities have in common, in any order."""
    pairs = zip(ranked(probabilities, number), ranked(reference, number), strict=True)
    return float(np.mean([len(set(a) & set(b)) / number for a, b in pairs]))


def require_parity(rows: Sequence[Parity]) -> None:
    """Pass only if every variant keeps what the trained networks can do.

    Raises:
        FirstRayError: ``parity_failed``, naming each variant and each limit it breaks.
    """
    failures = [f"{row.variant}: {loss}" for row in rows for loss in row.losses]
    if failures:
        raise FirstRayError(
            "parity_failed",
            f"Converting lost too much. {'; '.join(failures)}.",
            "Leave more modules in float (float_modules), or calibrate on more radiographs that resemble the "
            "validation set, and convert again.",
        )


def parity_json(rows: Sequence[Parity]) -> list[dict[str, Any]]:
    """The rows as plain values for JSON; an interval becomes ``{"value", "low", "high"}``."""
    return [asdict(row) for row in rows]


def parity_markdown(rows: Sequence[Parity]) -> str:
    """The rows as a Markdown table. Intervals are 95 %, clustered by patient."""
    lines = [
        "| variant | size, MiB | probability difference, max / mean | top 1 | top 3 | mean AUC | AUC difference "
        "| mAP@0.4 | mAP difference |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [
            row.variant,
            f"{row.bytes / 2**20:.1f}",
            f"{row.max_difference:.3f} / {row.mean_difference:.4f}",
            f"{row.top1_agreement:.1%}",
            f"{row.top3_overlap:.1%}",
            *(_shown(figure) for figure in (row.auc, row.auc_difference, row.map, row.map_difference)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _shown(figure: Interval | None) -> str:
    return "" if figure is None else str(figure)
