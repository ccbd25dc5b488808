"""Corrections lose nothing: they can be undone, put together and told in both languages."""

import numpy as np
import pytest

from shared.correction import Correction
from shared.radiograph import Radiograph, View

EVERY = [Correction(quarter_turns=turns, invert=invert) for turns in range(4) for invert in (False, True)]


@pytest.fixture(params=[np.uint8, np.uint16], ids=["8 bits", "16 bits"])
def pixels(request: pytest.FixtureRequest) -> np.ndarray:
    full = np.iinfo(request.param).max
    return np.random.default_rng(1).integers(0, full, (5, 7), endpoint=True).astype(request.param)


@pytest.mark.parametrize("correction", EVERY, ids=str)
def test_a_correction_undone_gives_every_pixel_back(pixels: np.ndarray, correction: Correction):
    before = pixels.copy()
    changed = correction.apply(pixels)
    undo = Correction(quarter_turns=-correction.quarter_turns % 4, invert=correction.invert)
    assert np.array_equal(undo.apply(changed), before)
    assert changed.dtype == pixels.dtype
    assert changed.flags.c_contiguous
    assert np.array_equal(pixels, before), "the original stays as it is"
    assert not correction.then(undo)


@pytest.mark.parametrize("first", EVERY, ids=str)
def test_two_corrections_are_one(pixels: np.ndarray, first: Correction):
    for second in EVERY:
        assert np.array_equal(first.then(second).apply(pixels), second.apply(first.apply(pixels)))


def test_a_turn_is_anticlockwise_and_inversion_swaps_black_and_white():
    pixels = np.array([[0, 1], [2, 3]], np.uint8)
    assert Correction(quarter_turns=1).apply(pixels).tolist() == [[1, 3], [0, 2]]
    assert Correction(invert=True).apply(pixels).tolist() == [[255, 254], [253, 252]]


def test_every_correction_is_told_apart_in_both_languages():
    for language in ("en", "ko"):
        told = [correction.describe(language) for correction in EVERY]
        assert len(set(told)) == len(EVERY)
        assert told[0] == ""
    assert Correction(quarter_turns=2, invert=True).describe() == "turned by 180° and black and white swapped"
    assert "회전" in Correction(quarter_turns=3).describe("ko")


def test_more_than_three_quarter_turns_is_a_mistake():
    with pytest.raises(ValueError, match="less than or equal to 3"):
        Correction(quarter_turns=4)


def test_a_corrected_radiograph_knows_it_and_its_spacing_turns_with_it():
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    taken = Radiograph(pixels, 8, "png", "hash", (0.1, 0.2), View.PA, None, None, None, "MONOCHROME2")
    turned = taken.corrected(Correction(quarter_turns=1))
    assert turned.pixels.shape == (4, 3)
    assert turned.pixel_spacing_mm == (0.2, 0.1)
    assert turned.correction == Correction(quarter_turns=1)
    assert (turned.sha256, taken.correction, taken.pixels.shape) == ("hash", None, (3, 4))
    assert turned.corrected(Correction(quarter_turns=2)).correction == Correction(quarter_turns=3)
    back = turned.corrected(Correction(quarter_turns=3))
    assert back.correction is None
    assert np.array_equal(back.pixels, pixels)
    assert taken.corrected(Correction(quarter_turns=2)).pixel_spacing_mm == (0.1, 0.2)
