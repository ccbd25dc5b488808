"""Two hundred ambulances at once, each with 50 events, a preview of 60 KB and an original of 7 MB.

All begin in the same moment, and go on as the device does: images in pieces of a megabyte with their checksums (tus),
again after a refusal that asks to wait, from where it stopped after a broken connection. Afterwards the database and
the image store are compared with what was sent, byte for byte.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from sqlmodel import col, func, select

from benchmarks.fresh import Problem
from benchmarks.server.ambulance import BATCH, Ambulance, Film, enrol_all
from benchmarks.server.place import MemoryWatch, Place
from shared.hospital import PREVIEW_BYTES, ImageKind
from shared.receipts import HeldImage, Receipt
from sync_server.db.tables import EventRow, ImageRow, UploadRow

AMBULANCES = 200
ORIGINAL_BYTES = 7_200_000
PIECE = 1 << 20
PATIENCE_S = 240.0
MOST_TRIES = 60
_OWN = 16
"""Bytes at the beginning of an image that only it has."""


@dataclass(frozen=True)
class Picture:
    """An image that nobody else has, although all but its first bytes are those of the others, held once.

    Attributes:
        own: its first bytes.
        shared: its pieces (:data:`PIECE`), without those bytes.
        checksums: of its pieces, as tus has them.
        sha256: of the whole.
    """

    own: bytes
    shared: tuple[bytes, ...]
    checksums: tuple[str, ...]
    sha256: str

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.own) + sum(map(len, self.shared))

    def piece(self, offset: int) -> bytes:
        """The bytes from there to the end of the piece."""
        number, begin = divmod(offset, PIECE)
        if number:
            return self.shared[number][begin:]
        return (self.own + self.shared[0])[begin:]


def pictures(count: int, size: int) -> list[Picture]:
    """Images that differ from one another."""
    common = bytes(_OWN) + random.Random(size).randbytes(size - _OWN)
    shared = [common[start : start + PIECE] for start in range(0, size, PIECE)]
    shared[0] = shared[0][_OWN:]
    checksums = [_checksum(piece) for piece in shared[1:]]
    made = []
    for number in range(count):
        own = number.to_bytes(_OWN, "little")
        whole = hashlib.sha256(own)
        for piece in shared:
            whole.update(piece)
        first = _checksum(own + shared[0])
        made.append(Picture(own, tuple(shared), (first, *checksums), whole.hexdigest()))
    return made


def _checksum(data: bytes) -> str:
    return f"sha256 {base64.b64encode(hashlib.sha256(data).digest()).decode()}"


@dataclass
class Sender:
    """One ambulance with what it sends."""

    ambulance: Ambulance
    original: Picture
    preview: Picture
    events: bytes
    answer: bytes = b""
    receipts: list[Receipt] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    again: Counter[str] = field(default_factory=Counter)

    @property
    def pictures(self) -> list[tuple[ImageKind, Picture]]:
        """In the order in which they are sent."""
        return [(ImageKind.PREVIEW, self.preview), (ImageKind.ORIGINAL, self.original)]

    async def go(self, client: httpx.AsyncClient) -> None:
        """Send everything until it is held."""
        began = time.perf_counter()
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        self.answer = (await self._ask(client, "POST", "/v1/events", headers, self.events)).content
        self.seconds["events"] = time.perf_counter() - began
        for kind, picture in self.pictures:
            await self._upload(client, kind, picture)
            receipt = await self._ask(client, "GET", f"/v1/images/{picture.sha256}/receipt", {})
            self.receipts.append(Receipt.model_validate_json(receipt.content))
            self.seconds[kind.value] = time.perf_counter() - began

    async def _upload(self, client: httpx.AsyncClient, kind: ImageKind, picture: Picture) -> None:
        said = {"radiograph": str(self.ambulance.radiograph), "kind": kind.value, "sha256": picture.sha256}
        metadata = ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in said.items())
        tus = {"Tus-Resumable": "1.0.0"}
        begun = {**tus, "Upload-Length": str(picture.size), "Upload-Metadata": metadata}
        place = (await self._ask(client, "POST", "/v1/images", begun)).headers["Location"]
        offset = 0
        while offset < picture.size:
            headers = {**tus, "Content-Type": "application/offset+octet-stream", "Upload-Offset": str(offset)}
            if not offset % PIECE:
                headers["Upload-Checksum"] = picture.checksums[offset // PIECE]
            answer = await self._ask(
                client, "PATCH", place, headers, picture.piece(offset), on_break=lambda: self._look(client, place)
            )
            offset = int(answer.headers["Upload-Offset"])

    async def _look(self, client: httpx.AsyncClient, place: str) -> httpx.Response:
        """How far an upload is, after a connection broke."""
        return await self._ask(client, "HEAD", place, {"Tus-Resumable": "1.0.0"})

    async def _ask(
        self,
        client: httpx.AsyncClient,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes | None = None,
        on_break: Callable[[], Awaitable[httpx.Response]] | None = None,
    ) -> httpx.Response:
        for _ in range(MOST_TRIES):
            try:
                answer = await self.ambulance.ask(client, method, path, headers, body)
            except httpx.TransportError as error:
                self.again[type(error).__name__] += 1
                await asyncio.sleep(random.uniform(0.2, 1.0))
                if on_break is not None:
                    return await on_break()
                continue
            if answer.is_success:
                return answer
            self.again[str(answer.status_code)] += 1
            if answer.status_code == 409 and on_break is not None:
                return await on_break()
            if answer.status_code not in (429, 503):
                raise Problem(f"failed: {method} {path} was answered {answer.status_code}: {answer.text[:80]}")
            await asyncio.sleep(float(answer.headers.get("Retry-After", "1")))
        raise Problem(f"failed: {method} {path} did not succeed in {MOST_TRIES} tries")

    def check(self) -> None:
        """Every receipt is there and signed, for this device and these bytes."""
        self.ambulance.check(self.answer)
        sent = [HeldImage(sha256=picture.sha256, size=picture.size) for _, picture in self.pictures]
        if [receipt.holds for receipt in self.receipts] != sent:
            raise Problem("failed: a receipt is for another image than was sent")
        for receipt in self.receipts:
            receipt.verify(self.ambulance.receipt_keys)


def measure(folder: Path, database: str | None = None, ambulances: int = AMBULANCES) -> dict[str, Any]:
    """How many completed, what was lost or doubled, how long it took, and the server's memory."""
    originals, previews = pictures(ambulances, ORIGINAL_BYTES), pictures(ambulances, PREVIEW_BYTES)
    place = Place.new(folder, database)
    with place.served() as server, MemoryWatch(server.process.pid) as memory:
        at_rest = memory.peak_mb
        senders, whole_s = asyncio.run(_all_at_once(place, originals, previews))
    for sender in senders:
        sender.check()
    again: Counter[str] = sum((sender.again for sender in senders), Counter())
    return {
        "ambulances": ambulances,
        "complete": sum(len(sender.receipts) == 2 for sender in senders),
        **compared(place, senders),
        "memory_mb": memory.peak_mb,
        "memory_at_rest_mb": at_rest,
        "whole_s": whole_s,
        "megabytes_per_s": ambulances * (ORIGINAL_BYTES + PREVIEW_BYTES) / 1e6 / whole_s,
        "until_p95_s": {
            what: float(np.quantile([one.seconds[what] for one in senders], 0.95)) for what in senders[0].seconds
        },
        "asked_again": dict(again),
    }


async def _all_at_once(place: Place, originals: list[Picture], previews: list[Picture]) -> tuple[list[Sender], float]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=place.url, timeout=60, limits=limits, trust_env=False) as client:
        senders = []
        for original, preview in zip(originals, previews, strict=True):
            film = Film(original.sha256, original.size, preview.sha256, preview.size)
            ambulance = Ambulance(film)
            senders.append(Sender(ambulance, original, preview, ambulance.batch()))
        await enrol_all(place, client, [sender.ambulance for sender in senders])
        began = time.perf_counter()
        try:
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.gather(*(sender.go(client) for sender in senders))
        except TimeoutError:
            done = sum(len(sender.receipts) == 2 for sender in senders)
            raise Problem(f"failed: {done} of {len(senders)} were done after {PATIENCE_S:.0f} s") from None
        return senders, time.perf_counter() - began


def compared(place: Place, senders: list[Sender]) -> dict[str, int]:
    """What the database and the store hold against what was sent: ``lost`` and ``duplicate`` events and images."""
    lost = duplicate = 0
    with place.opened() as hospital:
        with hospital.database.reading() as session:
            count = select(EventRow.device, func.count()).where(col(EventRow.refused).is_(None))
            events = dict(session.exec(count.group_by(col(EventRow.device))).all())
            images = {row.sha256: row.size for row in session.exec(select(ImageRow)).all()}
            unfinished = session.exec(select(func.count()).select_from(UploadRow)).one()
        sent = {picture.sha256: picture.size for sender in senders for _, picture in sender.pictures}
        for sender in senders:
            held = events.get(sender.ambulance.id, 0)
            lost += max(0, BATCH - held)
            duplicate += max(0, held - BATCH)
        for sha256, size in sent.items():
            if images.get(sha256) != size or not hospital.images.exists(sha256):
                lost += 1
                continue
            with hospital.images.open(sha256) as file:
                lost += hashlib.sha256(file.read()).hexdigest() != sha256
        names = [file.name for file in Path(hospital.settings.images).rglob("*") if file.is_file()]
        duplicate += len(images.keys() - sent.keys()) + sum(name not in sent for name in names) + unfinished
    return {"lost": lost, "duplicate": duplicate}
