"""Whether the server runs, whether it can do its work, and what it has done (for Prometheus)."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from shared.errors import FirstRayError
from shared.version import VERSION
from sync_server.api.parts import hospital_of
from sync_server.api.problems import Problem, responses
from sync_server.domain.images import ImageStore
from sync_server.hospital import Hospital
from sync_server.settings import is_loopback

_log = logging.getLogger(__name__)
router = APIRouter(tags=["health"])

FRESH_S: Final = 5.0
"""What was found of the image store is told for so long."""
PATIENCE_S: Final = 3.0


class Health(BaseModel):
    """The server runs."""

    status: Literal["ok"] = "ok"
    version: str = VERSION


class Probe:
    """Whether the image store works. Anybody may ask, so it is found out now and then, and once at a time."""

    def __init__(self, images: ImageStore) -> None:
        self._images = images
        self._threads = CapacityLimiter(1)
        self._last: asyncio.Task[bool] | None = None
        self._fresh_until = 0.0

    async def works(self) -> bool:
        """As found in the last :data:`FRESH_S` seconds; a store that takes longer than :data:`PATIENCE_S` does not."""
        if self._last is None or (self._last.done() and time.monotonic() >= self._fresh_until):
            self._last = asyncio.create_task(self._find_out(), name="probe of the image store")
        if not self._last.done():
            await asyncio.wait({self._last}, timeout=PATIENCE_S)
        return self._last.done() and not self._last.cancelled() and self._last.result()

    async def _find_out(self) -> bool:
        found = await anyio.to_thread.run_sync(_works, self._images.check, limiter=self._threads)
        self._fresh_until = time.monotonic() + FRESH_S
        return found


class Readiness(BaseModel):
    """What the server needs, each whether it works."""

    ready: bool
    database: bool
    images: bool


@router.get("/healthz")
async def healthz() -> Health:
    """The server runs: the device's probe, and the supervisor's. Asks nothing of the database and needs no thread."""
    return Health()


@router.get("/readyz", responses={503: {"model": Readiness}})
async def readyz(
    request: Request, hospital: Annotated[Hospital, Depends(hospital_of)], response: Response
) -> Readiness:
    """The server can do its work; 503 tells a load balancer to send nobody here."""
    probe: Probe = request.app.state.probe
    database = await run_in_threadpool(_works, lambda: _ask(hospital))
    images = await probe.works()
    ready = database and images and not hospital.changes.closed
    response.status_code = 200 if ready else 503
    return Readiness(ready=ready, database=database, images=images)


@router.get("/metrics", response_class=Response, responses=responses(403))
def metrics(request: Request, hospital: Annotated[Hospital, Depends(hospital_of)]) -> Response:
    """Prometheus text. From this machine only, unless a ``metrics_token`` was set and is shown as bearer token."""
    token = hospital.settings.metrics_token
    shown = request.headers.get("Authorization", "").removeprefix("Bearer ")
    at_home = token is None and request.client is not None and is_loopback(request.client.host)
    if not at_home and not (token is not None and hmac.compare_digest(shown.encode(), token.encode())):
        raise Problem(403, "metrics_forbidden", "Read it on the server's machine, or set a metrics token and show it.")
    return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)


def _ask(hospital: Hospital) -> None:
    with hospital.database.reading() as session:
        session.execute(text("SELECT 1"))


def _works(what: Callable[[], Any]) -> bool:
    try:
        what()
    except (SQLAlchemyError, FirstRayError, OSError) as problem:
        _log.error("not ready: %s", type(problem).__name__)
        return False
    return True
