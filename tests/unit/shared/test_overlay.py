"""Boxes can be seen on dark and bright ground, at full resolution, and a dashed one tells itself from a solid one."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared.boxes import Box
from shared.calibration import State
from shared.correction import Correction
from shared.diagnosis import Diagnosis
from shared.errors import FirstRayError
from shared.overlay import NOTE_GROUND, RED, draw, save
from shared.quality import Verdict
from shared.radiograph import Radiograph, View


def radiograph(pixels: np.ndarray) -> Radiograph:
    return Radiograph(
        pixels=pixels,
        bits=8,
        source_format="png",
        sha256="0" * 64,
        pixel_spacing_mm=None,
        view=View.PA,
        laterality=None,
        modality=None,
        body_part=None,
        photometric="MONOCHROME2",
    )


def diagnosis(*boxes: Box) -> Diagnosis:
    return Diagnosis(
        probabilities={"Mass": 0.8},
        states={"Mass": State.LIKELY},
        top3=(),
        boxes=boxes,
        verdict=Verdict(problems=(), scores={}),
        urgent=(),
        prevalence="NIH ChestX-ray14",
        release="r",
        precision="int8",
        runtime="litert",
        timing_ms={},
        sha256="0" * 64,
    )


def box(source: str = "detector", **place: float) -> Box:
    values = {"x": 0.25, "y": 0.3, "w": 0.5, "h": 0.4} | place
    return Box(finding="Mass", score=0.8, source=source, **values)


def red(image: Image.Image) -> np.ndarray:
    return (np.asarray(image, int) == RED).all(axis=2)


@pytest.fixture
def half_bright() -> np.ndarray:
    pixels = np.zeros((1200, 1000), np.uint8)
    pixels[:, 500:] = 255
    pixels[600:, 250:750] = 128
    return pixels


def test_the_box_lies_where_the_diagnosis_says_at_full_resolution(half_bright: np.ndarray):
    image = draw(radiograph(half_bright), diagnosis(box()))
    assert image.size == (1000, 1200)
    rows, columns = np.nonzero(red(image))
    assert abs(columns.min() - 250) <= 2
    assert abs(columns.max() - 750) <= 2
    assert abs(rows.min() - 360) <= 2
    assert abs(rows.max() - 840) <= 2


def test_the_line_has_a_dark_rim_on_both_sides_so_it_shows_on_white_too(half_bright: np.ndarray):
    picture = np.asarray(draw(radiograph(half_bright), diagnosis(box())), int)
    across = picture[500, 730:770].sum(axis=1)  # the right edge, on white ground
    line = int(np.argmin(np.abs(picture[500, 730:770] - RED).sum(axis=1)))
    assert across[:line].min() < 60
    assert across[line:].min() < 60


def test_an_activation_region_is_dashed(half_bright: np.ndarray):
    solid = red(draw(radiograph(half_bright), diagnosis(box())))[:, 250:253].any(axis=1)[360:840]
    dashed = red(draw(radiograph(half_bright), diagnosis(box("activation"))))[:, 248:253].any(axis=1)[360:840]
    assert solid.all()
    assert 0.3 < dashed.mean() < 0.7


def test_labels_differ_by_language_and_never_leave_the_image(half_bright: np.ndarray):
    corner = diagnosis(box(x=0.9, y=0.0, w=0.1, h=0.05), box(x=0.0, y=0.95, w=0.1, h=0.05))
    english, korean = (draw(radiograph(half_bright), corner, language) for language in ("en", "ko"))
    assert english.size == korean.size == (1000, 1200)
    assert np.asarray(english).tolist() != np.asarray(korean).tolist()


def test_sixteen_bits_and_an_empty_diagnosis_give_the_plain_image():
    pixels = np.linspace(20_000, 40_000, 300 * 200).reshape(300, 200).astype(np.uint16)
    picture = np.asarray(draw(radiograph(pixels), diagnosis()))
    assert not red(Image.fromarray(picture)).any()
    assert picture.min() == 0
    assert picture.max() == 255


@pytest.mark.parametrize("width", [60, 1000])
def test_a_corrected_radiograph_says_so_in_its_corner_and_labels_leave_room(width: int):
    pixels = np.full((1200, width), 90, np.uint8)
    low = box(x=0.0, y=0.8, w=0.3, h=0.19)
    corrected = diagnosis(low).model_copy(update={"correction": Correction(quarter_turns=2, invert=True)})
    plain, noted, korean = (
        np.asarray(draw(radiograph(pixels), which, language), int)
        for which, language in ((diagnosis(low), "en"), (corrected, "en"), (corrected, "ko"))
    )
    assert not (plain[-1, : width // 10] == NOTE_GROUND).all()
    for picture in (noted, korean):
        assert (picture[-1, : width // 10] == NOTE_GROUND).all()
        assert noted.shape == plain.shape
    assert (noted != korean).any()
    assert (noted[:1000] == plain[:1000]).mean() > 0.9


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.png"])
def test_the_picture_is_written_and_reads_back(tmp_path: Path, half_bright: np.ndarray, name: str):
    image = draw(radiograph(half_bright), diagnosis(box()))
    save(image, tmp_path / name)
    with Image.open(tmp_path / name) as back:
        assert back.size == image.size
        assert np.abs(np.asarray(back, int) - np.asarray(image, int)).mean() < 2


def test_what_cannot_be_written_is_a_clear_error(tmp_path: Path, half_bright: np.ndarray):
    image = draw(radiograph(half_bright), diagnosis())
    for name, code in (("a.bmp", "image_format_unknown"), ("missing/a.png", "output_unwritable")):
        with pytest.raises(FirstRayError) as caught:
            save(image, tmp_path / name)
        assert caught.value.code == code
