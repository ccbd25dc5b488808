"""Images in S3, against a server that speaks it (moto): the store alone, a radiograph's whole way, and an outage."""

import hashlib
import io
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from sqlmodel import select

from shared.errors import FirstRayError
from shared.hospital import ImageKind
from shared.records import RecordType
from sync_server.db.tables import ImageRow, ServerReadingRow
from sync_server.domain import accounts, images, releases
from sync_server.domain.accounts import Role
from sync_server.domain.images import ImageStore
from sync_server.domain.purge import purge
from sync_server.jobs.reader import Plan, Reader
from tests.contract.sync_server.ambulance import TUS, Ambulance, digest
from tests.contract.sync_server.running import RunningHospital
from tests.fake_hospital import Shaper, until

s3fs: Any = pytest.importorskip("s3fs", reason="the extra s3 is not installed")
pytest.importorskip("moto.server", reason="the extra s3-server is not installed")

BUCKET = "images"
URL = f"s3://{BUCKET}/firstray"


@pytest.fixture(scope="module")
def service() -> Iterator[int]:
    """Port of the service."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(words, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as server:
        try:
            until = time.monotonic() + 60
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    assert server.poll() is None, "moto ended"
                    assert time.monotonic() < until, "moto did not start"
                    time.sleep(0.1)
            yield port
        finally:
            server.terminate()


@pytest.fixture
def link(service: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shaper]:
    """The way to the service, which can be cut; the bucket is empty."""
    with Shaper(service) as made:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ENDPOINT_URL", made.url)
        once = {"mode": "standard", "total_max_attempts": 1}  # a service that hangs takes half the time
        config = {**images._S3["config_kwargs"], "connect_timeout": 2, "read_timeout": 3, "retries": once}
        monkeypatch.setattr(images, "_S3", {"config_kwargs": config})
        monkeypatch.setattr(images, "WAIT_S", 5.0)
        monkeypatch.setattr(images, "BLOCK", 100_000)
        s3fs.S3FileSystem.clear_instance_cache()
        bucket = s3fs.S3FileSystem()
        if bucket.exists(BUCKET):
            bucket.rm(BUCKET, recursive=True)
        bucket.makedirs(BUCKET)
        yield made


@pytest.fixture
def store(link: Shaper, tmp_path: Path) -> ImageStore:
    return ImageStore(URL, tmp_path / "locks")


@pytest.fixture
def running(link: Shaper, tmp_path: Path) -> Iterator[RunningHospital]:
    with RunningHospital(tmp_path, tls=False, images=URL) as made:
        yield made


@pytest.fixture
def client(running: RunningHospital) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.url, timeout=60, trust_env=False) as made:
        yield made


def objects() -> set[str]:
    found = s3fs.S3FileSystem(use_listings_cache=False)
    return {path.rpartition("/")[2] for path in found.find(BUCKET)}


def log_in(running: RunningHospital) -> dict[str, str]:
    password = "fifteen quiet ambulances"
    with running.hospital.database.writing() as session:
        accounts.create_user(session, "doctor", "Someone", Role.ER, password, "test", "en")
    return {"Cookie": f"firstray={accounts.log_in(running.hospital.database, 'doctor', password, '10.0.0.1')}"}


def test_images_lie_in_a_bucket(store: ImageStore, tmp_path: Path) -> None:
    body = os.urandom(2 * images.BLOCK + 7)
    sha256 = hashlib.sha256(body).hexdigest()
    file = tmp_path / "arrived"
    file.write_bytes(body)
    assert store.size(sha256) is None
    store.put(file, sha256)
    file.unlink()
    assert store.size(sha256) == len(body)
    assert store.read(sha256) == body
    with store.open(sha256) as held:
        held.seek(len(body) - 10)
        assert held.read() == body[-10:]
        held.seek(0)
        assert b"".join(iter(lambda: held.read(1_000_000), b"")) == body
    with store.guarded(sha256):
        store.delete(sha256)
        store.delete(sha256)
    assert not store.exists(sha256)
    for act in (store.open, store.read):
        with pytest.raises(FirstRayError) as caught:
            act(sha256)
        assert caught.value.code == "image_not_held"
    store.check()


@pytest.mark.parametrize("silent", [False, True], ids=["refuses", "hangs"])
def test_a_service_that_does_not_answer_is_told(store: ImageStore, link: Shaper, tmp_path: Path, silent: bool) -> None:
    body = os.urandom(5 * images.BLOCK)
    sha256 = digest(body)
    file = tmp_path / "arrived"
    file.write_bytes(body)
    store.put(file, sha256)
    with store.open(sha256) as held:
        assert held.read(10) == body[:10]
        link.cut(silent)
        acts: list[Callable[[], Any]] = [
            store.check,
            lambda: store.put(file, sha256),
            lambda: store.read(sha256),
            held.read,
            lambda: store.size(sha256),
            lambda: store.open(sha256),
            lambda: store.delete(sha256),
        ]
        for act in acts[: 4 if silent else None]:
            began = time.monotonic()
            with pytest.raises(FirstRayError) as caught:
                act()
            assert caught.value.code == "image_store_failing"
            assert time.monotonic() - began < 30
    link.restore()
    assert store.read(sha256) == body


def test_a_radiograph_goes_its_whole_way(running: RunningHospital, client: httpx.Client, chest: Path) -> None:
    hospital, ambulance = running.hospital, Ambulance(running.hospital, client)
    releases.ensure_server_release(hospital)
    archive = objects()
    original, preview = chest.read_bytes(), _jpeg()
    _, encounter = ambulance.device.run()
    named = {"size": len(original), "preview_sha256": digest(preview), "preview_size": len(preview)}
    film = ambulance.device.film(encounter, digest(original), **named)
    ambulance.device.send()
    for body, kind in ((preview, ImageKind.PREVIEW), (original, ImageKind.ORIGINAL)):
        place = ambulance.create(body, film, kind).headers["Location"]
        for start in range(0, len(body), 2_000_000):
            assert ambulance.patch(place, start, body[start : start + 2_000_000]).status_code == 204
        assert ambulance.receipt(body).status_code == 200
    assert objects() == archive | {digest(original), digest(preview)}

    reader = Reader(hospital, "reader", Plan())
    reader.step()
    reader.close()
    with hospital.database.reading() as session:
        reading = session.exec(select(ServerReadingRow)).one()
    assert (reading.sha256, reading.state) == (digest(original), "done")

    doctor = log_in(running)
    base = f"/runs/{encounter}/films/{film}"
    shown = client.get(f"{base}/image", headers=doctor)
    assert shown.status_code == 200
    with Image.open(io.BytesIO(shown.content)) as picture:
        assert min(picture.size) > 1000
    assert client.get(f"{base}/preview", headers=doctor).content == preview

    ambulance.device.delete(RecordType.ENCOUNTER, encounter, "test")
    ambulance.device.send()
    purged = purge(hospital, datetime.now(UTC) + timedelta(days=31))
    assert (purged.runs, purged.images) == (1, 2)
    assert objects() == archive
    assert not list((hospital.settings.data / "display").rglob("*.jpg"))


@pytest.mark.parametrize("silent", [False, True], ids=["refuses", "hangs"])
def test_nothing_is_lost_while_the_service_is_away(
    running: RunningHospital, client: httpx.Client, link: Shaper, chest: Path, silent: bool
) -> None:
    hospital, ambulance = running.hospital, Ambulance(running.hospital, client)
    before, during = chest.read_bytes(), os.urandom(300_000)
    _, encounter = ambulance.device.run()
    film = ambulance.device.film(encounter, digest(before))
    ambulance.device.send()
    place = ambulance.create(before, film).headers["Location"]
    assert ambulance.patch(place, 0, before).status_code == 204
    doctor = log_in(running)
    later = ambulance.film(during)
    deleted = b"deleted meanwhile"
    deleted_film = ambulance.film(deleted)
    assert ambulance.patch(ambulance.create(deleted, deleted_film).headers["Location"], 0, deleted).status_code == 204
    ambulance.device.delete(RecordType.RADIOGRAPH, deleted_film)

    link.cut(silent)
    assert client.get("/readyz").status_code == 503
    ambulance.device.vital_signs(encounter, spo2=91)
    sent = ambulance.ask("POST", "/v1/events", content=ambulance.device.unsent())
    assert sent.status_code == 200, "events need no images"
    place = ambulance.create(during, later).headers["Location"]
    refused = [
        ambulance.patch(place, 0, during),
        ambulance.patch(place, len(during), b""),
        ambulance.receipt(before),
    ]
    for answer in refused:
        assert answer.status_code == 503, answer.text
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert (answer.json()["code"], answer.headers["Retry-After"]) == ("image_store_failing", "30")
    assert ambulance.ask("HEAD", place, TUS).status_code == 503
    page = client.get(f"/runs/{encounter}/films/{film}/image", headers=doctor)
    assert (page.status_code, page.headers["Content-Type"].partition(";")[0]) == (503, "text/html")
    with pytest.raises(FirstRayError) as caught:
        purge(hospital, datetime.now(UTC) + timedelta(days=31))
    assert caught.value.code == "image_store_failing"

    link.restore()
    until(lambda: client.get("/readyz").status_code == 200)
    assert ambulance.offset(place) == len(during), "it is finished by whoever asks"
    for body in (before, during):
        assert ambulance.receipt(body).status_code == 200
        assert hospital.images.read(digest(body)) == body
    assert client.get(f"/runs/{encounter}/films/{film}/image", headers=doctor).status_code == 200
    assert purge(hospital, datetime.now(UTC) + timedelta(days=31)).images == 1
    assert objects() == {digest(before), digest(during)}
    with hospital.database.reading() as session:
        assert set(session.exec(select(ImageRow.sha256)).all()) == {digest(before), digest(during)}


def _jpeg() -> bytes:
    out = io.BytesIO()
    Image.new("L", (512, 620), 60).save(out, "JPEG")
    return out.getvalue()
