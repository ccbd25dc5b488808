"""What a release says of every film: the same decoder and the same Diagnoser as ``firstray diagnose``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from shared.activation import region
from shared.boxes import Box, Detections
from shared.calibration import Calibration
from shared.diagnosis import Diagnoser, Diagnosis
from shared.errors import FirstRayError
from shared.findings import KEYS
from shared.radiograph import Radiograph, load_radiograph, warm_up
from shared.release import Release, Variant
from shared.runtime import available
from training.evaluation.films import Films

Floats = npt.NDArray[np.floating]

MIN_SCORE = 0.01
"""Candidate boxes below it count for next to nothing in an average precision."""


class LeftOut(NamedTuple):
    """A film that could not be read, with the decoder's code and message."""

    image: str
    code: str
    message: str


@dataclass(frozen=True)
class Answers:
    """What one variant said of ``N`` films, refused ones too (read in spite of the refusal, and marked).

    Attributes:
        variant: for example ``int8-litert``.
        calibration: of the variant.
        located_by: what the release locates each finding by.
        logits: ``[N, 13]``.
        diagnoses: as the product gives them; ``boxes`` are those it draws.
        candidates: per film each finding's boxes from what locates it: the detector's down to a score of
            :data:`MIN_SCORE`, or the activation region whatever its probability.
        by_detector: per film the detector's boxes of all 13 findings, down to the same score.
        regions: ``[N, 13, 4]``, corners of every finding's activation region, fractions of the film.
    """

    variant: str
    calibration: Calibration
    located_by: dict[str, str]
    logits: Floats
    diagnoses: list[Diagnosis]
    candidates: list[Detections]
    by_detector: list[Detections]
    regions: Floats

    @property
    def accepted(self) -> npt.NDArray[np.bool_]:
        """Films the gate lets through, bool ``[N]``."""
        return np.array([diagnosis.verdict.accepted for diagnosis in self.diagnoses], bool)

    @property
    def probabilities(self) -> Floats:
        """Calibrated, at the prevalences the release states, ``[N, 13]``."""
        return self.calibration.probabilities(self.logits)

    @property
    def by_map(self) -> list[Detections]:
        """Per film one region a finding, scored by its probability."""
        probabilities = self.probabilities.astype(np.float32)
        every = np.arange(len(KEYS))
        return [Detections(self.regions[row], every, probabilities[row]) for row in range(len(self.logits))]

    def where(self, mask: npt.NDArray[np.bool_]) -> Answers:
        """The films of a boolean mask ``[N]``."""
        chosen = np.flatnonzero(mask)
        return Answers(
            self.variant, self.calibration, self.located_by, self.logits[chosen],
            [self.diagnoses[row] for row in chosen], [self.candidates[row] for row in chosen],
            [self.by_detector[row] for row in chosen], self.regions[chosen],
        )  # fmt: skip


def runnable(release: Release) -> list[Variant]:
    """The variants of a release that some runtime installed here can run."""
    return [variant for variant in release.manifest.variants if available(variant.runtime)]


def read_films(
    films: Films, diagnosers: Sequence[Diagnoser], quiet: bool = False
) -> tuple[npt.NDArray[np.bool_], list[Answers], list[LeftOut]]:
    """Read every film with every diagnoser; each film is decoded once.

    Returns:
        Which films could be decoded, bool ``[N]``; each diagnoser's answers on those; and why the others could not.
    """
    readable, left_out = np.zeros(len(films), bool), []
    parts: list[list[_Part]] = [[] for _ in diagnosers]
    for row, decoded in enumerate(tqdm(_decoded(films), "reading", len(films), unit="film", disable=quiet or None)):
        if isinstance(decoded, FirstRayError):
            left_out.append(LeftOut(films.table.rows.at[row, "image"], decoded.code, decoded.message))
            continue
        readable[row] = True
        for diagnoser, mine in zip(diagnosers, parts, strict=True):
            mine.append(_part(diagnoser, decoded))
    if not readable.any():
        raise FirstRayError(
            "data_empty", f"None of {len(films)} films could be read ({left_out[0].image}: {left_out[0].code}).",
            "Check that the folder 'images' holds the files of labels.csv.",
        )  # fmt: skip
    return readable, [_answers(diagnoser, mine) for diagnoser, mine in zip(diagnosers, parts, strict=True)], left_out


class _Part(NamedTuple):
    diagnosis: Diagnosis
    logits: Floats
    candidates: Detections
    by_detector: Detections
    regions: Floats


def _decoded(films: Films) -> Iterator[Radiograph | FirstRayError]:
    """Each film, or why it cannot be read; the next one is decoded meanwhile."""

    def decode(row: int) -> Radiograph | FirstRayError:
        try:
            return load_radiograph(films.path(row))
        except FirstRayError as error:
            return error

    warm_up()
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(decode, 0)
        for row in range(len(films)):
            present = ahead.result()
            if row + 1 < len(films):
                ahead = pool.submit(decode, row + 1)
            yield present


def _part(diagnoser: Diagnoser, radiograph: Radiograph) -> _Part:
    diagnosis, outputs = diagnoser.examine(radiograph, force=True)
    if outputs is None:
        raise AssertionError("a forced reading always has outputs")
    placed = diagnoser.places(diagnosis.probabilities, outputs, MIN_SCORE)
    regions = [region(key, diagnosis.probabilities[key], outputs.maps[n], outputs.small) for n, key in enumerate(KEYS)]
    by_map = [box for box in regions if diagnoser.release.manifest.located_by[box.finding] == "activation"]
    candidates = [box for box in placed if box.source == "detector"] + by_map
    every = outputs.detections(MIN_SCORE)
    return _Part(diagnosis, outputs.logits, as_detections(candidates), every, as_detections(regions).corners)


def as_detections(boxes: Sequence[Box]) -> Detections:
    """Boxes as arrays, corners in fractions of the film."""
    corners = [[box.x, box.y, box.x + box.w, box.y + box.h] for box in boxes]
    return Detections(
        np.array(corners, np.float32).reshape(-1, 4),
        np.array([KEYS.index(box.finding) for box in boxes], np.int64),
        np.array([box.score for box in boxes], np.float32),
    )


def _answers(diagnoser: Diagnoser, parts: list[_Part]) -> Answers:
    diagnoses, logits, candidates, by_detector, regions = (list(column) for column in zip(*parts, strict=True))
    return Answers(
        diagnoser.variant.id, diagnoser.variant.calibration, dict(diagnoser.release.manifest.located_by),
        np.stack(logits), diagnoses, candidates, by_detector, np.stack(regions),
    )  # fmt: skip
