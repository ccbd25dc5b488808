"""The real application on a screen, used as a user does: by pixels, its title, and taps on what its outline names."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from edge_app.ui.theme import Colour

SECONDS = 90.0
POLL = 0.1
TAP = 0.15
"""Seconds a finger stays down: Kivy takes a shorter touch for the start of a scroll."""
LOOKED = 0.22
"""Seconds after which the outline has surely been written anew."""

T = TypeVar("T")
Entry = dict[str, Any]
"""A widget of the outline (``edge_app.ui.outline``)."""
Pixels = npt.NDArray[np.uint8]
Rectangle = tuple[int, int, int, int]


def wait_until(look: Callable[[], T], what: str) -> T:
    """The first truthy thing that ``look`` sees, within :data:`SECONDS`."""
    end = time.monotonic() + SECONDS
    while not (seen := look()):
        if time.monotonic() > end:
            pytest.fail(f"waited {SECONDS:.0f} s in vain for {what}")
        time.sleep(POLL)
    return seen


def mask(pixels: Pixels, colour: Colour, tolerance: int = 6) -> npt.NDArray[np.bool_]:
    """Where ``pixels`` ``[H, W, 3]`` have a colour of the theme."""
    wanted = np.round(np.array(colour[:3]) * 255)
    return (np.abs(pixels.astype(np.int16) - wanted) <= tolerance).all(axis=2)


def runs(line: npt.NDArray[np.bool_], shortest: int) -> list[tuple[int, int]]:
    """(start, end) of every stretch of true values that is at least ``shortest`` long."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], line, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2) if b - a >= shortest]


class Screen:
    """One application on one virtual screen."""

    COMMAND: tuple[str, ...] = ("-m", "firstray", "edge")
    """What Python runs."""

    def __init__(self, display: str, home: Path, *arguments: str | bytes) -> None:
        self.display = display
        self.home = home
        self.environment = {
            **os.environ,
            "DISPLAY": display,
            "HOME": str(home),
            "XDG_CACHE_HOME": str(home / ".cache"),
            "LIBGL_ALWAYS_SOFTWARE": "1",
            "FIRSTRAY_OUTLINE": str(home / "outline.json"),
        }
        self.log = (home / ".log").open("w+b")
        command: list[str | bytes] = [sys.executable, *self.COMMAND, *arguments]
        self.process = subprocess.Popen(command, env=self.environment, stdout=self.log, stderr=self.log)

    def title(self) -> str:
        """The window's title; empty while there is no window."""
        assert self.process.poll() is None, self.output()
        found = self._run("xdotool", "search", "--class", "firstray", "getwindowname", check=False)
        return found.decode().strip()

    def wait_for_title(self, part: str) -> str:
        """Wait until the window's title contains ``part``."""
        end = time.monotonic() + SECONDS
        while part not in (title := self.title()):
            if time.monotonic() > end:
                pytest.fail(f"the title is {title!r}, not {part!r}; output: {self.output()}")
            time.sleep(POLL)
        return title

    def pixels(self) -> Pixels:
        """What is on the screen, ``[H, W, 3]``."""
        return np.asarray(Image.open(BytesIO(self.photo())).convert("RGB"))

    def photo(self) -> bytes:
        """What is on the screen, as PNG."""
        return self._run("import", "-window", "root", "png:-")

    def wait_for_pixels(self, right: Callable[[Pixels], bool], what: str) -> Pixels:
        """Wait until the screen looks right."""
        seen: list[Pixels] = []

        def look() -> bool:
            seen[:] = [self.pixels()]
            return right(seen[0])

        wait_until(look, what)
        return seen[0]

    def outline(self) -> list[Entry]:
        """The widgets on the screen; none before it is there."""
        assert self.process.poll() is None, self.output()
        try:
            return json.loads((self.home / "outline.json").read_text())["widgets"]
        except FileNotFoundError:
            return []

    def seen(self, wanted: str, kind: str = "") -> Entry | None:
        """The topmost enabled widget with that name, or with that text, of that kind if one is given."""
        found = [
            entry
            for entry in self.outline()
            if wanted in (entry["name"], entry["text"]) and kind in ("", entry["kind"]) and entry["enabled"]
        ]
        return found[-1] if found else None

    def reads(self, part: str) -> bool:
        """Whether a text on the screen contains ``part``."""
        return any(part in entry["text"] for entry in self.outline())

    def wait_for(self, wanted: str, kind: str = "") -> Entry:
        """Wait until a widget of that name or text can be tapped."""
        found = wait_until(lambda: self.seen(wanted, kind), wanted)
        assert found is not None
        return found

    def wait_to_read(self, part: str) -> None:
        """Wait until a text on the screen contains ``part``."""
        wait_until(lambda: self.reads(part), part)

    def touch(self, wanted: str, kind: str = "") -> None:
        """Tap the middle of a widget once it is there and stands still: a tap on what still scrolls only stops it."""
        rect = None
        while rect != (rect := self.wait_for(wanted, kind)["rect"]):
            time.sleep(LOOKED)
        left, top, right, bottom = rect
        self.tap((left + right) / 2, (top + bottom) / 2)

    def scroll_to(self, wanted: str, x: float, y: float) -> None:
        """Scroll down at a place until a widget can be seen."""
        for _ in range(12):
            if self.seen(wanted):
                return
            self._run("xdotool", "mousemove", str(round(x)), str(round(y)), *(["click", "5"] * 4))
            time.sleep(0.3)
        self.wait_for(wanted)

    def tap(self, x: float, y: float) -> None:
        """Touch the screen with one finger."""
        self._run("xdotool", "mousemove", str(round(x)), str(round(y)), "mousedown", "1")
        time.sleep(TAP)
        self._run("xdotool", "mouseup", "1")

    def find(self, colour: Colour, smallest: int) -> Rectangle | None:
        """Left, top, right and bottom of everything in a colour, if that is at least ``smallest`` pixels."""
        found = mask(self.pixels(), colour)
        if found.sum() < smallest:
            return None
        rows, columns = np.flatnonzero(found.any(axis=1)), np.flatnonzero(found.any(axis=0))
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1

    def output(self) -> str:
        """What the application printed."""
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def close(self) -> None:
        """End the application."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def _run(self, *command: str, check: bool = True) -> bytes:
        done = subprocess.run(command, env=self.environment, capture_output=True, timeout=SECONDS, check=check)
        return done.stdout
