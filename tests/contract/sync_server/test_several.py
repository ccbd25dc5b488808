"""Two servers of one hospital: processes that share a machine and all it keeps, or machines that share less."""

import os
import shutil
import signal
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from sqlmodel import col, select

from shared.hospital import BatchAnswer, OutcomeStatus
from shared.receipts import Receipt
from sync_server.db.tables import EventRow, ImageDeliveryRow, ImageRow, UploadRow
from sync_server.domain import accounts
from sync_server.domain.accounts import Role
from sync_server.hospital import Hospital
from tests.contract.sync_server.ambulance import Ambulance, digest
from tests.hospital import DATABASES
from tests.hospital.process import ServerProcess

PUBLIC = "http://127.0.0.1:8000"
"""Where a proxy would be, which both stand behind."""
PIECE = 64 * 1024


@dataclass
class Pair:
    """Two servers, and a device known to both."""

    hospital: Hospital
    clients: tuple[httpx.Client, httpx.Client]
    ambulance: Ambulance

    def at(self, number: int) -> Ambulance:
        """The device at one of the two: even or odd."""
        self.ambulance.client = self.clients[number % 2]
        return self.ambulance

    def deliver(self, place: str, body: bytes, first: int = 0) -> None:
        """Piece by piece, each to the other server than the one before."""
        for number, start in enumerate(range(0, len(body), PIECE), first):
            answer = self.at(number).patch(place, start, body[start : start + PIECE])
            assert answer.status_code == 204, (number, answer.text)


def pair_of(*servers: ServerProcess) -> Iterator[Pair]:
    """Both begin at the same moment, with nothing there yet."""
    with ExitStack() as stack:
        for server in servers:
            server.start(wait=False)
            stack.callback(server.end, signal.SIGTERM)
        for server in servers:
            server.wait_until_it_answers()
        first, second = (
            stack.enter_context(httpx.Client(base_url=server.url, timeout=30, trust_env=False)) for server in servers
        )
        hospital = servers[0].open()
        stack.callback(hospital.close)
        yield Pair(hospital, (first, second), Ambulance(hospital, first))


@pytest.fixture(scope="module", params=DATABASES)
def processes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """On one machine: the same data folder, spool, keys and images."""
    url = request.getfixturevalue("postgres").new_database() if request.param == "postgresql" else None
    folder = tmp_path_factory.mktemp("several")
    yield from pair_of(*(ServerProcess(folder, url, public_url=PUBLIC) for _ in range(2)))


@pytest.fixture
def machines(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    """Only database, images and keys are the same."""
    url = request.getfixturevalue("postgres").new_database()
    folders = tmp_path / "one", tmp_path / "other"
    for folder in folders:
        folder.mkdir()
    one, other = (ServerProcess(folder, url, public_url=PUBLIC, images=str(tmp_path / "images")) for folder in folders)
    _ = one.settings.secret, one.settings.receipt_key  # makes them
    other.settings.data.mkdir(mode=0o700)
    for key in ("secret.key", "receipt.key"):
        shutil.copy2(one.settings.data / key, other.settings.data / key)
    yield from pair_of(one, other)


def test_events_of_a_device_go_to_either(processes: Pair) -> None:
    device = processes.ambulance.device
    _, encounter = device.run()
    for rate in range(60, 100):
        device.vital_signs(encounter, heart_rate=rate)
    for number, start in enumerate(range(0, len(device.events), 5)):
        answer = processes.at(number).ask("POST", "/v1/events", content=device.unsent(device.events[start : start + 5]))
        outcomes = BatchAnswer.model_validate_json(answer.content).outcomes
        assert {one.status for one in outcomes} == {OutcomeStatus.STORED}
        assert all(one.receipt for one in outcomes)
    whole = device.unsent(device.events)
    with ThreadPoolExecutor(2) as pool:
        shown = {"Authorization": f"Bearer {processes.ambulance.token}"}
        both = list(pool.map(lambda client: client.post("/v1/events", content=whole, headers=shown), processes.clients))
    assert [answer.status_code for answer in both] == [200, 200]
    with processes.hospital.database.reading() as session:
        stored = session.exec(select(EventRow.number).where(col(EventRow.device) == device.id)).all()
    assert sorted(stored) == [event.position.number for event in device.events]


def test_an_upload_goes_on_at_either(processes: Pair) -> None:
    body = os.urandom(1_500_000)
    place = processes.at(0).create(body, processes.ambulance.film(body)).headers["Location"]
    assert processes.at(1).create(body, processes.ambulance.film(body)).headers["Location"] == place
    assert [processes.at(number).offset(place) for number in (0, 1)] == [0, 0]
    processes.deliver(place, body)
    receipts = [Receipt.model_validate_json(processes.at(number).receipt(body).content) for number in (0, 1)]
    assert receipts[0].holds == receipts[1].holds
    with processes.hospital.images.open(digest(body)) as held:
        assert held.read() == body
    assert not list((processes.hospital.settings.data / "uploads").iterdir())


def test_of_two_connections_at_both_servers_one_wins_each_piece(processes: Pair) -> None:
    """A connection that hung comes to life while the device has gone on at the other server."""
    ambulance = processes.at(0)
    body = os.urandom(2_000_000)
    place = ambulance.create(body, ambulance.film(body)).headers["Location"]
    shown = {"Authorization": f"Bearer {ambulance.token}", "Tus-Resumable": "1.0.0"}
    seen: set[int] = set()
    start = threading.Barrier(2)

    def send(client: httpx.Client) -> None:
        offset = 0
        start.wait(60)
        while offset < len(body):
            given = {**shown, "Content-Type": "application/offset+octet-stream", "Upload-Offset": str(offset)}
            answer = client.patch(place, headers=given, content=body[offset : offset + PIECE])
            seen.add(answer.status_code)
            if answer.status_code == 404:  # the other has finished it
                return
            assert answer.status_code in (204, 409), answer.text
            offset = int(answer.headers["Upload-Offset"])

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(send, processes.clients))
    assert 204 in seen
    assert ambulance.receipt(body).status_code == 200
    with processes.hospital.images.open(digest(body)) as held:
        assert held.read() == body
    with processes.hospital.database.reading() as session:
        assert not session.exec(select(UploadRow)).all()
        delivered = session.exec(select(ImageDeliveryRow).where(col(ImageDeliveryRow.sha256) == digest(body))).all()
    assert len(delivered) == 1


def test_a_board_at_one_shows_within_a_second_what_the_other_has_taken(processes: Pair) -> None:
    with processes.hospital.database.writing() as session:
        accounts.create_user(session, "doctor", "Someone", Role.ER, "fifteen quiet ambulances", "test", "en")
    token = accounts.log_in(processes.hospital.database, "doctor", "fifteen quiet ambulances", "10.0.0.1")
    seconds = []
    cookie = {"Cookie": f"firstray={token}"}
    with processes.clients[0].stream("GET", "/board/live", headers=cookie) as board:
        assert board.status_code == 200
        lines = board.iter_lines()
        for number in range(40):
            if len(seconds) >= 5 and statistics.median(seconds[-5:]) <= 1.0:  # a busy machine has its moments
                break
            device = processes.ambulance.device
            device.run(f"Patient-{number}")
            sent = device.unsent(device.events[-2:])
            began = time.monotonic()
            assert processes.at(1).ask("POST", "/v1/events", content=sent).status_code == 200
            assert any(f"Patient-{number}" in line for line in lines)
            seconds.append(time.monotonic() - began)
    assert statistics.median(seconds[-5:]) <= 1.0, seconds


def test_machines_that_share_no_uploads_lose_nothing(machines: Pair) -> None:
    """A proxy that does not keep a device with one machine costs bytes sent twice, and no more."""
    body = os.urandom(300_000)
    film = machines.at(0).film(body)
    place = machines.at(0).create(body, film).headers["Location"]
    assert machines.at(0).patch(place, 0, body[:200_000]).status_code == 204
    assert machines.at(1).ask("HEAD", place, {"Tus-Resumable": "1.0.0"}).status_code == 404
    assert machines.at(1).create(body, film).headers["Location"] == place
    assert machines.at(1).offset(place) == 0
    assert machines.at(1).patch(place, 0, body).status_code == 204
    assert machines.at(0).patch(place, 200_000, body[200_000:]).status_code == 404
    for number in (0, 1):
        assert machines.at(number).receipt(body).status_code == 200
    with machines.hospital.database.reading() as session:
        assert session.exec(select(ImageRow.sha256)).all() == [digest(body)]
