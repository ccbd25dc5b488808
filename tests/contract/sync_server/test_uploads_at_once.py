"""Many at once: the same bytes, the same code, the same upload on two connections; on both databases."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlmodel import select

from edge_app.sync import DeviceKey
from shared.enrolment import ASSERTION_TYPE
from shared.identity import new_id
from sync_server.db.tables import DeviceRow, ImageDeliveryRow, ImageRow, UploadRow
from sync_server.domain import enrolment
from sync_server.hospital import Hospital
from tests.contract.sync_server.ambulance import TUS, Ambulance, digest
from tests.contract.sync_server.running import RunningHospital
from tests.fake_hospital import until


@pytest.fixture
def running(database: str | None, tmp_path: Path) -> Iterator[RunningHospital]:
    with RunningHospital(tmp_path, tls=False, database=database) as made:
        yield made


@pytest.fixture
def client(running: RunningHospital) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.url, timeout=60, limits=httpx.Limits(max_connections=40)) as made:
        yield made


def at_once(acts: list[Callable[[], Any]]) -> list[Any]:
    start = threading.Barrier(len(acts))

    def go(act: Callable[[], Any]) -> Any:
        start.wait(30)
        return act()

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(go, acts))


def rows(hospital: Hospital, table: type) -> list[Any]:
    with hospital.database.reading() as session:
        return list(session.exec(select(table)).all())


def test_devices_that_deliver_the_same_bytes_at_once_all_get_their_receipt(
    running: RunningHospital, client: httpx.Client
) -> None:
    body = os.urandom(300_000)
    told: list[str] = []
    running.hospital.images.on_original.append(lambda _, sha256: told.append(sha256))
    ambulances = [Ambulance(running.hospital, client, f"Ambulance {number}") for number in range(6)]
    # They name other bytes in their records, so that each has to show that it has these.
    places = [one.create(body, one.film(b"other")).headers["Location"] for one in ambulances]
    answers = at_once(
        [lambda one=one, place=place: one.patch(place, 0, body) for one, place in zip(ambulances, places, strict=True)]  # type: ignore[misc]
    )
    assert [answer.status_code for answer in answers] == [204] * 6
    assert {one.receipt(body).status_code for one in ambulances} == {200}
    assert len(rows(running.hospital, ImageRow)) == 1
    assert len(rows(running.hospital, ImageDeliveryRow)) == 6
    assert digest(body) in told


def test_an_upload_finished_twice_at_once_is_one(running: RunningHospital, client: httpx.Client) -> None:
    ambulance = Ambulance(running.hospital, client)
    body = os.urandom(300_000)
    place = ambulance.create(body, ambulance.film(body)).headers["Location"]
    answers = at_once([lambda: ambulance.patch(place, 0, body)] * 4)
    assert 204 in {answer.status_code for answer in answers}
    assert {answer.status_code for answer in answers} <= {204, 404, 409}
    assert ambulance.receipt(body).status_code == 200
    assert not rows(running.hospital, UploadRow)
    with running.hospital.images.open(digest(body)) as held:
        assert held.read() == body


def test_uploads_begun_at_once_are_counted(
    running: RunningHospital, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_server.domain.uploads.MOST_OPEN", 3)
    ambulance = Ambulance(running.hospital, client)
    film = ambulance.film(b"image")
    acts = [lambda number=number: ambulance.create(b"%d" % number, film) for number in range(8)]
    answers = at_once(acts)
    assert sorted(answer.status_code for answer in answers) == [201] * 3 + [429] * 5


def test_of_devices_that_show_one_code_at_once_one_is_taken_on(running: RunningHospital, client: httpx.Client) -> None:
    code = enrolment.make_code(running.hospital, "user:admin", "Ambulance 7").code.code
    wanted = [
        {"code": code, "device": str(new_id()), "jwk": DeviceKey.new().public.model_dump(), "app": "1"}
        for _ in range(8)
    ]
    answers = at_once([lambda one=one: client.post("/v1/enrolment", json=one) for one in wanted])
    assert sorted(answer.status_code for answer in answers) == [201] + [403] * 7
    assert len(rows(running.hospital, DeviceRow)) == 1


def test_an_assertion_shown_many_times_at_once_is_good_once(running: RunningHospital, client: httpx.Client) -> None:
    ambulance = Ambulance(running.hospital, client)
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": ambulance.assertion(),
    }
    answers = at_once([lambda: client.post("/v1/token", data=form)] * 8)
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 7


def test_a_new_connection_takes_over_from_one_that_hangs(running: RunningHospital, client: httpx.Client) -> None:
    """A tunnel leaves the server with a half-open connection: the next one does not wait for it."""
    ambulance = Ambulance(running.hospital, client)
    body = os.urandom(300_000)
    place = ambulance.create(body, ambulance.film(body)).headers["Location"]
    head = (
        f"PATCH {place} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ambulance.token}\r\nTus-Resumable: 1.0.0\r\n"
        f"Upload-Offset: 0\r\nContent-Type: application/offset+octet-stream\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", running.port)) as hanging:
        hanging.sendall(head.encode() + body[:100_000])
        until(lambda: ambulance.offset(place) > 0)
        offset = ambulance.offset(place)
        assert ambulance.patch(place, offset, body[offset:]).status_code == 204
        assert ambulance.receipt(body).status_code == 200
        hanging.sendall(body[100_000:])
        assert hanging.recv(4096).split(b" ")[1] in (b"404", b"409")
    with running.hospital.images.open(digest(body)) as held:
        assert held.read() == body


def test_what_came_before_a_connection_broke_is_kept(running: RunningHospital, client: httpx.Client) -> None:
    ambulance = Ambulance(running.hospital, client)
    body = os.urandom(300_000)
    place = ambulance.create(body, ambulance.film(body)).headers["Location"]
    head = (
        f"PATCH {place} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ambulance.token}\r\nTus-Resumable: 1.0.0\r\n"
        f"Upload-Offset: 0\r\nContent-Type: application/offset+octet-stream\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", running.port)) as broken:
        broken.sendall(head.encode() + body[:123_456])
    until(lambda: ambulance.offset(place) == 123_456)
    assert ambulance.ask("HEAD", place, TUS).headers["Upload-Length"] == "300000"
    assert ambulance.patch(place, 123_456, body[123_456:]).status_code == 204
    assert ambulance.receipt(body).status_code == 200
