"""From a network's logits to probabilities at a stated prevalence, and the thresholds that turn them into flags.

Per finding, probability = sigmoid(slope * logit + intercept) (Platt, 1999). The intercept carries the prevalence:
moving to another one adds the difference of log-odds (Saerens et al., Neural Computation 2002). A calibration belongs
to one variant of one release and is never copied to another.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.findings import KEYS

Logits = npt.NDArray[np.floating]

NIH_PREVALENCE: dict[str, float] = {
    key: count / 112_120
    for key, count in {
        "Atelectasis": 11_559,
        "Cardiomegaly": 2_776,
        "Effusion": 13_317,
        "Infiltration": 19_894,
        "Mass": 5_782,
        "Nodule": 6_331,
        "Pneumonia": 1_431,
        "Pneumothorax": 5_302,
        "Consolidation": 4_667,
        "Edema": 2_303,
        "Emphysema": 2_516,
        "Fibrosis": 1_686,
        "Pleural_Thickening": 3_385,
    }.items()
}
"""Share of images with each label in NIH ChestX-ray14 (``Data_Entry_2017``, 112,120 images)."""


def log_odds(probability: float) -> float:
    """Log-odds of a probability strictly between 0 and 1."""
    return math.log(probability / (1 - probability))


def sigmoid(logit: Logits) -> Logits:
    """Logistic function, without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * logit))


class FindingCalibration(BaseModel):
    """How one finding's logit becomes a probability and a flag.

    Attributes:
        slope, intercept: Platt parameters, the intercept at the stated ``prevalence``.
        prevalence: share of films with the finding in the population the probability is meant for, 0..1.
        threshold: probability from which the finding is flagged, 0..1.
        box_threshold: detector score from which its boxes are drawn, 0..1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    slope: float = Field(gt=0)
    intercept: float
    prevalence: float = Field(gt=0, lt=1)
    threshold: float = Field(ge=0, le=1)
    box_threshold: float = Field(ge=0, le=1)


class Calibration(BaseModel):
    """The calibration of one variant: all 13 findings, and where its thresholds came from.

    Attributes:
        findings: one entry per key of :data:`shared.findings.KEYS`.
        operating_point: in words, what the thresholds aim at, e.g. ``"specificity 0.90"``.
        population: in words, on which radiographs the parameters were fitted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    findings: dict[str, FindingCalibration]
    operating_point: str
    population: str

    @model_validator(mode="after")
    def _complete(self) -> Calibration:
        if tuple(self.findings) != KEYS:
            raise ValueError("calibration must list exactly the 13 findings, in the order of the vocabulary")
        return self

    def probabilities(self, logits: Logits) -> Logits:
        """Logits ``[..., 13]`` -> probabilities 0..1 of the same shape."""
        slope = np.array([c.slope for c in self.findings.values()])
        intercept = np.array([c.intercept for c in self.findings.values()])
        return sigmoid(logits * slope + intercept)


def move_prevalence(calibration: FindingCalibration, prevalence: float) -> FindingCalibration:
    """The same finding calibrated for another prevalence: intercept and threshold move together."""
    shift = log_odds(prevalence) - log_odds(calibration.prevalence)
    threshold = calibration.threshold
    if 0 < threshold < 1:
        threshold = float(sigmoid(np.array(log_odds(threshold) + shift)))
    return calibration.model_copy(
        update={"intercept": calibration.intercept + shift, "prevalence": prevalence, "threshold": threshold}
    )
