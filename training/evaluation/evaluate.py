"""The whole evaluation of a release: films in, figures out."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shared.calibration import log_odds
from shared.diagnosis import Diagnoser
from shared.findings import KEYS
from shared.release import Precision, Release
from shared.variants import RuntimeChoice
from training.evaluation.baselines import shortcut
from training.evaluation.classification import Cases, cases_of, classification
from training.evaluation.comparisons import compare_precisions, gate_figures, refused_too, subgroups
from training.evaluation.figures import FORMAT, LEAST_CASES, LEAST_GROUP, RESAMPLES, Figure, plain
from training.evaluation.films import Films
from training.evaluation.location import location, places_of
from training.evaluation.reading import Answers, LeftOut, read_films, runnable

WORST = 8
"""Films of each kind in the gallery of failures."""


@dataclass(frozen=True)
class Failure:
    """A film on which the product was wrong about a finding: ``missed`` or ``false``.

    Attributes:
        row: of the film in :attr:`Evaluation.films`.
        finding, probability, threshold: what was called, at the prevalence the release states.
    """

    kind: str
    row: int
    finding: str
    probability: float
    threshold: float


@dataclass(frozen=True)
class Evaluation:
    """An evaluated release.

    Attributes:
        figures: everything that was measured, as ``figures.json`` holds it (:func:`plain` makes it JSON).
        films, answers: the films that could be decoded, and what the variant under evaluation said of them.
        cases: the accepted films of each source, the source of the summary first.
        failures: the worst misses and false calls.
    """

    figures: dict[str, Any]
    films: Films
    answers: Answers
    cases: list[Cases]
    failures: list[Failure]

    def as_json(self) -> str:
        """All figures as one JSON object."""
        return json.dumps(plain(self.figures), ensure_ascii=False)

    def write_per_image(self, path: Path) -> None:
        """``per_image.csv``: what was said of each film; a film that was refused or could not be read has no answer."""
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["image", "verdict", "codes", *KEYS, *(f"{key}_state" for key in KEYS)])
            for row, diagnosis in enumerate(self.answers.diagnoses):
                verdict, answers = diagnosis.verdict, [""] * (2 * len(KEYS))
                if verdict.accepted:
                    answers = [f"{diagnosis.probabilities[key]:.5f}" for key in KEYS]
                    answers += [diagnosis.states[key].value for key in KEYS]
                said = "accepted" if verdict.accepted else "refused"
                codes = " ".join(problem.code for problem in verdict.problems)
                writer.writerow([self.films.table.rows.at[row, "image"], said, codes, *answers])
            for entry in self.figures["data"]["unreadable"]:
                writer.writerow([entry["image"], "not read", entry["code"], *[""] * (2 * len(KEYS))])


def evaluate(
    release: Release,
    films: Films,
    precision: Precision | None = None,
    runtime: RuntimeChoice = "auto",
    threads: int | None = None,
    compare: bool = True,
    quiet: bool = False,
) -> Evaluation:
    """Read the films with one variant and measure it; with ``compare``, beside every other variant that runs here.

    Raises:
        RuntimeUnavailable: no installed runtime can run the variant.
        FirstRayError: ``data_empty`` where no film could be read.
    """
    subject = Diagnoser(release, precision, runtime, threads)
    others = [variant for variant in runnable(release) if variant.id != subject.variant.id] if compare else []
    diagnosers = [subject, *(Diagnoser(release, v.precision, v.runtime, threads) for v in others)]
    readable, everybody, left_out = read_films(films, diagnosers, quiet)
    return measure(release, films.where(readable), everybody, left_out)


def measure(release: Release, films: Films, everybody: Sequence[Answers], left_out: list[LeftOut]) -> Evaluation:
    """All figures from the answers; the first of ``everybody`` is the variant under evaluation."""
    answers = everybody[0]
    accepted = answers.accepted
    kept, said = films.where(accepted), answers.where(accepted)
    trivial = shortcut(films.table, films.trained)
    sources = sorted(set(kept.table.rows["source"]))
    cases = [cases_of(source, kept, said, trivial[accepted]) for source in sources]
    cases.sort(key=lambda mine: (-len(mine.enough), -len(mine.films)))
    figures: dict[str, Any] = {
        "format": FORMAT,
        "release": release_facts(release, answers),
        "data": data_facts(films, left_out),
        "gate": gate_figures(films, answers),
        "classification": {mine.source: classification(mine) for mine in cases},
        "location": places_figures(kept, said, [mine.source for mine in cases]),
        "subgroups": {mine.source: subgroups(mine) for mine in cases},
        "precisions": compare_precisions(films, everybody, cases[0].source) if cases and len(everybody) > 1 else [],
        "rules": {"resamples": RESAMPLES, "least_cases": LEAST_CASES, "least_group": LEAST_GROUP},
    }
    if cases and not accepted.all():
        figures["gate"]["with_refused"] = refused_too(cases[0].source, films, answers, trivial)
    figures["summary"] = summary(figures, cases)
    return Evaluation(figures, films, answers, cases, failures(films, answers))


def places_figures(films: Films, answers: Answers, sources: list[str]) -> dict[str, Any]:
    """The figures of the boxes on all accepted films, and on those of each source."""
    if not len(films):
        return {"all sources": {}}
    places, named = places_of(films, answers), films.table.rows["source"].to_numpy()
    return {
        "all sources": location(places, "all sources", answers.located_by),
        **{source: location(places.where(named == source), source, answers.located_by) for source in sources},
    }


def release_facts(release: Release, answers: Answers) -> dict[str, Any]:
    """Which models answered."""
    manifest = release.manifest
    return {
        "id": release.id,
        "created": manifest.created,
        "code_revision": manifest.code_revision,
        "variant": answers.variant,
        "variants": [variant.id for variant in manifest.variants],
        "operating_point": answers.calibration.operating_point,
        "calibrated_on": answers.calibration.population,
        "located_by": answers.located_by,
        "not_assessed": [key for key in KEYS if not answers.calibration.findings[key].assessed],
        "stated_prevalence": {key: answers.calibration.findings[key].prevalence for key in KEYS},
    }


def data_facts(films: Films, left_out: list[LeftOut]) -> dict[str, Any]:
    """Which films were read, and which were not and why."""
    rows = films.table.rows
    cohorts = sorted(set(films.cohort.tolist()))
    return {
        "folder": films.folder.name,
        "films": len(films),
        "patients": len(set(films.patients)),
        "sources": {str(name): int(number) for name, number in rows["source"].value_counts().items()},
        "cohorts": {name: int((films.cohort == name).sum()) for name in cohorts},
        "left_out_as_trained_on": {"films": films.trained_left_out[0], "patients": films.trained_left_out[1]},
        "left_out_as_not_asked_for": {"films": films.other_left_out[0], "patients": films.other_left_out[1]},
        "unreadable": [entry._asdict() for entry in left_out],
        "boxes_of_unlisted_images": films.unplaced_boxes,
        "films_of_training_patients_for_baselines": len(films.trained),
        "reader_boxes": int(films.truth.counts.sum()) if len(films) else 0,
    }


def summary(figures: dict[str, Any], cases: list[Cases]) -> list[dict[str, Any]]:
    """The figures that decide, each beside what reaches its value without looking."""
    rows: list[dict[str, Any]] = []

    def row(name: str, value: Figure | None, baseline_name: str, baseline: Figure | str | None) -> None:
        if value is not None:
            rows.append({"name": name, "figure": value, "baseline_name": baseline_name, "baseline": baseline})

    for mine in cases:
        found = figures["classification"][mine.source]
        mean, top = found.get("mean", {}), found["top3"]
        without_pixels = "view, sex and age" if mine.stated else "chance (no view, sex or age stated)"
        row(f"{mine.source}: mean AUC", mean.get("auc"), without_pixels, mean.get("auc_shortcut") or "0.5")
        row(
            f"{mine.source}: mean sensitivity at 90 % specificity", mean.get("sensitivity_at_90_specificity"),
            without_pixels, mean.get("sensitivity_at_90_specificity_shortcut") or "0.1",
        )  # fmt: skip
        row(f"{mine.source}: mean Brier skill", mean.get("brier_skill"), "prevalence", "0")
        row(
            f"{mine.source}: mean calibration error (ECE)", mean.get("ece"), "perfect probabilities would show",
            f"{mean['ece_if_perfect']:.3f}" if mean else None,
        )  # fmt: skip
        row(
            f"{mine.source}: an abnormal film's top 3 name a finding it has", top.get("shown"),
            "the three most frequent here", top.get("here_prevalence_only"),
        )  # fmt: skip
    for source, found in figures["location"].items():
        if len(cases) == 1 and source != "all sources":
            continue
        row(f"{source}: lesion-only mAP at 0.4", found.get("map"), "a fixed box a finding", found.get("map_fixed_box"))
        points = found.get("pointing", {})
        row(f"{source}: pointing game", points.get("product"), "a fixed box a finding", points.get("fixed_box"))
    row("accepted by the quality gate", figures["gate"]["accepted"], "accept everything", "1")
    return rows


def failures(films: Films, answers: Answers) -> list[Failure]:
    """The findings missed and falsely called by the widest margin, at most one a film and two a finding and kind."""
    probabilities, accepted = answers.probabilities, answers.accepted
    ranked: list[tuple[float, Failure]] = []
    for number, key in enumerate(KEYS):
        calibration = answers.calibration.findings[key]
        if not calibration.assessed or not 0 < calibration.threshold < 1:
            continue
        for row in np.flatnonzero(accepted & ~np.isnan(films.table.labels[:, number])):
            probability = float(np.clip(probabilities[row, number], 1e-9, 1 - 1e-9))
            margin = log_odds(probability) - log_odds(calibration.threshold)
            there = films.table.labels[row, number] == 1
            if there != (margin >= 0):
                kind = "missed" if there else "false"
                ranked.append((abs(margin), Failure(kind, int(row), key, probability, calibration.threshold)))
    chosen: list[Failure] = []
    for _, failure in sorted(ranked, key=lambda item: -item[0]):
        alike = [other for other in chosen if other.kind == failure.kind]
        if (
            len(alike) < WORST
            and all(other.row != failure.row for other in chosen)
            and sum(other.finding == failure.finding for other in alike) < 2
        ):
            chosen.append(failure)
    return sorted(chosen, key=lambda failure: failure.kind, reverse=True)
