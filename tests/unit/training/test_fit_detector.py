"""A few seconds of real detector training, killed and resumed."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ultralytics")
import torch

from training import fit_detector, run
from training.detector import load_detector

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
