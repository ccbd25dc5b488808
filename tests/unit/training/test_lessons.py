"""What second readers, boxes and teachers teach lands on the right image, finding and cell."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from shared.findings import KEYS
from training.lessons import READS, coverage, level, load_lessons, softened
from training.tables import Table

MASS, NODULE = KEYS.index("Mass"), KEYS.index("Nodule")


def table(labels: np.ndarray) -> Table:
    names = [f"{n}.png" for n in range(len(labels))]
    return Table(pd.DataFrame({"set": "images", "image": names, "source": "NIH"}), labels.astype(np.float32))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    Image.new("L", (200, 100)).save(tmp_path / "images" / "0.png")
    (tmp_path / "boxes.csv").write_text(
        "image,source,finding,original_label,reader,x,y,w,h\n"
        "0.png,NIH,Mass,Mass,,0.5,0.5,0.25,0.5\n"
        "0.png,NIH,Nodule,Nodule,,0.1,0.1,0.1,0.1\n"
    )
    (tmp_path / "boxes_small.csv").write_text("set,image,source,finding,original_label,reader,x,y,w,h\n")
    (tmp_path / "radiologist_reads.csv").write_text(
        "set,image,rsna_class,chestxdet10\n"
        "images,0.png,Lung Opacity,\nimages,1.png,,Mass|Fracture\nimages,2.png,Normal,none\n"
    )
    return tmp_path


def test_reads_and_places_of_a_data_folder(data):
    labels = np.zeros((4, 13))
    labels[0, MASS] = 1
    lessons = load_lessons(data, table(labels))
    assert lessons.reads[0, :2].tolist() == [0, 1]
    assert np.isnan(lessons.reads[0, 2:]).all()
    assert [READS[n] for n in np.flatnonzero(lessons.reads[1] == 1)] == ["Mass"]
    assert np.isnan(lessons.reads[1, :2]).all()
    assert lessons.reads[2].tolist() == [1] + [0] * (len(READS) - 1)
    assert np.isnan(lessons.reads[3]).all()
    # The nodule is boxed but not labelled, so only the mass teaches; 200 x 100 pixels lie in rows 16..48 of 64.
    assert lessons.targets(0, 64).tolist() == [[MASS, 32, 32, 48, 48]]
    assert lessons.targets(1, 64).shape == (0, 5)


def test_a_folder_with_labels_alone_has_labels_alone(tmp_path):
    lessons = load_lessons(tmp_path, table(np.zeros((2, 13))))
    assert np.isnan(lessons.reads).all()
    assert all(len(place) == 0 for place in lessons.places)


def test_cells_are_covered_by_their_share():
    covered = coverage(np.array([[MASS, 0, 0, 16, 48], [MASS, 0, 0, 8, 8], [NODULE, 60, 60, 64, 64]]), 64, 2)
    assert covered[MASS].tolist() == [[0.5, 0], [0.25, 0]]
    assert covered[NODULE].tolist() == [[0, 0], [0, pytest.approx(1 / 64)]]
    assert covered.sum() == pytest.approx(0.75 + 1 / 64)


def test_teachers_move_known_labels_and_fill_unknown_ones():
    labels = np.array([[1, 0, np.nan]], np.float32)
    mixed = softened(labels, np.array([[0.6, 0.2, 0.3]], np.float32), 0.5)
    np.testing.assert_allclose(mixed, [[0.8, 0.1, 0.3]], rtol=1e-6)


def test_levelled_groups_have_the_same_odds_and_unknown_findings_none():
    labels = np.zeros((2000, 13), np.float32)
    groups = np.repeat(["sharp", "small"], 1000)
    labels[:250, 0], labels[1000, 0] = 1, 1
    labels[:100, 1] = 1
    labels[1000:, 1] = np.nan
    offsets = level(labels, groups)
    overall = np.log(251 / 1749)
    # What the network would have to say in each group to be right on average is then the same.
    assert np.log(250 / 750) - offsets[0, 0] == pytest.approx(overall, abs=0.01)
    assert offsets[1500, 0] == -4  # cut: one of a thousand is little to go by
    assert (offsets[:1000] == offsets[0]).all()
    assert offsets[1500, 1] == 0
