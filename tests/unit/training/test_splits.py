"""No patient is on both sides, every finding is on every side, and a split belongs to its data."""

import numpy as np
import pandas as pd
import pytest

from shared.errors import FirstRayError
from training.splits import load_folds, make_folds, save_folds
from training.tables import Table


def table(patients: int = 400, seed: int = 5) -> Table:
    """A made-up table: patients with one to five images in three sets, rare findings."""
    rng = np.random.default_rng(seed)
    images = rng.integers(1, 6, patients)
    number = int(images.sum())
    rows = pd.DataFrame(
        {
            "set": rng.choice(["images", "nih128", "nih64"], number),
            "image": [f"{n}.png" for n in range(number)],
            "source": "NIH",
            "patient_id": np.repeat([f"p{n}" for n in range(patients)], images),
            "view": rng.choice(["PA", "AP"], number),
        }
    )
    labels = (rng.random((number, 13)) < np.linspace(0.03, 0.3, 13)).astype(np.float32)
    return Table(rows, labels)


def test_a_patients_images_of_every_set_share_one_fold(tmp_path):
    whole = table()
    save_folds(make_folds(whole, 5, seed=1), tmp_path / "folds.csv")
    fold = load_folds(tmp_path / "folds.csv", whole)
    per_patient = pd.Series(fold).groupby(whole.rows["patient_id"]).nunique()
    assert (per_patient == 1).all()
    assert set(fold) == set(range(5))


def test_every_finding_is_spread_evenly():
    whole = table()
    folds = make_folds(whole, 5, seed=1).set_index("patient_id")["fold"]
    fold = folds.loc[whole.rows["patient_id"]].to_numpy()
    for finding in range(13):
        counts = np.bincount(fold[whole.labels[:, finding] > 0], minlength=5)
        assert counts.max() < 1.6 * counts.mean()
        assert counts.min() > 0.5 * counts.mean()


def test_the_seed_decides_alone():
    first, again, other = (make_folds(table(), 5, seed) for seed in (1, 1, 2))
    assert first.equals(again)
    assert not first.equals(other)


def test_a_split_of_other_data_is_refused(tmp_path):
    save_folds(make_folds(table(100), 5, seed=1), tmp_path / "folds.csv")
    with pytest.raises(FirstRayError) as caught:
        load_folds(tmp_path / "folds.csv", table(120))
    assert caught.value.code == "split_incomplete"


def test_the_committed_split_covers_the_data_without_leaks(training_data):
    from pathlib import Path

    from training.tables import load_table

    whole = load_table(training_data)
    fold = load_folds(Path("training/folds/cxr.csv"), whole)
    assert (pd.Series(fold).groupby(whole.rows["patient_id"]).nunique() == 1).all()
    judged = (fold == 0) & (whole.rows["set"] == "images").to_numpy() & (whole.rows["source"] == "NIH").to_numpy()
    assert judged.sum() > 200
    assert (np.nansum(whole.labels[judged], axis=0) >= 5).all()
