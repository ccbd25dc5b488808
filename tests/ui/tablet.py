"""The whole application on a virtual screen, used by taps on what its outline names."""

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from edge_app import demo
from edge_app.ui.hangul import keys_of
from tests.ui.screen import Screen, wait_until

Entry = dict[str, Any]

PIN = "271828"
AE_TITLE = "FIRSTRAY"
MAPPED = 1.0
"""Seconds from the first frame until the window surely gets what is tapped on it."""
LOOKED = 0.22
"""Seconds after which the outline has surely been written anew."""


class Tablet(Screen):
    """The app with a store and a DICOM port of its own.

    Args:
        display: of the virtual screen.
        home: home folder; the store lies in it and outlives the app.
        arguments: further ones of ``firstray edge``.
    """

    def __init__(self, display: str, home: Path, *arguments: str) -> None:
        self.home = home
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        os.environ["FIRSTRAY_OUTLINE"] = str(home / "outline.json")
        receiver = ("--host", "127.0.0.1", "--port", str(self.port))
        try:
            super().__init__(display, home, "--store", str(home / "store"), *receiver, *arguments)
        finally:
            del os.environ["FIRSTRAY_OUTLINE"]

    def outline(self) -> list[Entry]:
        """The widgets on the screen; none before it is there."""
        assert self.process.poll() is None, self.output()
        try:
            return json.loads((self.home / "outline.json").read_text())["widgets"]
        except FileNotFoundError:
            return []

    def seen(self, wanted: str) -> Entry | None:
        """The topmost enabled widget with that name, or with that text."""
        found = [entry for entry in self.outline() if wanted in (entry["name"], entry["text"]) and entry["enabled"]]
        return found[-1] if found else None

    def reads(self, part: str) -> bool:
        """Whether a text on the screen contains ``part``."""
        return any(part in entry["text"] for entry in self.outline())

    def wait_for(self, wanted: str) -> Entry:
        """Wait until a widget of that name or text can be tapped."""
        found = wait_until(lambda: self.seen(wanted), wanted)
        assert found is not None
        return found

    def wait_to_read(self, part: str) -> None:
        """Wait until a text on the screen contains ``part``."""
        wait_until(lambda: self.reads(part), part)

    def touch(self, wanted: str) -> None:
        """Tap the middle of a widget once it is there and stands still."""
        rect = None
        while rect != (rect := self.wait_for(wanted)["rect"]):
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

    def type_pin(self, pin: str = PIN) -> None:
        """Type a PIN on the number pad."""
        self.wait_for("unlock.digit.1")
        time.sleep(MAPPED)
        for digit in pin:
            self.touch(f"unlock.digit.{digit}")
        self.touch("unlock.enter")

    def set_up(self) -> None:
        """Choose the PIN of a new device."""
        self.type_pin()
        self.type_pin()
        self.wait_for("runs.new")

    def type_korean(self, text: str) -> None:
        """Type on the Korean on-screen keyboard."""
        for letter in keys_of(text):
            self.touch(letter)

    def send(self, radiograph: Path) -> None:
        """Send a radiograph as an X-ray device does."""
        demo.send(radiograph, "127.0.0.1", self.port, AE_TITLE)
