"""The window on a real (virtual) screen: real files, real models, real taps.

Colours come from the theme; where things are, the tests find out by looking.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_app.ui import theme
from edge_app.ui.i18n import Translator
from shared.correction import Correction
from shared.diagnosis import Diagnoser, Diagnosis
from shared.overlay import NOTE_GROUND
from shared.radiograph import load_radiograph
from shared.release import default_release, load_release
from tests.ui.screen import Pixels, Screen, mask, runs, wait_until

Start = Callable[..., Screen]

HEADER_BOTTOM = 72
IMAGE_RIGHT = 808
IMAGE_BOTTOM = 720
PANEL_BOTTOM = 660
ZOOM_COLUMN = 745
"""On a screen of 1280 x 800: the image's right edge, beyond which the panel begins, the panel's lower end, and a column
through the zoom buttons, left of their text."""
BAR_LEFT = 1010
"""A column between the words and the bars of the cards."""


@pytest.fixture(scope="module")
def expected(chest: Path) -> Diagnosis:
    """What the models say about the chest radiograph, without any window."""
    return Diagnoser(load_release(default_release())).diagnose(load_radiograph(chest))


@pytest.fixture
def home(tmp_path: Path, chest: Path, legs: Path) -> Path:
    """A home folder with two radiographs, the chest newer, and a file that is none."""
    for age, (source, name) in enumerate([(chest, "CHEST.DCM"), (legs, "LEGS")]):
        shutil.copy(source, tmp_path / name)
        os.utime(tmp_path / name, (1_700_000_000 - age, 1_700_000_000 - age))
    (tmp_path / "notes.txt").write_text("not offered")
    return tmp_path


def names(diagnosis: Diagnosis, language: str) -> str:
    tr = Translator(language)
    return ", ".join(tr.finding(ranked.finding) for ranked in diagnosis.top3)


def tap_open(screen: Screen) -> list[tuple[int, int]]:
    """Tap the large button; returns top and bottom of the file chooser's rows once they are there."""
    left, top, right, bottom = wait_until(lambda: screen.find(theme.ACTION, 20_000), "the button that opens a file")
    assert bottom - top >= 48
    screen.tap((left + right) / 2, (top + bottom) / 2)
    return wait_until(lambda: rows(screen.pixels()), "the rows of the file chooser")


def rows(pixels: Pixels) -> list[tuple[int, int]]:
    """Top and bottom of the chooser's rows; none where the button to open a file is on screen."""
    if mask(pixels, theme.ACTION).sum() > 20_000:
        return []
    return runs(mask(pixels, theme.CARD)[:, 24], shortest=70)


def tap_row(screen: Screen, row: tuple[int, int]) -> None:
    screen.tap(500, (row[0] + row[1]) / 2)


def header_buttons(pixels: Pixels) -> list[tuple[int, int]]:
    """Left and right of each button of the header."""
    return runs(mask(pixels, theme.CARD)[16], shortest=60)


def tap_language(screen: Screen) -> None:
    """Tap the right-most button of the header."""
    start, end = header_buttons(screen.pixels())[-1]
    screen.tap((start + end) / 2, HEADER_BOTTOM / 2)


def panel_actions(pixels: Pixels) -> list[tuple[int, int]]:
    """Top and bottom of the large buttons beside the image, above the one that opens a file."""
    return runs(mask(pixels[:PANEL_BOTTOM, IMAGE_RIGHT:], theme.ACTION).sum(axis=1) > 200, shortest=48)


def red_pixels(pixels: Pixels) -> int:
    """Pixels of boxes on the image: far redder than anything grey."""
    image = pixels[HEADER_BOTTOM:IMAGE_BOTTOM, :IMAGE_RIGHT].astype(np.int16)
    return int((image[..., 0] - image[..., 1:].max(axis=2) > 80).sum())


def image_difference(one: Pixels, other: Pixels) -> float:
    """Share of the pixels of the image, its buttons left out, that differ by more than a shade."""
    inside = (slice(HEADER_BOTTOM, IMAGE_BOTTOM), slice(0, ZOOM_COLUMN - 10))
    difference = np.abs(one[inside].astype(np.int16) - other[inside]).max(axis=2)
    return float((difference > 8).mean())


def bar_lengths(pixels: Pixels) -> list[float]:
    """How far each probability bar is filled, 0..1, from top to bottom."""
    panel = pixels[:, BAR_LEFT:]
    filled = mask(panel, theme.BAR) | mask(panel, theme.URGENT)
    empty = mask(panel, theme.TRACK)
    thick = runs((filled | empty).sum(axis=1) > 180, shortest=8)
    return [float(filled[(a + b) // 2].sum() / (filled | empty)[(a + b) // 2].sum()) for a, b in thick]


def has_three_bars(pixels: Pixels) -> bool:
    return len(bar_lengths(pixels)) == 3


def test_a_paramedic_picks_a_file_and_reads_the_result_in_both_languages(
    start: Start, home: Path, expected: Diagnosis
) -> None:
    assert expected.boxes, "the sample radiograph has several large masses"
    screen = start()
    screen.wait_for_title("FirstRay – ready")
    offered = tap_open(screen)
    assert len(offered) == 2, "the chest and the legs, not the notes"

    tap_row(screen, offered[0])
    screen.wait_for_title(f"FirstRay – result: {names(expected, 'en')}")
    pixels = screen.wait_for_pixels(has_three_bars, "three probability bars")
    assert red_pixels(pixels) > 500, "boxes are drawn on the image"
    shares = [ranked.probability for ranked in expected.top3]
    assert bar_lengths(pixels) == pytest.approx(shares, abs=0.03)

    tap_language(screen)
    screen.wait_for_title(f"FirstRay – 결과: {names(expected, 'ko')}")
    korean = screen.wait_for_pixels(has_three_bars, "three probability bars")
    assert red_pixels(korean) > 500
    assert (korean != pixels).any()

    tap_row(screen, tap_open(screen)[1])
    screen.wait_for_title("FirstRay – 판독 거부 (not_a_chest_radiograph)")
    refused = screen.wait_for_pixels(lambda seen: mask(seen, theme.WARNING).sum() > 500, "the refusal's heading")
    assert red_pixels(refused) == 0
    assert bar_lengths(refused) == []
    assert screen.process.poll() is None
    assert "Traceback" not in screen.output()


def test_a_file_that_cannot_be_read_says_why_and_the_next_one_is_read(
    start: Start, home: Path, expected: Diagnosis
) -> None:
    broken = os.path.join(os.fsencode(home), b"caf\xe9.dcm")
    with open(broken, "wb") as file:
        file.write((home / "CHEST.DCM").read_bytes()[:100_000])
    screen = start("--language", "ko", broken)
    screen.wait_for_title("FirstRay – 오류 (dicom_truncated)")
    screen.wait_for_pixels(lambda seen: mask(seen, theme.URGENT).sum() > 500, "the error's heading")
    offered = tap_open(screen)
    assert len(offered) == 3
    tap_row(screen, offered[1])
    screen.wait_for_title(f"FirstRay – 결과: {names(expected, 'ko')}")


def test_the_image_zooms_and_fits_again(start: Start, home: Path, expected: Diagnosis) -> None:
    screen = start(str(home / "CHEST.DCM"))
    screen.wait_for_title(f"FirstRay – result: {names(expected, 'en')}")
    fitted = screen.wait_for_pixels(has_three_bars, "three probability bars")
    larger, _, fit = runs(mask(fitted, theme.CARD)[HEADER_BOTTOM:IMAGE_BOTTOM, ZOOM_COLUMN], shortest=48)

    screen.tap(ZOOM_COLUMN, HEADER_BOTTOM + sum(larger) / 2)
    zoomed = screen.wait_for_pixels(lambda seen: image_difference(seen, fitted) > 0.2, "a larger image")
    assert (zoomed[:, IMAGE_RIGHT:] == fitted[:, IMAGE_RIGHT:]).all(), "the panel stays as it is"

    screen.tap(ZOOM_COLUMN, HEADER_BOTTOM + sum(fit) / 2)
    screen.wait_for_pixels(lambda seen: image_difference(seen, fitted) == 0, "the whole image")


def test_a_radiograph_upside_down_is_refused_and_read_after_a_tap_that_turns_it(
    start: Start, home: Path, chest: Path, expected: Diagnosis
) -> None:
    turned = load_radiograph(chest).corrected(Correction(quarter_turns=2)).pixels
    Image.fromarray(turned).save(home / "turned.png")
    screen = start(str(home / "turned.png"))
    screen.wait_for_title("FirstRay – refused (rotated_180)")
    pixels = screen.wait_for_pixels(lambda seen: bool(panel_actions(seen)), "the button that turns it")
    assert red_pixels(pixels) == 0
    ((top, bottom),) = panel_actions(pixels)
    screen.tap((IMAGE_RIGHT + 1280) / 2, (top + bottom) / 2)
    screen.wait_for_title(f"FirstRay – result: {names(expected, 'en')}")
    corrected = screen.wait_for_pixels(lambda seen: red_pixels(seen) > 500, "the boxes")
    assert mask(corrected[:IMAGE_BOTTOM, :IMAGE_RIGHT], tuple(part / 255 for part in NOTE_GROUND)).sum() > 200
    assert mask(corrected[:, IMAGE_RIGHT:], theme.WARNING).sum() > 100, "the panel says that it was corrected"


def test_several_files_are_stepped_through(start: Start, home: Path, expected: Diagnosis) -> None:
    screen = start(str(home / "CHEST.DCM"), str(home / "LEGS"))
    screen.wait_for_title(f"FirstRay – result: {names(expected, 'en')}")
    pixels = screen.wait_for_pixels(lambda seen: len(header_buttons(seen)) == 3, "back, forward and language")
    screen.tap(sum(header_buttons(pixels)[1]) / 2, HEADER_BOTTOM / 2)
    screen.wait_for_title("FirstRay – refused (not_a_chest_radiograph)")


def test_a_missing_release_is_said_in_the_window(start: Start, tmp_path: Path) -> None:
    screen = start("--release", str(tmp_path / "nothing"))
    screen.wait_for_title("FirstRay – error (release_missing)")


def test_without_a_display_the_command_says_so(tmp_path: Path) -> None:
    hidden = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    done = subprocess.run(
        [sys.executable, "-m", "firstray", "edge"],
        env={**hidden, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert "no_display" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / ".kivy").exists(), "nothing is written to the home folder"
