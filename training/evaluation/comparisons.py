"""Figures of parts of the films (sex, age, view, source), of the gate, and of the release's precisions side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.findings import KEYS
from training.decision_metrics import Metric
from training.evaluation.classification import Cases, cases_of, enough, mean_over, state_masks
from training.evaluation.figures import LEAST_GROUP, proportion, resampled, share_of
from training.evaluation.films import Films
from training.evaluation.location import mean_ap
from training.evaluation.reading import Answers
from training.metrics import Floats, weighted_auc

AGE_BANDS = (("under 18", 0, 18), ("18 to 39", 18, 40), ("40 to 64", 40, 65), ("65 and over", 65, 200))


def subgroups(cases: Cases) -> list[dict[str, Any]]:
    """Sex, age band and view within one source; a group that is too small is named and not measured."""
    rows = cases.films.table.rows
    age = rows["age"].to_numpy(np.float64)
    bands = np.full(len(rows), "", object)
    for name, low, high in AGE_BANDS:
        bands[(age >= low) & (age < high)] = name
    found = []
    for attribute, values in (("sex", rows["sex"]), ("age", bands), ("view", rows["view"])):
        values = np.asarray(values)
        names = sorted(set(values) - {""}) if attribute != "age" else [n for n, *_ in AGE_BANDS if (bands == n).any()]
        found += [subgroup(cases, attribute, name, values == name) for name in names]
        unknown = int((values == "").sum())
        if unknown:
            found.append({"attribute": attribute, "group": "not stated", "films": unknown, "too_few": "not stated"})
    return found


def subgroup(cases: Cases, attribute: str, name: str, mask: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """One group beside all films, over the findings that the group has enough films of."""
    labels, patients = cases.labels[mask], cases.films.patients[mask]
    used = np.flatnonzero(enough(labels))
    group: dict[str, Any] = {
        "attribute": attribute,
        "group": name,
        "films": int(mask.sum()),
        "patients": len(set(patients)),
        "findings": [KEYS[f] for f in used],
    }
    if mask.sum() < LEAST_GROUP or len(used) < 2:
        return group | {"too_few": f"{int(mask.sum())} films; {len(used)} findings with enough films"}
    whom = f"{cases.source}, {attribute} {name}: {int(mask.sum())} films; mean of {len(used)} findings"
    auc = {
        "auc": resampled(mean_over(labels, cases.answers.logits[mask], used, weighted_auc), patients, whom),
        "auc_shortcut": resampled(mean_over(labels, cases.shortcut[mask], used, weighted_auc), patients, whom),
        "auc_all_films": resampled(
            mean_over(cases.labels, cases.answers.logits, used, weighted_auc), cases.films.patients,
            f"{cases.population}; the same {len(used)} findings",
        ),
    }  # fmt: skip
    called = np.zeros(labels.shape)
    for state, given in state_masks(cases).items():
        called += (state == "likely") * given[mask]
    known = ~np.isnan(labels)
    owner, label = np.broadcast_to(patients[:, None], known.shape)[known], labels[known].astype(np.float64)
    whom = f"{cases.source}, {attribute} {name}: pairs of film and finding"
    rates = {
        "sensitivity": share_of(called[known], label, owner, whom),
        "specificity": share_of(1 - called[known], 1 - label, owner, whom),
    }
    return group | auc | rates


def gate_figures(films: Films, answers: Answers) -> dict[str, Any]:
    """How many films the gate accepts, what it refuses and why. Intervals are Wilson's, films taken as independent."""
    accepted = answers.accepted
    sources = films.table.rows["source"].to_numpy()
    refused = [
        {
            "image": films.table.rows.at[row, "image"],
            "codes": [problem.code for problem in answers.diagnoses[row].verdict.problems],
            "scores": answers.diagnoses[row].verdict.scores,
        }
        for row in np.flatnonzero(~accepted)
    ]
    warned = [d for d in answers.diagnoses if d.verdict.accepted and d.verdict.problems]
    return {
        "accepted": proportion(int(accepted.sum()), len(accepted), f"{len(accepted)} films that could be decoded"),
        "accepted_by_source": {
            str(name): proportion(int(accepted[sources == name].sum()), int((sources == name).sum()), f"{name} films")
            for name in np.unique(sources)
        },
        "refused": refused,
        "refusal_codes": dict(Counter(entry["codes"][0] for entry in refused)),
        "warned": len(warned),
        "warning_codes": dict(Counter(problem.code for d in warned for problem in d.verdict.problems)),
    }


def refused_too(source: str, films: Films, answers: Answers, shortcut: Floats) -> dict[str, Any]:
    """Mean AUC with the refused films read in spite of the refusal: what refusing did to the figure."""
    cases = cases_of(source, films, answers, shortcut)
    if not len(cases.enough):
        return {}
    mean = mean_over(cases.labels, cases.answers.logits, cases.enough, weighted_auc)
    return {"auc": resampled(mean, cases.films.patients, f"{cases.population}, refused ones too")}


def compare_precisions(films: Films, everybody: Sequence[Answers], source: str) -> list[dict[str, Any]]:
    """Every variant beside the most precise one, on films that all accept; differences are paired in each resample."""
    order = ("fp32", "fp16", "int8")
    reference = min(everybody, key=lambda answers: order.index(answers.variant.partition("-")[0]))
    both = np.all([answers.accepted for answers in everybody], axis=0)
    kept = films.where(both)
    mine = (kept.table.rows["source"] == source).to_numpy()
    labels, patients = kept.table.labels[mine], kept.patients[mine]
    used = np.flatnonzero(enough(labels))
    boxed = kept.truth.counts.sum(1) > 0
    lesions = kept.where(boxed)
    supported = np.flatnonzero(lesions.truth.supported()) if boxed.any() else np.zeros(0, np.int64)
    expected = reference.where(both)
    found = []
    for answers in everybody:
        said = answers.where(both)
        distance = np.abs(said.probabilities - expected.probabilities)
        row: dict[str, Any] = {
            "variant": answers.variant,
            "reference": reference.variant,
            "films": len(kept),
            "largest_probability_difference": float(distance.max()),
            "mean_probability_difference": float(distance.mean()),
            "same_likeliest": float(np.mean(_top(said, 1) == _top(expected, 1))),
            "same_top3": _in_common(_top(said, 3), _top(expected, 3)),
            "same_states": float(
                np.mean([a.states == b.states for a, b in zip(said.diagnoses, expected.diagnoses, strict=True)])
            ),
        }
        if len(used):
            whom = f"{source}: {len(labels)} films; mean of {len(used)} findings"
            here = mean_over(labels, said.logits[mine], used, weighted_auc)
            there = mean_over(labels, expected.logits[mine], used, weighted_auc)
            row["auc"] = resampled(here, patients, whom)
            row["auc_difference"] = resampled(partial(_difference, here, there), patients, whom)
        if len(supported):
            whom = f"{len(lesions)} films with reader boxes; mean of {len(supported)} findings"
            placed, wanted = said.where(boxed).candidates, expected.where(boxed).candidates
            mine_ap, its_ap = (mean_ap(lesions.truth, boxes, supported) for boxes in (placed, wanted))
            row["map"] = resampled(mine_ap, lesions.patients, whom)
            row["map_difference"] = resampled(partial(_difference, mine_ap, its_ap), lesions.patients, whom)
        found.append(row)
    return found


def _top(answers: Answers, number: int) -> npt.NDArray[np.int64]:
    return np.argsort(-answers.probabilities, axis=1, kind="stable")[:, :number]


def _difference(some: Metric, others: Metric, weights: Floats) -> Floats:
    return some(weights) - others(weights)


def _in_common(some: npt.NDArray[np.int64], others: npt.NDArray[np.int64]) -> float:
    """Mean share of each row's findings that both have, in any order."""
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(some, others, strict=True)]))
