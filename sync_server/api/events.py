"""``POST /v1/events``: what happened to the records, up."""

from __future__ import annotations

from typing import Annotated, Final

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, Request
from prometheus_client import Counter

from shared.errors import FirstRayError
from shared.hospital import BatchAnswer, EventBatch
from sync_server.api.auth import device
from sync_server.api.limits import json_body
from sync_server.api.openapi import reference
from sync_server.api.parts import hospital_of
from sync_server.api.problems import Problem, responses
from sync_server.db.tables import DeviceRow
from sync_server.domain import intake
from sync_server.domain.batches import parse
from sync_server.domain.devices import DeviceRevoked
from sync_server.hospital import Hospital

router = APIRouter(prefix="/v1", tags=["sync"])

_intake: Final = CapacityLimiter(2)
"""Batches stored at once: more threads only take the interpreter from one another, and from those who answer pages."""
_STATUS: Final = {"device_unknown": 403, "too_large": 413}
_OUTCOMES = Counter("firstray_events", "Events of devices, by what became of them", ["outcome"])
_BODY = {"required": True, "content": {"application/json": {"schema": reference(EventBatch)}}}


@router.post("/events", responses=responses(400, 401, 403, 408, 413, 415), openapi_extra={"requestBody": _BODY})
async def post_events(
    request: Request,
    sender: Annotated[DeviceRow, Depends(device)],
    hospital: Annotated[Hospital, Depends(hospital_of)],
) -> BatchAnswer:
    """Store a batch of events: consecutive ones of one chain, lowest number first.

    Idempotent. An event that is refused has its place in the chain but no effect, and does not stop the others. Every
    event that is stored, now or before, is answered by a receipt. ``Content-Encoding: gzip`` is understood.
    """
    body = await json_body(request)
    return await to_thread.run_sync(_store, hospital, sender, body, limiter=_intake)


def _store(hospital: Hospital, sender: DeviceRow, body: bytes) -> BatchAnswer:
    try:
        answer = intake.take(hospital, sender.id, parse(body))
    except DeviceRevoked as problem:
        raise Problem(403, problem.code, str(problem), wipe=problem.wipe) from None
    except FirstRayError as problem:
        raise Problem(_STATUS.get(problem.code, 400), problem.code, str(problem)) from None
    for outcome in answer.outcomes:
        _OUTCOMES.labels(outcome.code or outcome.status.value).inc()
    return answer
