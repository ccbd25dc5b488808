"""What the attackers of these tests have in common: raw connections, and a look at the server meanwhile."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from sync_server.domain import accounts
from sync_server.hospital import Hospital
from tests.hospital.process import ServerProcess

MB = 1 << 20
PASSWORD = "fifteen quiet ambulances"


@contextlib.contextmanager
def bounded(server: ServerProcess, most: int = 100 * MB, seconds: float = 5) -> Iterator[None]:
    """The server takes at most so many bytes more than before, and answers others within so many seconds meanwhile."""
    before = peak = server.rss
    slowest, over = 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak, slowest
        while not over.is_set():
            peak = max(peak, server.rss)
            begun = time.monotonic()
            assert server.answers(30)
            slowest = max(slowest, time.monotonic() - begun)
            time.sleep(0.02)

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch)
        try:
            yield
        finally:
            over.set()
        watching.result()
    assert (peak - before) < most, f"{(peak - before) // MB} MB more"
    assert slowest < seconds, f"{slowest:.1f} s"


def connected(server: ServerProcess) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=60)


def pour(raw: socket.socket, piece: bytes, most: int) -> int:
    """Send again and again until ``most`` bytes are through or the server hangs up; gives how many."""
    sent = 0
    with contextlib.suppress(OSError):
        while sent < most:
            raw.sendall(piece)
            sent += len(piece)
    return sent


def answer_of(raw: socket.socket) -> tuple[int, dict[str, object]]:
    """Status and problem document that came, before the server hung up or after."""
    received = b""
    with contextlib.suppress(OSError):
        while piece := raw.recv(65536):
            received += piece
            if b"\r\n\r\n" in received and received.endswith(b"}"):
                break
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head, received[:500]
    return int(head.split()[1]), json.loads(body)


def admin_token(hospital: Hospital) -> str:
    with hospital.database.writing() as session:
        return accounts.open_session(session, accounts.find(session, "admin").id, datetime.now(UTC), "127.0.0.1")
