"""The evaluation as one HTML file: no script, no network, prints to PDF."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from shared.findings import BY_KEY, KEYS
from training.evaluation import plots
from training.evaluation.baselines import FOLDS, LEAST_FILMS
from training.evaluation.evaluate import Evaluation
from training.evaluation.gallery import pictures

COHORT_WORDS = {
    "new": "new patients",
    "validation": "validation patients (not trained on; calibration and thresholds were fitted on them)",
    "trained": "patients the release was trained on",
}


def html(evaluation: Evaluation) -> str:
    """The report's text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True
    )
    figures = evaluation.figures
    sections = [
        ("summary", "Summary"), ("films", "Films"), ("gate", "Quality gate"),
        *((f"findings-{n}", f"Findings: {source}") for n, source in enumerate(figures["classification"], 1)),
        ("boxes", "Boxes"), ("groups", "Subgroups"), ("precisions", "Precisions"), ("failures", "Failures"),
    ]  # fmt: skip
    return environment.get_template("report.html").render(
        f=figures,
        keys=KEYS,
        english={key: BY_KEY[key].english for key in KEYS},
        sections=sections,
        notes=notes(figures),
        baselines_on=baselines_on(figures),
        cohort_words=COHORT_WORDS,
        plots=drawn(evaluation),
        pictures=pictures(evaluation),
    )


def notes(figures: dict[str, Any]) -> list[str]:
    """What a reader must know before the first figure."""
    cohorts, found = figures["data"]["cohorts"], []
    if cohorts.get("trained"):
        found.append(
            f"{cohorts['trained']} of these films are of patients the release was trained on: the figures say how well "
            "it remembers them, not how well it reads new ones."
        )
    if cohorts.get("validation"):
        found.append(
            f"{cohorts['validation']} of these films are of validation patients. No network was trained on them, but "
            "calibration, thresholds and choices between models were made on them: calibration figures, rates at the "
            "thresholds and coverage are optimistic, the others slightly so."
        )
    if figures["data"]["unreadable"]:
        found.append(f"{len(figures['data']['unreadable'])} films could not be read and are left out; see Films.")
    return found


def baselines_on(figures: dict[str, Any]) -> str:
    """What the trivial baselines were fitted on, in words."""
    number = figures["data"]["films_of_training_patients_for_baselines"]
    if number >= LEAST_FILMS:
        return f"the {number} films of training patients in the same folder"
    return f"these films themselves, each film's by a fit on other patients ({FOLDS} folds)"


def drawn(evaluation: Evaluation) -> dict[str, Any]:
    """All plots as data URIs."""
    figures = evaluation.figures
    found: dict[str, Any] = {}
    for cases in evaluation.cases:
        if len(cases.enough):
            mine = figures["classification"][cases.source]["findings"]
            rows = [
                (BY_KEY[KEYS[f]].english, mine[KEYS[f]]["auc"], mine[KEYS[f]]["auc_shortcut"]) for f in cases.enough
            ]
            found[cases.source] = {
                "auc": plots.forest(rows, "AUC with 95 % interval; grey: view, sex and age alone", 0.5),
                "roc": plots.roc(cases),
                "precision_recall": plots.precision_recall(cases),
                "reliability": plots.reliability(cases),
                "decision": plots.decision(cases),
            }
    points = {source: mine["froc"] for source, mine in figures["location"].items() if mine}
    if len(points) == 2:
        points.popitem()  # one source: all sources says the same
    if points:
        found["froc"] = plots.froc(points)
    return found
