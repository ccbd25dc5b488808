"""A few seconds of real detector training, killed and resumed."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("ultralytics")
import torch

from shared.boxes import Detections
from training import fit_detector, run
from training.detector import load_detector
from training.detector_data import DetectionTable
from training.tables import Table

DATA = Path(os.environ.get("FIRSTRAY_DATA", "/nonexistent"))
INIT = DATA.parent / "init" / "yolov5n_coco.safetensors"
needs_data = pytest.mark.skipif(not INIT.is_file(), reason="FIRSTRAY_DATA names no training data with ../init")

RECIPE = """
[model]
scale = "n"
[data]
split = "{split}"
validation_fold = 0
[optimiser]
weight_decay = 0.02
ema_decay = 0.9
seed = 1
[[stage]]
name = "only"
sets = ["images"]
background = 0.1
side = 96
epochs = {epochs}
batch = 4
rate = 1e-3
warm_up = 0.2
[augment]
rotate_degrees = 5.0
scale = 0.2
shift = 0.05
gamma = 0.2
contrast = 0.2
brightness = 0.1
flip = 0.5
"""


def recipe(folder: Path, epochs: int) -> Path:
    split = Path(fit_detector.__file__).parent / "folds" / "cxr.csv"
    path = folder / f"recipe{epochs}.toml"
    path.write_text(RECIPE.format(split=split.as_posix(), epochs=epochs))
    return path


@needs_data
def test_training_resumes_where_a_kill_left_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    straight = fit_detector.fit(recipe(tmp_path, 2), DATA, INIT, tmp_path / "straight", tmp_path / "cache", limit=12)

    class Killed(Exception):
        pass

    replace, saves = os.replace, []

    def killed_after_first(source: object, target: object) -> None:
        replace(source, target)  # type: ignore[arg-type]
        saves.append(target)
        if len(saves) == 1:
            raise Killed

    monkeypatch.setattr(run.os, "replace", killed_after_first)
    arguments = (recipe(tmp_path, 2), DATA, INIT, tmp_path / "resumed", tmp_path / "cache")
    with pytest.raises(Killed):
        fit_detector.fit(*arguments, limit=12)
    resumed = fit_detector.fit(*arguments, limit=12)

    with (tmp_path / "resumed" / "log.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]
    image = torch.rand(1, 1, 96, 96)
    with torch.no_grad():
        ours, theirs = load_detector(resumed)(image), load_detector(straight)(image)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-3)


def test_a_mixed_image_shows_both_and_is_as_sure_as_the_less_sure() -> None:
    rows = pd.DataFrame({"set": ["images"] * 2, "image": ["a", "b"], "source": ["NIH"] * 2, "patient_id": ["1", "2"]})
    box = np.array([[0.2, 0.2, 0.4, 0.4]], np.float32)
    boxes = [Detections(box + 0.3 * n, np.array([n]), np.ones(1, np.float32)) for n in range(2)]
    certainty = np.ones((2, 13), np.float32)
    certainty[0, 5], certainty[1, 6] = 0, 0.5
    labels = np.zeros((2, 13), np.float32)
    table = DetectionTable(Table(rows, labels), boxes, certainty, np.full((2, 2), 64))
    pixels = np.stack([np.zeros((64, 64), np.uint8), np.full((64, 64), 255, np.uint8)])
    still = dict.fromkeys(["rotate_degrees", "scale", "shift", "gamma", "contrast", "brightness", "flip"], 0.0)
    mixed, alone = (fit_detector.BoxedSquares(pixels, table, still, mix, seed=1) for mix in (1.0, 0.0))
    shown = set()
    for epoch in range(8):
        mixed.epoch = alone.epoch = epoch
        image, targets, sure = mixed[0]
        shown |= set(targets[:, 0].int().tolist())
        if len(set(targets[:, 0].tolist())) == 2:
            assert 0.1 < float(image.mean()) < 0.9
            assert sure[5] == 0
            assert sure[6] == 0.5
        assert alone[0][1].shape == (1, 5)
    assert shown == {0, 1}
