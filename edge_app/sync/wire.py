"""One exchange with the hospital over HTTP: bounded in size and time, and never with anybody else.

Redirects are not followed, proxies and certificates of the operating system are not used, and an answer that is not one
of the hospital's (a log-in page, another certificate) is not taken for one.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode

import httpx

from edge_app.sync.pace import Pace
from edge_app.sync.parse import json_object, moment, problem, retry_after
from edge_app.sync.ports import Credentials, Renewal
from edge_app.sync.problems import Denied, Failed, Foreign, Lost, Revoked
from edge_app.sync.settings import Hospital

MOST_ANSWER: Final = 4 << 20
"""Bytes of an answer, compressed and inflated alike; the largest (500 receipts, a page of the inbox) stay far below."""
RELEASE_TYPE: Final = "application/zip"
"""Media type of a model release; nothing else of the hospital's is not JSON."""
CONNECT_S: Final = 4.0
HELLO_S: Final = 6.0
"""TCP, TLS and an answer over a bad link, with one packet lost."""
UNSENT_BYTES: Final = 16_384
"""Bytes that may wait in the kernel, so that what is more urgent need not wait behind them."""

_REVOKED: Final = "device_revoked"
_TLS_CODES: Final = {
    9: "certificate_not_yet_valid",
    10: "certificate_expired",
    62: "certificate_other_name",
    64: "certificate_other_name",
}
"""OpenSSL's X509_V_ERR numbers -> our code; any other is a certificate of somebody else."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the hospital answered: a success, or a refusal (4xx) with its ``code`` and ``message``."""

    status: int
    headers: httpx.Headers
    body: bytes
    code: str = ""
    message: str = ""

    @property
    def well(self) -> bool:
        """It did what it was asked."""
        return self.status < 400


class Wire:
    """HTTP connections to one hospital. For one event loop.

    Args:
        hospital: whom to talk to.
        credentials: shown with every request but the greeting.
        pace: learns from each exchange, and says how long to wait.
        blocking: runs a function that may block on another thread.
    """

    def __init__(
        self,
        hospital: Hospital,
        credentials: Credentials,
        pace: Pace,
        blocking: Callable[..., Awaitable[Any]],
    ) -> None:
        self._hospital = hospital
        self._tls = hospital.tls()
        self._credentials = credentials
        self._pace = pace
        self._blocking = blocking
        self._client = self._connect()
        self._renewing = asyncio.Lock()
        self.clock_ahead_s: float | None = None

    def _connect(self) -> httpx.AsyncClient:
        options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            options.append((socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES))
        transport = httpx.AsyncHTTPTransport(
            verify=self._tls if self._tls is not None else True,
            trust_env=False,
            socket_options=options,
            limits=httpx.Limits(max_connections=16, keepalive_expiry=90),
        )
        return httpx.AsyncClient(
            base_url=self._hospital.url,
            transport=transport,
            trust_env=False,
            follow_redirects=False,
            headers={"User-Agent": "FirstRay", "Accept": "application/json, application/problem+json"},
        )

    async def renew(self) -> None:
        """Forget all connections: after an outage they may be dead without anybody having said so."""
        old, self._client = self._client, self._connect()
        await old.aclose()

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def hello(self) -> None:
        """Find out whether the hospital is there: ``GET /healthz`` answers a JSON object.

        Raises:
            Lost: nothing answers.
            Foreign: something else does.
        """
        try:
            async with asyncio.timeout(HELLO_S):
                answer = await self._once("GET", "/healthz", {}, {}, b"", HELLO_S)
        except TimeoutError:
            raise Lost from None
        except Failed:
            return
        if not answer.well or not json_object(answer.body):
            raise Foreign("network_portal")

    async def ask(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str | int] | None = None,
        body: bytes = b"",
        longer_s: float = 0.0,
    ) -> Answer:
        """One request and its answer, refusals included.

        Args:
            method, path, headers, params, body: of the request.
            longer_s: seconds that the hospital may take on top of what the link needs.

        Raises:
            Lost, Foreign, Denied, Revoked, Failed: see :mod:`edge_app.sync.problems`.
            FirstRayError: there are no credentials.
        """
        for last_try in (False, True):
            shown: Mapping[str, str] = {}
            try:
                shown = await self._credentials_shown()
                return await self._measured(method, path, {**(headers or {}), **shown}, params or {}, body, longer_s)
            except Denied:
                await self._blocking(self._credentials.refused, shown)
                if last_try:
                    raise
        raise AssertionError("unreachable")

    async def _credentials_shown(self) -> Mapping[str, str]:
        """Headers that say who we are; asks for new ones first where that is needed, once for all lanes."""
        async with self._renewing:
            renewal: Renewal | None = await self._blocking(self._credentials.renewal, self.clock_ahead_s or 0.0)
            if renewal is not None:
                form = {"Content-Type": "application/x-www-form-urlencoded"}
                answer = await self._measured("POST", renewal.path, form, {}, urlencode(renewal.form).encode(), 0.0)
                if not answer.well:
                    raise Denied
                await self._blocking(self._credentials.renewed, answer.body)
            return await self._blocking(self._credentials.headers)

    async def _measured(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        params: Mapping[str, str | int],
        body: bytes,
        longer_s: float,
    ) -> Answer:
        patience = self._pace.patience(len(body)) + longer_s
        began = time.monotonic()
        try:
            async with asyncio.timeout(patience + 120.0):
                answer = await self._once(method, path, headers, params, body, patience)
        except TimeoutError:
            self._pace.stalled()
            raise Lost("hospital_slow") from None
        except Lost as error:
            if error.code == "hospital_slow":
                self._pace.stalled()
            raise
        if not longer_s:
            self._pace.measured(len(body) + len(answer.body), time.monotonic() - began)
        return answer

    async def _once(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        params: Mapping[str, str | int],
        body: bytes,
        patience: float,
    ) -> Answer:
        try:
            async with self._client.stream(
                method,
                path,
                headers={**headers, "Accept-Encoding": "gzip"},
                params=params,
                content=body,
                timeout=httpx.Timeout(patience, connect=CONNECT_S),
            ) as response:
                self._compare_clocks(response.headers)
                return self._judge(response, await _bounded(response))
        except httpx.TimeoutException:
            raise Lost("hospital_slow") from None
        except httpx.TransportError as error:
            raise tls_error(error) or Lost() from None
        except httpx.InvalidURL:
            raise Failed("hospital_answer_unreadable") from None

    def _compare_clocks(self, headers: httpx.Headers) -> None:
        there = moment(headers.get("Date", ""))
        if there is not None:
            self.clock_ahead_s = (datetime.now(UTC) - there).total_seconds()

    def _judge(self, response: httpx.Response, body: bytes) -> Answer:
        status = response.status_code
        if status == HTTPStatus.NETWORK_AUTHENTICATION_REQUIRED or 300 <= status < 400:
            raise Foreign("network_portal")
        if status >= 500 or status == HTTPStatus.TOO_MANY_REQUESTS:
            raise Failed(retry_after=retry_after(response.headers.get("Retry-After", "")))
        kind = response.headers.get("Content-Type", "").partition(";")[0]
        is_json = kind.endswith(("/json", "+json"))
        is_piece = status == HTTPStatus.PARTIAL_CONTENT and kind == RELEASE_TYPE
        if body and not (is_json or is_piece) and status != HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            raise Foreign("network_portal")
        if status < 400:
            return Answer(status, response.headers, body)
        refusal = problem(status, body)
        if refusal.code == _REVOKED:
            raise Revoked(self._hospital.private and bool(json_object(body).get("wipe")))
        if status == HTTPStatus.UNAUTHORIZED:
            raise Denied
        return Answer(status, response.headers, body, refusal.code, refusal.detail or refusal.title)


async def _bounded(response: httpx.Response) -> bytes:
    """The body, inflated, where neither it nor what came exceeds :data:`MOST_ANSWER`."""
    raw = bytearray()
    async for piece in response.aiter_raw(65_536):
        raw += piece
        if len(raw) > MOST_ANSWER:
            raise Failed("hospital_answer_unreadable")
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding == "identity" or not raw:
        return bytes(raw)
    inflater = zlib.decompressobj(wbits=31)
    try:
        body = inflater.decompress(bytes(raw), MOST_ANSWER) if encoding == "gzip" else b""
    except zlib.error:
        raise Failed("hospital_answer_unreadable") from None
    if not inflater.eof:
        raise Failed("hospital_answer_unreadable")
    return body


def tls_error(error: BaseException) -> Foreign | None:
    """What the certificate says against the one who answers; None where the error is of another kind."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Foreign(_TLS_CODES.get(cause.verify_code, "not_the_hospital"))
        if isinstance(cause, ssl.SSLError) and cause.reason in (
            "WRONG_VERSION_NUMBER",
            "HTTP_REQUEST",
            "RECORD_LAYER_FAILURE",
        ):
            return Foreign("network_portal")
        cause = cause.__cause__ or cause.__context__
    return None
