"""Splits and statistics hold at the size of the whole of NIH ChestX-ray14; made-up data trains like real data."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
from shared.calibration import NIH_PREVALENCE
from shared.errors import FirstRayError
from shared.findings import KEYS
from training.fit_classifier import Recipe, Trainer
from training.metrics import mean_auc, shortcut_scores
from training.official import nih_boxes, nih_labels, write_nih
from training.splits import make_folds
from training.synthetic import write_synthetic
from training.tables import load_table

METADATA = Path(os.environ.get("FIRSTRAY_DATA", "/nonexistent")) / "metadata"
ENTRIES, BOXES = METADATA / "Data_Entry_2017_v2020.csv.gz", METADATA / "BBox_List_2017.csv.gz"
official = pytest.mark.skipif(not ENTRIES.is_file(), reason="FIRSTRAY_DATA holds no official NIH tables")


@official
def test_the_official_table_splits_by_patient_and_has_the_known_prevalences(tmp_path):
    assert write_nih(ENTRIES, BOXES, tmp_path) == 112_120
    table = load_table(tmp_path, ("images",))
    for number, key in enumerate(KEYS):
        assert table.labels[:, number].mean() == pytest.approx(NIH_PREVALENCE[key], rel=1e-6)
    folds = make_folds(table, 7, seed=1)
    assert len(folds) == 30_805
    fold = folds.set_index("patient_id")["fold"].loc[table.rows["patient_id"]].to_numpy()
    shares = np.array([table.labels[fold == number].mean(axis=0) for number in range(7)])
    assert (np.abs(shares / table.labels.mean(axis=0) - 1) < 0.25).all()
    held = table.where(fold == 0)
    interval = mean_auc(
        held.labels, shortcut_scores(table.where(fold != 0), held), held.rows["patient_id"].to_numpy(), resamples=50
    )
    assert 0.58 < interval.low < interval.value < interval.high < 0.64  # view, sex and age alone


@official
def test_the_official_boxes_are_fractions_of_the_image():
    boxes = nih_boxes(BOXES)
    assert len(boxes) == 984
    assert set(boxes["finding"]) <= set(KEYS)
    assert ((boxes[["x", "y", "w", "h"]] >= 0) & (boxes[["x", "y", "w", "h"]] <= 1)).all(axis=None)


def test_a_table_that_is_not_nihs_is_refused(tmp_path):
    path = tmp_path / "other.csv"
    path.write_text("Image Index,Finding Labels\na.png,No Finding\n")
    with pytest.raises(FirstRayError, match="lacks the column"):
        nih_labels(path)


def test_made_up_data_trains_by_the_shipped_recipe(tmp_path, capsys):
    write_synthetic(tmp_path / "data", 40, side=48)
    shipped = Recipe.read(Path("training/recipes/classifier.toml"))
    stages = [replace(stage, sets={"images": 1.0}, side=32, epochs=1, batch=8) for stage in shipped.stages]
    small = replace(shipped, split=tmp_path / "data" / "folds.csv", stages=stages)
    Trainer(small, tmp_path / "data", tmp_path / "out", tmp_path / "cache", workers=0, limit=None).run()
    assert capsys.readouterr().out.count("images/s") == len(stages)
    assert (tmp_path / "out" / "middle.safetensors").is_file()
