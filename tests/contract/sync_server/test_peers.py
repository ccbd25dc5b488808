"""Connections from one address: so many and no more; others are served meanwhile."""

import json
import socket
import ssl
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from sync_server import serve
from sync_server.peers import Peers, peer_of
from tests.contract.sync_server.running import RunningHospital
from tests.fake_hospital import until

MOST = 3
ASK = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "MOST_OF_ONE", MOST)


def connect(running: RunningHospital, source: str = "127.0.0.1") -> socket.socket:
    raw = socket.create_connection(("127.0.0.1", running.port), 60, (source, 0))
    if not running.url.startswith("https"):
        return raw
    context = ssl.create_default_context(cadata=running.authority.pem)
    return context.wrap_socket(raw, server_hostname="127.0.0.1")


def asked(connection: socket.socket) -> bool:
    """Whether a request is answered well; the connection stays open."""
    connection.sendall(ASK)
    answer = b""
    while not answer.endswith(b"}"):  # the end of its JSON
        piece = connection.recv(65_536)
        assert piece, answer
        answer += piece
    return answer.startswith(b"HTTP/1.1 200") and b'"ok"' in answer


def refusal(connection: socket.socket) -> tuple[bytes, dict[str, Any]]:
    """What comes without asking, up to the end of the connection."""
    answer = b""
    while piece := connection.recv(65_536):
        answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    assert b"retry-after: 10" in head
    return head.split(b"\r\n")[0], json.loads(body)


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_one_address_gets_its_share_and_leaves_others_theirs(tmp_path: Path, tls: bool) -> None:
    with RunningHospital(tmp_path, tls=tls) as running, ExitStack() as stack:
        held = [stack.enter_context(connect(running)) for _ in range(MOST)]
        assert all(asked(one) for one in held)
        with connect(running) as more:
            status, problem = refusal(more)
        assert status == b"HTTP/1.1 503 Service Unavailable"
        assert problem["code"] == "too_many_connections"
        with connect(running, "127.0.0.2") as other:
            assert asked(other)
        assert all(asked(one) for one in held), "what was open stays open"
        held[0].close()
        assert served_again(running), "a connection that ended still counts"


def served_again(running: RunningHospital) -> bool:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with connect(running) as more:
            more.settimeout(0.3)
            try:  # whoever is turned away is told at once, on a machine that is not busy
                more.recv(1)
            except TimeoutError:
                more.settimeout(60)
                with suppress(OSError, AssertionError):
                    if asked(more):
                        return True
        time.sleep(0.05)
    return False


def test_many_who_are_turned_away_take_no_place(tmp_path: Path) -> None:
    with RunningHospital(tmp_path, tls=False) as running, ExitStack() as stack:
        held = [stack.enter_context(connect(running)) for _ in range(MOST)]
        assert asked(held[0])
        turned_away = [stack.enter_context(connect(running)) for _ in range(50)]
        assert {refusal(one)[1]["code"] for one in turned_away} == {"too_many_connections"}
        until(lambda: len(running.connections) == MOST)


def test_behind_a_proxy_it_is_the_proxy_that_counts(tmp_path: Path) -> None:
    settings = {"behind_proxy": True, "public_url": "https://firstray.test"}
    with RunningHospital(tmp_path, tls=False, **settings) as running, ExitStack() as stack:
        held = [stack.enter_context(connect(running)) for _ in range(5 * MOST)]
        assert all(asked(one) for one in held)


def test_counting() -> None:
    peers = Peers(2)
    assert [peers.enter("a"), peers.enter("a"), peers.enter("a"), peers.enter("b")] == [True, True, False, True]
    peers.leave("a")
    assert peers.enter("a")
    assert not peers.enter("a")
    unbounded = Peers(None)
    assert all(unbounded.enter("a") for _ in range(10_000))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("", "192.0.2.1", False),
    ],
)
def test_who_is_one_peer(one: str, other: str, same: bool) -> None:
    assert (peer_of(one) == peer_of(other)) is same
