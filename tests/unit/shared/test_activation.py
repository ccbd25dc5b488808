"""A region from an activation map lies where the map is strong, inside the radiograph."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shared.activation import connected, region
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
