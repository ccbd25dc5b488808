"""Heads without end and connections that say nothing: memory stays bounded, everybody else is answered."""

import contextlib

import pytest

from sync_server.serve import MOST_HEAD
from tests.contract.sync_server.abuse.attack import MB, answer_of, bounded, connected, pour
from tests.hospital.process import ServerProcess


@pytest.mark.parametrize(
    "piece", [b"X-Pad: " + b"a" * 60_000 + b"\r\n", b"a" * 65_536, b"A: b\r\n" * 10_000], ids=["many", "one", "short"]
)
def test_a_flood_of_headers_is_cut(server: ServerProcess, piece: bytes) -> None:
    with bounded(server, 30 * MB), connected(server) as raw:
        raw.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: ")
        assert pour(raw, piece, 100 * MB) < 20 * MB


def test_a_head_that_is_too_long_is_answered(server: ServerProcess) -> None:
    with connected(server) as raw:
        raw.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"a" * (MOST_HEAD + 100))
        status, problem = answer_of(raw)
    assert (status, problem["code"]) == (431, "headers_too_large")


def test_an_address_without_end_is_cut(server: ServerProcess) -> None:
    with bounded(server, 30 * MB), connected(server) as raw:
        raw.sendall(b"GET /")
        assert pour(raw, b"a" * 65_536, 100 * MB) < 20 * MB


def test_a_thousand_half_open_connections_shut_nobody_out(server: ServerProcess) -> None:
    """Some say nothing, some begin a head, some a body that they never finish."""
    beginnings = (b"", b"POST /v1/ev", b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nlogin=")
    with contextlib.ExitStack() as stack, bounded(server, 100 * MB):
        for number in range(1000):
            raw = stack.enter_context(connected(server))
            raw.sendall(beginnings[number % 3])
        for _ in range(5):
            assert server.answers(5)
