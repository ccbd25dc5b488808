"""The model card of a release, written from its evaluation (Mitchell et al., FAT* 2019).

It follows the reporting checklists of :mod:`converters.checklists`; its text is the template ``model_card.md``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from converters.card_data import DataFacts
from converters.checklists import CLAIM, PRACTICE, TRIPOD_AI, checklist
from shared.findings import KEYS
from shared.release import Manifest

LEAST_AUC = 0.6
"""A finding whose AUC may be lower than this, by its interval, is named among the failures."""


def model_card(
    manifest: Manifest, figures: dict[str, Any], parity: str, data: DataFacts, recipe: str, backbone: str, scale: str
) -> str:
    """Markdown text.

    Args:
        manifest: of the release.
        figures: the evaluation of the release on its validation patients, as ``figures.json`` holds it.
        parity: the parity table in Markdown.
        data: facts about the training data.
        recipe: text of the classifier's recipe.
        backbone: name of the classifier's body.
        scale: of the detector, for example ``n``.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=False,  # noqa: S701 Markdown, and every value is ours
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    located = {source: [k for k in KEYS if manifest.located_by[k] == source] for source in ("detector", "activation")}
    return environment.get_template("model_card.md").render(
        m=manifest,
        f=figures,
        parity=parity.strip(),
        data=data,
        recipe=recipe.strip(),
        backbone=backbone,
        scale=scale,
        by_detector=", ".join(located["detector"]) or "none",
        by_map=", ".join(located["activation"]) or "none",
        everywhere=figures["location"]["all sources"],
        crossed=manifest.metrics.get("calibration", {}).get(figures["release"]["variant"]),
        gate=manifest.metrics.get("gate"),
        weak=weaknesses(figures),
        claim=checklist(CLAIM),
        tripod=checklist(TRIPOD_AI),
        practice=checklist(PRACTICE),
    )


def weaknesses(figures: dict[str, Any]) -> list[str]:
    """In words, what the figures show the release to be bad at."""
    found = []
    for source, mine in figures["classification"].items():
        measured = {key: value for key, value in mine["findings"].items() if "auc" in value}
        if not measured:
            continue
        low = [key for key, value in measured.items() if value["auc"]["low"] < LEAST_AUC]
        trivial = [
            key
            for key, value in measured.items()
            if (value["auc_shortcut"] or {"value": 0})["value"] >= value["auc"]["value"]
        ]
        skill = [key for key, value in measured.items() if value["brier_skill"]["value"] <= 0]
        few = [key for key, value in mine["findings"].items() if "too_few" in value]
        for words, keys in (
            (f"the AUC may be below {LEAST_AUC}", low),
            ("view, sex and age alone do as well or better", trivial),
            ("the probability is worth no more than the prevalence (Brier skill at or below 0)", skill),
            ("too few films to say anything", few),
        ):
            if keys:
                found.append(f"{source}: {words}: {', '.join(keys)}.")
    boxes = figures["location"]["all sources"].get("findings", {})
    missed = [key for key, value in boxes.items() if "pointing" in value and value["pointing"]["value"] < 0.5]
    if missed:
        found.append(
            f"The best box points outside the readers' boxes on more than half of the films: {', '.join(missed)}."
        )
    unmeasured = [key for key in KEYS if "pointing" not in boxes.get(key, {})]
    if unmeasured:
        found.append(f"Places that no figure supports, for want of boxes: {', '.join(unmeasured)}.")
    return found
