"""Figures of the probabilities: who has a finding, how well are probabilities calibrated, what do the states cover.

Sources are kept apart: films of different sources were selected and labelled differently, and pooling them would credit
a model for telling the sources apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.calibration import State
from shared.findings import KEYS
from training import decision_metrics as metrics
from training.decision_metrics import Metric
from training.evaluation.figures import LEAST_CASES, Figure, figure, resampled, share_of
from training.evaluation.films import Films
from training.evaluation.reading import Answers
from training.metrics import Floats, weighted_auc

SPECIFICITY = 0.9
ScoreMetric = Callable[[Floats, Floats, Floats], Floats]
"""Labels ``[n]``, scores ``[n]``, weights ``[R, n]`` -> one value a row, ``[R]``."""


@dataclass(frozen=True)
class Cases:
    """The accepted films of one source.

    Attributes:
        source: its name.
        films: their labels and patients.
        answers: of the variant under evaluation.
        here: probabilities ``[N, 13]`` moved to the prevalences of these films.
        shortcut: scores ``[N, 13]`` of view, sex and age alone (:mod:`training.evaluation.baselines`).
    """

    source: str
    films: Films
    answers: Answers
    here: Floats
    shortcut: Floats

    @property
    def labels(self) -> Floats:
        """``[N, 13]``, 1, 0 or NaN for unknown."""
        return self.films.table.labels

    @property
    def enough(self) -> npt.NDArray[np.int64]:
        """Numbers of the findings with enough films with and without them."""
        return np.flatnonzero(enough(self.labels))

    @property
    def stated(self) -> bool:
        """Whether the films state view, sex or age, so that there is such a baseline."""
        return bool(len(self.shortcut)) and float(np.ptp(self.shortcut)) > 0

    @property
    def population(self) -> str:
        """In words."""
        return f"{self.source}: {len(self.films)} films of {len(set(self.films.patients))} patients"


def enough(labels: Floats) -> npt.NDArray[np.bool_]:
    """Findings with at least :data:`LEAST_CASES` films with and as many without them, ``[13]``."""
    return ((labels == 1).sum(0) >= LEAST_CASES) & ((labels == 0).sum(0) >= LEAST_CASES)


def cases_of(source: str, films: Films, answers: Answers, shortcut: Floats) -> Cases:
    """The cases of one source out of all accepted films."""
    mask = (films.table.rows["source"] == source).to_numpy()
    films, answers = films.where(mask), answers.where(mask)
    found = metrics.mean_known(films.table.labels.T)
    shares = {key: float(found[n]) for n, key in enumerate(KEYS) if 0 < found[n] < 1}
    return Cases(source, films, answers, answers.calibration.at(shares).probabilities(answers.logits), shortcut[mask])


def mean_over(labels: Floats, scores: Floats, findings: npt.NDArray[np.int64], metric: ScoreMetric) -> Metric:
    """The mean of a metric over findings, as a function of weights ``[R, N]``."""
    known = {f: ~np.isnan(labels[:, f]) for f in findings}

    def mean(weights: Floats) -> Floats:
        each = [metric(labels[known[f], f], scores[known[f], f], weights[:, known[f]]) for f in findings]
        return metrics.mean_known(np.stack(each, axis=1))

    return mean


def classification(cases: Cases) -> dict[str, Any]:
    """All figures of one source; ``findings`` maps each key to its figures, or to why there are none.

    Figures of view, sex and age (``..._shortcut``) are None where the films state none of the three.
    """
    used = cases.enough
    figures: dict[str, Any] = {
        "population": cases.population,
        "films": len(cases.films),
        "patients": len(set(cases.films.patients)),
        "cohorts": {str(name): int((cases.films.cohort == name).sum()) for name in np.unique(cases.films.cohort)},
        "findings_in_means": [KEYS[f] for f in used],
        "findings": {KEYS[f]: finding_figures(cases, f) for f in range(len(KEYS))},
        "top3": top3_figures(cases),
        "states": pooled_states(cases),
    }
    if len(used):
        figures["mean"] = mean_figures(cases, used)
    return figures


def mean_figures(cases: Cases, used: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Means over the findings that have enough films."""
    whom, patients = f"{cases.population}; mean of {len(used)} findings", cases.films.patients

    def mean(metric: ScoreMetric, scores: Floats) -> Figure:
        return resampled(mean_over(cases.labels, scores, used, metric), patients, whom)

    chance = np.zeros(cases.labels.shape)
    at = partial(metrics.sensitivity_at_specificity, specificity=SPECIFICITY)
    prevalence = np.broadcast_to(metrics.mean_known(cases.labels.T), cases.labels.shape)
    return {
        "auc": mean(weighted_auc, cases.answers.logits),
        "auc_shortcut": mean(weighted_auc, cases.shortcut) if cases.stated else None,
        "average_precision": mean(metrics.average_precision, cases.answers.logits),
        "average_precision_prevalence": mean(metrics.average_precision, chance),
        "sensitivity_at_90_specificity": mean(at, cases.answers.logits),
        "sensitivity_at_90_specificity_shortcut": mean(at, cases.shortcut) if cases.stated else None,
        "brier": mean(metrics.brier, cases.here),
        "brier_prevalence": mean(metrics.brier, prevalence),
        "brier_skill": mean(metrics.brier_skill, cases.here),
        "ece": figure(
            metrics.centred_interval(
                mean_over(cases.labels, cases.here, used, metrics.expected_calibration_error), patients
            ),
            len(patients),
            whom,
        ),
        "ece_if_perfect": float(np.mean([_perfect(cases, f) for f in used])),
        "calibration_slope": mean(metrics.calibration_slope, cases.here),
        "calibration_intercept": mean(metrics.calibration_intercept, cases.here),
    }


def finding_figures(cases: Cases, finding: int) -> dict[str, Any]:
    """The figures of one finding, with its counts; only the counts where films with or without it are too few."""
    known = ~np.isnan(cases.labels[:, finding])
    label = cases.labels[known, finding].astype(np.float64)
    patients = cases.films.patients[known]
    counts: dict[str, Any] = {"known": int(known.sum()), "positives": int(label.sum())}
    key = KEYS[finding]
    counts["assessed"] = cases.answers.calibration.findings[key].assessed
    if finding not in cases.enough:
        return counts | {"too_few": f"fewer than {LEAST_CASES} films with it, or without it"}
    logit, here = cases.answers.logits[known, finding], cases.here[known, finding]
    whom = f"{cases.source}: {counts['known']} films, {counts['positives']} with {key}"

    def of(metric: ScoreMetric, score: Floats) -> Figure:
        return resampled(lambda weights: metric(label, score, weights), patients, whom)

    at = partial(metrics.sensitivity_at_specificity, specificity=SPECIFICITY)
    prevalence = float(label.mean())
    acting = partial(metrics.net_benefit, threshold=prevalence)
    return counts | {
        "prevalence": prevalence,
        "auc": of(weighted_auc, logit),
        "auc_shortcut": of(weighted_auc, cases.shortcut[known, finding]) if cases.stated else None,
        "average_precision": of(metrics.average_precision, logit),
        "sensitivity_at_90_specificity": of(at, logit),
        "sensitivity_at_90_specificity_shortcut": (of(at, cases.shortcut[known, finding]) if cases.stated else None),
        "brier": of(metrics.brier, here),
        "brier_prevalence": prevalence * (1 - prevalence),
        "brier_skill": of(metrics.brier_skill, here),
        "ece": figure(
            metrics.centred_interval(
                lambda weights: metrics.expected_calibration_error(label, here, weights), patients
            ),
            len(label),
            whom,
        ),
        "ece_if_perfect": _perfect(cases, finding),
        "calibration_slope": of(metrics.calibration_slope, here),
        "calibration_intercept": of(metrics.calibration_intercept, here),
        "net_benefit_at_prevalence": of(acting, here),
        "at_threshold": confusion(cases, finding, known, whom),
        "states": states_of(cases, finding, known, whom),
    }


def _perfect(cases: Cases, finding: int) -> float:
    return metrics.perfect_calibration_error(cases.here[~np.isnan(cases.labels[:, finding]), finding])


def confusion(cases: Cases, finding: int, known: npt.NDArray[np.bool_], population: str) -> dict[str, Any]:
    """What calling the finding from its rule-in threshold up gets right and wrong.

    The positive predictive value is also given at the prevalence the release states (Bayes' rule).
    """
    stated = cases.answers.calibration.findings[KEYS[finding]]
    called = (cases.answers.probabilities[known, finding] >= stated.threshold).astype(np.float64)
    label, patients = cases.labels[known, finding].astype(np.float64), cases.films.patients[known]

    def rate(flag: Floats, among: Floats) -> Figure:
        return share_of(flag, among, patients, population)

    def stated_value(weights: Floats) -> Floats:
        true = metrics.share(called, label, weights) * stated.prevalence
        false = metrics.share(called, 1 - label, weights) * (1 - stated.prevalence)
        with np.errstate(invalid="ignore"):
            return true / (true + false)

    return {
        "threshold": stated.threshold,
        "true_positives": int((called * label).sum()),
        "false_positives": int((called * (1 - label)).sum()),
        "false_negatives": int(((1 - called) * label).sum()),
        "true_negatives": int(((1 - called) * (1 - label)).sum()),
        "sensitivity": rate(called, label),
        "specificity": rate(1 - called, 1 - label),
        "positive_predictive_value": rate(label, called),
        "negative_predictive_value": rate(1 - label, 1 - called),
        "positive_predictive_value_at_stated_prevalence": resampled(stated_value, patients, population),
        "stated_prevalence": stated.prevalence,
    }


def state_masks(cases: Cases) -> dict[State, npt.NDArray[np.bool_]]:
    """For each state, where the release gives it: bool ``[N, 13]``."""
    said = np.array([[d.states[key].value for key in KEYS] for d in cases.answers.diagnoses]).reshape(-1, len(KEYS))
    return {state: said == state.value for state in State}


def states_of(cases: Cases, finding: int, known: npt.NDArray[np.bool_], population: str) -> dict[str, Figure]:
    """How often each state is given, and its coverage: what of the truth it does not contradict."""
    masks = {state: mask[known, finding].astype(np.float64) for state, mask in state_masks(cases).items()}
    label, patients = cases.labels[known, finding].astype(np.float64), cases.films.patients[known]
    return _coverage(masks, label, patients, population)


def _coverage(
    masks: Mapping[State, Floats], label: Floats, patients: npt.NDArray[Any], population: str
) -> dict[str, Figure]:
    def rate(flag: Floats, among: Floats) -> Figure:
        return share_of(flag, among, patients, population)

    everything = np.ones(len(label))
    assessed = 1 - masks[State.NOT_ASSESSED]
    return {
        **{state.value: rate(mask, everything) for state, mask in masks.items()},
        "positives_not_called_unlikely": rate(1 - masks[State.UNLIKELY], assessed * label),
        "negatives_not_called_likely": rate(1 - masks[State.LIKELY], assessed * (1 - label)),
    }


def pooled_states(cases: Cases) -> dict[str, Figure]:
    """:func:`states_of` over all known pairs of film and finding."""
    known = ~np.isnan(cases.labels)
    masks = {state: mask[known].astype(np.float64) for state, mask in state_masks(cases).items()}
    patients = np.broadcast_to(cases.films.patients[:, None], known.shape)[known]
    whom = f"{cases.source}: {int(known.sum())} pairs of film and finding with a known label"
    return _coverage(masks, cases.labels[known].astype(np.float64), patients, whom)


def top3_figures(cases: Cases) -> dict[str, Figure]:
    """Share of abnormal films whose three findings shown include one that is there, beside prevalence-only rankings.

    ``shown`` is what the product shows, at the stated prevalences; ``here`` ranks at the prevalences of these films.
    The trivial ranking names the three most prevalent findings on every film.
    """
    calibration = cases.answers.calibration
    assessed = np.array([calibration.findings[key].assessed for key in KEYS])
    stated = np.array([calibration.findings[key].prevalence for key in KEYS])
    found = (cases.labels == 1).sum(0) / np.maximum(1, (~np.isnan(cases.labels)).sum(0))
    rankings = {
        "shown": cases.answers.probabilities,
        "shown_prevalence_only": np.broadcast_to(stated, cases.labels.shape),
        "here": cases.here,
        "here_prevalence_only": np.broadcast_to(found, cases.labels.shape),
    }
    figures = {}
    for name, scores in rankings.items():
        hits = metrics.top_hits(cases.labels, np.where(assessed, scores, -np.inf))
        abnormal = ~np.isnan(hits)
        if not abnormal.any():
            return {}
        whom = f"{cases.source}: {int(abnormal.sum())} films with at least one of the 13 findings"
        every = np.ones(int(abnormal.sum()))
        figures[name] = share_of(hits[abnormal], every, cases.films.patients[abnormal], whom)
    return figures
