"""The app without a screen, as a service runs it: a real process, real images by storescu, killed and started again."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_app.store.keys import KeyRing
from edge_app.store.store import Store
from edge_app.store.views import Film
from shared.events import Event, Position, first_break
from shared.radiograph import decode_radiograph, load_radiograph

PIN = "271828"
SECONDS = 120.0

pytestmark = pytest.mark.skipif(shutil.which("storescu") is None, reason="storescu not installed (Debian: dcmtk)")


class Service:
    """One ``firstray edge --headless`` process; the port is the system's choice."""

    def __init__(self, folder: Path, pin_file: Path, port: int) -> None:
        self.port = port
        self.log = folder.with_suffix(".log").open("ab+")
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "firstray", "edge", "--headless", "--store", str(folder)),
                *("--pin-file", str(pin_file), "--host", "127.0.0.1", "--port", str(port)),
            ],
            stdout=self.log,
            stderr=self.log,
        )

    def wait_until_ready(self) -> None:
        end = time.monotonic() + SECONDS
        while self.dcmtk("echoscu").returncode != 0:
            assert self.process.poll() is None, self.output()
            assert time.monotonic() < end, self.output()
            time.sleep(0.05)

    def dcmtk(self, *command: str) -> subprocess.CompletedProcess[bytes]:
        tool, *files = command
        return subprocess.run(
            [tool, "-aec", "FIRSTRAY", "-to", "5", "127.0.0.1", str(self.port), *files],
            check=False,
            capture_output=True,
            timeout=SECONDS,
        )

    def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        return self.process.wait(SECONDS)

    def output(self) -> str:
        self.log.seek(0)
        return self.log.read().decode(errors="replace")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], Service]]:
    import socket

    pin = tmp_path / "pin"
    pin.write_text(PIN)
    pin.chmod(0o600)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started: list[Service] = []

    def launch() -> Service:
        started.append(Service(tmp_path / "store", pin, port))
        started[-1].wait_until_ready()
        return started[-1]

    yield launch
    for service in started:
        if service.process.poll() is None:
            service.process.kill()
            service.process.wait()
        service.log.close()


def stored(folder: Path) -> tuple[list[Film], list[bytes], list[Event]]:
    """Films, their bytes, and every event, of the store of a service that has ended."""
    store = Store.open(folder, KeyRing(folder).unlock(PIN), check=False)
    try:
        films = [film for row in store.runs(limit=100) for film in store.run(row.id).films]
        assert store.waiting_films() == [], "nobody could be asked where they belong"
        return films, [store.original(film.id) for film in films], store.outbox.next_events(500, 10_000_000)
    finally:
        store.close()


def wait_for_readings(folder: Path, service: Service, lines: int) -> None:
    end = time.monotonic() + SECONDS
    while service.output().count("INFO edge_app.service read") < lines:
        assert time.monotonic() < end, service.output()
        time.sleep(0.05)


def test_an_image_is_received_read_and_stored(start: Callable[[], Service], tmp_path: Path, chest: Path) -> None:
    service = start()
    assert service.dcmtk("storescu", str(chest)).returncode == 0
    wait_for_readings(tmp_path, service, 1)
    assert service.end(signal.SIGTERM) == 0
    (film,), (data,), events = stored(tmp_path / "store")
    assert (decode_radiograph(data).pixels == load_radiograph(chest).pixels).all()
    assert film.diagnosis is not None
    assert {ranked.finding for ranked in film.diagnosis.top3} >= {"Mass", "Nodule"}
    assert film.device_patient is not None
    assert film.device_patient.name == "CompressedSamples RG1"
    assert film.run is not None, "it began a run, which the emergency room sees"
    assert first_break(Position(chain=events[0].chain, number=0), events) is None
    assert "CompressedSamples" not in service.output()
    assert "9RG1" not in service.output()


def test_what_was_acknowledged_outlives_a_kill_and_is_read_after_the_next_start(
    start: Callable[[], Service], tmp_path: Path, chest: Path
) -> None:
    service = start()
    assert service.dcmtk("storescu", str(chest)).returncode == 0
    service.end(signal.SIGKILL)  # most often before it was read
    service = start()
    again = service.dcmtk("storescu", str(chest))
    assert again.returncode == 0
    end = time.monotonic() + SECONDS
    while "service read" not in service.output() and time.monotonic() < end:
        time.sleep(0.05)
    assert service.end(signal.SIGTERM) == 0
    films, _, _ = stored(tmp_path / "store")
    assert len(films) == 1
    assert films[0].diagnosis is not None


def test_a_wrong_pin_is_an_error_and_opens_nothing(start: Callable[[], Service], tmp_path: Path) -> None:
    assert start().end(signal.SIGTERM) == 0
    (tmp_path / "pin").write_text("314159")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "firstray", "edge", "--headless", "--store", str(tmp_path / "store")),
            *("--pin-file", str(tmp_path / "pin")),
        ],
        check=False,
        capture_output=True,
        timeout=SECONDS,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )
    assert done.returncode == 2
    assert b"pin_wrong" in done.stderr


def test_two_services_do_not_share_a_store(start: Callable[[], Service], tmp_path: Path) -> None:
    service = start()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "firstray", "edge", "--headless", "--store", str(tmp_path / "store")),
            *("--pin-file", str(tmp_path / "pin"), "--port", "0"),
        ],
        check=False,
        capture_output=True,
        timeout=SECONDS,
    )
    assert done.returncode == 2
    assert b"store_locked" in done.stderr
    assert service.dcmtk("echoscu").returncode == 0
