"""The link comes up, and it is bad: how soon the emergency room sees the run with its findings, then has the preview.

A real device without a screen, which has been without a network since its start: it has received and read a radiograph
meanwhile. Then the link is there, with 50 kbit/s each way, 600 ms for a round trip, and one connection in twenty that
breaks. TLS, a token, the records and the preview all go over it. Each turn has a device and a film of its own.
"""

from __future__ import annotations

import re
import secrets
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import httpx
import pydicom
from pydicom.uid import generate_uid
from sqlmodel import col, select

from benchmarks.fresh import Problem
from benchmarks.server.place import Place, wait_until
from firstray.demo import sample_radiograph
from shared.hospital import ImageKind
from sync_server.admin_commands import create_user
from sync_server.db.tables import ImageRow
from sync_server.domain.accounts import Role
from sync_server.hospital import Hospital
from sync_server.settings import load_settings
from tests.fake_hospital.certificates import Authority
from tests.fake_hospital.shaper import Shaper
from tools.e2e import Program, firstray, free_port, secret
from tools.e2e import running as ended_after

BITS_PER_SECOND: Final = 50_000
ROUND_TRIP_S: Final = 0.6
BREAKS: Final = 0.05
PATIENCE_S: Final = 60.0
LOGIN: Final = "doctor"
_PIN: Final = "271828"
_LINES: Final = 20
"""At the lower end of the sample that each film has of its own."""


class BoardWatch:
    """An open board of somebody who is logged in: when each run was there with its findings.

    Attributes:
        seen: run -> moment (``time.monotonic``).
    """

    def __init__(self, place: Place, password: str) -> None:
        self._client = httpx.Client(base_url=place.url, verify=str(place.settings["ca"]), timeout=30, trust_env=False)
        entered = self._client.post("/login", data={"login": LOGIN, "password": password})
        if entered.status_code != 303:
            raise Problem(f"failed: the log-in was answered {entered.status_code}")
        self.seen: dict[str, float] = {}
        self._open = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._open.wait(20):
            raise Problem("failed: the board did not open")
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(15)  # the stream says something every ten seconds
        self._client.close()

    def _watch(self) -> None:
        with self._client.stream("GET", "/board/live", timeout=httpx.Timeout(30)) as answer:
            answer.raise_for_status()
            for line in answer.iter_lines():
                if self._ended.is_set():
                    return
                if line.startswith("data: "):
                    self._open.set()
                    for run in with_findings(line):
                        self.seen.setdefault(run, time.monotonic())


def with_findings(board: str) -> list[str]:
    """Ids of the runs of a board that show what was found."""
    entries = re.split(r'(?=<li id="run-)', board)[1:]
    found = (re.match(r'<li id="run-([0-9a-f-]{36})"', entry) for entry in entries if "top-finding" in entry)
    return [one[1] for one in found if one]


@dataclass(frozen=True)
class _Ward:
    """Both ends of the link."""

    place: Place
    hospital: Hospital
    link: Shaper
    board: BoardWatch

    def previews(self) -> int:
        """How many the hospital holds."""
        with self.hospital.database.reading() as session:
            return len(session.exec(select(ImageRow.sha256).where(col(ImageRow.kind) == ImageKind.PREVIEW)).all())


def measure(folder: Path, times: int) -> dict[str, Any]:
    """Seconds until the board, and from there until the preview is held; one figure a turn."""
    authority = Authority()
    folder.mkdir(parents=True)
    port = free_port()
    with Shaper(port) as link:
        place = Place.new(
            folder,
            port=port,
            public_url=f"https://127.0.0.1:{link.port}",
            certificate=secret(folder / "server.pem", authority.issue()),
            key=folder / "server.pem",
            ca=secret(folder / "ca.pem", authority.pem),
        )
        password = secrets.token_urlsafe(16)
        create_user(load_settings(**place.settings), LOGIN, "Doctor", Role.ER, password, "en")
        with place.opened() as hospital, place.served(), BoardWatch(place, password) as board:
            ward = _Ward(place, hospital, link, board)
            turns = [_turn(folder / f"device-{number}", number, ward) for number in range(times)]
    return {
        "board_s": [turn[0] for turn in turns],
        "preview_s": [turn[1] for turn in turns],
        "bits_per_second": BITS_PER_SECOND,
        "round_trip_s": ROUND_TRIP_S,
        "breaks": BREAKS,
    }


def _turn(folder: Path, number: int, ward: _Ward) -> tuple[float, float]:
    folder.mkdir()
    film = _film(folder / "film.dcm", number)
    store = ("--store", str(folder / "store"), "--pin-file", str(secret(folder / "pin", _PIN)))
    with _good(ward.link):
        told = firstray(ward.place.environment, "admin", "enrol", f"Ambulance {number}")
        firstray({}, "edge", *store, "--enrol", *re.findall(r"--enrol (\S+) (\S+)", told)[0])
    ward.link.cut()
    dicom = free_port()
    receiver = ("--host", "127.0.0.1", "--port", str(dicom))
    program = Program(folder / "edge.log", {}, "edge", "--headless", *store, *receiver)
    with ended_after(program):
        wait_until(lambda: program.said("ready"), "the device's start", PATIENCE_S)
        subprocess.run(["storescu", "-aec", "FIRSTRAY", "127.0.0.1", str(dicom), str(film)], check=True, timeout=60)
        wait_until(lambda: program.said(" read "), "the reading in the ambulance", PATIENCE_S)
        runs, previews = len(ward.board.seen), ward.previews()
        time.sleep(2)  # the device has nothing else to do when the link comes
        began = time.monotonic()
        ward.link.restore()
        wait_until(lambda: program.said("") and len(ward.board.seen) > runs, "the way to the board", PATIENCE_S)
        shown = max(ward.board.seen.values())
        wait_until(lambda: program.said("") and ward.previews() > previews, "the way of the preview", PATIENCE_S)
        return shown - began, time.monotonic() - shown


@contextmanager
def _good(link: Shaper) -> Iterator[None]:
    """The link as it is where a device is enrolled; afterwards as bad as it is on the road."""
    link.bits_per_second, link.round_trip_s, link.breaks = None, 0.0, 0.0
    link.restore()
    try:
        yield
    finally:
        link.bits_per_second, link.round_trip_s, link.breaks = BITS_PER_SECOND, ROUND_TRIP_S, BREAKS


def _film(file: Path, number: int) -> Path:
    """The sample with some lines of its own, so that neither film nor preview is known already."""
    image = pydicom.dcmread(sample_radiograph())
    own = (400 + 600 * number).to_bytes(2, "little") * image.Columns * _LINES
    image.PixelData = image.PixelData[: -len(own)] + own
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    image.save_as(file)
    return file
