"""``firstray serve``: the hospital's application behind uvicorn, until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import socket
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import uvicorn
from fastapi import FastAPI, Response
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sync_server import logs
from sync_server.api.problems import answer
from sync_server.app import make_app
from sync_server.hospital import Hospital
from sync_server.housekeeping import Housekeeping
from sync_server.peers import Peers, peer_of
from sync_server.settings import Settings

HEADERS_S: Final = 20.0
"""From the opening of a connection, or the first byte of a request, to the end of its headers, at most."""
MOST_HEAD: Final = 64 << 10
"""Bytes of a request's line and headers, at most (and what was read at once with their end)."""
KEEP_ALIVE_S: Final = 95
"""An idle connection is kept so long: longer than the device keeps its own."""
MOST_CONNECTIONS: Final = 4000
MOST_OF_ONE: Final = MOST_CONNECTIONS // 2
"""Connections from one address: room for 200 ambulances and all boards behind one, none for a machine to take all."""
TURNED_AWAY_S: Final = 1.0
"""Whoever has too many connections has so long to take the answer."""
GRACE_S: Final = 10
_YOUNG: Final = 10_000
"""New objects after which garbage is looked for among them: a batch of events makes some thousands and keeps none."""
_log = logging.getLogger(__name__)


class PromptProtocol(HttpToolsProtocol):
    """Closes connections on which no whole head of a request comes in time, or one without end.

    Attributes:
        peers: counts the connections of this server.
    """

    peers: Peers
    _deadline: asyncio.TimerHandle | None = None
    _head = 0
    _peer: str | None = None

    def connection_made(self, transport: Any) -> None:
        """The client has :data:`HEADERS_S` from here, unless too many come from its address."""
        super().connection_made(transport)
        peer = peer_of(self.client[0] if self.client else "")
        if self.peers.enter(peer):
            self._peer = peer
            self._start()
        else:
            self._turn_away()

    def data_received(self, data: bytes) -> None:
        """The parser keeps headers of any length; this does not."""
        if self._peer is None:
            return
        super().data_received(data)
        if self._deadline is None:
            return
        self._head += len(data)
        if self._head > MOST_HEAD and not self.transport.is_closing():
            self.transport.write(_TOO_LONG)
            self.transport.close()

    def on_message_begin(self) -> None:
        """And from the first byte of each later request."""
        super().on_message_begin()
        self._start()

    def on_headers_complete(self) -> None:
        """The body has a limit of its own (``api.limits``)."""
        self._stop()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing to wait for any more."""
        self._stop()
        if self._peer is not None:
            self.peers.leave(self._peer)
        super().connection_lost(exc)

    def _start(self) -> None:
        self._stop()
        self._head = 0
        self._deadline = self.loop.call_later(HEADERS_S, self._too_slow)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _turn_away(self) -> None:
        self.connections.discard(self)  # those count who are served
        self.transport.write(_TOO_MANY)
        self.transport.close()
        self.loop.call_later(TURNED_AWAY_S, self.transport.abort)

    def _too_slow(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.close()


def _raw(problem: Response) -> bytes:
    """An answer before there is an application to give it."""
    head = [f"HTTP/1.1 {problem.status_code} {HTTPStatus(problem.status_code).phrase}".encode(), b"connection: close"]
    head += [name + b": " + value for name, value in problem.raw_headers]
    return b"\r\n".join([*head, b"", bytes(problem.body)])


_TOO_LONG: Final = _raw(answer(431, "headers_too_large", f"The headers of a request have at most {MOST_HEAD} bytes."))
_TOO_MANY: Final = _raw(
    answer(
        503,
        "too_many_connections",
        "Too many connections are open from this address. Close some, or try again later.",
        {"Retry-After": "10"},
    )
)


class Server(uvicorn.Server):
    """Lets everybody who waits for news go on before it waits for open requests to end."""

    def __init__(self, config: uvicorn.Config, hospital: Hospital) -> None:
        super().__init__(config)
        self._hospital = hospital

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn, but waiters first."""
        self._hospital.changes.stop_waiting()
        await super().shutdown(sockets)


def server_for(settings: Settings, app: FastAPI) -> Server:
    """A server for an application; ``run()`` blocks until a signal, ``serve()`` is its coroutine."""
    peers = Peers(None if settings.behind_proxy else MOST_OF_ONE)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port or 0,
        ssl_certfile=settings.certificate,
        ssl_keyfile=settings.key,
        http=type("Protocol", (PromptProtocol,), {"peers": peers}),
        ws="none",
        proxy_headers=settings.behind_proxy,
        forwarded_allow_ips=settings.trusted_proxies if settings.behind_proxy else "",
        server_header=False,
        access_log=False,
        log_config=None,
        backlog=512,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )
    return Server(config, app.state.hospital)


def run(settings: Settings, ready: Callable[[FastAPI], None] | None = None) -> None:
    """Serve until SIGINT or SIGTERM; ``ready`` is called once with the application, before it listens.

    Raises:
        FirstRayError: what :func:`sync_server.hospital.open_hospital` raises.
    """
    logs.set_up(settings.log_level)
    _allow_connections()
    app = make_app(settings)
    if ready is not None:
        ready(app)
    _log.info("the hospital is at %s", settings.public_url)
    _spare_the_collector()
    with Housekeeping(app.state.hospital):
        server_for(settings, app).run()


def _spare_the_collector() -> None:
    """What is there now stays: searching it for garbage again and again would halt everybody for 0.1 s each time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG)


def _allow_connections() -> None:
    """As many open files as the system grants, if it needs them: the usual 1024 are fewer than its connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MOST_CONNECTIONS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, limit), hard))
