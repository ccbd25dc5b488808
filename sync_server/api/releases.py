"""``GET /v1/releases/{release}``: the ZIP of a model release, to be fetched in pieces (RFC 9110, 14)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, BinaryIO, Final

from fastapi import APIRouter, Depends, Header, Path
from fastapi.responses import Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from shared.errors import FirstRayError
from sync_server.api.auth import Device
from sync_server.api.parts import hospital_of
from sync_server.api.problems import Problem, responses
from sync_server.db.tables import ReleaseRow
from sync_server.hospital import Hospital
from sync_server.threads import RETRY_S, Threads, threads_of

router: Final = APIRouter(prefix="/v1/releases", tags=["releases"])

_PIECE: Final = 64 * 1024
_RANGE: Final = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")
_ZIP: Final = "application/zip"

ReleaseId = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {_ZIP: {}}, "description": "The whole ZIP"},
    206: {"content": {_ZIP: {}}, "description": "The bytes asked for"},
    **responses(401, 403, 404, 416, 503),
}


@router.head("/{release}", response_class=Response, responses=_ANSWERS)
@router.get("/{release}", response_class=Response, responses=_ANSWERS)
async def fetch(
    release: ReleaseId,
    _: Device,
    hospital: Annotated[Hospital, Depends(hospital_of)],
    threads: Annotated[Threads, Depends(threads_of)],
    range_: Annotated[str | None, Header(alias="Range")] = None,
    if_range: Annotated[str | None, Header()] = None,
) -> Response:
    """The bytes of a release; ``Range`` names some of them, ``If-Range`` only if they are still of the same file."""
    row = await run_in_threadpool(_known, hospital, release)
    if row is None:
        raise Problem(404, "release_unknown", "There is no such release here.")
    tag = f'"{row.sha256}"'
    headers = {"ETag": tag, "Accept-Ranges": "bytes", "Cache-Control": "private, no-transform"}
    wanted = _range(range_, row.size) if range_ and if_range in (None, tag) else None
    first, last = wanted or (0, row.size - 1)
    if wanted is not None:
        headers["Content-Range"] = f"bytes {first}-{last}/{row.size}"
    headers["Content-Length"] = str(last - first + 1)
    try:
        file = await threads.releases.run(hospital.images.open, row.sha256)
    except FirstRayError as error:
        later = RETRY_S if error.code == "images_busy" else 30
        raise Problem(503, error.code, str(error), {"Retry-After": str(later)}) from None
    return StreamingResponse(threads.releases.each(_pieces(file, first, last)), 206 if wanted else 200, headers, _ZIP)


def _known(hospital: Hospital, release: str) -> ReleaseRow | None:
    with hospital.database.reading() as session:
        return session.get(ReleaseRow, release)


def _range(text: str, size: int) -> tuple[int, int] | None:
    """First and last byte of a single range; None for what may be ignored (RFC 9110, 14.2).

    Raises:
        Problem: 416 ``range_invalid``: nothing of it lies in the file.
    """
    match = _RANGE.fullmatch(text.strip())
    if match is None or not any(match.groups()):
        return None
    begin, end = match.groups()
    if not begin:  # the last bytes
        first, last = max(0, size - int(end)), size - 1
    else:
        first, last = int(begin), min(int(end), size - 1) if end else size - 1
    if end and begin and int(end) < int(begin):
        return None
    if first >= size or last < first:
        raise Problem(416, "range_invalid", "The release has no such bytes.", {"Content-Range": f"bytes */{size}"})
    return first, last


def _pieces(file: BinaryIO, first: int, last: int) -> Iterator[bytes]:
    with file:
        file.seek(first)
        left = last - first + 1
        while left and (piece := file.read(min(_PIECE, left))):
            left -= len(piece)
            yield piece
