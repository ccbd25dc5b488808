"""Assembles a release: every variant exported, judged, calibrated on its own outputs, described and signed.

Nothing appears under ``weights/`` before all of it has passed: the release is built in a folder of its own and moved.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from safetensors.torch import load_file

from converters.card import model_card
from converters.card_data import data_facts
from converters.export import (
    Network,
    classifier_network,
    detector_network,
    export_litert,
    export_onnx,
    export_onnx_fp16,
    torch_outputs,
)
from converters.parity import Answers, Labelled, Parity, compare, parity_json, parity_markdown, require_parity
from converters.quantise import quantise_litert, quantise_onnx
from converters.validation import Model, Sides, Validation, detections_of, load_validation, logits_of
from shared.boxes import Detections
from shared.calibration import Calibration
from shared.errors import FirstRayError
from shared.findings import KEYS
from shared.release import (
    CARD,
    FileEntry,
    InputSpec,
    Manifest,
    Precision,
    Release,
    RuntimeName,
    Variant,
    file_entry,
    write_manifest,
)
from shared.runtime import open_model
from training.calibrate import assessable, discrimination, fit_calibration
from training.classifier import Classifier
from training.cross_fit import as_list, calibration_report
from training.detection_metrics import (
    average_precisions,
    mean_box_baseline,
    score_thresholds,
)
from training.detector import detector_shape, load_detector
from training.evaluation.evaluate import evaluate
from training.evaluation.figures import plain
from training.evaluation.films import load_films
from training.evaluation.run import FIGURES
from training.familiarity import fit_familiarity, load_familiar
from training.fit_classifier import Recipe
from training.gate import REPORT as GATE_REPORT
from training.gate import load_gate, load_spec
from training.metrics import Interval
from training.tables import LABEL_FILES

Floats = npt.NDArray[np.float32]
Located = Literal["detector", "activation"]

VARIANTS: tuple[tuple[Precision, RuntimeName], ...] = (
    ("int8", "litert"),
    ("int8", "onnx"),
    ("fp16", "onnx"),
    ("fp32", "onnx"),
)
SUFFIX = {"litert": "tflite", "onnx": "onnx"}
PARITY = "parity.json"
POINTER = "CURRENT"
LEAST_SHOWN = 30
"""Boxed training radiographs a finding needs before the detector is trusted to place it."""


@dataclass(frozen=True)
class Ingredients:
    """What a release is made of.

    Attributes:
        classifier, detector: trained weights (safetensors).
        backbone: timm name of the classifier's body.
        gate: output folder of the gate's training.
        recipe: of the classifier, printed in the card.
        data, split, fold: where the validation patients are (:func:`converters.validation.load_validation`).
        cache: where decoded squares are kept.
        sides: input sides of the networks.
    """

    classifier: Path
    detector: Path
    backbone: str
    gate: Path
    recipe: Path
    data: Path
    split: Path
    fold: int
    cache: Path
    sides: Sides

    @classmethod
    def from_recipe(
        cls,
        recipe: Path,
        *,
        classifier: Path,
        detector: Path,
        gate: Path,
        data: Path,
        cache: Path,
        classifier_side: int | None = None,
        detector_side: int | None = None,
    ) -> Ingredients:
        """Backbone and split as the classifier's recipe has them; a side that is not given is the one trained at."""
        read = Recipe.read(recipe)
        sides = Sides(
            classifier=classifier_side or read.stages[-1].side,
            detector=detector_side or detector_shape(detector)[1],
            gate=load_spec(gate).side,
        )
        return cls(
            classifier, detector, read.backbone, gate, recipe, data, read.split, read.validation_fold, cache, sides
        )


def build_release(ingredients: Ingredients, release_id: str, weights: Path, key: Ed25519PrivateKey) -> Path:
    """Make the release ``weights/<release_id>`` and point ``weights/CURRENT`` to it.

    Raises:
        FirstRayError: ``release_exists``; ``parity_failed`` where a variant lost more than it may: the
            files made so far then stay in a hidden folder, for a look.
    """
    release, staging = weights / release_id, weights / f".{release_id}.part"
    if release.exists():
        raise FirstRayError("release_exists", f"{release} is there already.", "Releases never change: take another id.")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    revision = code_revision()
    validation = load_validation(
        ingredients.data, ingredients.split, ingredients.fold, ingredients.sides, ingredients.cache
    )
    networks = load_networks(ingredients)
    for name, network in networks.items():
        export(name, network, validation.calibration[name], staging)
    reference = judge(as_model(networks["classifier"]), as_model(networks["detector"]), validation)
    located = located_by(validation, reference)
    variants, rows, worth = judge_variants(staging, validation, reference, located)
    variants = with_familiarity(variants, staging, ingredients)
    (staging / PARITY).write_text(json.dumps(parity_json(rows), indent=1) + "\n")
    require_parity(rows)
    (staging / CARD).touch()
    manifest = Manifest(
        id=release_id,
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        findings=KEYS,
        inputs={
            "classifier": InputSpec(side=ingredients.sides.classifier),
            "detector": InputSpec(side=ingredients.sides.detector),
        },
        gate=load_spec(ingredients.gate),
        located_by=located,
        variants=tuple(variants),
        files=entries(staging),
        training_data_sha256=data_hash(ingredients.data),
        code_revision=revision,
        metrics={"calibration": worth, "gate": json.loads((ingredients.gate / GATE_REPORT).read_text())},
    )
    figures = evaluate_staged(staging, manifest, ingredients)
    manifest = manifest.model_copy(update={"metrics": manifest.metrics | {"summary": figures["summary"]}})
    data = data_facts(ingredients.data, ingredients.split, ingredients.fold)
    card = model_card(
        manifest, figures, parity_markdown(rows), data, ingredients.recipe.read_text(), ingredients.backbone,
        detector_shape(ingredients.detector)[0],
    )  # fmt: skip
    (staging / CARD).write_text(card)
    write_manifest(staging, manifest.model_copy(update={"files": entries(staging)}), key)
    staging.rename(release)
    (weights / POINTER).write_text(f"{release_id}\n")
    return release


def evaluate_staged(staging: Path, manifest: Manifest, ingredients: Ingredients) -> dict[str, Any]:
    """Evaluate the release as it will ship, every variant through the whole product, and keep the figures in it."""
    films = load_films(ingredients.data, "validation", ingredients.split, ingredients.fold)
    precision, runtime = VARIANTS[0]
    figures: dict[str, Any] = plain(evaluate(Release(staging, manifest), films, precision, runtime).figures)
    (staging / FIGURES).write_text(json.dumps(figures, indent=1) + "\n")
    return figures


def load_networks(ingredients: Ingredients) -> dict[str, Network]:
    """The trained networks in full precision; the ends of classifier and detector stay in float in 8-bit files."""
    classifier = Classifier(ingredients.backbone)
    classifier.load_state_dict(load_file(ingredients.classifier))
    sides = ingredients.sides
    return {
        "classifier": classifier_network(classifier, sides.classifier),
        "detector": detector_network(load_detector(ingredients.detector), sides.detector),
        "gate": Network(load_gate(ingredients.gate), ("gate",), sides.gate),
    }


def export(name: str, network: Network, calibration: Floats, folder: Path) -> None:
    """Write every file of one network. The gate is small and stays in float: its thresholds were chosen so."""
    single = folder / file_name(name, "fp32", "onnx")
    export_onnx(network, single)
    if name == "gate":
        export_litert(network, folder / file_name(name, "fp32", "litert"))
        return
    export_onnx_fp16(single, folder / file_name(name, "fp16", "onnx"))
    quantise_onnx(network, calibration, folder / file_name(name, "int8", "onnx"))
    quantise_litert(network, calibration, folder / file_name(name, "int8", "litert"))


def file_name(network: str, precision: Precision, runtime: RuntimeName) -> str:
    """For example ``classifier-int8.tflite``."""
    return f"{network}-{precision}.{SUFFIX[runtime]}"


@dataclass(frozen=True)
class Judged:
    """What one variant, or full-precision torch, said: logits ``[N, 13]`` of the films, boxes of the boxed ones."""

    logits: Floats
    detections: list[Detections]


def judge(classifier: Model, detector: Model, validation: Validation) -> Judged:
    """Run both networks over the validation radiographs, one at a time as the Diagnoser does."""
    return Judged(
        logits_of(classifier, validation.film_squares),
        detections_of(classifier, detector, validation),
    )


def as_model(network: Network) -> Model:
    """A torch network in the shape of a runtime."""
    return lambda image: torch_outputs(network, image)


def judge_variants(
    folder: Path, validation: Validation, reference: Judged, located: dict[str, Located]
) -> tuple[list[Variant], list[Parity], dict[str, Any]]:
    """Each variant with a calibration of its own, and its parity with the calibrated reference.

    The third part says by variant id what its calibration is worth (:func:`calibration_figures`).
    """
    films = validation.films
    known = Labelled(films.labels, films.rows["patient_id"].to_numpy(), validation.truth)
    expected = calibrate(validation, reference, located).probabilities(reference.logits)
    torch_answers = Answers("torch-fp32", 0, expected, reference.detections)
    variants, rows, worth = [], [], {}
    for precision, runtime in VARIANTS:
        names = {network: file_name(network, precision, runtime) for network in ("classifier", "detector")}
        classifier = open_model(folder / names["classifier"])
        judged = judge(classifier, open_model(folder / names["detector"]), validation)
        both = told_apart(validation, judged, logits_of(classifier, validation.small_squares))
        films_alone = told_apart_on_films(validation, judged)
        assessed = {*assessable(both), *assessable(films_alone)}
        variant = Variant(
            precision=precision,
            runtime=runtime,
            gate=file_name("gate", "fp32", runtime),
            calibration=calibrate(validation, judged, located, assessed),
            classifier=names["classifier"],
            detector=names["detector"],
        )
        size = sum((folder / file).stat().st_size for file in names.values())
        answers = Answers(variant.id, size, variant.calibration.probabilities(judged.logits), judged.detections)
        variants.append(variant)
        rows.append(compare(answers, torch_answers, known))
        worth[variant.id] = calibration_figures(validation, judged, both, films_alone, assessed)
    return variants, rows, worth


def with_familiarity(variants: list[Variant], folder: Path, ingredients: Ingredients) -> list[Variant]:
    """Each variant with what its own classifier is familiar with."""
    films = load_familiar(
        ingredients.data, ingredients.split, ingredients.fold, ingredients.sides.classifier, ingredients.cache
    )
    return [
        variant.model_copy(update={"familiarity": fit_familiarity(open_model(folder / variant.classifier), films)})
        for variant in variants
    ]


def calibrate(
    validation: Validation, judged: Judged, located: dict[str, Located], assessed: Collection[str] = KEYS
) -> Calibration:
    """Calibration and thresholds from this variant's own answers; ``assessed`` are the findings it reports."""
    films = validation.films
    scores = score_thresholds(validation.truth, judged.detections).score
    thresholds = {key: float(scores[n]) for n, key in enumerate(KEYS) if located[key] == "detector"}
    patients = films.rows["patient_id"].nunique()
    population = f"{len(films)} NIH ChestX-ray14 radiographs of {patients} validation patients"
    return fit_calibration(films.labels, judged.logits, thresholds, population, assessed)


def told_apart(validation: Validation, judged: Judged, small_logits: Floats) -> dict[str, Interval]:
    """AUC of each finding on the films and the small films ``[K, 13]`` together, each judged among its own kind."""
    films, small = validation.films, validation.small_films
    return discrimination(
        np.concatenate([films.labels, small.labels]),
        np.concatenate([judged.logits, small_logits]),
        np.repeat([0, 1], [len(films), len(small)]),
        np.concatenate([films.rows["patient_id"], small.rows["patient_id"]]),
    )


def told_apart_on_films(validation: Validation, judged: Judged) -> dict[str, Interval]:
    """AUC of each finding on the full-size films alone."""
    films = validation.films
    return discrimination(films.labels, judged.logits, np.zeros(len(films)), films.rows["patient_id"].to_numpy())


def calibration_figures(
    validation: Validation,
    judged: Judged,
    both: dict[str, Interval],
    films_alone: dict[str, Interval],
    assessed: Collection[str],
) -> dict[str, Any]:
    """What is known of one variant's calibration (:func:`training.cross_fit.calibration_report`), and what it assesses.

    ``auc`` of each finding is on films and small films together, ``auc_films`` on the films alone; either may vouch.
    """
    films = validation.films
    patients = films.rows["patient_id"].to_numpy()
    report = calibration_report(films.labels, judged.logits, patients, assessed)
    for key in KEYS:
        report["findings"][key] |= {"auc": as_list(both[key]), "auc_films": as_list(films_alone[key])}
    return report


def located_by(validation: Validation, reference: Judged) -> dict[str, Located]:
    """The detector places a finding it was shown often enough and finds better than a fixed box would; else the map."""
    shown = np.zeros(len(KEYS), int)
    for boxes in validation.train_boxes:
        shown[np.unique(boxes.finding)] += 1
    supported = validation.truth.supported()
    found = average_precisions(validation.truth, reference.detections)[0]
    fixed = average_precisions(validation.truth, mean_box_baseline(validation.train_boxes, len(validation.boxed)))[0]
    better = ~supported | (found > fixed)
    return {key: "detector" if shown[n] >= LEAST_SHOWN and better[n] else "activation" for n, key in enumerate(KEYS)}


def entries(folder: Path) -> dict[str, FileEntry]:
    """Size and hash of every file made so far."""
    return {path.name: file_entry(path) for path in sorted(folder.iterdir())}


def data_hash(data: Path) -> str:
    """SHA-256 over the tables that say which images, labels and boxes the networks were trained on."""
    digest = hashlib.sha256()
    for name in sorted([*LABEL_FILES.values(), "boxes.csv", "boxes_small.csv", "radiologist_reads.csv"]):
        digest.update((data / name).read_bytes() if (data / name).is_file() else b"")
    return digest.hexdigest()


def code_revision() -> str:
    """The commit of the code, with ``-dirty`` where what shapes a release differs from it; ``unknown`` without git."""
    revision = _git("rev-parse", "--short=12", "HEAD")
    changed = _git("status", "--porcelain", "--", "shared", "training", "converters")
    return f"{revision}-dirty" if revision and changed else revision or "unknown"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip()
