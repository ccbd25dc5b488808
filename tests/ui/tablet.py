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
"""Seconds from the first frame until the window surely gets what is tapped on it."""


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
