"""Images to the hospital: one request at a time, always for the most urgent image, never in the way of an event."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import time
from collections import Counter
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from pydantic import ValidationError

from edge_app.store.views import Upload
from edge_app.sync.blob import OpenBlob
from edge_app.sync.lane import Desk, Lane
from edge_app.sync.link import UploadProgress
from edge_app.sync.pace import LONG_CHUNK_S, SHORT_CHUNK_S
from edge_app.sync.problems import TEXTS, Failed
from edge_app.sync.upload_states import UPLOADS, UploadAction, UploadEvent, UploadState
from edge_app.sync.wire import Answer
from shared.errors import FirstRayError
from shared.hospital import ImageKind
from shared.receipts import HeldImage, Receipt

log = logging.getLogger(__name__)

TUS: Final = {"Tus-Resumable": "1.0.0"}
CHECKSUM_MISMATCH: Final = 460
"""tus 1.0, checksum extension."""
GIVE_WAY_S: Final = 2.0
"""A chunk that has taken so long is broken off when an event comes up."""
MOST_QUEUED: Final = 64
MOST_DAMAGED: Final = 3
MOST_ABSENT: Final = 3

OVER: Final = frozenset({UploadState.HELD, UploadState.REFUSED})


class UploadsLane(Lane):
    """Sends previews and originals."""

    name = "uploads"

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self.blob = OpenBlob(desk.outbox)
        self._states: dict[str, UploadState] = {}
        self._rests: dict[str, float] = {}
        self._damaged: Counter[str] = Counter()
        self._absent: Counter[str] = Counter()
        self._checksums: bool | None = None
        self._receipt: Receipt | None = None
        self._place: tuple[str, int] = ("", 0)
        self._reason = ("", "")

    def link_is_new(self) -> None:
        """What was known of uploads under way may no longer be so."""
        self._states = {sha256: state for sha256, state in self._states.items() if state is UploadState.BACKING_OFF}

    async def step(self) -> None:
        """One request for the most urgent image, or wait for one."""
        bell = self._desk.bell
        bell.uploads.clear()
        await bell.urgent_done.wait()
        upload = await self._most_urgent()
        if upload is None:
            self._desk.link.progress(None, self._desk.pace.seen)
            self._desk.idle(self.name)
            await self._wait()
            return
        state = self._states.get(upload.sha256, UploadState.WAITING)
        try:
            event = await self._happens(upload, state)
            await self._move(upload, state, event)
        except FirstRayError as error:
            if error.code == "record_unknown":
                self._forget(upload.sha256)  # deleted meanwhile
                return
            if error.code != "image_damaged":
                raise
            self._reason = (error.code, error.message)
            await self._tell(upload, UploadAction.REFUSE)

    async def _most_urgent(self) -> Upload | None:
        queue: list[Upload] = await self._desk.blocking(self._desk.outbox.next_uploads, None, MOST_QUEUED)
        for gone in self._rests.keys() - {upload.sha256 for upload in queue}:
            self._forget(gone)
        now = time.monotonic()
        return next((upload for upload in queue if self._rests.get(upload.sha256, 0.0) <= now), None)

    async def _wait(self) -> None:
        now = time.monotonic()
        resting = [until - now for until in self._rests.values() if until > now]
        try:
            async with asyncio.timeout(min(resting, default=None)):
                await self._desk.bell.uploads.wait()
        except TimeoutError:
            return

    async def _happens(self, upload: Upload, state: UploadState) -> UploadEvent:
        """Make the request of a state; gives what came of it."""
        if state is UploadState.WAITING:
            return _turn(upload)
        if state is UploadState.BACKING_OFF:
            return UploadEvent.RETRY
        requests = {
            UploadState.ASKING: self._ask_receipt,
            UploadState.CREATING: self._create,
            UploadState.LOCATING: self._locate,
            UploadState.SENDING: self._send,
            UploadState.VERIFYING: self._verify,
        }
        try:
            return await requests[state](upload)
        except Failed as error:
            self._rest(upload, error)
            return UploadEvent.FAILED

    async def _move(self, upload: Upload, state: UploadState, event: UploadEvent) -> None:
        after, action = UPLOADS[state, event]
        log.debug("upload: %s, %s -> %s", state, event, after)
        if after is UploadState.BACKING_OFF and event is not UploadEvent.FAILED:
            self._rest(upload, Failed("hospital_failing"))
        try:
            await self._tell(upload, action)
        except FirstRayError as error:
            if action is not UploadAction.KEEP:
                raise
            self._rest(upload, error)
            after = UploadState.BACKING_OFF
            await self._tell(upload, UploadAction.FAIL)
        if after in OVER:
            self._forget(upload.sha256)
        else:
            self._states[upload.sha256] = after
        if state is UploadState.SENDING and event in (UploadEvent.MOVED, UploadEvent.COMPLETE):
            self._desk.backoff.worked(upload.sha256)
        if after not in (UploadState.BACKING_OFF, UploadState.REFUSED) and state is not UploadState.WAITING:
            self._desk.worked(self.name)

    def _rest(self, upload: Upload, error: FirstRayError) -> None:
        at_least = error.retry_after if isinstance(error, Failed) else 0.0
        self._rests[upload.sha256] = time.monotonic() + self._desk.backoff.failed(upload.sha256, at_least)
        self._desk.link.trouble(error)

    def _forget(self, sha256: str) -> None:
        for known in (self._states, self._rests, self._damaged, self._absent):
            known.pop(sha256, None)
        self._desk.backoff.worked(sha256)

    async def _tell(self, upload: Upload, action: UploadAction) -> None:
        outbox, blocking, sha256 = self._desk.outbox, self._desk.blocking, upload.sha256
        match action:
            case UploadAction.SAVE:
                url, offset = self._place
                await blocking(outbox.upload_moved, sha256, url, offset)
                progress = UploadProgress(upload.radiograph, upload.kind, offset, upload.size)
                self._desk.link.progress(progress, self._desk.pace.seen)
            case UploadAction.RESTART:
                await blocking(outbox.upload_moved, sha256, None, 0)
            case UploadAction.FAIL:
                await blocking(outbox.upload_failed, sha256)
            case UploadAction.RESTART_FAILED:
                await blocking(outbox.upload_moved, sha256, None, 0)
                await blocking(outbox.upload_failed, sha256)
            case UploadAction.KEEP:
                await blocking(outbox.upload_held, self._receipt, self._desk.keys)
            case UploadAction.REFUSE:
                await blocking(outbox.upload_refused, sha256, *self._reason)
            case UploadAction.NOTHING:
                pass

    async def _verify(self, upload: Upload) -> UploadEvent:
        event = await self._ask_receipt(upload)
        if event is UploadEvent.ABSENT:
            self._absent[upload.sha256] += 1
            if self._absent[upload.sha256] >= MOST_ABSENT:
                return self._damage(upload)
        return event

    async def _ask_receipt(self, upload: Upload) -> UploadEvent:
        reply = await self._desk.wire.ask("GET", f"/v1/images/{upload.sha256}/receipt")
        if reply.status == HTTPStatus.NOT_FOUND:
            return UploadEvent.ABSENT
        if not reply.well:
            return self._denied(reply)
        try:
            receipt = Receipt.model_validate_json(reply.body)
        except ValidationError:
            raise Failed("hospital_answer_unreadable") from None
        if receipt.holds != HeldImage(sha256=upload.sha256, size=upload.size):
            raise Failed("hospital_answer_unreadable")
        self._receipt = receipt
        return UploadEvent.RECEIPT

    async def _create(self, upload: Upload) -> UploadEvent:
        metadata = {"radiograph": str(upload.radiograph), "kind": upload.kind.value, "sha256": upload.sha256}
        headers = {
            **TUS,
            "Upload-Length": str(upload.size),
            "Upload-Metadata": ",".join(f"{k} {base64.b64encode(v.encode()).decode()}" for k, v in metadata.items()),
        }
        reply = await self._desk.wire.ask("POST", "/v1/images", headers=headers)
        if not reply.well:
            return self._denied(reply)
        # The path only: a server behind a proxy may not know its own name, and no other server is ever spoken to.
        place = urlsplit(reply.headers.get("Location", ""))
        if reply.status != HTTPStatus.CREATED or not place.path.startswith("/"):
            raise Failed("hospital_answer_unreadable")
        self._place = (place.path + (f"?{place.query}" if place.query else ""), 0)
        return UploadEvent.CREATED

    async def _locate(self, upload: Upload) -> UploadEvent:
        url = upload.url or ""
        reply = await self._desk.wire.ask("HEAD", url, headers=TUS)
        if reply.status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
            return UploadEvent.GONE
        return self._denied(reply) if not reply.well else self._offset(upload, reply)

    async def _send(self, upload: Upload) -> UploadEvent:
        desk = self._desk
        chunk = await desk.blocking(self.blob.read, upload, desk.pace.chunk(_chunk_s(upload)))
        headers = {**TUS, "Upload-Offset": str(upload.offset), "Content-Type": "application/offset+octet-stream"}
        if await self._has_checksums(upload):
            headers["Upload-Checksum"] = f"sha256 {base64.b64encode(hashlib.sha256(chunk).digest()).decode()}"
        reply = await self._giving_way(upload.url or "", headers, chunk)
        if reply is None:
            return UploadEvent.ELSEWHERE
        if reply.status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
            return UploadEvent.GONE
        if reply.code == "sha256_mismatch":
            return self._damage(upload)
        if reply.status in (HTTPStatus.CONFLICT, CHECKSUM_MISMATCH):
            self._damaged[upload.sha256] += reply.status == CHECKSUM_MISMATCH
            return UploadEvent.ELSEWHERE if self._damaged[upload.sha256] < MOST_DAMAGED else self._damage(upload)
        if not reply.well:
            return self._denied(reply)
        return self._offset(upload, reply, more_than=upload.offset)

    async def _giving_way(self, url: str, headers: dict[str, str], chunk: bytes) -> Answer | None:
        """Send a chunk; None where an event came up and the chunk had taken too long already."""
        began = time.monotonic()
        sending = asyncio.create_task(self._desk.wire.ask("PATCH", url, headers=headers, body=chunk))
        try:
            while not (await asyncio.wait({sending}, timeout=0.5))[0]:
                if not self._desk.bell.urgent_done.is_set() and time.monotonic() - began > GIVE_WAY_S:
                    self._desk.pace.slower()
                    return None
            return sending.result()
        finally:
            sending.cancel()

    def _offset(self, upload: Upload, reply: Answer, more_than: int = -1) -> UploadEvent:
        text = reply.headers.get("Upload-Offset", "")
        offset = int(text) if text.isdecimal() else -1
        if not max(more_than + 1, 0) <= offset <= upload.size:
            raise Failed("hospital_answer_unreadable")
        self._place = (upload.url or "", offset)
        return UploadEvent.COMPLETE if offset == upload.size else UploadEvent.MOVED

    def _damage(self, upload: Upload) -> UploadEvent:
        """The whole image did not arrive as it left."""
        self._absent.pop(upload.sha256, None)
        self._damaged[upload.sha256] += 1
        if self._damaged[upload.sha256] < MOST_DAMAGED:
            return UploadEvent.DAMAGED
        self._reason = ("sha256_mismatch", TEXTS["sha256_mismatch"][0])
        return UploadEvent.DENIED

    def _denied(self, reply: Answer) -> UploadEvent:
        self._reason = (reply.code, reply.message or f"HTTP {reply.status}")
        return UploadEvent.DENIED

    async def _has_checksums(self, upload: Upload) -> bool:
        """Whether the server checks chunks; asked once, for the first original."""
        if self._checksums is None and upload.kind is ImageKind.ORIGINAL:
            headers = (await self._desk.wire.ask("OPTIONS", "/v1/images", headers=TUS)).headers
            extensions, algorithms = headers.get("Tus-Extension", ""), headers.get("Tus-Checksum-Algorithm", "")
            self._checksums = "checksum" in extensions.split(",") and "sha256" in algorithms.split(",")
        return bool(self._checksums)


def _turn(upload: Upload) -> UploadEvent:
    if upload.url is not None:
        return UploadEvent.BEGUN
    doubtful = upload.tries or upload.doubted or upload.kind is ImageKind.ORIGINAL
    return UploadEvent.DOUBTFUL if doubtful else UploadEvent.FRESH


def _chunk_s(upload: Upload) -> float:
    return SHORT_CHUNK_S if upload.kind is ImageKind.ORIGINAL else LONG_CHUNK_S
