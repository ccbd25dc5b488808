"""The building blocks on a real (virtual) screen, found by the outline and used with taps and keys."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_app.ui import theme
from edge_app.ui.hangul import LATIN_KEYS, keys_of
from shared.overlay import grey8
from shared.radiograph import load_radiograph
from tests.ui.screen import Pixels, Screen, mask, wait_until


class Kit(Screen):
    """The small application, with what its outline says."""

    COMMAND = ("-m", "tests.ui.kit_app")

    def wait_to_hold(self, name: str, text: str) -> None:
        """Wait until a field shows a text."""
        wait_until(lambda: (self.seen(name, "Field") or {}).get("text") == text, f"{name}: {text}")

    def events(self) -> list[str]:
        """What happened in the application."""
        path = self.home / "events"
        return path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []

    def keys(self, *names: str) -> None:
        """Press keys of a physical keyboard."""
        self._run("xdotool", "key", "--delay", "40", *names)

    def drag(self, start: tuple[float, float], by: tuple[float, float]) -> None:
        """Move one finger over the screen."""
        self._run("xdotool", "mousemove", str(round(start[0])), str(round(start[1])), "mousedown", "1")
        for step in range(1, 11):
            x, y = (round(start[n] + by[n] * step / 10) for n in (0, 1))
            self._run("xdotool", "mousemove", str(x), str(y), "sleep", "0.02")
        self._run("xdotool", "mouseup", "1")


@pytest.fixture
def kit(display: str, tmp_path: Path, chest: Path, request: pytest.FixtureRequest) -> Iterator[Kit]:
    """The small application in one of the palettes, once it is on screen."""
    screen = Kit(display, tmp_path, getattr(request, "param", "dark"), str(chest))
    wait_until(lambda: screen.seen("Name", "Field"), "the first field")
    yield screen
    screen.close()


def film_area(kit: Kit) -> tuple[slice, slice]:
    """Rows and columns of the radiograph, tools left out."""
    return slice(150, 700), slice(560, 1150)


def changed(one: Pixels, other: Pixels, area: tuple[slice, slice]) -> float:
    return float((np.abs(one[area].astype(int) - other[area]).max(axis=2) > 8).mean())


def test_korean_is_typed_with_taps_and_goes_back_letter_by_letter(kit: Kit) -> None:
    kit.touch("Name", "Field")
    for letter in keys_of("김하늘"):
        kit.touch(letter, "Key")
    kit.wait_to_hold("Name", "김하늘")
    kit.touch("backspace", "Key")
    kit.wait_to_hold("Name", "김하느")
    kit.touch("shift", "Key")
    kit.touch("ㅆ", "Key")
    kit.wait_to_hold("Name", "김하늤")
    kit.touch("enter", "Key")
    for digit in "19500302":
        kit.touch(digit, "Key")
    kit.wait_to_hold("Born", "1950-03-02")
    kit.touch("enter", "Key")
    for digit in "4711":
        kit.touch(digit, "Key")
    kit.wait_to_hold("PIN", "●●●●")
    assert "4711" not in (kit.home / "outline.json").read_text()
    kit.touch("enter", "Key")
    wait_until(lambda: kit.seen("enter", "Key") is None, "the keyboard to go")
    assert kit.events() == ["pin 4711"]


def test_backspace_held_down_goes_on(kit: Kit) -> None:
    kit.touch("Name", "Field")
    wait_until(lambda: kit.seen("enter", "Key"), "the keyboard")
    kit.keys("shift+space", *"abcdefgh")
    kit.wait_to_hold("Name", "abcdefgh")
    left, top, right, bottom = wait_until(lambda: kit.seen("backspace", "Key"), "the key")["rect"]
    kit._run("xdotool", "mousemove", str((left + right) // 2), str((top + bottom) // 2), "mousedown", "1")
    kit.wait_to_hold("Name", "")
    kit._run("xdotool", "mouseup", "1", "sleep", "1")  # a finger's end is seen a frame after a key
    kit.keys("a")
    kit.wait_to_hold("Name", "a")


def test_a_physical_keyboard_types_korean_and_english(kit: Kit) -> None:
    kit.touch("Name", "Field")
    wait_until(lambda: kit.seen("enter", "Key"), "the keyboard")
    latin = {jamo: letter for letter, jamo in LATIN_KEYS.items() if letter.islower()}
    kit.keys(*(latin[letter] for letter in keys_of("환자")))
    kit.wait_to_hold("Name", "환자")
    kit.keys("shift+space", "a", "shift+b", "exclam", "Home", "x", "End", "BackSpace")
    kit.wait_to_hold("Name", "x환자aB")
    kit.keys("Return", "1", "9", "4", "Escape")
    kit.wait_to_hold("Born", "194")
    wait_until(lambda: kit.seen("enter", "Key") is None, "the keyboard to go")


def test_the_field_written_in_stays_in_sight_and_takes_several_lines(kit: Kit) -> None:
    kit.touch("Name", "Field")
    wait_until(lambda: kit.seen("enter", "Key"), "the keyboard")
    kit._run("xdotool", "mousemove", "250", "250", "click", "--repeat", "12", "--delay", "30", "5")
    kit.touch("Notes", "Field")
    wait_until(lambda: kit.seen("newline", "Key"), "the key for a new line")
    kit.touch("language", "Key")
    for key in ("a", "newline", "b"):
        kit.touch(key, "Key")
    kit.wait_to_hold("Notes", "a\nb")

    def in_sight() -> bool:
        field, keyboard = kit.seen("Notes", "Field"), kit.seen("q", "Key")
        assert field is not None
        assert keyboard is not None
        return field["rect"][3] <= keyboard["rect"][1] and field["rect"][3] - field["rect"][1] > 100

    wait_until(in_sight, "the whole field above the keyboard")


@pytest.mark.parametrize("kit", ["dark", "light"], indirect=True)
def test_a_dialog_asks_and_a_toast_takes_it_back(kit: Kit) -> None:
    kit.touch("Delete the run")
    wait_until(lambda: kit.seen("Keep"), "the dialog")
    assert kit.seen("Delete the run") is None, "what lies beneath is not offered"
    kit.touch("Keep")
    wait_until(lambda: kit.events() == ["kept"], "the answer")
    kit.touch("Delete the run")
    kit.touch("Delete")
    kit.touch("Undo")
    wait_until(lambda: kit.events() == ["kept", "undone"], "the undoing")
    wait_until(lambda: kit.seen("Undo") is None and kit.seen("Delete the run"), "the screen as it was")


def test_one_of_several_is_chosen_and_a_switch_is_thrown(kit: Kit) -> None:
    kit.touch("Female")
    wait_until(lambda: (kit.seen("Female") or {}).get("selected"), "the choice")
    kit.touch("Light palette", "Toggle")
    wait_until(lambda: kit.events() == ["sex female", "toggle True"], "both")
    small = [e for e in kit.outline() if e["kind"] in ("Touch", "Segment", "Toggle", "FilmTouch", "FilmPreset")]
    assert len(small) > 5
    assert all(e["rect"][3] - e["rect"][1] >= 48 and e["rect"][2] - e["rect"][0] >= 48 for e in small)


def test_the_film_looks_as_it_was_read_and_through_other_windows(kit: Kit, chest: Path) -> None:
    kit.touch("boxes")
    area = film_area(kit)
    first = kit.wait_for_pixels(lambda seen: not mask(seen[area], theme.BOX).any(), "the film without boxes")
    grey = np.asarray(grey8(load_radiograph(chest)), float)
    assert abs(first[area].mean() - grey.mean()) < 25
    assert (first[area].max(axis=2) == first[area].min(axis=2)).mean() > 0.99, "a film is grey"

    kit.touch("windowing")
    kit.touch("Lung")
    kit.wait_for_pixels(lambda seen: changed(seen, first, area) > 0.3, "another window")
    kit.touch("As read")
    kit.wait_for_pixels(lambda seen: changed(seen, first, (slice(150, 600), area[1])) == 0, "the first window again")
    wait_until(lambda: (kit.seen("As read") or {}).get("selected"), "what was chosen")
    kit.drag((700, 300), (120, 0))
    sharper = kit.wait_for_pixels(lambda seen: changed(seen, first, area) > 0.2, "more contrast")
    inside = (slice(150, 600), area[1])
    assert sharper[inside].std() > first[inside].std()
    wait_until(lambda: (kit.seen("As read") or {}).get("selected") is False, "that it is not as it was read")


def box_thickness(pixels: Pixels) -> int:
    """Pixels of the thinnest run of red in a row through the boxes."""
    columns = mask(pixels[300:301, 530:1150], theme.BOX)[0]
    edges = np.flatnonzero(np.diff(np.concatenate([[False], columns, [False]]).astype(int))).reshape(-1, 2)
    return int(min(b - a for a, b in edges)) if len(edges) else 0


def test_boxes_are_as_thick_at_any_zoom_and_a_double_tap_zooms(kit: Kit) -> None:
    fitted = kit.wait_for_pixels(lambda seen: mask(seen, theme.BOX).sum() > 300, "the boxes")
    thickness = box_thickness(fitted)
    assert 2 <= thickness <= 5
    kit._run("xdotool", "mousemove", "760", "330", "click", "--repeat", "2", "--delay", "90", "1")
    zoomed = kit.wait_for_pixels(lambda seen: changed(seen, fitted, film_area(kit)) > 0.2, "a larger film")
    assert box_thickness(zoomed) == thickness
    kit.touch("boxes")
    kit.wait_for_pixels(lambda seen: not mask(seen[:, 530:1150], theme.BOX).any(), "no boxes")
    kit.touch("boxes")
    kit.touch("Fit")
    kit.wait_for_pixels(lambda seen: changed(seen, fitted, film_area(kit)) == 0, "the whole film")


def test_an_outline_that_cannot_be_written_is_said_at_the_start(display: str, tmp_path: Path, chest: Path) -> None:
    done = subprocess.run(
        [sys.executable, *Kit.COMMAND, "dark", str(chest)],
        env={
            **os.environ,
            "DISPLAY": display,
            "HOME": str(tmp_path),
            "FIRSTRAY_OUTLINE": str(tmp_path / "no" / "file"),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    assert "FIRSTRAY_OUTLINE cannot be written" in done.stderr


def test_the_outline_is_the_owners_alone(kit: Kit) -> None:
    path = kit.home / "outline.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    entries = kit.outline()
    assert all(set(e) == {"kind", "text", "name", "rect", "enabled", "selected"} for e in entries)
    assert all(0 <= e["rect"][0] < e["rect"][2] <= 1280 and 0 <= e["rect"][1] < e["rect"][3] <= 800 for e in entries)
