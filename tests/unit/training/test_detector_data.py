"""The detector's training data, from a small made-up data folder and from the real one where it is at hand."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

pytest.importorskip("cv2")
pytest.importorskip("sklearn")

from shared.boxes import overlap
from shared.findings import KEYS
from training.augment import augmented
from training.detector_data import load_detection_table

COLUMNS = ["image", "source", "finding", "original_label", "reader", "x", "y", "w", "h"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five images: VinDr (three readers), ChestX-Det10, RSNA, a layman's mass, a healthy one."""
    names = ["vindr_a.png", "nih_det10.png", "nih_rsna.png", "nih_mass.png", "nih_healthy.png"]
    (tmp_path / "images").mkdir()
    for name in names:
        Image.fromarray(np.tile(np.arange(200, dtype=np.uint8), (100, 1))).save(tmp_path / "images" / name)
    labels = pd.DataFrame({"image": names, "source": ["VinDr", *["NIH"] * 4], "patient_id": list("abcde")})
    labels = labels.assign(view="PA", age=50, sex="F", **dict.fromkeys(KEYS, 0))
    labels.loc[1, ["Effusion", "Edema"]] = 1
    labels.loc[2, "Pneumonia"] = 1
    labels.loc[3, "Mass"] = 1
    labels.to_csv(tmp_path / "labels.csv", index=False)
    boxes = [
        ["vindr_a.png", "VinDr", "Nodule", "", "R1", 0.10, 0.10, 0.20, 0.20],
        ["vindr_a.png", "VinDr", "Nodule", "", "R2", 0.12, 0.10, 0.20, 0.20],
        ["vindr_a.png", "VinDr", "Nodule", "", "R3", 0.70, 0.70, 0.20, 0.20],
        ["vindr_a.png", "VinDr", "", "Aortic enlargement", "R1", 0.4, 0.4, 0.1, 0.1],
        ["nih_det10.png", "NIH", "Consolidation", "", "ChestX-Det10", 0.1, 0.1, 0.3, 0.3],
        ["nih_rsna.png", "NIH", "Pneumonia", "", "RSNA", 0.1, 0.1, 0.3, 0.3],
        ["nih_mass.png", "NIH", "Mass", "", "drpradeepAI", 0.1, 0.1, 0.3, 0.3],
    ]
    pd.DataFrame(boxes, columns=COLUMNS).to_csv(tmp_path / "boxes.csv", index=False)
    pd.DataFrame(columns=["set", *COLUMNS]).to_csv(tmp_path / "boxes_small.csv", index=False)
    reads = [["images", names[1], "", "Consolidation"], ["images", names[2], "Lung Opacity", ""]]
    pd.DataFrame(reads, columns=["set", "image", "rsna_class", "chestxdet10"]).to_csv(
        tmp_path / "radiologist_reads.csv", index=False
    )
    return tmp_path


def test_readers_boxes_are_fused_and_other_findings_left_out(folder: Path) -> None:
    table = load_detection_table(folder, ("images",), 1.0, 0)
    vindr = table.boxes[0]
    assert [KEYS[f] for f in vindr.finding] == ["Nodule", "Nodule"]
    np.testing.assert_allclose(vindr.corners[0], [0.11, 0.1, 0.31, 0.3], atol=1e-6)


def test_targets_lie_in_the_letterboxed_square(folder: Path) -> None:
    table = load_detection_table(folder, ("images",), 1.0, 0)
    mass = table.targets(3, 64)  # 200 x 100: rows 16..48 of the square
    np.testing.assert_allclose(mass, [[KEYS.index("Mass"), 6.4, 16 + 3.2, 25.6, 16 + 12.8]], atol=1e-4)


def test_background_is_a_share_of_the_healthy(folder: Path) -> None:
    assert len(load_detection_table(folder, ("images",), 1.0, 0)) == 5
    assert len(load_detection_table(folder, ("images",), 0.0, 0)) == 4


def test_certainty_says_where_someone_looked(folder: Path) -> None:
    table = load_detection_table(folder, ("images",), 1.0, 0)
    vindr, det10, rsna, mass, healthy = (dict(zip(KEYS, row, strict=True)) for row in table.certainty)
    assert {key for key, value in vindr.items() if not value} == {"Pneumonia", "Edema", "Emphysema"}
    assert det10["Effusion"] == 1  # labelled, but the radiologist who drew boxes did not see it
    assert det10["Consolidation"] == 1
    assert det10["Edema"] == 0  # labelled, never boxed: it is somewhere
    assert det10["Pneumonia"] == det10["Infiltration"] == 0  # other names of the same shadow
    assert rsna["Pneumonia"] == 1
    assert rsna["Consolidation"] == 0
    assert mass["Mass"] == 0.5
    assert set(healthy.values()) == {1}


def test_augmented_boxes_follow_what_they_surround() -> None:
    by = {
        "rotate_degrees": 10,
        "scale": 0.2,
        "shift": 0.1,
        "gamma": 0.2,
        "contrast": 0.2,
        "brightness": 0.05,
        "flip": 0.5,
    }
    y, x = np.mgrid[:256, :256]
    image = (((x - 110.5) / 40) ** 2 + ((y - 140.5) / 25) ** 2 <= 1).astype(np.uint8) * 255
    target = np.array([[4, 71, 116, 151, 166]], np.float32)
    for seed in range(20):
        moved, targets = augmented(image, target, by, np.random.default_rng(seed))
        rows, columns = np.nonzero(moved > (moved.max() + moved.min()) / 2)
        seen = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], np.float32)
        assert overlap(targets[:, 1:], seen)[0, 0] > 0.9


def test_a_box_pushed_out_of_the_image_is_dropped() -> None:
    by = {"rotate_degrees": 0, "scale": 0, "shift": 1.0, "gamma": 0, "contrast": 0, "brightness": 0, "flip": 0}
    corner = np.array([[0, 2, 2, 12, 12]], np.float32)
    kept = [len(augmented(np.zeros((64, 64), np.uint8), corner, by, np.random.default_rng(s))[1]) for s in range(30)]
    assert set(kept) == {0, 1}


@pytest.mark.skipif("FIRSTRAY_DATA" not in os.environ, reason="FIRSTRAY_DATA names no training data")
def test_real_data_has_boxes_inside_images_and_three_sources_of_them() -> None:
    table = load_detection_table(Path(os.environ["FIRSTRAY_DATA"]), ("images",), 0.33, 1)
    corners = np.concatenate([boxes.corners for boxes in table.boxes])
    assert (corners[:, :2] < corners[:, 2:]).all()
    assert corners.min() >= 0
    assert corners.max() <= 1
    background = np.mean([len(boxes.score) == 0 for boxes in table.boxes])
    assert 0.1 < background < 0.4
