"""A region from an activation map lies where the map is strong, inside the radiograph."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shared.activation import connected, region, weighed
from shared.boxes import Detections
from shared.findings import KEYS
from shared.preprocess import Letterbox


def test_the_strongest_spot_becomes_the_box_and_a_weaker_one_does_not_widen_it():
    maps = np.zeros((10, 10), np.float32)
    maps[2:4, 6:8] = 5
    maps[8, 1] = 4
    box = region("Edema", 0.7, maps, Letterbox.fit(300, 300, 320))
    assert (box.source, box.finding, box.score) == ("activation", "Edema", 0.7)
    assert 0.5 < box.x < 0.65
    assert 0.75 < box.x + box.w < 0.9
    assert 0.1 < box.y < 0.25
    assert 0.35 < box.y + box.h < 0.5


@given(st.integers(0, 2**32 - 1), st.integers(50, 400), st.integers(50, 400))
def test_any_map_gives_a_box_of_some_size_within_the_radiograph(seed: int, width: int, height: int):
    maps = np.random.default_rng(seed).normal(size=(10, 10)).astype(np.float32)
    box = region("Edema", 0.5, maps, Letterbox.fit(width, height, 320))
    assert box.w > 0
    assert box.h > 0
    assert box.x + box.w <= 1 + 1e-6
    assert box.y + box.h <= 1 + 1e-6


def test_a_flat_map_says_everywhere():
    box = region("Edema", 0.5, np.zeros((10, 10), np.float32), Letterbox.fit(300, 300, 320))
    assert (box.x, box.y, box.w, box.h) == (0, 0, 1, 1)


def test_parts_that_touch_only_at_a_corner_are_apart():
    mask = np.array([[1, 0, 1], [0, 1, 1], [1, 0, 0]], bool)
    assert connected(mask, (1, 1)).sum() == 3


def detections(*rows: tuple[str, float, float, float]) -> Detections:
    """Small boxes of findings around centres (x, y), with scores."""
    corners = [[x - 0.05, y - 0.05, x + 0.05, y + 0.05] for _, x, y, _ in rows]
    finding = np.array([KEYS.index(key) for key, *_ in rows], np.int64)
    score = np.array([score for *_, score in rows], np.float32)
    return Detections(np.array(corners, np.float32).reshape(-1, 4), finding, score)


def test_of_two_boxes_alike_the_one_on_the_strong_spot_wins():
    maps = np.zeros((13, 10, 10), np.float32)
    maps[KEYS.index("Mass"), 2, 7] = 6
    square = Letterbox.fit(200, 100, 320)  # the radiograph covers rows 80 to 240: the spot is 1/8 of its height down
    found = weighed(detections(("Mass", 0.3, 0.8, 0.2), ("Mass", 0.75, 0.0, 0.2)), maps, square)
    assert found.corners[0, 0] > 0.6
    assert found.score[0] > 0.2 > found.score[1]


def test_boxes_of_a_finding_the_film_shows_gain_and_no_score_leaves_its_range():
    maps = np.zeros((13, 10, 10), np.float32)
    maps[KEYS.index("Effusion")] = 3
    maps[KEYS.index("Fibrosis")] = -5
    square = Letterbox.fit(300, 300, 320)
    rows = [
        ("Effusion", 0.5, 0.5, 0.3),
        ("Fibrosis", 0.5, 0.5, 0.3),
        ("Mass", 0.99, 0.01, 0.0),
        ("Mass", 0.5, 0.5, 1.0),
    ]
    found = weighed(detections(*rows), maps, square)
    by_key = dict(zip([KEYS[number] for number in found.finding], found.score, strict=True))
    assert by_key["Effusion"] > 0.3 > by_key["Fibrosis"]
    assert ((found.score >= 0) & (found.score <= 1)).all()
    assert (np.diff(found.score) <= 0).all()
    assert len(weighed(Detections.none(), maps, square).score) == 0
