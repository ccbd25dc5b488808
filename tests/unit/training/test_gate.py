"""The gate's training: what its samples show, and a small training run from data folder to a gate that works."""

import csv
import math
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from shared.findings import KEYS
from shared.quality import OUTPUTS, Gate
from training import gate_material
from training.gate import REPORT, GateNet, fit, gate_loss, load_gate, load_spec
from training.gate_judge import as_runtime, share
from training.gate_material import Picture, load_pictures, part_of
from training.gate_samples import NOT_CHEST, UNKNOWN, Counts, Material, radiograph_sample
from training.tables import load_table


def phantom(rng: np.random.Generator, height: int = 200, width: int = 180) -> np.ndarray:
    """Laid out as a chest radiograph: dark lungs, a bright spine, a heart, a dark corner above each shoulder."""
    image = np.full((height, width), 190, np.float32)
    for x in (0.3, 0.7):
        centre = (int(width * (x + rng.uniform(-0.02, 0.02))), int(height * 0.48))
        cv2.ellipse(image, centre, (int(width * 0.15), int(height * 0.32)), 0, 0, 360, 60.0, -1)
    cv2.rectangle(image, (int(width * 0.47), 0), (int(width * 0.53), height), 230.0, -1)
    cv2.ellipse(
        image, (int(width * 0.58), int(height * 0.65)), (int(width * 0.14), int(height * 0.12)), 30, 0, 360, 220.0, -1
    )
    for x in (0, width):
        cv2.circle(image, (x, 0), int(width * rng.uniform(0.16, 0.22)), 10.0, -1)
    image = cv2.GaussianBlur(image, (0, 0), 3) + rng.normal(0, 4, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A data folder of the usual layout, holding phantoms of 60 patients, and folds for them."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(3)
    for name, file in (("images", "labels.csv"), ("nih128", "nih128_labels.csv"), ("nih64", "nih64_labels.csv")):
        (folder / name).mkdir()
        rows = []
        for number in range(60 if name == "images" else 1):
            Image.fromarray(phantom(rng)).save(folder / name / f"{number}.png")
            rows.append({"image": f"{number}.png", "patient_id": f"p{number}", "view": "PA", "age": 50, "sex": "F"})
        pd.DataFrame(rows).assign(source="NIH", **dict.fromkeys(KEYS, 0)).to_csv(folder / file, index=False)
    folds = pd.DataFrame({"patient_id": [f"p{number}" for number in range(60)], "fold": [n % 4 for n in range(60)]})
    folds.to_csv(folder / "folds.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def recipe(data: Path) -> Path:
    path = data / "gate.toml"
    path.write_text(
        """
        [data]
        split = "folds.csv"
        validation_fold = 0
        test_fold = 1
        sets = ["images"]
        [samples]
        side = 48
        radiographs = 1600
        other_views = 0
        broken = 300
        pictures = 300
        made_up = 600
        medical_share = 0.0
        [optimiser]
        seed = 1
        epochs = 6
        batch = 32
        rate = 4e-3
        weight_decay = 0.01
        warm_up = 0.2
        [targets]
        kept = 0.99
        false_alarms = 0.01
        cut_off_warned = 0.02
        cut_off_refused = 0.01
        """
    )
    return path


@pytest.fixture(scope="module")
def trained(data: Path, recipe: Path, tmp_path_factory):
    out = tmp_path_factory.mktemp("gate")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gate_material, "PACKAGES", ("skimage",))
        report = fit(recipe, data, out, [])
    return out, report


def test_training_makes_a_gate_that_works_on_images_it_never_saw(trained):
    out, _ = trained
    gate, rng = Gate(as_runtime(load_gate(out)), load_spec(out)), np.random.default_rng(99)
    found = {"upright": 0, "rotated_90": 0, "rotated_180": 0, "rotated_270": 0, "inverted": 0, "noise": 0}
    for _ in range(20):
        image = phantom(rng, height=int(rng.integers(180, 260)))
        found["upright"] += gate(image).accepted
        for turn in (1, 2, 3):
            reason = gate(np.ascontiguousarray(np.rot90(image, -turn))).reason
            found[f"rotated_{90 * turn}"] += bool(reason) and reason.code == f"rotated_{90 * turn}"
        reason = gate(255 - image).reason
        found["inverted"] += bool(reason) and reason.code == "inverted"
        found["noise"] += not gate(rng.integers(0, 256, (200, 200)).astype(np.uint8)).accepted
    assert min(found.values()) >= 16, found


def test_training_leaves_log_thresholds_and_report(trained):
    out, report = trained
    with (out / "log.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert len(losses) == 6
    assert losses[-1] < losses[0] / 2
    assert load_spec(out).side == 48
    assert (out / REPORT).is_file()
    assert report["accepted"]["images"]["of"] == 15
    assert set(report["detected"]) >= {"inverted", "rotated_90", "rotated_180", "rotated_270"}


def test_samples_repeat_themselves_from_the_seed(data: Path):
    material = Material(
        data, load_table(data, ("images",)), [Picture("a", False, phantom(np.random.default_rng(1)))], "train"
    )
    counts = Counts(48, 20, 0, 5, 5, 5, 0.0)
    one, same, other = (material.samples(counts, 1.0, seed) for seed in (5, 5, 6))
    assert np.array_equal(one.pixels, same.pixels)
    assert np.array_equal(one.labels, same.labels)
    assert not np.array_equal(one.pixels, other.pixels)
    assert (one.labels[:20, 0] != 0).all()
    assert (one.labels[20:] == NOT_CHEST).all()


def test_the_turn_label_says_where_the_top_went():
    bright_top = np.linspace(255, 0, 200)[:, None].repeat(160, 1).astype(np.uint8)
    rng, agreed, seen = np.random.default_rng(0), 0, 0
    for _ in range(300):
        pixels, (_, turn, inverted, cut_off) = radiograph_sample(bright_top, rng, 64)
        if cut_off != 0:
            continue
        upright = np.rot90(pixels, turn).astype(float)
        if inverted:
            upright = 255 - upright
        inner = upright[:, 24:40]
        seen += 1
        agreed += inner[16:32].mean() > inner[32:48].mean()
    assert seen > 100
    assert agreed / seen > 0.97


def test_unknown_labels_and_other_pictures_teach_nothing_about_the_turn():
    logits = torch.zeros(2, len(OUTPUTS), requires_grad=True)
    labels = torch.tensor(np.stack([NOT_CHEST, np.array([1, 2, UNKNOWN, 1], np.int8)]))
    gate_loss(logits, labels).backward()
    gradient = dict(zip(OUTPUTS, logits.grad.T, strict=True))
    assert gradient["chest"].abs().min() > 0
    assert gradient["turn_180"][0] == 0
    assert gradient["turn_180"][1] < 0
    assert (gradient["inverted"] == 0).all()
    assert gradient["cut_off"][1] < 0


def test_variants_of_one_subject_stay_in_one_part(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(gate_material, "PACKAGES", ())
    rng = np.random.default_rng(0)
    views = [(rng.random((90, 120)) * 255).astype(np.uint8) for _ in range(3)]
    for name, view in (("graf1", views[0]), ("graf3", views[1]), ("boat", views[2]), ("renamed", views[2])):
        Image.fromarray(view).save(tmp_path / f"{name}.png")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8not a picture")
    Image.fromarray(views[0][:20, :20]).save(tmp_path / "tiny.png")
    pictures = load_pictures([tmp_path])
    assert sorted(picture.identity for picture in pictures) == ["boat", "boat", "graf", "graf"]


def test_parts_share_out_identities_as_documented():
    parts = [part_of(f"picture {number}") for number in range(2000)]
    assert parts.count("train") / 2000 == pytest.approx(0.7, abs=0.04)
    assert parts.count("test") / 2000 == pytest.approx(0.15, abs=0.03)


def test_network_is_small_and_takes_any_documented_side():
    for side in (48, 96, 144):
        network = GateNet(side).eval()
        assert network(torch.rand(2, 1, side, side)).shape == (2, len(OUTPUTS))
    with pytest.raises(ValueError, match="multiple of 48"):
        GateNet(64)
    assert sum(parameter.numel() for parameter in network.parameters()) <= 150_000


def test_shares_come_with_their_wilson_interval():
    assert share(98, 100)["low"] == pytest.approx(0.930, abs=0.001)
    assert share(98, 100)["high"] == pytest.approx(0.994, abs=0.001)
    assert math.isclose(share(50, 50)["high"], 1.0)
