"""The one way from a radiograph to a diagnosis; ambulance and hospital run this same code.

decode (before) -> gate -> classifier and detector -> calibrated probabilities, states, top 3, boxes, urgent flags.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from shared.activation import region, weighed
from shared.boxes import LEAST, Box, Detections, locate, one_a_place
from shared.calibration import NIH, State
from shared.correction import Correction
from shared.findings import BY_KEY, KEYS, Urgency
from shared.preprocess import FloatImage, Letterbox, model_image, resampling_source
from shared.prevalence import SitePrevalence
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
        probabilities: calibrated probability of each of the 13 findings, 0..1, at the prevalences of ``prevalence``;
            empty if the gate refused. Those that are not assessed are for evaluation, not for a screen.
        states: what may be said of each of the 13; empty if refused.
        top3: the three most likely findings of those assessed, most likely first; empty if refused.
        boxes: where findings are, most certain first; in fractions of the corrected image if there was a correction.
        correction: how the radiograph was turned or inverted, on request, before it was read; None if as it came.
        verdict: what the quality gate said.
        urgent: likely findings that need action in the ambulance or on arrival, most urgent first.
        prevalence: name of the population at whose prevalences the probabilities are stated.
        release, precision, runtime: which models answered.
        timing_ms: wall-clock milliseconds of each stage, and their ``total``.
        sha256: of the radiograph's file.
    """

    model_config = ConfigDict(frozen=True)

    probabilities: dict[str, float]
    states: dict[str, State]
    top3: tuple[Ranked, ...]
    boxes: tuple[Box, ...]
    correction: Correction | None = None
    verdict: Verdict
    urgent: tuple[str, ...]
    prevalence: str
    release: str
    precision: str
    runtime: str
    timing_ms: dict[str, float]
    sha256: str

    @property
    def refused(self) -> bool:
        """Whether the gate stopped the reading."""
        return not self.probabilities

    @property
    def cannot_exclude(self) -> tuple[str, ...]:
        """Findings that may kill within minutes and are neither likely nor unlikely: uncertain, or not assessed."""
        return tuple(
            key
            for key, state in self.states.items()
            if state in (State.UNCERTAIN, State.NOT_ASSESSED) and BY_KEY[key].urgency is Urgency.IMMEDIATE
        )


class Outputs(NamedTuple):
    """What the two networks answered for one radiograph, before anything is decided.

    Attributes:
        maps: activation maps ``[13, h, w]``; a finding's mean is its logit.
        small: where the radiograph lies in the square that the maps cover.
        heads: raw heads of the detector (:func:`shared.boxes.decode`).
        large: where the radiograph lies in the detector's square.
    """

    maps: FloatImage
    small: Letterbox
    heads: dict[str, FloatImage]
    large: Letterbox

    @property
    def logits(self) -> FloatImage:
        """Of each finding, ``[13]``."""
        return self.maps.mean((1, 2))

    def detections(self, least: float = LEAST) -> Detections:
        """The detector's boxes from a score of ``least`` on, then weighed by the classifier's maps, best first."""
        found = locate(self.heads["boxes"], self.heads["scores"], self.large, least)
        return weighed(found, self.maps, self.small)


class Diagnoser:
    """Reads radiographs with one variant of one release. Not safe to call from several threads at once.

    Args:
        release: a verified release.
        precision: None means what suits the machine: int8 on a CPU, fp16 on a GPU.
        runtime: ``"auto"`` measures which installed runtime is faster here and remembers it.
        threads: threads of a model; None means the machine's cores, at most 4.
        min_score: replaces every box threshold of the release and draws findings that are not assessed too (for
            evaluation, not for a screen), 0..1.
        prevalence: states probabilities at a site's own prevalences instead of the release's.

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
        prevalence: SitePrevalence | None = None,
    ) -> None:
        threads = threads or min(4, os.cpu_count() or 1)
        self.release = release
        self.variant = choose_variant(release, precision, runtime, threads)
        self.prevalence = NIH
        if prevalence is not None:
            calibration = self.variant.calibration.at(prevalence.findings)
            self.variant = self.variant.model_copy(update={"calibration": calibration})
            self.prevalence = prevalence.name
        self.min_score = min_score
        self._sides = {name: spec.side for name, spec in release.manifest.inputs.items()}
        self._classifier = open_model(release.path(self.variant.classifier), threads)
        self._detector = open_model(release.path(self.variant.detector), threads)
        self._gate = Gate(open_model(release.path(self.variant.gate), 1), release.manifest.gate)

    def diagnose(self, radiograph: Radiograph, force: bool = False) -> Diagnosis:
        """Read one radiograph; ``force`` reads it even if the gate refuses it."""
        return self.examine(radiograph, force)[0]

    def diagnose_many(self, requests: Sequence[tuple[Radiograph, bool]]) -> list[Diagnosis]:
        """:meth:`diagnose` for several radiographs, each with its ``force``, the networks seeing them as one batch.

        Only ONNX models take batches; others read one after the other. A stage's time is each one's share of it.
        """
        if self.variant.runtime != "onnx":
            return [self.diagnose(radiograph, force) for radiograph, force in requests]
        prepared = [self._prepare(radiograph, force) for radiograph, force in requests]
        read = [one for one in prepared if one.squares is not None]
        if read:
            for one, outputs in zip(read, self._run(read), strict=True):
                one.outputs = outputs
        return [self._decide(one) for one in prepared]

    def examine(self, radiograph: Radiograph, force: bool = False) -> tuple[Diagnosis, Outputs | None]:
        """:meth:`diagnose`, and what the networks answered, for evaluation; None where the gate refused."""
        one = self._prepare(radiograph, force)
        if one.squares is not None:
            (one.outputs,) = self._run([one])
        return self._decide(one), one.outputs

    def _prepare(self, radiograph: Radiograph, force: bool) -> _Under:
        """Judge the radiograph and, unless it is refused, make the squares that the networks see."""
        clock = _Clock()
        with clock("gate"):
            verdict = self._gate(radiograph.pixels)
        one = _Under(radiograph, verdict, clock)
        if verdict.accepted or force:
            with clock("prepare"):
                source = resampling_source(radiograph.pixels)
                one.squares = (
                    model_image(source, self._sides["classifier"]),
                    model_image(source, self._sides["detector"]),
                )
        return one

    def _run(self, batch: Sequence[_Under]) -> list[Outputs]:
        """Both networks on one batch of prepared radiographs."""
        squares = [one.squares for one in batch if one.squares is not None]
        clock = _Clock()
        with clock("classifier"):
            maps = self._classifier(np.stack([small for (small, _), _ in squares])[:, None])["maps"]
        with clock("detector"):
            heads = self._detector(np.stack([large for _, (large, _) in squares])[:, None])
        for one in batch:
            one.clock.add({name: milliseconds / len(batch) for name, milliseconds in clock.stages.items()})
        return [
            Outputs(maps[n], small_box, {name: head[n : n + 1] for name, head in heads.items()}, large_box)
            for n, ((_, small_box), (_, large_box)) in enumerate(squares)
        ]

    def _decide(self, one: _Under) -> Diagnosis:
        """From what the networks answered to the diagnosis."""
        if one.outputs is None:
            return self._result(one.radiograph, one.verdict, {}, (), one.clock)
        maps, verdict = one.outputs.maps, one.verdict
        with one.clock("decide"):
            if self.variant.familiarity is not None:
                verdict = verdict.with_unfamiliarity(self.variant.familiarity.unfamiliarity(maps))
            probabilities = self.variant.calibration.probabilities(one.outputs.logits)
            ranked = {key: float(p) for key, p in zip(KEYS, probabilities, strict=True)}
            boxes = self.places(ranked, one.outputs, self.min_score)
        return self._result(one.radiograph, verdict, ranked, boxes, one.clock)

    def places(self, ranked: dict[str, float], outputs: Outputs, min_score: float | None = None) -> tuple[Box, ...]:
        """Boxes of every finding, each from what the release locates it by; ``min_score`` as in the constructor.

        A likely finding of which the detector draws no box gets its activation region.
        """
        boxes = self._detected(outputs, min_score)
        drawn = {box.finding for box in boxes}
        return boxes + tuple(
            region(key, ranked[key], outputs.maps[number], outputs.small)
            for number, key in enumerate(KEYS)
            if key not in drawn and self._by_map(key, ranked[key], min_score)
        )

    def _by_map(self, key: str, probability: float, min_score: float | None) -> bool:
        if min_score is not None:
            return self.release.manifest.located_by[key] == "activation" and probability >= min_score
        return self.variant.calibration.findings[key].state(probability) is State.LIKELY

    def _detected(self, outputs: Outputs, min_score: float | None) -> tuple[Box, ...]:
        boxes = []
        found = outputs.detections(LEAST if min_score is None else min(LEAST, min_score))
        for corners, number, score in zip(found.corners, found.finding, found.score, strict=True):
            key = KEYS[number]
            x1, y1, x2, y2 = (float(value) for value in corners)
            if score >= self._box_threshold(key, min_score) and x2 > x1 and y2 > y1:
                boxes.append(Box(finding=key, score=float(score), x=x1, y=y1, w=x2 - x1, h=y2 - y1, source="detector"))
        return one_a_place(boxes) if min_score is None else tuple(boxes)

    def _box_threshold(self, key: str, min_score: float | None) -> float:
        """Lowest score at which the detector's boxes of a finding are drawn; infinite where they never are."""
        if self.release.manifest.located_by[key] != "detector":
            return math.inf
        finding = self.variant.calibration.findings[key]
        if min_score is not None:
            return min_score
        return finding.box_threshold if finding.assessed else math.inf

    def _result(
        self, radiograph: Radiograph, verdict: Verdict, ranked: dict[str, float], boxes: tuple[Box, ...], clock: _Clock
    ) -> Diagnosis:
        states = self.variant.calibration.states(ranked) if ranked else {}
        order = sorted(ranked, key=lambda key: -ranked[key])
        assessed = [key for key in order if states[key] is not State.NOT_ASSESSED]
        return Diagnosis(
            probabilities=ranked,
            states=states,
            top3=tuple(Ranked(finding=key, probability=ranked[key]) for key in assessed[:TOP]),
            boxes=tuple(sorted(boxes, key=lambda box: -box.score)),
            correction=radiograph.correction,
            verdict=verdict,
            urgent=tuple(
                key
                for urgency in (Urgency.IMMEDIATE, Urgency.URGENT)
                for key in assessed
                if states[key] is State.LIKELY and BY_KEY[key].urgency is urgency
            ),
            prevalence=self.prevalence,
            release=self.release.id,
            precision=self.variant.precision,
            runtime=self.variant.runtime,
            timing_ms=clock.finished(),
            sha256=radiograph.sha256,
        )


class _Clock:
    """Times the stages of one reading; ``stages``: name -> milliseconds."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self.stages: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.stages[stage] = (time.perf_counter() - started) * 1000

    def add(self, stages: Mapping[str, float]) -> None:
        """Take over stages that were timed elsewhere."""
        self.stages.update(stages)

    def finished(self) -> dict[str, float]:
        total = (time.perf_counter() - self._started) * 1000
        return {name: round(value, 2) for name, value in {**self.stages, "total": total}.items()}


@dataclass(eq=False)
class _Under:
    """A radiograph under examination.

    ``squares`` are what classifier and detector see of it, and where it lies in each; None where it is not read.
    """

    radiograph: Radiograph
    verdict: Verdict
    clock: _Clock
    squares: tuple[tuple[FloatImage, Letterbox], tuple[FloatImage, Letterbox]] | None = None
    outputs: Outputs | None = None
