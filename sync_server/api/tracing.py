"""Each request with an id, a line in the log and its place in the metrics; by route, never by address or query."""

from __future__ import annotations

import logging
import re
import secrets
import time
from typing import Final

from fastapi.routing import iter_route_contexts
from prometheus_client import Histogram
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sync_server.api.problems import unexpected
from sync_server.logs import REQUEST

_ID: Final = re.compile(r"[0-9A-Za-z._-]{8,64}")
_QUIET: Final = frozenset({"/healthz", "/readyz", "/metrics"})
_SECONDS: Final = Histogram(
    "firstray_http_seconds",
    "Seconds to the end of an answer",
    ["method", "route", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.3, 1, 5, 30, 90),
)
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_log = logging.getLogger(__name__)


class BrokenOff(Exception):
    """An answer cannot be finished; the log has said why."""


class Traced:
    """Takes ``X-Request-Id`` from a proxy or makes one and answers with it; answers errors that nobody foresaw."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._patterns: dict[int, str] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"x-request-id"), "")
        request = given if _ID.fullmatch(given) else secrets.token_hex(8)
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", ()), (b"x-request-id", request.encode())]
                if scope["path"].startswith("/v1"):
                    headers += [(b"x-content-type-options", b"nosniff")]
                    if all(name.lower() != b"cache-control" for name, _ in headers):
                        headers += [(b"cache-control", b"no-store")]
                message = {**message, "headers": headers}
            await send(message)

        token = REQUEST.set(request)
        started = time.perf_counter()
        try:
            await self._app(scope, receive, answer)
        except Exception as problem:  # noqa: BLE001  (whatever it is: its text must not reach the server's log)
            response = unexpected(Request(scope), problem)
            if status:
                raise BrokenOff from None
            await response(scope, receive, answer)
        finally:
            self._note(scope, status, time.perf_counter() - started)
            REQUEST.reset(token)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = self._pattern(scope)
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        _SECONDS.labels(method, route, str(status)).observe(seconds)
        level = logging.DEBUG if route in _QUIET else logging.INFO
        extra = {"method": method, "route": route, "status": status, "ms": round(seconds * 1000, 1)}
        _log.log(level, "answered", extra=extra)

    def _pattern(self, scope: Scope) -> str:
        """Of the route that answers, whole: ``route.path`` lacks the prefix its router was included with."""
        if (route := scope.get("route")) is None:
            return "none"
        if not self._patterns:
            contexts = iter_route_contexts(scope["app"].routes)
            self._patterns = {id(one.original_route): one.path for one in contexts if one.path is not None}
        return self._patterns.get(id(route)) or str(getattr(route, "path", "none"))
