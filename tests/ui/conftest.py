"""A virtual screen, and the application started on it."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.ui.screen import Screen

TOOLS = ("Xvfb", "xdotool", "import")


@pytest.fixture(scope="session")
def display() -> Iterator[str]:
    """A virtual screen of a tablet's size; skips where its tools are missing."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed (Debian: xvfb xdotool imagemagick)")
    reading, writing = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writing), "-screen", "0", "1280x800x24", "-nolisten", "tcp"],
        pass_fds=[writing],
        stderr=subprocess.DEVNULL,
    )
    os.close(writing)
    with os.fdopen(reading) as number:
        yield f":{number.readline().strip()}"
    server.terminate()
    server.wait()


@pytest.fixture
def start(display: str, tmp_path: Path) -> Iterator[Callable[..., Screen]]:
    """Starts the application with the arguments given; its home folder is ``tmp_path``."""
    started: list[Screen] = []

    def launch(*arguments: str | bytes) -> Screen:
        started.append(Screen(display, tmp_path, *arguments))
        return started[-1]

    yield launch
    for screen in started:
        screen.close()
