"""The quality gate: is this image a frontal chest radiograph, upright, the right way round, and clear enough to read?

Two judges. Plain measurements of the pixels find images with nothing in them and images whose grey levels are lost at
the black or the white end. A small network, shown the radiograph as every model sees it
(:func:`shared.preprocess.model_image`), tells chest radiographs from everything else and finds the transformed ones.

Exposure is named as radiographers name it: an over-exposed radiograph is too dark, an under-exposed one too white.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from shared.correction import Correction
from shared.preprocess import FloatImage, GreyImage, model_image

OUTPUT: Final = "gate"
"""Name of the network's only output, float32 ``[1, 7]``."""

OUTPUTS: Final[tuple[str, ...]] = ("chest", "turn_0", "turn_90", "turn_180", "turn_270", "inverted", "cut_off")
"""Order of its logits. The four turns share one softmax; the others are sigmoids. ``turn_90`` is a radiograph turned
90 degrees clockwise, which ``numpy.rot90(pixels, 1)`` sets upright."""

Network = Callable[[npt.NDArray[np.float32]], dict[str, npt.NDArray[np.float32]]]
"""Image ``[1, 1, S, S]`` in 0..1 -> outputs by name; every :class:`shared.runtime.Runtime` is one."""


class Severity(StrEnum):
    """What a problem does to the reading."""

    REFUSE = "refuse"
    """The radiograph is not read."""
    WARN = "warn"
    """It is read, and the problem is shown beside the result."""


class Problem(BaseModel):
    """One thing wrong with an image, in words a paramedic can act on.

    Attributes:
        code: stable code, one of :data:`MESSAGES`.
        severity: refuse or warn.
        message: what is wrong, in English; :func:`explain` gives other languages.
        action: what to do next, in English.
        overridable: whether the operator may have the image read all the same.
        correction: what would mend it, offered and never done unasked; None where nothing here can.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: str
    severity: Severity
    message: str
    action: str
    overridable: bool
    correction: Correction | None = None


class Verdict(BaseModel):
    """All problems of one image, gravest first, and the measured scores behind them.

    ``scores`` holds the probabilities ``chest``, ``inverted``, ``cut_off``, ``turn_90``, ``turn_180``, ``turn_270``
    (absent where the image was unreadable), the measurements of :class:`Exposure` and, once the classifier has seen the
    image, ``unfamiliarity`` (:meth:`shared.familiarity.Familiarity.unfamiliarity`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    problems: tuple[Problem, ...]
    scores: dict[str, float]

    @property
    def accepted(self) -> bool:
        """No problem refuses the image; warnings may remain."""
        return self.reason is None

    @property
    def reason(self) -> Problem | None:
        """The first problem that refuses the image."""
        return next((problem for problem in self.problems if problem.severity is Severity.REFUSE), None)

    @property
    def correction(self) -> Correction | None:
        """What would mend every problem that can be mended; None where there is none.

        :meth:`shared.radiograph.Radiograph.corrected` does it. The corrected radiograph is judged anew.
        """
        whole = Correction()
        for problem in self.problems:
            whole = whole.then(problem.correction or Correction())
        return whole or None

    def with_unfamiliarity(self, unfamiliarity: float) -> Verdict:
        """This verdict after the classifier saw the image; from 1 a warning joins it. It never refuses."""
        warned = (_problem("unfamiliar", Severity.WARN),) if unfamiliarity >= 1 else ()
        return Verdict(problems=self.problems + warned, scores=self.scores | {"unfamiliarity": unfamiliarity})


class GateSpec(BaseModel):
    """What the gate of a release expects and decides by; part of the release manifest.

    Probability thresholds (0..1) are chosen on validation radiographs when the gate is trained (:mod:`training.gate`).
    The measured limits are fractions of the grey scale or of the central pixels, and hold for every release.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    side: int = Field(ge=32, le=512, description="side of the network's square input in pixels")
    chest: float = Field(ge=0, le=1, description="below this probability: not_a_chest_radiograph")
    turned: float = Field(ge=0, le=1, description="from this probability of one turn: rotated_*")
    inverted: float = Field(ge=0, le=1, description="from this probability: inverted")
    cut_off_warn: float = Field(ge=0, le=1, description="from this probability: cut_off, a warning")
    cut_off_refuse: float = Field(ge=0, le=1, description="from this probability: cut_off, refused")
    least_side: int = Field(default=64, ge=1, description="shorter side in pixels below which: unreadable_image")
    least_levels: float = Field(default=12, ge=0, description="grey levels below which: unreadable_image")
    least_entropy: float = Field(
        default=1.0, ge=0, description="bits of a 64-bin histogram below which: unreadable_image"
    )
    few_levels: float = Field(default=32, ge=0, description="grey levels below which an exposure problem is shown")
    lost_warn: float = Field(default=0.15, ge=0, le=1, description="share of central pixels at one end: a warning")
    lost_refuse: float = Field(default=0.5, ge=0, le=1, description="share of central pixels at one end: refused")
    dark_median: float = Field(default=0.2, ge=0, le=1, description="central median below which: over_exposed")
    white_median: float = Field(default=0.95, ge=0, le=1, description="central median above which: under_exposed")
    blank_margin: float = Field(
        default=0.4, ge=0, le=1, description="share of a side's length blank at one end only: cut_off, a warning"
    )


MESSAGES: Final[dict[str, tuple[str, str]]] = {
    "unreadable_image": (
        "The image is blank, too small or holds too little detail to read.",
        "Send or take the radiograph again.",
    ),
    "not_a_chest_radiograph": (
        "This does not look like a frontal chest radiograph, so it is not read.",
        "Check that the right file was chosen. Only frontal (PA or AP) chest radiographs are read.",
    ),
    "inverted": ("Black and white are swapped in this radiograph.", "Invert the grey levels and read it again."),
    "rotated_90": (
        "The radiograph is turned 90 degrees clockwise.",
        "Turn it 90 degrees anticlockwise and read it again.",
    ),
    "rotated_180": ("The radiograph is upside down.", "Turn it by 180 degrees and read it again."),
    "rotated_270": (
        "The radiograph is turned 90 degrees anticlockwise.",
        "Turn it 90 degrees clockwise and read it again.",
    ),
    "over_exposed": (
        "The radiograph is too dark: detail is lost in black.",
        "Check the exposure or the display window; repeat the radiograph if the lungs can't be seen.",
    ),
    "under_exposed": (
        "The radiograph is too white: detail is lost in white.",
        "Check the exposure or the display window; repeat the radiograph if the lungs can't be seen.",
    ),
    "cut_off": (
        "Part of the lungs seems to lie outside the image.",
        "Findings there can't be seen. Use the whole radiograph, or repeat it with both lungs in the field.",
    ),
    "unfamiliar": (
        "This radiograph looks unlike those FirstRay was trained on.",
        "Don't rely on the result. Check for noise, coarse pixels or lost greys, and use the original file.",
    ),
}
"""Every code with its English message and action, gravest first."""

MESSAGES_KO: Final[dict[str, tuple[str, str]]] = {
    "unreadable_image": (
        "영상이 비어 있거나 너무 작거나 알아볼 수 있는 내용이 부족합니다.",
        "방사선 영상을 다시 보내거나 다시 촬영하세요.",
    ),
    "not_a_chest_radiograph": (
        "정면 흉부 방사선 영상으로 보이지 않아 판독하지 않습니다.",
        "올바른 파일을 선택했는지 확인하세요. 정면(PA 또는 AP) 흉부 방사선 영상만 판독합니다.",
    ),
    "inverted": ("영상의 흑백이 반전되어 있습니다.", "흑백을 되돌린 뒤 다시 판독하세요."),
    "rotated_90": ("영상이 시계 방향으로 90도 돌아가 있습니다.", "시계 반대 방향으로 90도 돌린 뒤 다시 판독하세요."),
    "rotated_180": ("영상의 위아래가 뒤집혀 있습니다.", "180도 돌린 뒤 다시 판독하세요."),
    "rotated_270": ("영상이 시계 반대 방향으로 90도 돌아가 있습니다.", "시계 방향으로 90도 돌린 뒤 다시 판독하세요."),
    "over_exposed": (
        "영상이 너무 어두워 검은 부분의 세부가 보이지 않습니다.",
        "노출과 표시 범위를 확인하고, 폐가 보이지 않으면 다시 촬영하세요.",
    ),
    "under_exposed": (
        "영상이 너무 하얘서 흰 부분의 세부가 보이지 않습니다.",
        "노출과 표시 범위를 확인하고, 폐가 보이지 않으면 다시 촬영하세요.",
    ),
    "cut_off": (
        "폐의 일부가 영상 밖으로 잘린 것 같습니다.",
        "잘린 부분의 소견은 볼 수 없습니다. 전체 영상을 사용하거나 양쪽 폐가 모두 나오게 다시 촬영하세요.",
    ),
    "unfamiliar": (
        "FirstRay가 학습한 영상과 다르게 보이는 영상입니다.",
        "결과를 믿고 판단하지 마세요. 잡음, 거친 화소, 손실된 명암이 없는지 확인하고 원본 파일을 사용하세요.",
    ),
}

NOT_OVERRIDABLE: Final = frozenset({"not_a_chest_radiograph"})

CORRECTIONS: Final[dict[str, Correction]] = {
    "inverted": Correction(invert=True),
    "rotated_90": Correction(quarter_turns=1),
    "rotated_180": Correction(quarter_turns=2),
    "rotated_270": Correction(quarter_turns=3),
}
"""Codes of problems that can be mended without loss, and how."""


def explain(code: str, language: str = "en") -> tuple[str, str]:
    """Message and action of a code in ``language``, ``"en"`` or ``"ko"``.

    Raises:
        KeyError: unknown code or language.
    """
    return {"en": MESSAGES, "ko": MESSAGES_KO}[language][code]


def _problem(code: str, severity: Severity = Severity.REFUSE) -> Problem:
    message, action = MESSAGES[code]
    return Problem(
        code=code,
        severity=severity,
        message=message,
        action=action,
        overridable=code not in NOT_OVERRIDABLE,
        correction=CORRECTIONS.get(code),
    )


@dataclass(frozen=True, slots=True)
class Exposure:
    """What the grey levels of an image say, measured on a sparse grid of its pixels, a plain frame left out.

    Attributes:
        black_share: share of central pixels within 2 % of black, 0..1. Central is the middle 70 % of each side, away
            from collimation borders.
        white_share: the same at the white end.
        median: median central grey, 0 black .. 1 white.
        grey_levels: grey levels between the 0.5 and 99.5 percentiles of the whole image, in units of its own type.
        entropy_bits: entropy of the 64-bin histogram between those percentiles, 0..6 bits.
        blank_margin: by how much the blank margin at one edge is wider than at the opposite one, as a share of the
            image's height or width, whichever is more. Large where half of an image was never received.
    """

    black_share: float
    white_share: float
    median: float
    grey_levels: float
    entropy_bits: float
    blank_margin: float


def measure_exposure(pixels: GreyImage) -> Exposure:
    """Measure ``pixels`` ``[H, W]`` (uint8 or uint16, high is bright) on a grid of at most about 192 x 192 of them."""
    step = max(1, math.ceil(max(pixels.shape) / 192))
    full = float(np.iinfo(pixels.dtype).max)
    grid, blank_margin = _without_frame(pixels[::step, ::step].astype(np.float32), 0.04 * full)
    height, width = grid.shape
    central = grid[height * 3 // 20 : height - height * 3 // 20, width * 3 // 20 : width - width * 3 // 20]
    low, high = (float(level) for level in np.percentile(grid, (0.5, 99.5)))
    counts = np.histogram(np.clip(grid, low, high), bins=64, range=(low, max(high, low + 1)))[0]
    share = counts[counts > 0] / counts.sum()
    return Exposure(
        black_share=float((central <= 0.02 * full).mean()),
        white_share=float((central >= 0.98 * full).mean()),
        median=float(np.median(central)) / full,
        grey_levels=high - low,
        entropy_bits=float(-(share * np.log2(share)).sum()),
        blank_margin=blank_margin,
    )


def _without_frame(grid: FloatImage, contrast: float) -> tuple[FloatImage, float]:
    """The part of ``grid`` inside the first and last rows and columns whose grey varies by more than ``contrast``.

    Second, how far it lies off the middle (:attr:`Exposure.blank_margin`).
    """
    rows = np.flatnonzero(np.ptp(grid, axis=1) > contrast)
    columns = np.flatnonzero(np.ptp(grid, axis=0) > contrast)
    if not len(rows) or not len(columns):
        return grid, 0.0
    before = np.array([rows[0], columns[0]])
    after = np.array(grid.shape) - 1 - [rows[-1], columns[-1]]
    off = float((np.abs(before - after) / grid.shape).max())
    return grid[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], off


def gate_image(pixels: GreyImage, side: int) -> FloatImage:
    """The square the gate's network sees, float32 ``[side, side]`` in 0..1.

    As :func:`shared.preprocess.model_image`, but from every k-th pixel, at least six for one of the square: a gate
    needs no fine detail, and this takes a tenth of the time.
    """
    step = max(1, max(pixels.shape) // (6 * side))
    return model_image(pixels[step // 2 :: step, step // 2 :: step], side)[0]


class Gate:
    """Judges radiographs by one network and its specification.

    Args:
        runtime: the gate network of a release, ``[1, 1, side, side]`` -> ``{"gate": [1, 7]}``.
        spec: its input side and thresholds.
    """

    def __init__(self, runtime: Network, spec: GateSpec) -> None:
        self._runtime = runtime
        self._spec = spec

    def __call__(self, pixels: GreyImage) -> Verdict:
        """Judge one image ``[H, W]`` of presentation values, uint8 or uint16, high is bright."""
        spec = self._spec
        exposure = measure_exposure(pixels)
        scores = {name: getattr(exposure, name) for name in Exposure.__slots__}
        if (
            min(pixels.shape) < spec.least_side
            or exposure.grey_levels < spec.least_levels
            or exposure.entropy_bits < spec.least_entropy
        ):
            return Verdict(problems=(_problem("unreadable_image"),), scores=scores)
        logits = self._runtime(gate_image(pixels, spec.side)[None, None])[OUTPUT]
        scores |= probabilities(logits[0])
        if scores["chest"] < spec.chest:
            return Verdict(problems=(_problem("not_a_chest_radiograph"),), scores=scores)
        problems = [*self._transformed(scores), *self._exposed(exposure, scores), *self._cut_off(exposure, scores)]
        return Verdict(
            problems=tuple(sorted(problems, key=lambda problem: problem.severity is Severity.WARN)), scores=scores
        )

    def _transformed(self, scores: dict[str, float]) -> list[Problem]:
        problems = [_problem("inverted")] if scores["inverted"] >= self._spec.inverted else []
        turn = max((90, 180, 270), key=lambda degrees: scores[f"turn_{degrees}"])
        if scores[f"turn_{turn}"] >= self._spec.turned:
            problems.append(_problem(f"rotated_{turn}"))
        return problems

    def _exposed(self, exposure: Exposure, scores: dict[str, float]) -> list[Problem]:
        """Exposure says nothing while black and white are swapped; it is judged again after the correction."""
        spec = self._spec
        if scores["inverted"] >= spec.inverted:
            return []
        flat = exposure.grey_levels < spec.few_levels
        ends = (
            (
                "over_exposed",
                exposure.black_share,
                exposure.median < spec.dark_median or (flat and exposure.median < 0.5),
            ),
            (
                "under_exposed",
                exposure.white_share,
                exposure.median > spec.white_median or (flat and exposure.median >= 0.5),
            ),
        )
        return [
            _problem(code, Severity.REFUSE if lost >= spec.lost_refuse else Severity.WARN)
            for code, lost, off in ends
            if off or lost >= spec.lost_warn
        ]

    def _cut_off(self, exposure: Exposure, scores: dict[str, float]) -> list[Problem]:
        if scores["cut_off"] < self._spec.cut_off_warn and exposure.blank_margin < self._spec.blank_margin:
            return []
        refused = scores["cut_off"] >= self._spec.cut_off_refuse
        return [_problem("cut_off", Severity.REFUSE if refused else Severity.WARN)]


def probabilities(logits: npt.NDArray[np.floating]) -> dict[str, float]:
    """Logits ``[7]`` in the order of :data:`OUTPUTS` -> probabilities by name, without ``turn_0``."""
    values = np.asarray(logits, np.float64)
    turns = np.exp(values[1:5] - values[1:5].max())
    turns /= turns.sum()
    sigmoid = 1 / (1 + np.exp(-np.clip(values, -50, 50)))
    named = dict(zip(OUTPUTS, [sigmoid[0], *turns, sigmoid[5], sigmoid[6]], strict=True))
    del named["turn_0"]
    return {name: float(value) for name, value in named.items()}
