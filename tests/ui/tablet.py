"""The whole application on a virtual screen, used by taps on what its outline names."""

import socket
import time
from pathlib import Path

from edge_app import demo
from edge_app.ui.hangul import keys_of
from tests.ui.screen import Screen

PIN = "271828"
AE_TITLE = "FIRSTRAY"
MAPPED = 1.0
"""Seconds from the first frame until the window gets what is tapped on it, on a machine that is not busy."""
TRIES = 5


class Tablet(Screen):
    """The app with a store and a DICOM port of its own.

    Args:
        display: of the virtual screen.
        home: home folder; the store lies in it and outlives the app.
        arguments: further ones of ``firstray edge``.
    """

    def __init__(self, display: str, home: Path, *arguments: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        receiver = ("--host", "127.0.0.1", "--port", str(self.port))
        super().__init__(display, home, "--store", str(home / "store"), *receiver, *arguments)

    def type_pin(self, pin: str = PIN) -> None:
        """Type a PIN on the number pad; once more where the window was not ready for the first taps."""
        self.wait_for("unlock.digit.1")
        time.sleep(MAPPED)
        for _ in range(TRIES):
            for digit in pin:
                self.touch(f"unlock.digit.{digit}")
            time.sleep(MAPPED)
            if self.seen("unlock.enter"):
                break
            for _ in pin:
                self.touch("unlock.erase")
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

    def type_keys(self, text: str) -> None:
        """Type what is on one page of the on-screen keyboard, which is shown."""
        keys = {entry["text"]: entry["rect"] for entry in self.outline() if entry["kind"] == "Key"}
        for letter in text:
            left, top, right, bottom = keys[letter]
            self.tap((left + right) / 2, (top + bottom) / 2)

    def send(self, radiograph: Path) -> None:
        """Send a radiograph as an X-ray device does."""
        demo.send(radiograph, "127.0.0.1", self.port, AE_TITLE)
