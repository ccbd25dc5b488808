"""The whole device, killed at random instants while it starts, receives, diagnoses, stores and sends.

``FIRSTRAY_KILLS`` says how often (300 for the figure in the README); ``FIRSTRAY_SEED`` where to begin.
"""

import io
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import pydicom
import pytest

from edge_app.store.keys import KeyRing
from edge_app.store.store import Store
from shared.events import Position, first_break
from shared.radiograph import decode_radiograph
from tests.fake_hospital import FakeHospital

KILLS = int(os.environ.get("FIRSTRAY_KILLS", "6"))
SEED = int(os.environ.get("FIRSTRAY_SEED", "20261127"))
PIN = "271828"
LATEST = 3.0
"""A kill comes at most so many seconds after the start, or after the device listens."""
STARTING = 0.3
"""Share of the kills that come while it starts."""

pytestmark = [
    pytest.mark.skipif(shutil.which("storescu") is None, reason="storescu not installed (Debian: dcmtk)"),
    pytest.mark.timeout(240 + 120 * KILLS),
]


@dataclass
class Device:
    """The device under test, and what it acknowledged: SOP instance UIDs."""

    folder: Path
    hospital: Path
    port: int
    sample: pydicom.Dataset
    acknowledged: set[str] = field(default_factory=set)
    seen: dict[UUID, str] = field(default_factory=dict)
    making: threading.Lock = field(default_factory=threading.Lock)
    sent: int = 0

    @property
    def _log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def start(self) -> subprocess.Popen[bytes]:
        """Start the program; what it says is in the file ``log``."""
        command = [
            *(sys.executable, "-m", "firstray", "edge", "--headless", "--store", str(self.folder / "store")),
            *("--pin-file", str(self.folder / "pin"), "--hospital", str(self.hospital)),
            *("--host", "127.0.0.1", "--port", str(self.port)),
        ]
        with (self.folder / "log").open("wb") as log:
            return subprocess.Popen(command, stdout=log, stderr=log)

    def run_in_peace(self, done: Callable[[], bool]) -> None:
        """Run it, undisturbed, until the hospital has all."""
        process = self.start()
        end = time.monotonic() + 120 + len(self.seen)
        try:
            while not done():
                assert process.poll() is None, f"it ended by itself with {process.returncode}: {self._log[-2000:]}"
                assert time.monotonic() < end, "the hospital waits in vain"
                time.sleep(0.1)
            time.sleep(1.0)
            process.terminate()
            assert process.wait(60) == 0
        finally:
            process.kill()

    def run_and_kill(self, after: float, listening: bool) -> None:
        """Start it, send to it from two devices, kill it ``after`` seconds, counted from when it listens or starts."""
        process = self.start()
        killed = threading.Event()
        senders = [threading.Thread(target=self._send, args=(number, killed)) for number in range(2)]
        for sender in senders:
            sender.start()
        try:
            if listening:
                self._wait_until_it_listens(process)
            time.sleep(after)
            assert process.poll() is None, f"it ended by itself with {process.returncode}: {self._log[-2000:]}"
        finally:
            process.kill()
            process.wait()
            killed.set()
            for sender in senders:
                sender.join()

    def _wait_until_it_listens(self, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < end:
            with socket.socket() as knock:
                if knock.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)

    def _send(self, number: int, killed: threading.Event) -> None:
        while not killed.is_set():
            uid, path = self._radiograph(number)
            done = subprocess.run(
                ["storescu", "-aec", "FIRSTRAY", "-to", "1", "-td", "5", "127.0.0.1", str(self.port), str(path)],
                capture_output=True,
                check=False,
            )
            if done.returncode == 0:
                self.acknowledged.add(uid)
            else:
                time.sleep(0.02)

    def _radiograph(self, number: int) -> tuple[str, Path]:
        path = self.folder / f"send-{number}.dcm"
        with self.making:  # both senders change the one data set
            self.sent += 1
            uid = f"1.2.826.0.1.3680043.10.1.{number}.{self.sent}"
            self.sample.SOPInstanceUID = self.sample.file_meta.MediaStorageSOPInstanceUID = uid
            self.sample.save_as(path, enforce_file_format=True)
        return uid, path


@pytest.fixture(scope="module")
def small(chest: Path) -> pydicom.Dataset:
    """The chest radiograph at a quarter of its side, so that many fit into a test."""
    dataset = pydicom.dcmread(chest)
    pixels = dataset.pixel_array[::4, ::4]
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.PixelData = pixels.tobytes()
    return dataset


def test_nothing_acknowledged_is_lost_and_nothing_is_half_written(
    tmp_path_factory: pytest.TempPathFactory, small: pydicom.Dataset
) -> None:
    chance = random.Random(SEED)
    folder = tmp_path_factory.mktemp("killed")
    (folder / "pin").write_text(PIN)
    (folder / "pin").chmod(0o600)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with FakeHospital() as hospital:
        access = folder / "hospital.json"
        access.write_text(json.dumps({"url": hospital.url, "receipt_keys": hospital.receipt_keys}))
        device = Device(folder, access, port, small)
        for kill in range(3 * KILLS):
            if kill >= KILLS and device.acknowledged:
                break  # else a busy machine needs a few more until an image is through
            after, listening = chance.uniform(0, LATEST), chance.random() >= STARTING
            device.run_and_kill(after, listening)
            look_at(device, hospital, f"kill {kill}, {after:.3f} s, listening {listening}, seed {SEED}")
        assert device.acknowledged, "no image ever came through: the test tested nothing"
        device.run_in_peace(lambda: len(originals(hospital)) == len(device.seen))
        look_at(device, hospital, "at the end")
        assert {instance_uid(data) for data in originals(hospital)} == set(device.seen.values())


def look_at(device: Device, hospital: FakeHospital, when: str) -> None:
    """Open the killed device's store, and compare it with what was acknowledged and with what the hospital holds."""
    keys = KeyRing(device.folder / "store")
    if not keys.exists:
        assert not device.acknowledged, when
        return
    store = Store.open(device.folder / "store", keys.unlock(PIN), check=False)
    try:
        runs = [store.run(row.id) for row in store.runs(limit=100_000)]
        assert [len(run.films) for run in runs] == [1] * len(runs), f"{when}: each run began with its image"
        films = [*store.waiting_films(), *(film for run in runs for film in run.films)]
        for film in films:
            assert (film.run is None) == film.waiting_to_be_read, when
            if film.id not in device.seen:
                data = store.original(film.id)
                decode_radiograph(data)
                device.seen[film.id] = instance_uid(data)
            if film.diagnosis is not None:
                store.picture(film.id)
        uids = {device.seen[film.id] for film in films}
        assert device.acknowledged <= uids, when
        assert len(films) == len(uids) == len(device.seen), when
        (chain, held), *others = hospital.held.chains.items() or [(None, [])]
        assert not others, when
        waiting = store.outbox.next_events(10_000, 1 << 30)
        first = waiting[0] if waiting else None
        receipted = first.number - 1 if first else store.standing().events_held
        assert len(held) >= receipted, when
        if first is not None:
            start = Position(chain=first.chain, number=receipted, hash=first.previous)
            assert first_break(start, waiting) is None, when
            assert chain in (None, first.chain), when
            assert [event.hash for event in held[receipted:]] == [
                event.hash for event in waiting[: len(held) - receipted]
            ], when
    finally:
        store.close()


def originals(hospital: FakeHospital) -> list[bytes]:
    """The images held but for the previews, which are all alike here."""
    return [data for data in list(hospital.held.images.values()) if data[128:132] == b"DICM"]


def instance_uid(data: bytes) -> str:
    """SOP Instance UID of a DICOM file."""
    return str(pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True).SOPInstanceUID)
