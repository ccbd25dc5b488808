"""The screens looked at and gone through from inside the app: every_screen.py, passages.py."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = 540
SMALLEST = "800x480"
CUT_OFF_IS_FINE = "shortened"
"""Long names and complaints end in an ellipsis in lists; they are whole on their own screen."""

pytestmark = pytest.mark.timeout(600)


def inside(module: str, display: str, home: Path, *arguments: str) -> str:
    """Run a module inside the app; its last line."""
    environment = {**os.environ, "DISPLAY": display, "HOME": str(home), "LIBGL_ALWAYS_SOFTWARE": "1"}
    command = [sys.executable, "-m", f"tests.ui.{module}", str(home), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def test_nothing_is_cut_off_or_too_small_to_tap_in_either_language(display: str, tmp_path: Path, chest: Path) -> None:
    found = json.loads(inside("every_screen", display, tmp_path, str(chest), "-", SMALLEST))
    assert [each for each in found if each["what"] != CUT_OFF_IS_FINE] == []


def test_passages_between_places(display: str, tmp_path: Path, chest: Path) -> None:
    assert inside("passages", display, tmp_path, str(chest)) == "done"
