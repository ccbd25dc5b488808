"""How well a calibration holds on patients it was not fitted on, without giving up any film for the one that ships.

The shipped parameters use all validation films. Here they are fitted anew on four fifths of the patients and judged on
the fifth they never saw, five times over (cross-fitting), so the figures are those of slightly worse parameters.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from iterstrat.ml_stratifiers import MultilabelStratifiedKFold

from shared.calibration import State
from shared.findings import KEYS
from training.calibrate import fit_calibration
from training.decision_metrics import (
    brier,
    brier_skill,
    calibration_intercept,
    calibration_slope,
    expected_calibration_error,
    share,
    wilson,
)
from training.metrics import Floats, Interval, patient_weights

GROUPS = 5


@dataclass(frozen=True)
class CrossFitted:
    """What calibrations said of films they were not fitted on.

    Attributes:
        probabilities: ``[N, 13]``, 0..1, at the prevalences of these films (of the other groups' of them).
        states: ``[N, 13]`` of :class:`shared.calibration.State`, every finding taken as assessed.
    """

    probabilities: Floats
    states: npt.NDArray[Any]


def cross_fit(labels: Floats, logits: Floats, patients: npt.NDArray[Any], seed: int = 0) -> CrossFitted:
    """Calibrate each film by the films of other patients: five patient-grouped folds, stratified by finding.

    Args:
        labels: ``[N, 13]``, 1, 0 or NaN for unknown.
        logits: ``[N, 13]``.
        patients: ``[N]``.
        seed: of the division into groups.
    """
    probabilities = np.zeros(logits.shape)
    states = np.empty(logits.shape, object)
    for test in _groups(labels, patients, seed):
        calibration = fit_calibration(labels[~test], logits[~test], {}, "the other groups", prevalence={})
        probabilities[test] = calibration.probabilities(logits[test])
        for number, (key, finding) in enumerate(calibration.findings.items()):
            states[test, number] = [finding.state(p) for p in probabilities[test, KEYS.index(key)]]
    return CrossFitted(probabilities, states)


def calibration_report(
    labels: Floats,
    logits: Floats,
    patients: npt.NDArray[Any],
    assessed: Collection[str] = KEYS,
    resamples: int = 1000,
) -> dict[str, Any]:
    """Cross-fitted calibration and coverage as JSON: figures are ``[value, low, high]``, 95 %, patient-clustered.

    ``findings`` holds for each of the 13: ``positives``, ``negatives``, ``ece`` (10 equal-mass bins), ``ece_by_chance``
    (what perfectly calibrated probabilities show on as few films, and the range of 95 % of such samples), ``brier``,
    ``brier_skill`` against the films' own prevalence, ``slope``, ``intercept``; and of the states ``positives_kept``
    (share of positives not called unlikely; the aim is 0.90), ``negatives_kept`` (share of negatives not called likely;
    the aim is 0.90) and ``uncertain`` (share of films on which the model abstains).
    ``all_findings`` holds means over the 13, ``assessed_findings`` shares pooled over the films of those assessed.
    """
    fitted = cross_fit(labels, logits, patients)
    weights = np.concatenate([np.ones((1, len(labels)), np.float32), patient_weights(patients, resamples)])
    columns = {key: (labels[:, n], fitted.probabilities[:, n], fitted.states[:, n]) for n, key in enumerate(KEYS)}
    drawn = {key: _drawn(*column, weights) for key, column in columns.items()}
    chance = {key: _ece_by_chance(probability) for key, (_, probability, _) in columns.items()}
    findings = {
        key: {
            "positives": int((label == 1).sum()),
            "negatives": int((label == 0).sum()),
            "ece_by_chance": _figure("chance", chance[key]),
            **{name: _figure(name, values) for name, values in drawn[key].items()},
            **_sure_shares(label, state, patients),
        }
        for key, (label, _, state) in columns.items()
    }
    means = {
        name: _figure(name, np.nanmean([drawn[key][name] for key in KEYS], axis=0))
        for name in ("ece", "brier", "brier_skill", "slope", "intercept")
    }
    means["ece_by_chance"] = _figure("chance", np.mean([chance[key] for key in KEYS], axis=0))
    return {
        "method": f"cross-fitted over {GROUPS} groups of patients, at the films' own prevalences",
        "population": f"{len(labels)} films of {len(set(patients))} patients",
        "not_assessed": [key for key in KEYS if key not in assessed],
        "all_findings": means,
        "assessed_findings": _pooled([columns[key] for key in KEYS if key in assessed], weights),
        "findings": findings,
    }


def as_list(interval: Interval) -> list[float | None]:
    """``[value, low, high]``; None where not known, since JSON has no NaN."""
    return [None if np.isnan(figure) else round(figure, 4) for figure in (interval.value, interval.low, interval.high)]


Column = tuple[Floats, Floats, npt.NDArray[Any]]
"""Labels, probabilities and states of one finding, each ``[N]``."""


def _drawn(label: Floats, probability: Floats, state: npt.NDArray[Any], weights: Floats) -> dict[str, Floats]:
    """Every figure of one finding for each row of ``weights``."""
    known = ~np.isnan(label)
    y, p, w = label[known].astype(np.float64), probability[known], weights[:, known]
    return {
        "ece": expected_calibration_error(y, p, w),
        "brier": brier(y, p, w),
        "brier_skill": brier_skill(y, p, w),
        "slope": calibration_slope(y, p, w),
        "intercept": calibration_intercept(y, p, w),
        **{name: share(flag, among, weights) for name, (flag, among) in _counted(label, state).items()},
    }


def _counted(label: Floats, state: npt.NDArray[Any]) -> dict[str, tuple[Floats, Floats]]:
    """For each share: which films count, and among which; ``[N]`` of 0 and 1."""
    return {
        "positives_kept": ((state != State.UNLIKELY).astype(float), (label == 1).astype(float)),
        "negatives_kept": ((state != State.LIKELY).astype(float), (label == 0).astype(float)),
        "uncertain": ((state == State.UNCERTAIN).astype(float), np.ones(len(label))),
    }


def _sure_shares(label: Floats, state: npt.NDArray[Any], patients: npt.NDArray[Any]) -> dict[str, list[float | None]]:
    """The shares that are 0 or 1, which no resample can change: with the Wilson interval of the number of patients."""
    found = {}
    for name, (flag, among) in _counted(label, state).items():
        value = flag[among == 1].mean()
        if value in (0, 1):
            low, high = wilson(np.array([value]), np.array([len(set(patients[among == 1]))]))
            found[name] = as_list(Interval(float(value), float(low[0]), float(high[0])))
    return found


def _pooled(columns: list[Column], weights: Floats) -> dict[str, list[float | None]]:
    """The shares over the films of several findings at once."""
    if not columns:
        return {}
    counted = [_counted(label, state) for label, _, state in columns]
    repeated = np.tile(weights, len(columns))
    found = {}
    for name in counted[0]:
        flag, among = (np.concatenate([shares[name][part] for shares in counted]) for part in (0, 1))
        found[name] = _figure(name, share(flag, among, repeated))
    return found


def _ece_by_chance(probability: Floats, draws: int = 1000, seed: int = 0) -> Floats:
    """Mean ECE of labels drawn from the probabilities themselves, then that of each draw: ``[1 + draws]``."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((draws, len(probability))) < probability).astype(float)
    one = np.ones((1, len(probability)), np.float32)
    drawn = np.array([expected_calibration_error(label, probability, one)[0] for label in labels])
    return np.concatenate([[drawn.mean()], drawn])


def _figure(name: str, drawn: Floats) -> list[float | None]:
    """``[value, low, high]`` of a figure ``[1 + resamples]`` whose first entry is its value; None where not known.

    A resample doubles the noise in an ECE, so its resamples are moved to lie around the value.
    """
    value, resampled = float(drawn[0]), drawn[1:]
    if np.isnan(value) or np.isnan(resampled).all():
        return [None, None, None]
    if name == "ece":
        resampled = np.maximum(resampled - np.nanmedian(resampled) + value, 0)
    low, high = np.nanpercentile(resampled, [2.5, 97.5])
    return as_list(Interval(value, float(low), float(high)))


def _groups(labels: Floats, patients: npt.NDArray[Any], seed: int) -> list[npt.NDArray[np.bool_]]:
    """For each group of patients, which films ``[N]`` are theirs."""
    names, which = np.unique(patients, return_inverse=True)
    traits = np.zeros((len(names), labels.shape[1]), int)
    np.maximum.at(traits, which, np.nan_to_num(labels).astype(int))
    splitter = MultilabelStratifiedKFold(n_splits=GROUPS, shuffle=True, random_state=seed)
    return [np.isin(which, members) for _, members in splitter.split(names, traits)]
