"""An image store that hangs: whoever needs it is told to come again, and everything else goes on; on both databases."""

import io
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import httpx
import pytest
from PIL import Image

from shared.errors import FirstRayError
from shared.hospital import ImageKind
from sync_server import threads
from sync_server.api import health
from sync_server.db.tables import ReleaseRow
from sync_server.domain import accounts
from sync_server.domain.accounts import Role
from tests.contract.sync_server.ambulance import TUS, Ambulance, digest
from tests.contract.sync_server.running import RunningHospital
from tests.fake_hospital import until

MANY = 60
"""More than all threads that answer requests of no kind of their own (40)."""
PASSWORD = "fifteen quiet ambulances"


class HungStore:
    """Makes a hospital's store hang until it is let go; then it says that it failed.

    Attributes:
        waiting: how often it was asked meanwhile.
    """

    def __init__(self, running: RunningHospital, patch: pytest.MonkeyPatch) -> None:
        self._running, self._patch = running, patch
        self._over = threading.Event()
        self._lock = threading.Lock()
        self.waiting = 0

    def hang(self, *what: str) -> None:
        for name in what or ("size", "read", "open", "put", "check"):
            self._patch.setattr(self._running.hospital.images, name, self._hang)

    def let_go(self) -> None:
        self._patch.undo()
        self._over.set()

    def _hang(self, *_: Any) -> NoReturn:
        with self._lock:
            self.waiting += 1
        self._over.wait(300)
        raise FirstRayError("image_store_failing", "It hung.", "Wait.")


@pytest.fixture
def running(database: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningHospital]:
    for name in ("UPLOADS_S", "PICTURES_S", "DRAWING_S"):
        monkeypatch.setattr(threads, name, 1.0)
    monkeypatch.setattr(health, "PATIENCE_S", 1.0)
    with RunningHospital(tmp_path, tls=False, database=database) as made:
        yield made


@pytest.fixture
def client(running: RunningHospital) -> Iterator[httpx.Client]:
    limits = httpx.Limits(max_connections=2 * MANY)
    with httpx.Client(base_url=running.url, timeout=120, limits=limits, trust_env=False) as made:
        yield made


@pytest.fixture
def store(running: RunningHospital) -> Iterator[HungStore]:
    with pytest.MonkeyPatch.context() as patch:
        made = HungStore(running, patch)
        yield made
        made.let_go()


class Scene:
    """An ambulance whose run has a radiograph that the hospital holds, one of the ER, and a release."""

    def __init__(self, running: RunningHospital, client: httpx.Client) -> None:
        hospital = running.hospital
        self.client = client
        self.ambulance = Ambulance(hospital, client)
        self.preview = _jpeg()
        self.original = self.preview + b"original"
        _, self.run = self.ambulance.device.run()
        named = {"preview_sha256": digest(self.preview), "preview_size": len(self.preview)}
        self.film = self.ambulance.device.film(self.run, digest(self.original), **named)
        self.loose = self.ambulance.device.film(None, digest(self.original))
        self.ambulance.device.send()
        for body, kind in ((self.original, ImageKind.ORIGINAL), (self.preview, ImageKind.PREVIEW)):
            place = self.ambulance.create(body, self.film, kind).headers["Location"]
            assert self.ambulance.patch(place, 0, body).status_code == 204
        with hospital.database.writing() as session:
            accounts.create_user(session, "doctor", "Someone", Role.ER, PASSWORD, "test", "en")
            made = {"sha256": digest(self.original), "size": 10, "manifest": {}, "uploaded_by": "test"}
            session.add(ReleaseRow(id="2026.1", uploaded_at=datetime.now(UTC), **made))
        cookie = accounts.log_in(hospital.database, "doctor", PASSWORD, "10.0.0.1")
        self.doctor = {"Cookie": f"firstray={cookie}"}

    def page(self, path: str) -> httpx.Response:
        return self.client.get(path, headers=self.doctor)

    def goes_on(self) -> None:
        """Events are taken, the board and the run's page are served, the server says that it runs."""
        self.ambulance.device.vital_signs(self.run, spo2=91)
        sent = self.ambulance.ask("POST", "/v1/events", content=self.ambulance.device.unsent())
        assert sent.status_code == 200, sent.text
        assert [outcome["code"] for outcome in sent.json()["outcomes"] if outcome["code"]] == []
        for path in ("/board", f"/runs/{self.run}"):
            assert self.page(path).status_code == 200
        assert self.client.get("/healthz").status_code == 200


ASKED: dict[str, Callable[[Scene], httpx.Response]] = {
    "receipts": lambda scene: scene.ambulance.receipt(scene.original),
    "uploads": lambda scene: scene.ambulance.ask("HEAD", f"/v1/images/{digest(scene.original)}", TUS),
    "releases": lambda scene: scene.ambulance.ask("GET", "/v1/releases/2026.1"),
    "pictures": lambda scene: scene.page(f"/runs/{scene.run}/films/{scene.film}/image"),
    "pictures without a run": lambda scene: scene.page(f"/films/{scene.loose}/image"),
    "previews": lambda scene: scene.page(f"/runs/{scene.run}/films/{scene.film}/preview"),
}


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(MANY) as made:
        yield made


@pytest.mark.parametrize("what", ASKED)
def test_a_store_that_hangs_stops_only_those_who_need_it(
    running: RunningHospital, client: httpx.Client, pool: ThreadPoolExecutor, store: HungStore, what: str
) -> None:
    scene = Scene(running, client)
    store.hang()
    try:
        asked = [pool.submit(ASKED[what], scene) for _ in range(MANY)]
        until(lambda: store.waiting and len(_done(asked)) + store.waiting == MANY, 60)
        assert len(_done(asked)) > MANY // 2
        for answer in _done(asked):
            assert answer.status_code == 503
            assert int(answer.headers["Retry-After"]) > 0
            if answer.request.url.path.startswith("/v1/") and answer.request.method != "HEAD":
                assert answer.headers["Content-Type"] == "application/problem+json"
                assert answer.json()["code"] == "images_busy"
        scene.goes_on()
    finally:
        store.let_go()
    assert {one.result(60).status_code for one in asked} == {503}
    assert ASKED[what](scene).status_code == 200


def test_receipts_do_not_wait_for_pictures(
    running: RunningHospital, client: httpx.Client, pool: ThreadPoolExecutor, store: HungStore
) -> None:
    scene = Scene(running, client)
    store.hang("read")
    try:
        asked = [pool.submit(ASKED["pictures"], scene) for _ in range(MANY)]
        until(lambda: store.waiting and len(_done(asked)) + store.waiting == MANY, 60)
        assert scene.ambulance.receipt(scene.original).status_code == 200
    finally:
        store.let_go()


def test_anybody_may_ask_whether_the_server_is_ready_and_the_store_is_asked_once(
    running: RunningHospital, client: httpx.Client, pool: ThreadPoolExecutor, store: HungStore
) -> None:
    scene = Scene(running, client)
    store.hang()
    try:
        asked = [pool.submit(client.get, "/readyz") for _ in range(MANY)]
        until(lambda: len(_done(asked)) == MANY, 60)
        for answer in _done(asked):
            assert (answer.status_code, answer.json()) == (503, {"ready": False, "database": True, "images": False})
        assert store.waiting == 1
        scene.goes_on()
    finally:
        store.let_go()
    until(lambda: client.get("/readyz").status_code == 200, 60)


def _done(asked: list[Future[httpx.Response]]) -> list[httpx.Response]:
    return [one.result() for one in asked if one.done()]


def _jpeg() -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((900, 1000)).save(file, "JPEG")
    return file.getvalue()
