"""``GET /v1/inbox`` over HTTP, through a real server."""

import asyncio
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from shared.hospital import MOST_ID, ErMessage, Inbox
from shared.identity import new_id
from sync_server.domain import inbox
from sync_server.hospital import Hospital
from tests.hospital import TestDevice, enrolled_device, new_hospital
from tests.hospital.http import NAMED, app_without_tokens, client, listening


@pytest.fixture
def hospital(database: str | None, tmp_path: Path) -> Iterator[Hospital]:
    made = new_hospital(tmp_path, database)
    yield made
    made.close()


@pytest.fixture
def device(hospital: Hospital) -> TestDevice:
    return enrolled_device(hospital)


@pytest.fixture
def http(hospital: Hospital, device: TestDevice) -> Iterator[httpx.Client]:
    with listening(hospital, app_without_tokens(hospital)) as address, client(address, device.id) as http:
        yield http


def say(hospital: Hospital, device: TestDevice, text: str = "침상 3") -> int:
    content = ErMessage(encounter=new_id(), text=text, by="Dr Kim", at=datetime.now(UTC))
    return hospital.database.write(lambda session: inbox.say(session, device.id, content))


def ask(http: httpx.Client, after: int = 0, wait: float = 0) -> Inbox:
    response = http.get("/v1/inbox", params={"after": after, "wait": wait})
    assert response.status_code == 200, response.text
    assert response.headers["Cache-Control"] == "no-store"
    return Inbox.model_validate_json(response.content)


def test_what_is_there_comes_at_once(http: httpx.Client, hospital: Hospital, device: TestDevice) -> None:
    id = say(hospital, device)
    started = time.monotonic()
    found = ask(http, wait=30)
    assert [item.id for item in found.items] == [id]
    assert found.after == id
    assert time.monotonic() - started < 15  # long before the wait is over


def test_what_comes_while_it_waits_comes_at_once(http: httpx.Client, hospital: Hospital, device: TestDevice) -> None:
    ask(http)
    said: list[float] = []

    def speak() -> None:
        say(hospital, device)
        said.append(time.monotonic())

    speaker = threading.Timer(0.5, speak)
    speaker.start()
    found = ask(http, wait=30)
    heard = time.monotonic()
    speaker.join()
    assert len(found.items) == 1
    assert heard - said[0] < 15


def test_an_empty_inbox_is_answered_after_the_wait(http: httpx.Client) -> None:
    started = time.monotonic()
    assert ask(http, after=7, wait=0.6) == Inbox(items=(), after=7)
    assert time.monotonic() - started > 0.5


def test_without_a_wait_it_is_answered_at_once(http: httpx.Client) -> None:
    started = time.monotonic()
    assert ask(http).items == ()
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    "query", [{"after": -1}, {"after": MOST_ID + 1}, {"after": "x"}, {"wait": -1}, {"wait": "nan"}, {"wait": "1e9"}]
)
def test_senseless_questions_are_a_problem(http: httpx.Client, query: dict[str, str]) -> None:
    response = http.get("/v1/inbox", params=query)
    assert response.status_code == 422
    assert response.json()["code"] == "invalid"
    assert response.headers["Content-Type"] == "application/problem+json"


def test_two_hundred_devices_wait_and_each_hears_its_own(hospital: Hospital) -> None:
    devices = [enrolled_device(hospital, f"Ambulance {number}") for number in range(200)]

    async def ask_all(address: str) -> list[Inbox]:
        limits = httpx.Limits(max_connections=250, max_keepalive_connections=0)
        async with httpx.AsyncClient(base_url=address, timeout=60, trust_env=False, limits=limits) as http:

            async def one(device: TestDevice) -> Inbox:
                headers = {NAMED: str(device.id)}
                response = await http.get("/v1/inbox", params={"after": 0, "wait": 50}, headers=headers)
                return Inbox.model_validate_json(response.content)

            tasks = [asyncio.create_task(one(device)) for device in devices]
            until = time.monotonic() + 40
            while hospital.changes.waiting < 200 and time.monotonic() < until:
                await asyncio.sleep(0.05)
            for device in devices:
                await asyncio.to_thread(say, hospital, device, device.id.hex)
            return await asyncio.gather(*tasks)

    with listening(hospital, app_without_tokens(hospital)) as address:
        answers = asyncio.run(ask_all(address))
    told = [[getattr(item.content, "text", None) for item in answer.items] for answer in answers]
    assert told == [[device.id.hex] for device in devices]
    assert hospital.changes.waiting == 0


def test_a_server_that_stops_lets_those_who_wait_go(hospital: Hospital, device: TestDevice) -> None:
    answers: list[Inbox] = []
    with listening(hospital, app_without_tokens(hospital)) as address, client(address, device.id) as http:
        waiter = threading.Thread(target=lambda: answers.append(ask(http, wait=50)))
        waiter.start()
        until = time.monotonic() + 40
        while hospital.changes.waiting == 0 and time.monotonic() < until:
            time.sleep(0.01)
        started = time.monotonic()
        hospital.changes.stop_waiting()
        waiter.join(40)
    assert answers == [Inbox(items=(), after=0)]
    assert time.monotonic() - started < 25  # half of the wait
