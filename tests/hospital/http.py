"""A hospital that listens: a real server in a thread, for tests over HTTP."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import httpx
from fastapi import FastAPI, Request

from sync_server.api.auth import device
from sync_server.api.problems import Problem
from sync_server.app import make_app
from sync_server.db.tables import DeviceRow
from sync_server.hospital import Hospital
from sync_server.serve import Server, server_for

NAMED = "X-Test-Device"
"""Header that names the device where a test does without tokens."""


def app_without_tokens(hospital: Hospital) -> FastAPI:
    """The application, believing every device that names itself in :data:`NAMED`."""
    app = make_app(hospital=hospital)

    def believed(request: Request) -> DeviceRow:
        name = request.headers.get(NAMED)
        with hospital.database.reading() as session:
            row = session.get(DeviceRow, UUID(name)) if name else None
            if row is None:
                raise Problem(401, "token_missing", "Name a device.")
            session.expunge(row)
            return row

    app.dependency_overrides[device] = believed
    return app


@contextmanager
def listening(hospital: Hospital, app: FastAPI) -> Iterator[str]:
    """Serve ``app`` on a free port of this machine; gives its address."""
    settings = hospital.settings.model_copy(update={"port": 0})
    server: Server = server_for(settings, app)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + 120
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        assert time.monotonic() < until, "the server did not start in time"
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive(), "the server did not stop"


def client(address: str, id: UUID | None = None) -> httpx.Client:
    """A client of a device."""
    headers = {NAMED: str(id)} if id else {}
    return httpx.Client(base_url=address, headers=headers, timeout=30, trust_env=False)
