"""The one way from a radiograph to a diagnosis; ambulance and hospital run this same code.

decode (before) -> gate -> classifier and detector -> calibrated probabilities, top 3, boxes, urgent flags.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import BaseModel, ConfigDict

from shared.activation import region
from shared.boxes import Box, locate, one_of_rivals
from shared.findings import BY_KEY, KEYS, Urgency
from shared.preprocess import FloatImage, Letterbox, model_image, resampling_source
from shared.quality import Gate, Verdict
from shared.radiograph import Radiograph
from shared.release import Precision, Release
from shared.runtime import open_model
from shared.variants import RuntimeChoice, choose_variant

TOP = 3


class Ranked(BaseModel):
    """A finding with its calibrated probability, 0..1."""

    model_config = ConfigDict(frozen=True)

    finding: str
    probability: float


class Diagnosis(BaseModel):
    """What one radiograph shows, or why it was not read.

    Attributes:
        probabilities: calibrated probability of each of the 13 findings, 0..1; empty if the gate refused.
        top3: the three most likely findings, most likely first; empty if refused.
        boxes: where findings are, most certain first.
        verdict: what the quality gate said.
        urgent: findings at or above their threshold that need action in the ambulance or on arrival, most urgent first.
        release, precision, runtime: which models answered.
        timing_ms: wall-clock milliseconds of each stage, and their ``total``.
        sha256: of the radiograph's file.
    """

    model_config = ConfigDict(frozen=True)

    probabilities: dict[str, float]
    top3: tuple[Ranked, ...]
    boxes: tuple[Box, ...]
    verdict: Verdict
    urgent: tuple[str, ...]
    release: str
    precision: str
    runtime: str
    timing_ms: dict[str, float]
    sha256: str

    @property
    def refused(self) -> bool:
        """Whether the gate stopped the reading."""
        return not self.probabilities


class Diagnoser:
    """Reads radiographs with one variant of one release. Not safe to call from several threads at once.

    Args:
        release: a verified release.
        precision: None means what suits the machine: int8 on a CPU, fp16 on a GPU.
        runtime: ``"auto"`` measures which installed runtime is faster here and remembers it.
        threads: threads of a model; None means the machine's cores, at most 4.
        min_score: replaces every box threshold of the release (for evaluation), 0..1.

    Raises:
        RuntimeUnavailable: no installed runtime can run the variant.
    """

    def __init__(
        self,
        release: Release,
        precision: Precision | None = None,
        runtime: RuntimeChoice = "auto",
        threads: int | None = None,
        min_score: float | None = None,
    ) -> None:
        threads = threads or min(4, os.cpu_count() or 1)
        self.release = release
        self.variant = choose_variant(release, precision, runtime, threads)
        self.min_score = min_score
        self._sides = {name: spec.side for name, spec in release.manifest.inputs.items()}
        self._classifier = open_model(release.path(self.variant.classifier), threads)
        self._detector = open_model(release.path(self.variant.detector), threads)
        self._gate = Gate(open_model(release.path(self.variant.gate), 1), release.manifest.gate)

    def diagnose(self, radiograph: Radiograph, force: bool = False) -> Diagnosis:
        """Read one radiograph; ``force`` reads it even if the gate refuses it."""
        clock = _Clock()
        with clock("gate"):
            verdict = self._gate(radiograph.pixels)
        if not (verdict.accepted or force):
            return self._result(radiograph, verdict, {}, (), clock)
        with clock("prepare"):
            source = resampling_source(radiograph.pixels)
            small, small_box = model_image(source, self._sides["classifier"])
            large, large_box = model_image(source, self._sides["detector"])
        with clock("classifier"):
            maps = self._classifier(small[None, None])["maps"][0]
        with clock("detector"):
            heads = self._detector(large[None, None])
        with clock("decide"):
            probabilities = self.variant.calibration.probabilities(maps.mean((1, 2)))
            ranked = {key: float(p) for key, p in zip(KEYS, probabilities, strict=True)}
            boxes = self._detected(heads, large_box) + self._activated(ranked, maps, small_box)
        return self._result(radiograph, verdict, ranked, boxes, clock)

    def _threshold(self, key: str) -> float:
        """Lowest score at which a box of the finding is drawn."""
        return self.variant.calibration.findings[key].box_threshold if self.min_score is None else self.min_score

    def _detected(self, heads: dict[str, FloatImage], letterbox: Letterbox) -> tuple[Box, ...]:
        by_detector = [key for key in KEYS if self.release.manifest.located_by[key] == "detector"]
        lowest = min((self._threshold(key) for key in by_detector), default=1.0)
        found = locate(heads["boxes"], heads["scores"], letterbox, lowest)
        boxes = []
        for corners, number, score in zip(found.corners, found.finding, found.score, strict=True):
            key = KEYS[number]
            x1, y1, x2, y2 = (float(value) for value in corners)
            if key in by_detector and score >= self._threshold(key) and x2 > x1 and y2 > y1:
                boxes.append(Box(finding=key, score=float(score), x=x1, y=y1, w=x2 - x1, h=y2 - y1, source="detector"))
        return one_of_rivals(boxes) if self.min_score is None else tuple(boxes)

    def _activated(self, ranked: dict[str, float], maps: FloatImage, box: Letterbox) -> tuple[Box, ...]:
        by_map = [key for key in KEYS if self.release.manifest.located_by[key] == "activation"]
        return tuple(
            region(key, ranked[key], maps[KEYS.index(key)], box)
            for key in by_map
            if ranked[key] >= self._threshold(key)
        )

    def _result(
        self, radiograph: Radiograph, verdict: Verdict, ranked: dict[str, float], boxes: tuple[Box, ...], clock: _Clock
    ) -> Diagnosis:
        order = sorted(ranked, key=lambda key: -ranked[key])
        flagged = [key for key in order if ranked[key] >= self.variant.calibration.findings[key].threshold]
        return Diagnosis(
            probabilities=ranked,
            top3=tuple(Ranked(finding=key, probability=ranked[key]) for key in order[:TOP]),
            boxes=tuple(sorted(boxes, key=lambda box: -box.score)),
            verdict=verdict,
            urgent=tuple(
                key
                for urgency in (Urgency.IMMEDIATE, Urgency.URGENT)
                for key in flagged
                if BY_KEY[key].urgency is urgency
            ),
            release=self.release.id,
            precision=self.variant.precision,
            runtime=self.variant.runtime,
            timing_ms=clock.finished(),
            sha256=radiograph.sha256,
        )


class _Clock:
    """Times the stages of one reading."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._stages: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._stages[stage] = (time.perf_counter() - started) * 1000

    def finished(self) -> dict[str, float]:
        total = (time.perf_counter() - self._started) * 1000
        return {name: round(value, 2) for name, value in {**self._stages, "total": total}.items()}
