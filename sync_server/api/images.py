"""``/v1/images``: resumable uploads by tus 1.0 (https://tus.io/protocols/resumable-upload), and receipts of images.

Extensions: creation, creation-with-upload, checksum (sha256), expiration, termination. Bytes go from the connection to
the spool in small pieces, so that memory does not grow with the image, and what came before a connection broke stays.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.utils import format_datetime
from typing import Annotated, Any, Final, TypeVar

from fastapi import APIRouter, Depends, FastAPI, Header, Path, Request, Response
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from shared.errors import FirstRayError
from shared.receipts import Receipt
from sync_server.api import tus
from sync_server.api.auth import Device
from sync_server.api.parts import hospital_of
from sync_server.api.problems import Problem, responses
from sync_server.db.tables import DeviceRow
from sync_server.domain.devices import DeviceRevoked
from sync_server.domain.spool import OffsetWrong
from sync_server.domain.uploads import MOST_BYTES, Upload, Uploads
from sync_server.hospital import Hospital
from sync_server.threads import RETRY_S, Lane, Threads, threads_of

T = TypeVar("T")

SWEEP_SECONDS: Final = 3600.0

_log: Final = logging.getLogger(__name__)


@asynccontextmanager
async def _sweeping(app: FastAPI) -> AsyncIterator[None]:
    """While the application runs, uploads that nobody finished are forgotten every hour."""

    async def sweep() -> None:
        while True:
            try:
                await app.state.threads.spool.run(Uploads(app.state.hospital).sweep)
            except (OSError, SQLAlchemyError, FirstRayError) as error:
                _log.error("old uploads could not be removed, trying again in an hour: %s", type(error).__name__)
            await asyncio.sleep(SWEEP_SECONDS)

    task = asyncio.create_task(sweep(), name="old uploads")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


router: Final = APIRouter(prefix="/v1/images", tags=["images"], lifespan=_sweeping)

PIECE: Final = 256 * 1024
"""Bytes of an upload in memory, at most; with what the server has read ahead some 400 kB."""
PAUSE_SECONDS: Final = 0.05
"""When nothing has come for so long, what came is kept: the next connection goes on from there."""

_STATUS: Final = {
    "not_allowed": 403,
    "upload_unknown": 404,
    "offset_wrong": 409,
    "radiograph_deleted": 410,
    "image_too_large": 413,
    "too_many_uploads": 429,
    "checksum_mismatch": 460,
    "sha256_mismatch": 460,
    "radiograph_unknown": 503,
    "image_store_failing": 503,
    "images_busy": 503,
    "hospital_full": 507,
    "image_store_full": 507,
}
_LATER: Final = {
    "too_many_uploads": 60,
    "radiograph_unknown": 5,
    "image_store_failing": 30,
    "images_busy": RETRY_S,
    "hospital_full": 60,
}

UploadId = Annotated[str, Path(pattern="^([0-9a-f]{32}|[0-9a-f]{64})$")]
Sha256Path = Annotated[str, Path(pattern="^[0-9a-f]{64}$")]


def uploads_of(hospital: Annotated[Hospital, Depends(hospital_of)]) -> Uploads:
    """The uploads of this hospital."""
    return Uploads(hospital)


def speaks_tus(tus_resumable: Annotated[str | None, Header()] = None) -> None:
    """Raises Problem 412 for another version of the protocol."""
    if tus_resumable != tus.VERSION:
        raise Problem(412, "tus_version", f"Send Tus-Resumable: {tus.VERSION}.", {"Tus-Version": tus.VERSION})


UploadsHere = Annotated[Uploads, Depends(uploads_of)]
ThreadsHere = Annotated[Threads, Depends(threads_of)]
TUS: Final = [Depends(speaks_tus)]


@router.options("", status_code=204, responses=responses(401, 403))
def options(_: Device) -> Response:
    """What this server can do (tus 1.0, "OPTIONS")."""
    headers = {
        "Tus-Version": tus.VERSION,
        "Tus-Extension": tus.EXTENSIONS,
        "Tus-Max-Size": str(max(MOST_BYTES.values())),
        "Tus-Checksum-Algorithm": "sha256",
    }
    return _answer(204, **headers)


@router.post(
    "", status_code=201, dependencies=TUS, responses=responses(400, 401, 403, 410, 412, 413, 429, 460, 503, 507)
)
async def create(
    request: Request,
    device: Device,
    uploads: UploadsHere,
    threads: ThreadsHere,
    upload_length: Annotated[str, Header()] = "",
    upload_metadata: Annotated[str, Header()] = "",
) -> Response:
    """Begin an upload (tus 1.0, "Creation"), or find the one begun before; its first bytes may come along."""
    metadata = tus.metadata(upload_metadata)
    upload = await _on(threads.uploads, uploads.begin, device.id, metadata, tus.number("Upload-Length", upload_length))
    place = {"Location": f"/v1/images/{upload.id}"}
    if request.headers.get("Content-Type", "") != tus.BODY_TYPE:
        return _answer(201, upload, **place)
    if upload.offset:  # begun before: the sender asks how far it is
        return _answer(201, upload, **place, **{"Upload-Offset": str(upload.offset)})
    upload = await _receive(request, device, uploads, threads, upload)
    return _answer(201, upload, **place, **{"Upload-Offset": str(upload.offset)})


@router.head("/{id}", dependencies=TUS, responses=responses(401, 403, 404, 412, 422, 503))
async def look(id: UploadId, device: Device, uploads: UploadsHere, threads: ThreadsHere) -> Response:
    """How much has come (tus 1.0, "HEAD")."""
    upload = await _on(threads.uploads, uploads.find, device.id, id)
    sizes = {"Upload-Offset": str(upload.offset), "Upload-Length": str(upload.size)}
    return _answer(200, upload, **sizes, **{"Cache-Control": "no-store"})


@router.patch(
    "/{id}",
    status_code=204,
    dependencies=TUS,
    responses=responses(400, 401, 403, 404, 408, 409, 412, 413, 415, 422, 460, 503, 507),
)
async def append(
    id: UploadId,
    request: Request,
    device: Device,
    uploads: UploadsHere,
    threads: ThreadsHere,
    upload_offset: Annotated[str, Header()] = "",
) -> Response:
    """Add bytes (tus 1.0, "PATCH"); with ``Upload-Checksum`` they count only if they have it."""
    if request.headers.get("Content-Type", "") != tus.BODY_TYPE:
        raise Problem(415, "media_type_unknown", f"Send Content-Type: {tus.BODY_TYPE}.")
    upload = await _on(threads.uploads, uploads.find, device.id, id)
    if tus.number("Upload-Offset", upload_offset) != upload.offset:
        raise _problem(OffsetWrong(upload.offset))
    upload = await _receive(request, device, uploads, threads, upload)
    return _answer(204, upload, **{"Upload-Offset": str(upload.offset)})


@router.delete("/{id}", status_code=204, dependencies=TUS, responses=responses(401, 403, 404, 412, 422, 503))
async def stop(id: UploadId, device: Device, uploads: UploadsHere, threads: ThreadsHere) -> Response:
    """Forget an upload (tus 1.0, "Termination")."""
    await _on(threads.spool, uploads.stop, device.id, id)
    return _answer(204)


@router.get("/{sha256}/receipt", responses=responses(401, 403, 404, 422, 503))
async def receipt(sha256: Sha256Path, device: Device, uploads: UploadsHere, threads: ThreadsHere) -> Receipt:
    """Proof that the hospital holds all bytes of an image this device delivered or names in its records."""
    found = await _on(threads.receipts, uploads.receipt, device.id, sha256)
    if found is None:
        raise Problem(404, "not_held", "The hospital does not hold this image.")
    return found


async def _receive(request: Request, device: DeviceRow, uploads: Uploads, threads: Threads, upload: Upload) -> Upload:
    """Take the body; gives the upload as it stands then."""
    if (told := request.headers.get("Content-Length", "")).isdecimal() and upload.offset + int(told) > upload.size:
        raise _too_long(upload)
    checksum = tus.checksum(request.headers.get("Upload-Checksum"))
    digest = hashlib.sha256()
    end, waiting = upload.offset, bytearray()

    async def keep() -> int:
        return await _on(threads.spool, uploads.spool.append, upload.id, end, waiting) if waiting else end

    try:
        async for piece in _with_pauses(request.stream()):
            if end + len(waiting) + len(piece) > upload.size:
                raise _too_long(upload)
            if checksum is not None:
                digest.update(piece)
            waiting += piece
            if len(waiting) >= PIECE or not piece:
                end, waiting = await keep(), bytearray()
    except (ClientDisconnect, HTTPException) as broken:
        # The connection broke, or came to a halt: the next one goes on from what came.
        await keep()
        if isinstance(broken, ClientDisconnect):
            raise Problem(400, "broken_off", "The connection broke. What came before is kept.") from None
        raise
    end = await keep()
    if checksum is not None and digest.digest() != checksum:
        await _on(threads.spool, uploads.spool.take_back, upload.id, upload.offset, end)
        raise Problem(460, "checksum_mismatch", "The bytes were damaged on their way. Send them again.")
    arrived = Upload(upload.id, upload.sha256, upload.size, end, upload.expires_at)
    if arrived.complete and not upload.complete:
        await _on(threads.uploads, uploads.finish, device.id, arrived)
    return arrived


async def _with_pauses(pieces: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    """The pieces of a body, and an empty one whenever none has come for :data:`PAUSE_SECONDS`."""
    coming = asyncio.ensure_future(anext(pieces, None))
    try:
        while True:
            done, _ = await asyncio.wait({coming}, timeout=PAUSE_SECONDS)
            if not done:
                yield b""
            if (piece := await coming) is None:
                return
            coming = asyncio.ensure_future(anext(pieces, None))
            yield piece
    finally:
        coming.cancel()


async def _on(lane: Lane, act: Callable[..., T], *arguments: Any) -> T:
    """Run what blocks on a thread of its kind; its errors become problem documents."""
    try:
        return await lane.run(act, *arguments)
    except FirstRayError as error:
        raise _problem(error) from None


def _problem(error: FirstRayError) -> Problem:
    if isinstance(error, DeviceRevoked):
        return Problem(403, error.code, str(error), wipe=error.wipe)
    headers = {"Tus-Resumable": tus.VERSION}
    if isinstance(error, OffsetWrong):
        headers["Upload-Offset"] = str(error.offset)
    if (seconds := _LATER.get(error.code)) is not None:
        headers["Retry-After"] = str(seconds)
    return Problem(_STATUS.get(error.code, 409), error.code, str(error), headers)


def _too_long(upload: Upload) -> Problem:
    return Problem(413, "upload_too_long", f"More bytes came than the {upload.size} announced.")


def _answer(status: int, upload: Upload | None = None, /, **headers: str) -> Response:
    if upload is not None and upload.expires_at is not None and not upload.complete:
        headers["Upload-Expires"] = format_datetime(upload.expires_at, usegmt=True)
    return Response(status_code=status, headers={"Tus-Resumable": tus.VERSION, **headers})
