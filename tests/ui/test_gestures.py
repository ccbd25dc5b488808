"""Two fingers, linked viewers, and what stays when another film is shown."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def steps(display: str, tmp_path_factory: pytest.TempPathFactory, chest: Path) -> dict[str, Any]:
    """What the viewers were like after each step of ``gestures.py``."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.ui.gestures", str(chest)],
        env={**os.environ, "DISPLAY": display, "HOME": str(tmp_path_factory.mktemp("home"))}
        | {"LIBGL_ALWAYS_SOFTWARE": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {step["step"]: step["viewers"] for step in seen}


def test_two_fingers_zoom_by_as_much_as_they_part(steps: dict[str, Any]) -> None:
    assert steps["fitted"][0]["zoom"] == 1
    assert steps["pinched"][0]["zoom"] == pytest.approx(2, rel=0.02)
    assert steps["pinched"][0]["centre"] == pytest.approx(steps["fitted"][0]["centre"], abs=0.01)


def test_two_fingers_side_by_side_move_without_zooming(steps: dict[str, Any]) -> None:
    before, after = steps["pinched"][0], steps["two fingers"][0]
    assert after["zoom"] == pytest.approx(before["zoom"], rel=0.05)
    assert after["centre"][0] < before["centre"][0]


def test_one_finger_moves(steps: dict[str, Any]) -> None:
    before, after = steps["two fingers"][0], steps["one finger"][0]
    assert after["zoom"] == before["zoom"]
    assert after["centre"][0] > before["centre"][0]
    assert after["centre"][1] < before["centre"][1]


def test_one_finger_changes_the_window_instead_when_asked_to(steps: dict[str, Any]) -> None:
    before, after = steps["windowing"][0], steps["window"][0]
    assert after["centre"] == before["centre"]
    assert after["window"][1] - after["window"][0] < before["window"][1] - before["window"][0]
    assert sum(after["window"]) < sum(before["window"]), "brighter"
    assert (before["preset"], after["preset"]) == ("as_read", "")


def test_linked_viewers_move_together_but_keep_their_windows(steps: dict[str, Any]) -> None:
    one, two = steps["window"]
    assert two["zoom"] == one["zoom"] > 1
    assert two["centre"] == pytest.approx(one["centre"])
    assert two["window"] == steps["start"][1]["window"]


def test_the_same_film_stays_as_it_was_and_another_begins_anew(steps: dict[str, Any]) -> None:
    assert steps["the same film"][0] == steps["window"][0]
    assert steps["another film"][0] == steps["fitted"][0]


def test_a_touch_that_begins_on_a_button_is_no_gesture(steps: dict[str, Any]) -> None:
    assert steps["button"][0]["window"] == steps["the same film"][0]["window"]
    assert steps["button"][0]["centre"] == pytest.approx(steps["the same film"][0]["centre"], abs=1e-6)
