"""An ambulance as the hospital sees it: enrolled with a key of its own, with real tokens, writing real records.

It keeps its events as the device does (a hash chain), but not in an encrypted store: one process has to be two hundred.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from benchmarks.fresh import Problem
from benchmarks.server.place import Place
from edge_app.sync.credentials import DeviceKey, EnrolledCredentials
from shared.enrolment import Enrolled, EnrolmentRequest
from shared.events import Event, OpenChain, Position, Put, next_event
from shared.hospital import BatchAnswer, OutcomeStatus
from shared.hybrid_clock import HybridClock
from shared.identity import new_id
from shared.records import RecordType, changed_fields
from tests.hospital.devices import reading

BATCH = 50
AT_ONCE = 8
VITAL_SIGNS = 5


@dataclass(frozen=True)
class Film:
    """What a radiograph's record says of its bytes."""

    sha256: str
    size: int
    preview_sha256: str
    preview_size: int


def made_up_film() -> Film:
    """Bytes that nobody has: for events that no images follow."""
    return Film(new_id().hex * 2, 7_200_000, new_id().hex * 2, 60_000)


class Ambulance:
    """Writes events and asks the hospital.

    Attributes:
        id: of the device.
        radiograph: of its first film.
    """

    def __init__(self, film: Film | None = None) -> None:
        self.id = new_id()
        self.radiograph = new_id()
        self._film = film
        self._key = DeviceKey.new()
        self._clock = HybridClock(self.id)
        self._end = Position(chain=new_id(), number=0)
        self._acts = self._history()
        self._credentials: EnrolledCredentials | None = None
        self._receipt_keys: dict[str, Ed25519PublicKey] = {}

    # --- records ---------------------------------------------------------------------------------------------------

    def batch(self, count: int = BATCH) -> bytes:
        """The next events as they are sent: JSON, compressed."""
        events = [self._event(act).model_dump(mode="json") for act in islice(self._acts, count)]
        return gzip.compress(json.dumps({"events": events}).encode(), 6)

    def _event(self, act: OpenChain | Put) -> Event:
        event = next_event(self.id, self._end, datetime.now(UTC), self._clock.now(), act)
        self._end = event.position
        return event

    def _history(self) -> Iterator[OpenChain | Put]:
        """One run after the other: patient, run, vital signs, a film with its reading, the end. Ten events each."""
        yield OpenChain()
        first = True
        while True:
            yield from self._run(self.radiograph if first else new_id(), self._film if first else None)
            first = False

    def _run(self, radiograph: Any, film: Film | None) -> Iterator[Put]:
        film = film or made_up_film()
        patient, run, now = new_id(), new_id(), datetime.now(UTC)
        yield _put(RecordType.PATIENT, patient, name="김하늘", sex="female", estimated_age=60)
        started = {"patient": patient, "started_at": now, "chief_complaint": "호흡곤란", "incident_number": "119-1"}
        yield _put(RecordType.ENCOUNTER, run, **started)
        held = {"sha256": film.sha256, "size": film.size, "received_at": now, "source": "dicom"}
        ahead = {"preview_sha256": film.preview_sha256, "preview_size": film.preview_size}
        yield _put(RecordType.RADIOGRAPH, radiograph, encounter=run, **held, **ahead)
        yield _put(RecordType.DIAGNOSIS, new_id(), radiograph=radiograph, made_at=now, result=reading(["Pneumothorax"]))
        for number in range(VITAL_SIGNS):
            measured = {"spo2": 88 + number, "heart_rate": 120 - number, "systolic": 95, "diastolic": 60, "gcs": 14}
            yield _put(RecordType.VITAL_SIGNS, new_id(), encounter=run, taken_at=now, **measured)
        yield _put(RecordType.ENCOUNTER, run, ended_at=datetime.now(UTC))

    # --- the hospital ----------------------------------------------------------------------------------------------

    async def enrol(self, client: httpx.AsyncClient, code: str) -> None:
        """Be taken on, and get a token."""
        wanted = EnrolmentRequest(code=code, device=self.id, jwk=self._key.public, app="benchmark")
        answer = await client.post("/v1/enrolment", json=wanted.model_dump(mode="json"))
        enrolled = Enrolled.model_validate_json(_well(answer).content)
        self._receipt_keys = {
            name: Ed25519PublicKey.from_public_bytes(base64.b64decode(key))
            for name, key in enrolled.receipt_keys.items()
        }
        self._credentials = EnrolledCredentials(self._key, self.id, enrolled.token_url)

    async def ask(
        self, client: httpx.AsyncClient, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> httpx.Response:
        """One request with a token that is good; the answer may be a refusal."""
        if self._credentials is None:
            raise ValueError("the ambulance is not enrolled")
        if (renewal := self._credentials.renewal(0.0)) is not None:
            self._credentials.renewed(_well(await client.post(renewal.path, data=dict(renewal.form))).content)
        shown = {**headers, **self._credentials.headers()}
        return await client.request(method, path, headers=shown, content=body)

    async def send(self, client: httpx.AsyncClient, batch: bytes) -> bytes:
        """Send a batch; gives the answer as it came."""
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        return _well(await self.ask(client, "POST", "/v1/events", headers, batch)).content

    def check(self, answer: bytes, count: int = BATCH) -> None:
        """Whether every event was stored, with a receipt that the hospital has signed for this device."""
        outcomes = BatchAnswer.model_validate_json(answer).outcomes
        if len(outcomes) != count or any(one.status is not OutcomeStatus.STORED for one in outcomes):
            raise Problem(f"failed: the hospital stored not all events: {answer[:200]!r}")
        for one in outcomes:
            if one.receipt is None or one.receipt.device != self.id:
                raise Problem("failed: an event has no receipt for this device")
            one.receipt.verify(self._receipt_keys)

    @property
    def receipt_keys(self) -> Mapping[str, Ed25519PublicKey]:
        """What the hospital signs with."""
        return self._receipt_keys


async def enrol_all(place: Place, client: httpx.AsyncClient, ambulances: list[Ambulance]) -> None:
    """Have a running hospital take them on, with a one-time code each."""
    from sync_server.domain.enrolment import make_code

    with place.opened() as hospital:
        codes = [make_code(hospital, "benchmark", f"Ambulance {n}").code.code for n in range(len(ambulances))]
    some = asyncio.Semaphore(AT_ONCE)

    async def one(ambulance: Ambulance, code: str) -> None:
        async with some:
            await ambulance.enrol(client, code)

    await asyncio.gather(*(one(ambulance, code) for ambulance, code in zip(ambulances, codes, strict=True)))


def _put(kind: RecordType, id: Any, **fields: Any) -> Put:
    return Put(type=kind, id=id, fields=changed_fields(kind, fields))


def _well(answer: httpx.Response) -> httpx.Response:
    if not answer.is_success:
        raise Problem(f"failed: {answer.request.url.path} was answered {answer.status_code}: {answer.text[:80]}")
    return answer
