"""The paramedic's app on a real (virtual) screen: real store, models, DICOM and taps."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_app.ui import theme
from edge_app.ui.i18n import Translator
from shared.diagnosis import Diagnoser, Diagnosis
from shared.radiograph import load_radiograph
from shared.release import default_release, load_release
from tests.ui.screen import Pixels, mask, wait_until
from tests.ui.tablet import PIN, Tablet

Start = Callable[..., Tablet]


@pytest.fixture(scope="module")
def expected(chest: Path) -> Diagnosis:
    """What the models say about the chest radiograph, without any window."""
    return Diagnoser(load_release(default_release())).diagnose(load_radiograph(chest))


@pytest.fixture
def start_tablet(display: str, tmp_path: Path) -> Iterator[Start]:
    """Starts the app with the arguments given; a second start finds what the first has stored."""
    started: list[Tablet] = []

    def launch(*arguments: str) -> Tablet:
        started.append(Tablet(display, tmp_path, *arguments))
        return started[-1]

    yield launch
    for tablet in started:
        tablet.close()
        assert "Traceback" not in tablet.output() if not tablet.log.closed else True


def names(diagnosis: Diagnosis, language: str = "en") -> str:
    tr = Translator(language)
    return ", ".join(tr.finding(ranked.finding) for ranked in diagnosis.top3)


def film_area(tablet: Tablet) -> tuple[slice, slice]:
    """Rows and columns of the radiograph: right of the tabs, left of its buttons."""
    left = tablet.wait_for("nav.runs")["rect"][2] + 12
    plus = tablet.wait_for("+")["rect"]
    return slice(plus[1] + 4, 740), slice(left, plus[0] - 8)


def red(pixels: Pixels, area: tuple[slice, slice]) -> int:
    """Pixels of boxes on the image: far redder than anything grey."""
    image = pixels[area].astype(np.int16)
    return int((image[..., 0] - image[..., 1:].max(axis=2) > 80).sum())


def different(one: Pixels, other: Pixels, area: tuple[slice, slice]) -> float:
    """Share of an area's pixels that differ by more than a shade."""
    return float((np.abs(one[area].astype(np.int16) - other[area]).max(axis=2) > 8).mean())


def test_from_the_first_start_over_two_taps_to_a_result_that_outlives_a_restart(
    start_tablet: Start, chest: Path, expected: Diagnosis
) -> None:
    tablet = start_tablet()
    tablet.wait_for_title("FirstRay – choose a PIN")
    tablet.type_pin("111111")
    tablet.type_pin("111111")
    tablet.wait_to_read("easy to guess")
    tablet.set_up()
    tablet.wait_for_title("FirstRay – ready")
    tablet.touch("runs.new")
    tablet.touch("begin.unknown")
    tablet.wait_for("run.pick")

    tablet.send(chest)
    tablet.wait_for_title(f"FirstRay – result: {names(expected)}")
    area = film_area(tablet)
    fitted = tablet.wait_for_pixels(lambda seen: red(seen, area) > 500, "boxes on the image")
    assert tablet.reads("Not delivered yet") or tablet.seen("result.delete") is None
    assert not tablet.reads("The hospital has it"), "nothing is delivered without a receipt"

    tablet.touch("+")
    tablet.wait_for_pixels(lambda seen: different(seen, fitted, area) > 0.2, "a larger image")
    tablet.touch("Fit")
    tablet.wait_for_pixels(lambda seen: different(seen, fitted, area) < 0.01, "the whole image")
    finding = expected.boxes[0].finding
    tablet.scroll_to(f"result.box.{finding}", 1050, 600)
    tablet.touch(f"result.box.{finding}")
    tablet.wait_for_pixels(lambda seen: red(seen, area) < red(fitted, area) * 0.9, "fewer boxes")
    tablet.close()

    again = start_tablet()
    again.wait_for_title("FirstRay – locked")
    again.type_pin("111222")
    again.wait_to_read("wrong")
    again.type_pin()
    again.touch("nav.history")
    again.touch("history.run.0")
    again.touch("run.film.0")
    again.wait_for_title(f"FirstRay – result: {names(expected)}")
    area = film_area(again)
    reopened = again.wait_for_pixels(lambda seen: red(seen, area) > 500, "the boxes again")
    assert different(reopened, fitted, area) < 0.01, "it is shown exactly as it was"


def test_a_patient_typed_in_korean_is_found_deleted_and_brought_back(start_tablet: Start, tmp_path: Path) -> None:
    tablet = start_tablet("--language", "ko")
    tablet.set_up()
    tablet.touch("runs.new")
    tablet.touch("begin.female")
    tablet.touch("run.edit")
    tablet.touch("patient.name")
    tablet.type_korean("김하늘")
    tablet.touch("enter")
    for digit in "19500302":
        tablet.touch(digit)
    tablet.touch("hide")
    tablet.touch("patient.done")
    tablet.wait_to_read("김하늘")
    tablet.touch("run.vitals")
    for value in ("94", "110", "22", "120", "80", "15"):
        for digit in value:
            tablet.touch(digit)
        tablet.touch("enter")
    tablet.wait_to_read("120/80")

    tablet.touch("nav.runs")
    tablet.touch("runs.new")
    tablet.touch("begin.unknown")
    tablet.touch("nav.history")
    tablet.wait_for("history.run.1")
    tablet.touch("history.search")
    tablet.type_korean("하늘")
    wait_until(lambda: tablet.seen("history.run.0") and not tablet.seen("history.run.1"), "one run only")
    tablet.wait_to_read("김하늘")
    tablet.touch("hide")
    tablet.touch("history.run.0.delete")
    tablet.touch("출동 삭제")
    wait_until(lambda: not tablet.seen("history.run.0"), "the run to go")
    tablet.touch("되돌리기")
    tablet.wait_for("history.run.0")
    tablet.touch("history.run.0.delete")
    tablet.touch("취소")
    tablet.wait_for("history.run.0")

    tablet.touch("nav.status")
    tablet.scroll_to("status.settings", 1000, 500)
    tablet.touch("status.settings")
    dark = tablet.pixels()
    assert mask(dark, theme.PALETTES["dark"]["GROUND"]).mean() > 0.3
    tablet.touch("English")
    tablet.wait_to_read("Colours")
    tablet.touch("Light")
    ground = theme.PALETTES["light"]["GROUND"]
    tablet.wait_for_pixels(lambda seen: mask(seen, ground).mean() > 0.3, "the light palette")
    tablet.close()
    again = start_tablet()
    again.wait_for_title("FirstRay – locked")
    again.wait_for_pixels(lambda seen: mask(seen, ground).mean() > 0.3, "the light palette again")
    files = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if "김하늘".encode() in path.read_bytes()]


def test_files_are_picked_refused_and_said_to_be_broken(
    start_tablet: Start, tmp_path: Path, chest: Path, legs: Path
) -> None:
    shutil.copy(legs, tmp_path / "LEGS")
    (tmp_path / "broken.dcm").write_bytes(chest.read_bytes()[:100_000])
    (tmp_path / "notes.txt").write_text("not offered")
    tablet = start_tablet(str(tmp_path / "LEGS"))
    tablet.set_up()
    tablet.wait_for_title("FirstRay – refused (not_a_chest_radiograph)")
    assert tablet.seen("result.anyway") is None
    tablet.touch("result.assign")
    tablet.touch("assign.new")
    tablet.wait_for_title("FirstRay – refused (not_a_chest_radiograph)")
    tablet.touch("nav.capture")
    tablet.touch("capture.pick")
    tablet.wait_to_read("broken.dcm")
    assert not tablet.reads("notes.txt")
    tablet.touch("broken.dcm")
    tablet.wait_for_title("FirstRay – error (dicom_truncated)")
    tablet.wait_to_read("breaks off")


def test_what_comes_in_behind_the_lock_is_shown_after_the_pin(
    start_tablet: Start, chest: Path, expected: Diagnosis
) -> None:
    tablet = start_tablet()
    tablet.set_up()
    tablet.touch("runs.new")
    tablet.touch("begin.male")
    tablet.wait_for("run.pick")
    tablet.touch("lock")
    tablet.wait_for_title("FirstRay – locked")
    tablet.send(chest)
    tablet.wait_to_read("New images: 1")
    assert not tablet.reads("Unknown man")
    tablet.type_pin()
    tablet.wait_for_title(f"FirstRay – result: {names(expected)}")


def test_an_image_of_nobody_waits_until_somebody_says_whose_it_is(start_tablet: Start, chest: Path) -> None:
    tablet = start_tablet()
    tablet.set_up()
    tablet.send(chest)
    tablet.touch("Choose run")
    tablet.wait_to_read("CompressedSamples")
    tablet.touch("assign.new")
    tablet.wait_for_title("FirstRay – result")
    tablet.touch("nav.runs")
    tablet.wait_for("runs.under_way.0")
    assert tablet.seen("runs.waiting") is None


def test_a_missing_release_is_said_and_the_rest_goes_on(start_tablet: Start, tmp_path: Path) -> None:
    tablet = start_tablet("--release", str(tmp_path / "nothing"))
    tablet.set_up()
    tablet.touch("nav.status")
    tablet.wait_to_read("Images cannot be read")
    tablet.touch("nav.runs")
    tablet.touch("runs.new")
    tablet.touch("begin.unknown")
    tablet.wait_for("run.edit")


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
    assert PIN not in done.stderr
