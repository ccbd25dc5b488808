"""``GET /v1/inbox``: what the hospital has to say, down."""

from __future__ import annotations

import time
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query
from prometheus_client import Gauge
from starlette.concurrency import run_in_threadpool

from shared.hospital import MOST_ID, Inbox
from sync_server.api.auth import device
from sync_server.api.parts import hospital_of
from sync_server.api.problems import responses
from sync_server.db.tables import DeviceRow
from sync_server.domain import inbox
from sync_server.domain.changes import inbox_of
from sync_server.hospital import Hospital

LONGEST_WAIT_S: Final = 60.0

router = APIRouter(prefix="/v1", tags=["sync"])
_WAITING = Gauge("firstray_inbox_waiting", "Devices that wait for something to come")


@router.get("/inbox", responses=responses(401, 403, 422))
async def get_inbox(
    asker: Annotated[DeviceRow, Depends(device)],
    hospital: Annotated[Hospital, Depends(hospital_of)],
    after: Annotated[int, Query(ge=0, le=MOST_ID, description="Greatest id that the device has")] = 0,
    wait: Annotated[float, Query(ge=0, le=3600, description="Seconds to wait for something to come")] = 0,
) -> Inbox:
    """Items with ids above ``after``: at once if there are any, else as soon as one comes, at most ``wait`` seconds.

    The server waits no longer than 60 seconds.
    """
    until = time.monotonic() + min(wait, LONGEST_WAIT_S)
    with hospital.changes.subscribe(inbox_of(asker.id)) as heard:
        found = await run_in_threadpool(inbox.fetch, hospital.database, asker.id, after)
        while not found.items and (left := until - time.monotonic()) > 0 and not hospital.changes.closed:
            with _WAITING.track_inprogress():
                news = await heard.wait(left)
            if news:
                found = await run_in_threadpool(inbox.fetch, hospital.database, asker.id, after)
    return found
