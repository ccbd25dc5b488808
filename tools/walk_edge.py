"""``make walk-edge``: a scripted walk through the ambulance's app with real taps, and a screenshot of each step.

Needs Xvfb, xdotool, ImageMagick and DCMTK. The X-ray device is DCMTK's ``storescu``, the hospital is that of the tests.
Ends with an error as soon as a step does not show what it must.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.edge.display import virtual_screen
from edge_app.demo import exposed
from firstray.demo import sample_radiograph
from shared.hospital import Acknowledgement, ErMessage
from tests.fake_hospital import FakeHospital
from tests.ui.screen import Screen, wait_until

PIN = "271828"
PANEL = 1050
"""A column through the panel beside the image."""


class Walk(Screen):
    """The app on a virtual screen, found by its outline, photographed step by step."""

    def __init__(self, display: str, home: Path, out: Path, *arguments: str) -> None:
        self._out = out
        self._step = 0
        super().__init__(display, home, *arguments)

    def photograph(self, name: str) -> None:
        """Keep what is on the screen as the next step."""
        time.sleep(0.8)
        self._step += 1
        file = self._out / f"{self._step:02d}-{name}.png"
        file.write_bytes(self.photo())
        print(file)

    def type_pin(self, pin: str) -> None:
        """Tap the digits, then enter."""
        for digit in pin:
            self.touch(f"unlock.digit.{digit}")
        self.touch("unlock.enter")


def send(port: int, file: Path) -> None:
    """Send a radiograph as an X-ray device does that has just exposed it."""
    with tempfile.NamedTemporaryFile(suffix=".dcm") as fresh:
        exposed(file).save_as(fresh.name, enforce_file_format=True)
        device = ["storescu", "-aec", "FIRSTRAY", "-aet", "PORTABLE1"]
        subprocess.run([*device, "127.0.0.1", str(port), fresh.name], check=True)


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
    app.wait_for("unlock.digit.1")
    app.photograph("choose-a-pin")
    app.type_pin(PIN)
    time.sleep(1)
    app.type_pin(PIN)
    app.wait_for("runs.new")
    app.photograph("home")


def a_run_in_two_taps(app: Walk) -> None:
    """New run, unknown patient."""
    app.touch("runs.new")
    app.wait_for("begin.unknown")
    app.photograph("new-run")
    app.touch("begin.unknown")
    app.wait_for("run.edit")
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
    app.scroll_to("result.box.Nodule", PANEL, 500)
    app.touch("result.box.Nodule")
    app.photograph("nodule-boxes-off")
    app.touch("result.box.Nodule")


def fill_in_the_patient(app: Walk) -> None:
    """Details and vital signs, later."""
    app.touch("◀")
    app.touch("run.edit")
    app.wait_for("patient.name")
    app.touch("patient.name")
    app.photograph("keyboard")
    app.touch("patient.done")
    app.wait_for("run.vitals")
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
    app.wait_for("status.news.0")
    app.wait_to_read("Nothing waits.")
    app.photograph("status-delivered")
    app.touch("status.news.0")
    app.wait_to_read("Resuscitation room 2")
    app.photograph("answer-of-the-er")


def history(app: Walk) -> None:
    """Find the run, delete it, bring it back."""
    app.touch("nav.history")
    app.wait_for("history.run.0")
    app.photograph("history")
    app.touch("history.run.0")
    app.touch("run.delete")
    app.photograph("delete")
    app.touch("Delete run")
    app.wait_for("Undo")
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
