"""A radiograph made ready for the screen, against the picture that is stored and sent."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_app.ui.film import LARGEST, NARROWEST, SMALLEST, WIDEST, Film, Preset, film_of
from shared.overlay import grey8
from shared.preprocess import GreyImage, stretch
from shared.radiograph import Radiograph, load_radiograph


def ramp(height: int, width: int, kind: type = np.uint16) -> GreyImage:
    top = np.iinfo(kind).max
    return np.linspace(0, top, height * width).reshape(height, width).astype(kind)


def film(pixels: GreyImage) -> Film:
    return Film(pixels, (0.0, float(np.iinfo(pixels.dtype).max)), "test")


@pytest.fixture(scope="module")
def radiograph(chest: Path) -> Radiograph:
    return load_radiograph(chest)


def test_the_first_look_is_that_of_the_picture_that_is_sent(radiograph: Radiograph) -> None:
    shown = film_of(radiograph)
    level = shown.levels[0].values.astype(np.float32)
    seen = np.round(stretch(level, *shown.window) * 255)
    assert np.abs(seen - np.asarray(grey8(radiograph), np.float32)).max() <= 1


def test_a_narrow_window_shows_more_than_256_grey_levels_hold(radiograph: Radiograph) -> None:
    shown = film_of(radiograph)
    middle = float(np.median(shown.pixels))
    window = (middle - 300, middle + 300)
    deep = np.round(stretch(shown.levels[0].values.astype(np.float32), *window) * 255)
    low, high = shown.window
    flat = low + np.asarray(grey8(radiograph), np.float32) / 255 * (high - low)
    shallow = np.round(stretch(flat, *window) * 255)
    assert len(np.unique(deep)) > 10 * len(np.unique(shallow))


@pytest.mark.parametrize(("height", "width"), [(64, 80), (513, 700), (1001, 999), (9000, 40)])
def test_each_level_is_half_the_one_before(height: int, width: int) -> None:
    levels = film(ramp(height, width)).levels
    assert max(levels[0].values.shape) <= LARGEST
    assert len(levels) == 1 or max(levels[-1].values.shape) >= SMALLEST
    for one, other in pairwise(levels):
        assert other.width == one.width / 2
        assert other.height == one.height / 2
        assert other.values.shape == tuple((side + 1) // 2 for side in one.values.shape)
        assert other.values.mean() == pytest.approx(one.values.mean(), rel=0.01)


def test_eight_bits_fill_the_same_range_as_sixteen() -> None:
    values = film(np.array([[0, 255], [128, 1]], np.uint8)).levels[0].values
    assert values.tolist() == [[0, 65535], [128 * 257, 257]]


@given(st.floats(0.01, 8))
def test_the_level_drawn_has_one_to_two_pixels_for_each_of_the_screen(scale: float) -> None:
    shown = film(ramp(1024, 1024))
    number = shown.level_for(scale)
    per_pixel = shown.levels[number].width / (scale * 1024)
    if number < len(shown.levels) - 1:
        assert per_pixel < 2
    if number > 0:
        assert per_pixel >= 1


def test_presets_show_the_dark_and_the_bright_part(radiograph: Radiograph) -> None:
    shown = film_of(radiograph)
    lung, dense = shown.preset(Preset.LUNG), shown.preset(Preset.DENSE)
    assert shown.preset(Preset.AS_READ) == shown.window
    assert lung[0] < dense[0]
    assert lung[1] < dense[1]
    assert lung[1] - lung[0] < shown.window[1] - shown.window[0]


def test_a_flat_image_has_windows_that_can_be_drawn() -> None:
    flat = Film(np.full((40, 40), 7, np.uint8), (7.0, 7.0), "flat")
    for preset in (Preset.LUNG, Preset.DENSE):
        low, high = flat.preset(preset)
        assert high > low
    low, high = flat.adjusted((7.0, 7.0), 0.1, 5.0)
    assert high > low


@given(st.floats(-1, 1), st.floats(-4, 4), st.booleans())
def test_a_window_stays_within_its_limits_and_keeps_its_direction(
    brighter: float, contrast: float, inverted: bool
) -> None:
    shown = Film(ramp(32, 32), (10_000.0, 50_000.0), "ramp")
    start = (50_000.0, 10_000.0) if inverted else (10_000.0, 50_000.0)
    black, white = shown.adjusted(start, brighter, contrast)
    assert (black > white) is inverted
    assert NARROWEST * 40_000 * 0.999 <= abs(white - black) <= WIDEST * 40_000 * 1.001
    assert -0.5 <= (black + white) / 2 <= shown.top + 0.5


@pytest.mark.parametrize("inverted", [False, True])
def test_up_is_brighter_and_right_is_more_contrast(inverted: bool) -> None:
    shown = Film(ramp(32, 32), (10_000.0, 50_000.0), "ramp")
    start = (50_000.0, 10_000.0) if inverted else (10_000.0, 50_000.0)

    def grey(window: tuple[float, float], level: float) -> float:
        return (level - window[0]) / (window[1] - window[0])

    brighter, sharper = shown.adjusted(start, 0.1, 0.0), shown.adjusted(start, 0.0, 0.5)
    assert grey(brighter, 30_000) > grey(start, 30_000)
    assert abs(grey(sharper, 31_000) - grey(sharper, 29_000)) > abs(grey(start, 31_000) - grey(start, 29_000))
