"""The fake hospital's HTTP server: standard library only, one thread a connection."""

import base64
import contextlib
import functools
import gzip
import hashlib
import json
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import ValidationError

from shared.hospital import Content, EventBatch, ImageMetadata, ProblemDocument
from shared.receipts import key_id
from tests.fake_hospital.held import Held
from tests.fake_hospital.misbehaviour import How, Misbehaviour

MOST_BODY = 8 << 20


@dataclass
class Reply:
    """An answer before it is written."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    kind: str = "application/json"


@dataclass
class Seen:
    """A request as it came: when (``time.monotonic``), ``METHOD /path``, bytes of its body."""

    at: float
    what: str
    size: int


class CutError(Exception):
    """Cut the connection without an answer."""


class FakeHospital:
    """Use it as a context manager, or call :meth:`start` and :meth:`stop`; it keeps its port over both.

    Args:
        certificate: PEM of certificate and key (:meth:`Authority.issue`); None speaks plain HTTP.
        token: bearer token that devices must show; None lets all in.
        port: 0 takes a free one.
        checksums: offer the checksum extension of tus.
        host: address to listen at; loopback unless a test has a network of its own.
    """

    def __init__(
        self,
        certificate: str | None = None,
        token: str | None = None,
        port: int = 0,
        checksums: bool = True,
        host: str = "127.0.0.1",
    ) -> None:
        self.held = Held()
        self.token = token
        self.checksums = checksums
        self.revoked: bool | None = None
        """None: not revoked; else whether a wipe is asked for."""
        self.wrongs: list[Misbehaviour] = []
        self.requests: list[Seen] = []
        self._certificate = certificate
        self._port = port
        self._host = host
        self._server: _Server | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port

    @property
    def url(self) -> str:
        """Its address."""
        return f"{'https' if self._certificate else 'http'}://{self._host}:{self._port}"

    @property
    def receipt_keys(self) -> dict[str, str]:
        """Key id -> base64 of the public key, as devices learn them."""
        public = self.held.key.public_key()
        return {key_id(public): base64.b64encode(public.public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()}

    def start(self) -> None:
        """Listen."""
        self._server = _Server((self._host, self._port), self, self._certificate)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Stop listening, and cut every connection."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
            server.cut()
            with self.held.changed:
                self.held.changed.notify_all()

    def misbehave(self, how: How, where: str = ".*", **details: Any) -> Misbehaviour:
        """From now on, see :class:`Misbehaviour`."""
        wrong = Misbehaviour(how, where, **details)
        self.wrongs.append(wrong)
        return wrong

    def behave(self) -> None:
        """Behave again."""
        self.wrongs.clear()

    def push(self, *contents: Content) -> None:
        """Say something to the device."""
        self.held.push(*contents)

    def expire_uploads(self) -> None:
        """Forget uploads that are not finished."""
        with self.held.lock:
            self.held.uploads.clear()

    def wait_for(self, what: Callable[[], object], timeout: float = 120.0) -> None:
        """Wait until ``what()`` is true; fails the test otherwise."""
        until = time.monotonic() + timeout
        while not what():
            assert time.monotonic() < until, "the hospital waited in vain"
            time.sleep(0.01)

    @property
    def running(self) -> bool:
        """It has not been stopped."""
        return self._server is not None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], hospital: FakeHospital, certificate: str | None) -> None:
        self.hospital = hospital
        self._open: set[socket.socket] = set()
        self._tls = None
        if certificate:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
                file.write(certificate)
                file.flush()
                self._tls.load_cert_chain(file.name)
        super().__init__(address, _Handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        with contextlib.suppress(OSError, CutError):
            if self._tls is not None:
                request.settimeout(30)
                request = self._tls.wrap_socket(request, server_side=True)
            self._open.add(request)
            try:
                super().finish_request(request, client_address)
            finally:
                self._open.discard(request)
                request.close()

    def cut(self) -> None:
        for one in list(self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_any(self) -> None:
        hospital = self.server.hospital
        path = urlsplit(self.path)
        what = f"{self.command} {path.path}"
        wrong = next((one for one in list(hospital.wrongs) if one.meets(what)), None)
        body = self._body(wrong, path.path)
        hospital.requests.append(Seen(time.monotonic(), what, len(body)))
        reply = _spoilt(wrong) if wrong is not None else None
        if reply is None:
            reply = _Desk(hospital, self, wrong, body).answer(path.path, parse_qs(path.query))
        if wrong is not None and wrong.how is How.LOSE_ANSWER:
            raise CutError
        if wrong is not None and wrong.how is How.HANG:
            time.sleep(wrong.seconds)
        self._write(reply)

    do_GET = do_POST = do_HEAD = do_PATCH = do_DELETE = do_OPTIONS = do_any

    def _body(self, wrong: Misbehaviour | None, path: str) -> bytes:
        size = int(self.headers.get("Content-Length", 0))
        upload = self.server.hospital.held.uploads.get(path.rpartition("/")[2]) if self.command == "PATCH" else None
        limit = min(size, wrong.after_bytes) if wrong is not None and wrong.how is How.DROP else size
        body = bytearray()
        while len(body) < limit and (piece := self.rfile.read1(min(16_384, limit - len(body)))):  # type: ignore[attr-defined]
            body += piece
        broken_off = len(body) < size
        if broken_off and upload is not None and int(self.headers.get("Upload-Offset", -1)) == len(upload.body):
            upload.body += body
        if broken_off or (wrong is not None and wrong.how is How.DROP):
            raise CutError
        return bytes(body)

    def _write(self, reply: Reply) -> None:
        body = reply.body
        headers = dict(reply.headers)
        if len(body) > 500 and "gzip" in self.headers.get("Accept-Encoding", "") and "Content-Encoding" not in headers:
            body = gzip.compress(body)
            headers["Content-Encoding"] = "gzip"
        self.send_response(reply.status)
        for name, value in headers.items():
            self.send_header(name, value)
        if body or self.command != "HEAD":
            self.send_header("Content-Type", reply.kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()


def _spoilt(wrong: Misbehaviour) -> Reply | None:
    """What a misbehaving network or server answers by itself; None where the desk still does the work."""
    match wrong.how:
        case How.STATUS:
            after = () if wrong.retry_after is None else (("Retry-After", str(wrong.retry_after)),)
            return _problem(wrong.status, wrong.code, after)
        case How.PORTAL:
            page = b"<html><title>Free WiFi</title><form>Accept our terms</form></html>"
            return Reply(200, page, kind="text/html; charset=utf-8")
        case How.REDIRECT:
            return Reply(302, b"", (("Location", "http://127.0.0.1:9/login"),))
        case How.GARBAGE:
            return Reply(200, b'{"surprise": true}')
        case How.HUGE:
            return Reply(200, _bomb(), (("Content-Encoding", "gzip"),))
        case _:
            return None


@functools.cache
def _bomb() -> bytes:
    """Made once: it takes a while, in which a client would give up."""
    return gzip.compress(b" " * (64 << 20))


def _problem(status: int, code: str, headers: tuple[tuple[str, str], ...] = (), **more: object) -> Reply:
    document = {**ProblemDocument(status=status, code=code, title=code).model_dump(), **more}
    return Reply(status, json.dumps(document).encode(), headers, "application/problem+json")


class _Desk:
    """Answers one request as the contract has it."""

    def __init__(self, hospital: FakeHospital, request: _Handler, wrong: Misbehaviour | None, body: bytes) -> None:
        self._hospital = hospital
        self._held = hospital.held
        self._request = request
        self._how = wrong.how if wrong is not None else None
        self._body = body

    def answer(self, path: str, query: dict[str, list[str]]) -> Reply:
        if path == "/healthz":
            return Reply(200, b'{"status": "ok"}')
        if (shut_out := self._shut_out()) is not None:
            return shut_out
        what = self._request.command
        if (what, path) == ("POST", "/v1/events"):
            return self._events()
        if (what, path) == ("GET", "/v1/inbox"):
            return self._inbox(int(query["after"][0]), float(query["wait"][0]))
        if path.startswith("/v1/images"):
            return self._images(what, path)
        return _problem(404, "not_found")

    def _shut_out(self) -> Reply | None:
        if self._hospital.revoked is not None:
            return _problem(403, "device_revoked", wipe=self._hospital.revoked)
        token = self._hospital.token
        if token is not None and self._request.headers.get("Authorization") != f"Bearer {token}":
            return _problem(401, "token_invalid")
        return None

    @property
    def _key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.generate() if self._how is How.FORGE else self._held.key

    def _events(self) -> Reply:
        packed = self._request.headers.get("Content-Encoding") == "gzip"
        try:
            batch = EventBatch.model_validate_json(gzip.decompress(self._body) if packed else self._body)
        except (ValidationError, OSError, EOFError):
            return _problem(400, "malformed")
        return Reply(200, self._held.take(batch, self._key).model_dump_json().encode())

    def _inbox(self, after: int, wait: float) -> Reply:
        inbox = self._held.inbox(after, min(wait, 60.0), lambda: not self._hospital.running)
        if not self._hospital.running:
            raise CutError
        return Reply(200, inbox.model_dump_json().encode())

    def _images(self, what: str, path: str) -> Reply:
        name = path.removeprefix("/v1/images").strip("/")
        if what == "OPTIONS":
            extensions = "creation,termination" + (",checksum" if self._hospital.checksums else "")
            return Reply(204, b"", (("Tus-Extension", extensions), ("Tus-Checksum-Algorithm", "sha1,sha256")))
        if what == "GET" and name.endswith("/receipt"):
            receipt = self._held.receipt(name.removesuffix("/receipt"), self._key)
            return _problem(404, "not_held") if receipt is None else Reply(200, receipt.model_dump_json().encode())
        if self._request.headers.get("Tus-Resumable") != "1.0.0":
            return _problem(412, "tus_version")
        return self._create() if what == "POST" and not name else self._upload(what, name)

    def _upload(self, what: str, name: str) -> Reply:
        upload = self._held.uploads.get(name)
        if upload is None:
            return _problem(404, "upload_unknown")
        offset = (("Upload-Offset", str(len(upload.body))), ("Upload-Length", str(upload.size)))
        if what == "HEAD":
            return Reply(200, b"", (*offset, ("Cache-Control", "no-store")))
        if what == "DELETE":
            del self._held.uploads[name]
            return Reply(204)
        return self._patch(name)

    def _create(self) -> Reply:
        pairs = [pair.split(" ") for pair in self._request.headers["Upload-Metadata"].split(",")]
        try:
            metadata = ImageMetadata.model_validate_json(
                json.dumps({key: base64.b64decode(value).decode() for key, value in pairs})
            )
        except ValidationError:
            return _problem(400, "malformed")
        name = self._held.begin(metadata, int(self._request.headers["Upload-Length"]))
        # As tuspyserver: an absolute address with whatever name the server believes to have.
        return Reply(201, b"", (("Location", f"http://inside.invalid/v1/images/{name}"),))

    def _patch(self, name: str) -> Reply:
        upload = self._held.uploads[name]
        if int(self._request.headers["Upload-Offset"]) != len(upload.body):
            return _problem(409, "offset")
        body = bytes([self._body[0] ^ 1]) + self._body[1:] if self._how is How.CORRUPT else self._body
        if (told := self._request.headers.get("Upload-Checksum")) is not None:
            digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
            if not self._hospital.checksums or told != f"sha256 {digest}":
                return _problem(460, "checksum_mismatch")
        upload.body += body
        done = len(upload.body)
        if done >= upload.size and not self._held.finish(name):
            return _problem(460, "sha256_mismatch")
        return Reply(204, b"", (("Upload-Offset", str(done)),))
