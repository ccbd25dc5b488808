"""The hospital's server, killed at random instants while it starts and while ambulances send events and images.

``FIRSTRAY_SERVER_KILLS`` says how often on each database; ``FIRSTRAY_SEED`` where to begin.
"""

import base64
import hashlib
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlmodel import col, select

from shared.events import FIRST_PREVIOUS, Event, Position, first_break
from shared.hospital import BatchAnswer, OutcomeStatus
from shared.receipts import Receipt
from shared.records import RecordType
from sync_server.db.tables import ChainRow, EventRow, HistoryRow, ImageDeliveryRow, ImageRow, PatientRow, RadiographRow
from sync_server.domain import audit
from sync_server.hospital import Hospital
from tests.contract.sync_server.ambulance import TUS, Ambulance, digest
from tests.hospital import DATABASES, Cluster, cluster_or_skip
from tests.hospital.process import ServerProcess

KILLS = int(os.environ.get("FIRSTRAY_SERVER_KILLS", "6"))
SEED = int(os.environ.get("FIRSTRAY_SEED", "20261127"))
SENDERS = 3
LATEST = 1.5
"""A kill comes at most so many seconds after the server answers."""
STARTING = 0.2
"""Share of the kills that come while it starts."""
PIECE = 64 * 1024

pytestmark = pytest.mark.timeout(240 + 90 * KILLS)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Cluster]:
    yield from cluster_or_skip()


@dataclass
class Sender:
    """An ambulance that writes runs without end and sends them, whatever the server does.

    Attributes:
        number: how many of its events are receipted.
        receipts: number -> hash of the events it has receipts for.
        images: SHA-256 of the images it has receipts for.
        films: bytes of all its films, the ones to be sent first.
    """

    ambulance: Ambulance
    keys: dict[str, Ed25519PublicKey]
    chance: random.Random
    number: int = 0
    receipts: dict[int, str] = field(default_factory=dict)
    images: set[str] = field(default_factory=set)
    films: list[tuple[UUID, bytes]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def events(self) -> list[Event]:
        return self.ambulance.device.events

    @property
    def done(self) -> bool:
        return self.number == len(self.events) and not self.films

    def work(self, stop: threading.Event, write: bool = True) -> None:
        """Until ``stop``; with ``write`` false only what is left."""
        while not stop.is_set() and (write or not self.done):
            try:
                if write and self.number == len(self.events) and len(self.films) < 3:
                    self._write()
                self._send_events()
                self._send_image()
            except httpx.HTTPError:
                time.sleep(0.05)
            except AssertionError as problem:
                self.wrong.append(str(problem))
                return

    def _write(self) -> None:
        device = self.ambulance.device
        _, encounter = device.run()
        for _ in range(5):
            device.vital_signs(encounter, heart_rate=self.chance.randint(40, 160))
        data = self.chance.randbytes(self.chance.randint(1, 400_000))
        self.films.append((device.film(encounter, digest(data), size=len(data)), data))

    def _ask(self, method: str, path: str, headers: dict[str, str] | None = None, **more: object) -> httpx.Response:
        answer = self.ambulance.ask(method, path, headers, **more)
        if answer.status_code == 401:
            self.ambulance.token = self.ambulance.get_token()
            answer = self.ambulance.ask(method, path, headers, **more)
        assert answer.status_code < 500 or answer.status_code == 503, f"{method} {path}: {answer.text}"
        return answer

    def _send_events(self) -> None:
        some = self.events[self.number : self.number + 20]
        if not some:
            return
        answer = self._ask("POST", "/v1/events", content=self.ambulance.device.unsent(some))
        if answer.status_code == 503:
            return
        assert answer.status_code == 200, answer.text
        for outcome in BatchAnswer.model_validate_json(answer.content).outcomes:
            assert outcome.status is OutcomeStatus.STORED, outcome
            event = self.events[outcome.number - 1]
            self._hold(outcome.receipt, event.hash)
            self.receipts[outcome.number] = event.hash
        self.number += len(some)

    def _send_image(self) -> None:
        if not self.films:
            return
        film, data = self.films[0]
        created = self.ambulance.create(data, film)
        if created.status_code != 201:
            assert created.status_code in (401, 503), created.text  # the record has not come yet
            return
        place = created.headers["Location"]
        looked = self._ask("HEAD", place, TUS)
        if looked.status_code != 200:
            return
        offset = int(looked.headers["Upload-Offset"])
        while offset < len(data):
            answer = self.ambulance.patch(place, offset, data[offset : offset + PIECE])
            if answer.status_code != 204:
                assert answer.status_code in (401, 404, 409, 503), answer.text
                return
            offset = int(answer.headers["Upload-Offset"])
        receipt = self._ask("GET", f"/v1/images/{digest(data)}/receipt")
        if receipt.status_code == 200:
            self._hold(Receipt.model_validate_json(receipt.content), digest(data))
            self.images.add(digest(data))
            self.films.pop(0)

    def _hold(self, receipt: Receipt | None, hash: str) -> None:
        assert receipt is not None
        receipt.verify(self.keys)
        assert getattr(receipt.holds, "hash", None) == hash or getattr(receipt.holds, "sha256", None) == hash


@pytest.mark.parametrize("kind", DATABASES)
def test_nothing_receipted_is_lost_and_nothing_is_half_there(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str
) -> None:
    chance = random.Random(SEED)
    database = None
    if kind == "postgresql":
        postgres: Cluster = request.getfixturevalue("postgres")
        database = postgres.new_database()
    server = ServerProcess(tmp_path, database)
    server.start()
    hospital = server.open()
    senders = [enrolled(hospital, server, number) for number in range(SENDERS)]
    server.end(signal.SIGKILL)
    for kill in range(3 * KILLS):
        if kill >= KILLS and any(sender.images for sender in senders):
            break  # else a busy machine needs a few more until an image is through
        starting, after = chance.random() < STARTING, chance.uniform(0, LATEST)
        stop = threading.Event()
        threads = [threading.Thread(target=sender.work, args=(stop,)) for sender in senders]
        for thread in threads:
            thread.start()
        try:
            server.start(wait=not starting)
            time.sleep(after)
            assert server.running, "it ended by itself"
        finally:
            server.end(signal.SIGKILL)
            stop.set()
            for thread in threads:
                thread.join()
        look_at(hospital, senders, f"kill {kill}, {after:.3f} s, while starting: {starting}, seed {SEED}")
    held = sum(len(sender.images) for sender in senders)
    assert held, "no image ever came through: the test tested nothing"

    server.start()
    for sender in senders:
        sender.work(threading.Event(), write=False)
    look_at(hospital, senders, "at the end")
    with hospital.database.reading() as session:
        patients = session.exec(select(PatientRow.id)).all()
        histories = session.exec(select(HistoryRow.films)).all()
    written = sum(len([event for event in sender.events if is_film(event)]) for sender in senders)
    assert len(patients) == len(histories) == written, "each run once"
    assert set(histories) == {1}
    assert sum(len(sender.images) for sender in senders) == written
    server.end(signal.SIGTERM)
    hospital.close()


def enrolled(hospital: Hospital, server: ServerProcess, number: int) -> Sender:
    """A device of the hospital with a connection of its own."""
    client = httpx.Client(base_url=server.url, timeout=30, trust_env=False)
    ambulance = Ambulance(hospital, client, f"Ambulance {number}")
    keys = {
        name: Ed25519PublicKey.from_public_bytes(base64.b64decode(key))
        for name, key in ambulance.enrolled.receipt_keys.items()
    }
    return Sender(ambulance, keys, random.Random(SEED + number))


def is_film(event: Event) -> bool:
    return getattr(event.action, "type", None) is RecordType.RADIOGRAPH


def look_at(hospital: Hospital, senders: list[Sender], when: str) -> None:
    """Compare what the hospital holds with what the devices have receipts for; it may run or be dead."""
    with hospital.database.reading() as session:
        assert audit.verify(session).whole, when
        for sender in senders:
            assert sender.wrong == [], when
            chain = sender.events[0].chain
            rows = session.exec(select(EventRow).where(EventRow.chain == chain).order_by(col(EventRow.number))).all()
            held = [Event.model_validate_json(row.body) for row in rows]
            start = Position(chain=chain, number=0, hash=FIRST_PREVIOUS)
            assert first_break(start, held) is None, when
            assert [event.hash for event in held] == [event.hash for event in sender.events[: len(held)]], when
            assert {number: held[number - 1].hash for number in sender.receipts} == sender.receipts, when
            end = session.get(ChainRow, chain)
            assert (end.number if end else 0) == len(held), when
            films = {
                row.id for row in session.exec(select(RadiographRow).where(RadiographRow.device == sender.ambulance.id))
            }
            assert films == {event.action.id for event in held if is_film(event)}, when  # type: ignore[union-attr]
            for sha256 in sender.images:
                assert session.get(ImageRow, sha256) is not None, when
                assert session.get(ImageDeliveryRow, (sha256, sender.ambulance.id)) is not None, when
        for row in session.exec(select(ImageRow)):
            with hospital.images.open(row.sha256) as file:
                assert hashlib.file_digest(file, "sha256").hexdigest() == row.sha256, when
    for file in (hospital.settings.data / "images").rglob("*"):
        if file.is_file() and not file.name.startswith("."):
            assert digest(file.read_bytes()) == file.name, f"{when}: half an image"
