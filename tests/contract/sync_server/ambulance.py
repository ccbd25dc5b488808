"""A device that speaks HTTP to a hospital of the tests, enrolled the real way."""

import base64
import hashlib
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import httpx
from fastapi.testclient import TestClient

from edge_app.sync import DeviceKey
from shared.enrolment import ASSERTION_TYPE, Enrolled, claims
from shared.hospital import ImageKind
from shared.identity import new_id
from shared.records import RecordType
from sync_server.app import make_app
from sync_server.domain import enrolment
from sync_server.hospital import Hospital
from tests.hospital import TestDevice

TUS = {"Tus-Resumable": "1.0.0"}
BODY = {**TUS, "Content-Type": "application/offset+octet-stream"}


@contextmanager
def served(hospital: Hospital) -> Iterator[TestClient]:
    """The hospital's application, without a network."""
    with TestClient(make_app(hospital=hospital), base_url="http://127.0.0.1:8000") as client:
        yield client


class Ambulance:
    """An enrolled device with a token."""

    def __init__(self, hospital: Hospital, client: httpx.Client, name: str = "Ambulance 7") -> None:
        self.hospital, self.client = hospital, client
        self.id: UUID = new_id()
        self.key = DeviceKey.new()
        code = enrolment.make_code(hospital, "user:admin", name)
        answer = self.enrol(code.code.code)
        assert answer.status_code == 201, answer.text
        self.enrolled = Enrolled.model_validate_json(answer.content)
        self.device = TestDevice(hospital, self.id)
        self.device.open_chain()
        self.token = self.get_token()

    def enrol(self, code: str, **more: Any) -> httpx.Response:
        wanted = {"code": code, "device": str(self.id), "jwk": self.key.public.model_dump(), "app": "test", **more}
        return self.client.post("/v1/enrolment", json=wanted)

    def assertion(self, key: DeviceKey | None = None, **changes: Any) -> str:
        said = claims(self.id, self.enrolled.token_url, int(time.time()), secrets.token_urlsafe(24))
        said = {name: value for name, value in {**said, **changes}.items() if value is not None}
        return (key or self.key).sign(said)

    def ask_token(self, assertion: str, **form: str) -> httpx.Response:
        right = {"grant_type": "client_credentials", "client_assertion_type": ASSERTION_TYPE}
        return self.client.post("/v1/token", data={**right, "client_assertion": assertion, **form})

    def get_token(self) -> str:
        answer = self.ask_token(self.assertion())
        assert answer.status_code == 200, answer.text
        token: str = answer.json()["access_token"]
        return token

    def ask(self, method: str, path: str, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
        shown = {"Authorization": f"Bearer {self.token}", **(headers or {})}
        return self.client.request(method, path, headers=shown, **more)

    def film(self, body: bytes, kind: ImageKind = ImageKind.ORIGINAL) -> UUID:
        """A radiograph's record at the hospital that names these bytes."""
        sha256 = digest(body)
        named = {"sha256": sha256} if kind is ImageKind.ORIGINAL else {"preview_sha256": sha256, "preview_size": 1}
        film = self.device.film(None, **named)
        self.device.send()
        return film

    def create(
        self, body: bytes, film: UUID, kind: ImageKind = ImageKind.ORIGINAL, size: int | None = None, **headers: str
    ) -> httpx.Response:
        metadata = {"radiograph": str(film), "kind": kind.value, "sha256": digest(body)}
        said = ",".join(f"{key} {b64(value.encode())}" for key, value in metadata.items())
        given = {**TUS, "Upload-Length": str(len(body) if size is None else size), "Upload-Metadata": said, **headers}
        return self.ask("POST", "/v1/images", given)

    def patch(self, place: str, offset: int, piece: bytes, **headers: str) -> httpx.Response:
        return self.ask("PATCH", place, {**BODY, "Upload-Offset": str(offset), **headers}, content=piece)

    def offset(self, place: str) -> int:
        answer = self.ask("HEAD", place, TUS)
        assert answer.status_code == 200, answer.status_code
        return int(answer.headers["Upload-Offset"])

    def deliver(self, body: bytes, kind: ImageKind = ImageKind.ORIGINAL) -> None:
        place = self.create(body, self.film(body, kind), kind).headers["Location"]
        assert self.patch(place, 0, body).status_code == 204

    def receipt(self, body: bytes) -> httpx.Response:
        return self.ask("GET", f"/v1/images/{digest(body)}/receipt")


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def announced(ambulance: Ambulance, body: bytes) -> None:
    """A record names the bytes as its original."""
    ambulance.device.put(
        RecordType.RADIOGRAPH,
        {"sha256": digest(body), "size": len(body), "received_at": "2026-11-27T08:00:00Z", "source": "dicom"},
    )
    ambulance.device.send()
