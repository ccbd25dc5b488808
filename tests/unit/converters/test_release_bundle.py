"""`firstray convert` from end to end: small untrained networks and made-up radiographs become a release that loads."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from converters import parity, release_bundle
from converters.export import Network, classifier_network
from firstray.cli import app
from shared.diagnosis import Diagnoser
from shared.errors import FirstRayError
from shared.findings import KEYS
from shared.preprocess import model_image
from shared.quality import GateSpec
from shared.radiograph import load_radiograph
from shared.release import TRUSTED_KEYS_VARIABLE, load_release, make_key
from training.classifier import Classifier
from training.detector import build, save_detector
from training.gate import REPORT, SPEC, WEIGHTS, GateNet
from training.splits import make_folds, save_folds
from training.tables import load_table

RECIPE = Path("training/recipes/classifier.toml")


@pytest.fixture(scope="module")
def ingredients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights, gate, recipe, signing key and a data folder, as training leaves them."""
    folder = tmp_path_factory.mktemp("convert")
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    classifier = Classifier("tf_efficientnet_lite0")
    torch.nn.init.normal_(classifier.head.weight, std=0.3)
    make_data(folder / "data", classifier.eval(), rng)
    save_folds(make_folds(load_table(folder / "data", ("images",)), 2, seed=1), folder / "folds.csv")
    (folder / "recipe.toml").write_text(RECIPE.read_text().replace("../folds/cxr.csv", "folds.csv"))
    save_file(classifier.state_dict(), folder / "classifier.safetensors")
    save_detector(build("n"), "n", 64, folder / "detector.safetensors")
    (folder / "gate").mkdir()
    save_file(GateNet(96).state_dict(), folder / "gate" / WEIGHTS)
    spec = GateSpec(side=96, chest=0, turned=1, inverted=1, cut_off_warn=1, cut_off_refuse=1)
    (folder / "gate" / SPEC).write_text(spec.model_dump_json())
    (folder / "gate" / REPORT).write_text('{"accepted": 1.0}')
    make_key(folder / "key.pem", folder / "trusted" / "key.pem")
    return folder


def make_data(folder: Path, classifier: Classifier, rng: np.random.Generator) -> None:
    """60 made-up NIH radiographs, labelled by what the classifier sees in them, and boxes on a third of them.

    The same ones make up the set of 128 px.
    """
    (folder / "images").mkdir(parents=True)
    names = [f"nih_{n}.png" for n in range(60)]
    squares = []
    for name in names:
        picture = Image.fromarray(rng.integers(0, 255, (6, 5), np.uint8)).resize((80, 96), Image.Resampling.BICUBIC)
        picture.save(folder / "images" / name)
        squares.append(model_image(np.asarray(picture), 64)[0])
    with torch.inference_mode():
        logits = classifier(torch.from_numpy(np.stack(squares))[:, None]).numpy()
    labels = pd.DataFrame((logits > np.quantile(logits, 0.6, axis=0)).astype(int), columns=list(KEYS))
    facts = {"image": names, "source": "NIH", "patient_id": [f"p{n}" for n in range(60)]}
    rows = pd.DataFrame(facts | {"view": "PA", "age": rng.integers(20, 90, 60), "sex": "F"})
    pd.concat([rows, labels], axis=1).to_csv(folder / "labels.csv", index=False)
    pd.concat([rows.drop(columns="source"), labels], axis=1).to_csv(folder / "nih128_labels.csv", index=False)
    with zipfile.ZipFile(folder / "nih128.zip", "w") as archive:
        for name in names:
            archive.write(folder / "images" / name, name)
    places = pd.DataFrame(rng.uniform(0.1, 0.4, (20, 4)), columns=["x", "y", "w", "h"])
    boxes = {"image": names[:20], "source": "NIH", "finding": "Mass", "original_label": "Mass", "reader": "R1"}
    pd.DataFrame(boxes).join(places).to_csv(folder / "boxes.csv", index=False)
    pd.DataFrame(columns=["set", "image", "source", "finding", "original_label", "reader", "x", "y", "w", "h"]).to_csv(
        folder / "boxes_small.csv", index=False
    )
    reads = pd.DataFrame({"set": "images", "image": names, "rsna_class": "", "chestxdet10": ""})
    reads.to_csv(folder / "radiologist_reads.csv", index=False)


def convert(folder: Path) -> object:
    options = {
        "--key": "key.pem",
        "--classifier": "classifier.safetensors",
        "--detector": "detector.safetensors",
        "--gate": "gate",
        "--recipe": "recipe.toml",
        "--data": "data",
        "--weights": "weights",
        "--cache": "cache",
    }
    arguments = [part for option, name in options.items() for part in (option, str(folder / name))]
    sizes = ["--classifier-side", "64", "--detector-side", "64", "--id", "test-1"]
    return CliRunner().invoke(app, ["convert", *arguments, *sizes], catch_exceptions=False)


def test_convert_makes_a_release_that_loads_and_diagnoses_and_never_replaces_one(
    ingredients: Path, chest: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(TRUSTED_KEYS_VARIABLE, str(ingredients / "trusted"))
    monkeypatch.setattr(parity, "MIN_TOP1_AGREEMENT", 0.5)  # an untrained network has nothing but near-ties
    monkeypatch.setattr(parity, "MAX_AUC_LOSS", 0.2)
    monkeypatch.setattr(parity, "MAX_MAP_LOSS", 0.2)
    convert(ingredients)
    folder = ingredients / "weights" / "test-1"
    assert (ingredients / "weights" / "CURRENT").read_text().strip() == "test-1"
    release = load_release(folder)
    assert release.manifest.metrics["gate"] == {"accepted": 1.0}
    assert release.manifest.located_by["Edema"] == "activation"
    for variant in release.manifest.variants:
        worth = release.manifest.metrics["calibration"][variant.id]
        told = {k for k, f in worth["findings"].items() if max(f["auc"][1], f["auc_films"][1]) >= 0.6}
        assert told == {key for key, finding in variant.calibration.findings.items() if finding.assessed}
        assert worth["findings"]["Mass"]["auc"][0] > 0.9, "labels are what the classifier sees"
    known = [variant.familiarity for variant in release.manifest.variants]
    assert all(one is not None and "radiographs of training patients" in one.population for one in known)
    radiograph = load_radiograph(chest)
    answers = {
        v.id: np.array(list(Diagnoser(release, v.precision, v.runtime).diagnose(radiograph).probabilities.values()))
        for v in release.manifest.variants
    }
    assert all(len(answer) == 13 and (answer >= 0).all() and (answer <= 1).all() for answer in answers.values())
    assert np.abs(answers["fp16-onnx"] - answers["fp32-onnx"]).max() < 0.1
    card = (folder / "MODEL_CARD.md").read_text()
    figures = json.loads((folder / "figures.json").read_text())
    assert set(figures["data"]["cohorts"]) == {"validation"}
    assert {row["variant"] for row in figures["precisions"]} == {v.id for v in release.manifest.variants}
    assert release.manifest.metrics["summary"] == figures["summary"]
    assert "| NIH: mean AUC |" in card
    assert "backbone = " in card
    assert "| 44 | Funding |" in card
    assert "None" not in card.replace("| 44 | Funding | None |", "")
    assert "{{" not in card
    assert all(variant.id in card for variant in release.manifest.variants)
    with pytest.raises(FirstRayError) as caught:
        convert(ingredients)
    assert caught.value.code == "release_exists"


def test_a_variant_that_lost_too_much_stops_the_release(ingredients: Path, monkeypatch: pytest.MonkeyPatch):
    """The same conversion with a quantiser that spoils the classifier."""
    shutil.rmtree(ingredients / "weights", ignore_errors=True)
    ordinary = release_bundle.quantise_onnx

    def spoil(network: Network, calibration: np.ndarray, path: Path) -> None:
        if "maps" in network.outputs:
            network = classifier_network(Classifier("tf_efficientnet_lite0").eval(), network.side)
        ordinary(network, calibration, path)

    monkeypatch.setattr(release_bundle, "quantise_onnx", spoil)
    with pytest.raises(FirstRayError) as caught:
        convert(ingredients)
    assert caught.value.code == "parity_failed"
    assert "int8-onnx" in caught.value.message
    assert not (ingredients / "weights" / "test-1").exists()
    assert not (ingredients / "weights" / "CURRENT").exists()
