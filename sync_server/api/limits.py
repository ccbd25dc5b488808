"""How much and how slowly a client may send: memory stays bounded whatever comes."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping
from typing import Final

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sync_server.api.problems import Problem

MOST_JSON: Final = 4 << 20
"""Bytes of a JSON body, compressed and inflated alike; the device sends smaller batches after a 413."""
MOST_BODY: Final = 1 << 20
"""Bytes of any other body."""
_IMAGE: Final = 256 << 20
LARGE: Final[Mapping[str, int]] = {
    "/v1/events": MOST_JSON,
    "/v1/images": _IMAGE,
    "/v1/images/": _IMAGE,
    "/admin/releases": 2 << 30,
}
"""Path -> bytes, where more is expected; one that ends in / stands for everything below it. Those routes have limits of
their own, and read nothing before they know who sends it."""
PIECE_S: Final = 30.0
"""Between two pieces of a body, at most."""
BODY_S: Final = 300.0
"""For a whole JSON body, at most."""
DRAINED: Final = 32 << 20
"""A body told to be longer than its limit is read to its end and thrown away up to this length, so that an honest
client hears why; of one that is longer, or does not say, the connection is closed."""
_CLOSE: Final = {"Connection": "close"}
_COMPRESSED: Final = frozenset({"/v1/events", "/v1/inbox"})


async def json_body(request: Request, most: int = MOST_JSON) -> bytes:
    """A JSON body, inflated where it is gzip (RFC 9110, 8.4).

    Raises:
        Problem: 415 ``media_type_unknown`` or ``encoding_unknown``, 413 ``too_large``, 408 ``too_slow``,
            400 ``malformed``.
    """
    kind = request.headers.get("Content-Type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Problem(415, "media_type_unknown", "Send application/json.")
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip"):
        raise Problem(415, "encoding_unknown", "Send it as it is, or with Content-Encoding: gzip.")
    inflate = zlib.decompressobj(wbits=31) if encoding == "gzip" else None
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for piece in request.stream():
                body += piece if inflate is None else inflate.decompress(piece, most + 1 - len(body))
                if len(body) > most:
                    raise Problem(413, "too_large", f"A body has at most {most} bytes, inflated. Send less at once.")
    except TimeoutError:
        raise Problem(408, "too_slow", "The body did not come in time. Send less at once.") from None
    except ClientDisconnect:
        raise Problem(400, "malformed", "The body broke off.") from None
    except zlib.error:
        raise Problem(400, "malformed", "The body is not gzip, or was damaged on the way.") from None
    if inflate is not None and (not inflate.eof or inflate.unused_data):
        raise Problem(400, "malformed", "The gzip body is cut off, or has something behind it.")
    return bytes(body)


class BodyLimit:
    """Refuses bodies that are longer than their path allows, told in advance or not, and those that come to a halt."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        most = _most(path)
        told = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        came = int(told) if told.isdigit() and int(told) > most else 0

        async def limited() -> Message:
            nonlocal came
            if came > most:
                raise _too_large(most, came > DRAINED)
            try:
                async with asyncio.timeout(PIECE_S):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, "The body came to a halt.", _CLOSE) from None
            came += len(message.get("body", b""))
            if came > most:
                raise _too_large(most, True)
            return message

        await self._app(scope, _only_while_reading(limited, receive), send)


class Compressed(GZipMiddleware):
    """Compresses what devices ask for; not pages, whose secrets could be guessed from lengths (BREACH)."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http" and scope["path"] in _COMPRESSED:
            await super().__call__(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def _only_while_reading(limited: Receive, receive: Receive) -> Receive:
    """``limited`` up to the end of the body; later messages only tell that the client has gone, whenever that is."""
    done = False

    async def either() -> Message:
        nonlocal done
        message = await (receive if done else limited)()
        done = done or message["type"] != "http.request" or not message.get("more_body", False)
        return message

    return either


def _most(path: str) -> int:
    below = (most for start, most in LARGE.items() if start.endswith("/") and path.startswith(start))
    return LARGE.get(path) or next(below, MOST_BODY)


def _too_large(most: int, hang_up: bool) -> HTTPException:
    return HTTPException(413, f"A body has at most {most} bytes here.", _CLOSE if hang_up else None)
