"""A data folder as `firstray evaluate` takes it: what is read, what is left out, and what is a clear error."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from shared.errors import FirstRayError
from shared.findings import KEYS
from training.evaluation.films import load_films


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four films of a trained, a validation and two new patients, with the columns that must be there and no more."""
    rows = pd.DataFrame({"image": [f"{n}.png" for n in range(4)], "patient_id": ["a", "b", "c", "c"]})
    rows[list(KEYS)] = ""
    rows.loc[0, "Mass"], rows.loc[2, "Mass"], rows.loc[3, "Mass"] = "0", "1", "0"
    rows.to_csv(tmp_path / "labels.csv", index=False)
    pd.DataFrame({"patient_id": ["a", "b", "z"], "fold": [3, 0, 0]}).to_csv(tmp_path / "folds.csv", index=False)
    return tmp_path


def load(folder: Path, patients: str = "unseen"):
    return load_films(folder, patients, folder / "folds.csv")


def code(folder: Path, patients: str = "unseen") -> str:
    with pytest.raises(FirstRayError) as caught:
        load(folder, patients)
    assert caught.value.action
    return caught.value.code


def test_patients_the_release_was_trained_on_are_left_out(folder: Path):
    films = load(folder)
    assert films.table.rows["image"].tolist() == ["1.png", "2.png", "3.png"]
    assert films.cohort.tolist() == ["validation", "new", "new"]
    assert films.trained_left_out == (1, 1)
    assert len(films.trained) == 1
    new = load(folder, "new")
    assert set(new.cohort) == {"new"}
    assert new.other_left_out == (1, 1)
    assert load(folder, "validation").table.rows["patient_id"].tolist() == ["b"]
    everyone = load(folder, "all")
    assert everyone.cohort.tolist() == ["trained", "validation", "new", "new"]
    assert everyone.trained_left_out == (0, 0)


def test_an_empty_label_is_unknown_and_absent_optional_columns_are_empty(folder: Path):
    films = load(folder)
    assert np.isnan(films.table.labels[0]).all()
    np.testing.assert_array_equal(films.table.labels[:, KEYS.index("Mass")], [np.nan, 1, 0])
    assert set(films.table.rows["view"]) == {""}
    assert set(films.table.rows["source"]) == {"unnamed"}
    assert films.truth.counts.sum() == 0


def test_reader_boxes_are_fused_and_strange_ones_counted(folder: Path):
    boxes = [
        ("2.png", "Mass", "R1", 0.1, 0.1, 0.2, 0.2),
        ("2.png", "Mass", "R2", 0.11, 0.1, 0.2, 0.2),
        ("2.png", "", "R1", 0.5, 0.5, 0.1, 0.1),
        ("9.png", "Mass", "R1", 0.1, 0.1, 0.2, 0.2),
    ]
    columns = ["image", "finding", "reader", "x", "y", "w", "h"]
    pd.DataFrame(boxes, columns=columns).to_csv(folder / "boxes.csv", index=False)
    films = load(folder)
    assert films.truth.counts[:, KEYS.index("Mass")].tolist() == [0, 1, 0]
    assert films.unplaced_boxes == 1
    pd.DataFrame([("2.png", "Mass", "R1", 10, 20, 50, 60)], columns=columns).to_csv(folder / "boxes.csv", index=False)
    assert code(folder) == "data_boxes_invalid"


def test_a_folder_that_cannot_be_judged_on_is_a_clear_error(folder: Path):
    good = (folder / "labels.csv").read_text()
    for text, expected in (
        ("", "data_unreadable"),
        (good.splitlines()[0], "data_empty"),
        (good.replace("Mass", "Massive"), "data_columns_missing"),
        (good.replace("1.png", "2.png"), "data_duplicate_image"),
        (good.replace(",1,", ",-1,"), "data_labels_invalid"),
        ("\xff\xfe\x00", "data_unreadable"),
    ):
        (folder / "labels.csv").write_text(text, encoding="latin-1")
        assert code(folder) == expected
    (folder / "labels.csv").unlink()
    assert code(folder) == "data_missing"


def test_a_split_without_wanted_patients_says_whose_films_there_are(folder: Path):
    pd.DataFrame({"patient_id": ["a", "b", "c"], "fold": 2}).to_csv(folder / "folds.csv", index=False)
    with pytest.raises(FirstRayError) as caught:
        load(folder)
    assert caught.value.code == "data_empty"
    assert "4 trained" in caught.value.message
    (folder / "folds.csv").unlink()
    assert code(folder) == "split_missing"
