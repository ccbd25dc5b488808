"""``POST /v1/events`` over HTTP, through a real server."""

import gzip
import json
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from shared.hospital import BatchAnswer, OutcomeStatus, ProblemDocument
from sync_server import serve
from sync_server.api import limits
from sync_server.hospital import Hospital
from tests.hospital import TestDevice, enrolled_device, new_hospital
from tests.hospital.http import app_without_tokens, client, listening


@pytest.fixture
def hospital(database: str | None, tmp_path: Path) -> Iterator[Hospital]:
    made = new_hospital(tmp_path, database)
    yield made
    made.close()


@pytest.fixture
def device(hospital: Hospital) -> TestDevice:
    return enrolled_device(hospital)


@pytest.fixture
def address(hospital: Hospital) -> Iterator[str]:
    with listening(hospital, app_without_tokens(hospital)) as address:
        yield address


@pytest.fixture
def http(address: str, device: TestDevice) -> Iterator[httpx.Client]:
    with client(address, device.id) as http:
        yield http


def post(http: httpx.Client, body: bytes, **headers: str) -> httpx.Response:
    return http.post("/v1/events", content=body, headers={"Content-Type": "application/json", **headers})


def problem(response: httpx.Response) -> tuple[int, str]:
    """Status and code of a problem document; fails for any other answer."""
    assert response.headers["Content-Type"] == "application/problem+json"
    document = ProblemDocument.model_validate_json(response.content)
    assert document.status == response.status_code
    return document.status, document.code


def test_a_batch_is_answered_with_receipts(http: httpx.Client, device: TestDevice, hospital: Hospital) -> None:
    device.run()
    keys = {name: hospital.settings.receipt_key.public_key() for name in hospital.receipts.public_keys}
    response = post(http, gzip.compress(device.unsent()), **{"Content-Encoding": "gzip"})
    assert response.status_code == 200
    answer = BatchAnswer.model_validate_json(response.content)
    assert answer.expected == device.end
    for outcome in answer.outcomes:
        assert outcome.status is OutcomeStatus.STORED
        assert outcome.receipt is not None
        outcome.receipt.verify(keys)
    assert response.headers["Cache-Control"] == "no-store"
    assert post(http, device.unsent()).json() == answer.model_dump(mode="json")


def test_large_answers_are_compressed(http: httpx.Client, device: TestDevice) -> None:
    for _ in range(10):
        device.run()
    response = post(http, device.unsent())
    assert response.headers["Content-Encoding"] == "gzip"
    assert len(response.json()["outcomes"]) == 21


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        (b"", {}, (400, "malformed")),
        (b"{", {}, (400, "malformed")),
        (b'{"events": []}', {}, (400, "malformed")),
        (b"\x00" * 100, {}, (400, "malformed")),
        (b"[" * 50_000, {}, (400, "malformed")),
        (b"no gzip", {"Content-Encoding": "gzip"}, (400, "malformed")),
        (gzip.compress(b"{}")[:-3], {"Content-Encoding": "gzip"}, (400, "malformed")),
        (gzip.compress(b"{}") + b"more", {"Content-Encoding": "gzip"}, (400, "malformed")),
        (b"{}", {"Content-Encoding": "br"}, (415, "encoding_unknown")),
        (b"<x/>", {"Content-Type": "text/xml"}, (415, "media_type_unknown")),
        (b" " * (limits.MOST_JSON + 1), {}, (413, "too_large")),
        (gzip.compress(b" " * (limits.MOST_JSON + 1)), {"Content-Encoding": "gzip"}, (413, "too_large")),
    ],
)
def test_what_is_no_batch_is_answered_with_a_problem(
    http: httpx.Client, body: bytes, headers: dict[str, str], expected: tuple[int, str]
) -> None:
    assert problem(post(http, body, **headers)) == expected


def test_too_many_events_are_a_problem(http: httpx.Client, device: TestDevice) -> None:
    body = json.dumps({"events": [{}] * 501}).encode()
    assert problem(post(http, body)) == (400, "too_many_events")


def test_nobody_without_a_name_is_heard(address: str, device: TestDevice) -> None:
    with client(address) as stranger:
        assert problem(post(stranger, device.unsent())) == (401, "token_missing")


def test_a_body_told_to_be_too_long_is_refused_before_it_comes(address: str, device: TestDevice) -> None:
    with _raw(address, device, f"Content-Length: {limits.MOST_JSON + 1}") as raw:
        assert raw.recv(4096).startswith(b"HTTP/1.1 413")


def test_an_endless_body_is_cut(address: str, device: TestDevice) -> None:
    """Chunked, without a length; the server reads no further than its limit."""
    with _raw(address, device, "Transfer-Encoding: chunked") as raw:
        piece = b"10000\r\n" + b" " * 65536 + b"\r\n"
        sent = 0
        try:
            while sent < 20 * limits.MOST_JSON:
                raw.sendall(piece)
                sent += len(piece)
        except OSError:
            pass
        assert sent < 3 * limits.MOST_JSON


def test_a_bomb_takes_no_memory(http: httpx.Client) -> None:
    """A quarter of a gigabyte of blanks in a quarter of a megabyte of gzip, eight times at once."""
    squeeze = zlib.compressobj(9, wbits=31)
    bomb = b"".join([squeeze.compress(b" " * (1 << 20)) for _ in range(256)] + [squeeze.flush()])
    process = psutil.Process()
    before = process.memory_info().rss
    threads = [threading.Thread(target=lambda: post(http, bomb, **{"Content-Encoding": "gzip"})) for _ in range(8)]
    for thread in threads:
        thread.start()
    most = before
    while any(thread.is_alive() for thread in threads):
        most = max(most, process.memory_info().rss)
        time.sleep(0.005)
    assert problem(post(http, bomb, **{"Content-Encoding": "gzip"})) == (413, "too_large")
    assert most - before < 150 << 20


def test_a_body_that_comes_to_a_halt_is_given_up(
    address: str, device: TestDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PIECE_S", 0.3)
    with _raw(address, device, "Content-Length: 1000") as raw:
        raw.sendall(b"{")
        assert raw.recv(4096).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("beginning", [b"", b"POST /v1/ev", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: "])
def test_a_head_that_does_not_come_is_given_up(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch, beginning: bytes
) -> None:
    monkeypatch.setattr(serve, "HEADERS_S", 0.4)
    with listening(hospital, app_without_tokens(hospital)) as address:
        parts = urlsplit(address)
        with socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=60) as raw:
            raw.sendall(beginning)
            assert raw.recv(100) == b""


def test_a_client_that_breaks_off_harms_nobody(address: str, device: TestDevice, http: httpx.Client) -> None:
    for _ in range(5):
        with _raw(address, device, "Content-Length: 100000") as raw:
            raw.sendall(b'{"events": [')
    assert post(http, device.unsent()).status_code == 200


def test_the_log_has_no_patient(
    http: httpx.Client, device: TestDevice, hospital: Hospital, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    device.run("김하늘")
    post(http, device.unsent(), **{"X-Request-Id": "from-the-proxy"})
    post(http, b'{"name": "\xea\xb9\x80\xed\x95\x98\xeb\x8a\x98"')
    http.get("/v1/inbox", params={"after": "김하늘"})
    hospital.after_events.append(_fail)
    device.run("김하늘")
    post(http, device.unsent())
    assert "김하늘" not in caplog.text
    assert "answered" in caplog.text


def _fail(*_: Any) -> None:
    raise ValueError("김하늘")


def test_an_unexpected_error_is_a_problem_and_leaves_no_half(
    http: httpx.Client, device: TestDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sync_server.domain import histories

    def fail(*_: Any) -> None:
        raise ValueError("김하늘")

    device.run()
    with monkeypatch.context() as patched:
        patched.setattr(histories, "refresh", fail)
        response = post(http, device.unsent())
        assert problem(response) == (500, "internal_error")
        assert "김하늘" not in response.text
    answer = BatchAnswer.model_validate_json(post(http, device.unsent()).content)
    assert {outcome.status for outcome in answer.outcomes} == {OutcomeStatus.STORED}


def _raw(address: str, device: TestDevice, *headers: str) -> socket.socket:
    parts = urlsplit(address)
    raw = socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=60)
    lines = ["POST /v1/events HTTP/1.1", "Host: x", f"X-Test-Device: {device.id}", "Content-Type: application/json"]
    raw.sendall("\r\n".join([*lines, *headers, "", ""]).encode())
    return raw
