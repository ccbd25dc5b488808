"""``make walk-edge``: a scripted walk through the ambulance's app with real taps, and a screenshot of each step.

Needs Xvfb, xdotool, ImageMagick and DCMTK. The X-ray device is DCMTK's ``storescu``, the hospital is that of the tests.
Ends with an error as soon as a step does not show what it must.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.edge.display import virtual_screen
from firstray.demo import sample_radiograph
from shared.hospital import Acknowledgement, ErMessage
from tests.fake_hospital import FakeHospital
from tests.ui.screen import Screen, wait_until

PIN = "271828"
Entry = dict[str, Any]
PANEL = 1050
"""A column through the panel beside the image."""


class Walk(Screen):
    """The app on a virtual screen, found by its outline, photographed step by step."""

    def __init__(self, display: str, home: Path, out: Path, *arguments: str) -> None:
        self._outline = home / "outline.json"
        self._out = out
        self._step = 0
        os.environ["FIRSTRAY_OUTLINE"] = str(self._outline)
        super().__init__(display, home, *arguments)

    def widgets(self) -> list[Entry]:
        """What the screen shows."""
        if self.process.poll() is not None:
            raise RuntimeError(f"the app ended: {self.output()}")
        return json.loads(self._outline.read_text())["widgets"] if self._outline.exists() else []

    def seen(self, wanted: str) -> Entry | None:
        """The topmost widget of that name or text."""
        found = [one for one in self.widgets() if wanted in (one["name"], one["text"])]
        return found[-1] if found else None

    def says(self, words: str) -> bool:
        """Whether these words stand somewhere on the screen."""
        return any(words in one["text"] for one in self.widgets())

    def touch(self, wanted: str) -> None:
        """Tap a widget once it is there and has stopped moving."""
        before: Entry | None = None

        def still() -> Entry | None:
            nonlocal before
            now = self.seen(wanted)
            calm = now is not None and before is not None and now["rect"] == before["rect"] and now["enabled"]
            before = now
            time.sleep(0.25)
            return now if calm else None

        left, top, right, bottom = wait_until(still, wanted)["rect"]
        self.tap((left + right) / 2, (top + bottom) / 2)

    def reveal(self, wanted: str, x: int) -> None:
        """Scroll what lies at ``x`` until a widget can be seen."""

        def look() -> bool:
            if self.seen(wanted):
                return True
            self._run("xdotool", "mousemove", str(x), "500", "click", "5", "click", "5")
            time.sleep(0.4)
            return False

        wait_until(look, wanted)

    def expect(self, words: str) -> None:
        """Wait for words on the screen."""
        wait_until(lambda: self.says(words), words)

    def photograph(self, name: str) -> None:
        """Keep what is on the screen as the next step."""
        time.sleep(0.8)
        self._step += 1
        file = self._out / f"{self._step:02d}-{name}.png"
        file.write_bytes(self._run("import", "-window", "root", "png:-"))
        print(file)

    def type_pin(self, pin: str) -> None:
        """Tap the digits, then enter."""
        for digit in pin:
            self.touch(f"unlock.digit.{digit}")
        self.touch("unlock.enter")


def send(port: int, file: Path) -> None:
    """Send a radiograph as an X-ray device does."""
    subprocess.run(["storescu", "-aec", "FIRSTRAY", "-aet", "PORTABLE1", "127.0.0.1", str(port), str(file)], check=True)


def free_port() -> int:
    """A port nobody listens on just now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def walk(display: str, home: Path, out: Path) -> None:
    """The whole way; see the module."""
    port = free_port()
    hospital = FakeHospital()
    hospital.start()
    access = home / "hospital.json"
    settings = {"url": hospital.url, "receipt_keys": hospital.receipt_keys, "name": "City Hospital"}
    access.write_text(json.dumps(settings))
    hospital.stop()  # no network at first
    options = ("--store", str(home / "store"), "--host", "127.0.0.1", "--port", str(port), "--hospital", str(access))
    app = Walk(display, home, out, *options)
    try:
        choose_a_pin(app)
        a_run_in_two_taps(app)
        the_image_arrives(app, port)
        look_at_the_result(app)
        fill_in_the_patient(app)
        the_hospital_is_reached(app, hospital)
        history(app)
        languages_and_colours(app)
    except BaseException:
        app.photograph("where-it-stopped")
        raise
    finally:
        app.close()
        hospital.stop()


def choose_a_pin(app: Walk) -> None:
    """The first start."""
    wait_until(lambda: app.seen("unlock.digit.1"), "the digits")
    app.photograph("choose-a-pin")
    app.type_pin(PIN)
    time.sleep(1)
    app.type_pin(PIN)
    wait_until(lambda: app.seen("runs.new"), "the list of runs")
    app.photograph("home")


def a_run_in_two_taps(app: Walk) -> None:
    """New run, unknown patient."""
    app.touch("runs.new")
    wait_until(lambda: app.seen("begin.unknown"), "the choice")
    app.photograph("new-run")
    app.touch("begin.unknown")
    wait_until(lambda: app.seen("run.edit"), "the run")
    app.photograph("run")


def the_image_arrives(app: Walk, port: int) -> None:
    """By DICOM, and its result by itself."""
    began = time.monotonic()
    send(port, sample_radiograph())
    app.wait_for_title("result:")
    print(f"result {time.monotonic() - began:.2f} s after sending began (the title is looked at ten times a second)")
    app.photograph("result")


def look_at_the_result(app: Walk) -> None:
    """Zoom, another window, boxes off."""
    app.touch("+")
    app.touch("+")
    app.photograph("zoomed")
    app.touch("Fit")
    app.touch("windowing")
    app.touch("Lung")
    app.photograph("window-level")
    app.touch("As read")
    app.touch("windowing")
    app.reveal("result.box.Nodule", PANEL)
    app.touch("result.box.Nodule")
    app.photograph("nodule-boxes-off")
    app.touch("result.box.Nodule")


def fill_in_the_patient(app: Walk) -> None:
    """Details and vital signs, later."""
    app.touch("◀")
    app.touch("run.edit")
    wait_until(lambda: app.seen("patient.name"), "the form")
    app.touch("patient.name")
    app.photograph("keyboard")
    app.touch("patient.done")
    wait_until(lambda: app.seen("run.vitals"), "the run")
    app.touch("run.vitals")
    app.photograph("vital-signs")
    app.touch("◀")


def the_hospital_is_reached(app: Walk, hospital: FakeHospital) -> None:
    """Receipts, an acknowledgement and a message."""
    app.touch("nav.status")
    app.photograph("status-no-network")
    hospital.start()
    hospital.wait_for(lambda: len(hospital.held.images) == 2, 30)
    run = next(event.action.id for event in hospital.held.events if getattr(event.action, "type", "") == "encounter")
    now = datetime.now(UTC)
    hospital.push(
        Acknowledgement(encounter=run, by="Dr. Han", at=now),
        ErMessage(encounter=run, by="Dr. Han", text="Resuscitation room 2 is ready.", at=now),
    )
    wait_until(lambda: app.seen("status.news.0"), "news from the emergency room")
    app.expect("Nothing waits.")
    app.photograph("status-delivered")
    app.touch("status.news.0")
    app.expect("Resuscitation room 2")
    app.photograph("answer-of-the-er")


def history(app: Walk) -> None:
    """Find the run, delete it, bring it back."""
    app.touch("nav.history")
    wait_until(lambda: app.seen("history.run.0"), "a run in the history")
    app.photograph("history")
    app.touch("history.run.0")
    app.touch("run.delete")
    app.photograph("delete")
    app.touch("Delete run")
    wait_until(lambda: app.seen("Undo"), "the offer to undo")
    app.photograph("undo")
    app.touch("Undo")
    wait_until(lambda: app.seen("history.run.0") or app.seen("runs.under_way.0"), "the run again")


def languages_and_colours(app: Walk) -> None:
    """Korean, then light."""
    app.touch("nav.status")
    app.touch("status.settings")
    app.photograph("settings")
    app.touch("한국어")
    app.photograph("korean")
    app.touch("nav.runs")
    app.touch("runs.under_way.0")
    app.photograph("korean-run")
    app.touch("run.film.0")
    app.wait_for_title("종괴")
    app.photograph("korean-result")


def main() -> int:
    """Walk; exit code 0 only if every step showed what it must."""
    parser = argparse.ArgumentParser(prog="make walk-edge")
    parser.add_argument("--out", type=Path, default=Path("results/walk-edge"))
    out = parser.parse_args().out
    if missing := [tool for tool in ("Xvfb", "xdotool", "import", "storescu") if shutil.which(tool) is None]:
        print(f"not installed: {', '.join(missing)} (Debian: xvfb xdotool imagemagick dcmtk)", file=sys.stderr)
        return 2
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    with virtual_screen() as environment, tempfile.TemporaryDirectory(prefix="firstray-walk-") as home:
        walk(environment["DISPLAY"], Path(home), out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
