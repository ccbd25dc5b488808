"""Everything that is kept of one reading: diagnosis, picture, preview, or the code of what stopped it."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_app.reading import ERRORS, PICTURE_SIDE, FilmReader, screened, screened_picture
from shared.correction import Correction
from shared.diagnosis import Diagnoser
from shared.hospital import PREVIEW_BYTES
from shared.overlay import RED, grey8
from shared.radiograph import decode_radiograph, load_radiograph
from shared.release import default_release, load_release


@pytest.fixture(scope="module")
def reader() -> FilmReader:
    return FilmReader()


def test_a_film_gets_the_diagnosis_of_the_one_diagnosis_path(reader: FilmReader, chest: Path) -> None:
    reading = reader.read(chest.read_bytes())
    expected = Diagnoser(load_release(default_release())).diagnose(load_radiograph(chest))
    assert reading.diagnosis is not None
    assert reading.diagnosis.model_dump(exclude={"timing_ms"}) == expected.model_dump(exclude={"timing_ms"})
    assert reading.error is None


def test_the_picture_looks_like_the_radiograph(reader: FilmReader, chest: Path) -> None:
    reading = reader.read(chest.read_bytes())
    assert reading.picture is not None
    shown = screened_picture(reading.picture)
    full = np.asarray(grey8(load_radiograph(chest)))
    assert max(shown.pixels.shape) == min(PICTURE_SIDE, max(full.shape))
    assert np.abs(shown.pixels.astype(int) - full.astype(int)).mean() < 2
    assert (shown.low, shown.high) == (0, 255)


def test_the_preview_is_small_and_shows_the_boxes(reader: FilmReader, chest: Path) -> None:
    reading = reader.read(chest.read_bytes())
    assert reading.preview is not None
    assert len(reading.preview) < PREVIEW_BYTES
    colours = np.asarray(Image.open(io.BytesIO(reading.preview)).convert("RGB")).astype(int)
    assert (np.abs(colours - RED).max(axis=2) < 60).sum() > 500


def test_noise_still_fits_into_a_preview(reader: FilmReader, chest: Path) -> None:
    radiograph = load_radiograph(chest)
    diagnosis = Diagnoser(load_release(default_release())).diagnose(radiograph)
    from edge_app.reading import preview

    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (2048, 2048), np.uint8))
    assert len(preview(noise, diagnosis, "ko")) < PREVIEW_BYTES


def test_bytes_that_are_no_image_are_an_outcome_with_a_known_code(reader: FilmReader) -> None:
    reading = reader.read(b"\x00" * 128 + b"DICM" + b"nothing that follows the standard")
    assert reading.diagnosis is None
    assert reading.picture is None
    assert reading.error in ERRORS


def test_a_refused_film_is_kept_with_its_picture(reader: FilmReader, legs: Path) -> None:
    reading = reader.read(legs.read_bytes())
    assert reading.diagnosis is not None
    assert reading.diagnosis.refused
    assert reading.picture is not None
    assert reading.preview is not None


def test_a_refused_film_is_read_where_the_operator_overrules(reader: FilmReader, chest: Path) -> None:
    turned = io.BytesIO()
    Image.fromarray(np.rot90(np.asarray(grey8(load_radiograph(chest))), 2)).save(turned, "PNG")
    refused = reader.read(turned.getvalue()).diagnosis
    assert refused is not None
    assert refused.refused
    overruled = reader.read(turned.getvalue(), overridden=True).diagnosis
    assert overruled is not None
    assert not overruled.refused


def test_a_correction_is_applied_before_reading_and_to_the_picture(reader: FilmReader, chest: Path) -> None:
    upright = np.asarray(grey8(load_radiograph(chest)))
    turned = io.BytesIO()
    Image.fromarray(np.rot90(upright, 2)).save(turned, "PNG")
    reading = reader.read(turned.getvalue(), correction=Correction(quarter_turns=2))
    assert reading.diagnosis is not None
    assert not reading.diagnosis.refused
    assert reading.diagnosis.correction == Correction(quarter_turns=2)
    assert reading.picture is not None
    picture = screened_picture(reading.picture).pixels
    assert np.abs(picture.astype(int) - upright.astype(int)).mean() < 10


def test_the_default_window_is_that_of_the_picture(chest: Path) -> None:
    radiograph = decode_radiograph(chest.read_bytes())
    shown = screened(radiograph)
    scaled = (shown.pixels.astype(float) - shown.low) / (shown.high - shown.low)
    assert np.abs(np.clip(scaled, 0, 1) * 255 - np.asarray(grey8(radiograph))).max() < 1.01
