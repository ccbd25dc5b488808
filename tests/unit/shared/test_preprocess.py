"""What the models see does not depend on exposure, bit depth or size, and boxes find their way back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.preprocess import Letterbox, model_image

SIDES = st.integers(min_value=32, max_value=3000)


@given(SIDES, SIDES, st.sampled_from([96, 320, 416]))
def test_a_letterbox_holds_the_whole_image_centred_in_its_proportions(width: int, height: int, side: int):
    box = Letterbox.fit(width, height, side)
    assert max(box.inner_width, box.inner_height) == side
    assert abs(side - box.inner_width - 2 * box.left) <= 1
    assert abs(side - box.inner_height - 2 * box.top) <= 1
    longer, shorter = max(width, height), min(width, height)
    assert abs(min(box.inner_width, box.inner_height) - side * shorter / longer) <= 1


@given(SIDES, SIDES)
def test_boxes_go_into_the_square_and_come_back(width: int, height: int):
    box = Letterbox.fit(width, height, 320)
    fractions = np.array([[0.1, 0.2, 0.5, 0.9], [0.0, 0.0, 1.0, 1.0]], np.float32)
    assert np.allclose(box.to_fractions(box.from_fractions(fractions)), fractions, atol=1e-5)


def test_boxes_beyond_the_image_are_cut_at_its_edge():
    box = Letterbox.fit(100, 200, 320)
    assert box.to_fractions(np.array([[0, -5, 320, 400]], np.float32)).tolist() == [[0, 0, 1, 1]]


def picture(height: int = 300, width: int = 200) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return ((np.sin(x / 17) * np.cos(y / 23) + 1.2) / 2.4 * 200 + 20).astype(np.uint8)


@pytest.mark.parametrize("side", [96, 320])
def test_bit_depth_exposure_and_contrast_make_no_difference(side: int):
    eight = picture()
    reference = model_image(eight, side)[0]
    sixteen = eight.astype(np.uint16) * 200 + 9000
    assert np.abs(model_image(sixteen, side)[0] - reference).mean() < 0.01
    assert reference.min() == 0
    assert reference.max() == 1


def test_size_makes_little_difference():
    large = np.kron(picture(), np.ones((4, 4), np.uint8))
    assert np.abs(model_image(large, 96)[0] - model_image(picture(), 96)[0]).mean() < 0.02


def test_the_surround_is_black_and_a_flat_image_is_no_error():
    square, box = model_image(picture(300, 200), 96)
    assert square[:, : box.left].max() == 0
    assert square.shape == (96, 96)
    assert square.dtype == np.float32
    assert model_image(np.full((80, 90), 7, np.uint16), 96)[0].max() == 0
