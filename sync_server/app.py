"""The hospital as an ASGI application: API for devices, pages for people, health for machines."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from shared.version import VERSION
from sync_server import web
from sync_server.api import enrolment, events, health, images, inbox, openapi, problems, releases
from sync_server.api.limits import BodyLimit, Compressed
from sync_server.api.tracing import Traced
from sync_server.hospital import Hospital, open_hospital
from sync_server.settings import Settings
from sync_server.threads import Threads
from sync_server.web import admin


def make_app(settings: Settings | None = None, hospital: Hospital | None = None) -> FastAPI:
    """The application of a hospital, which it opens by ``settings`` unless one is given; closes it when it stops."""
    if hospital is None:
        if settings is None:
            raise TypeError("make_app needs settings or a hospital")
        hospital = open_hospital(settings)
    app = FastAPI(
        title="FirstRay hospital",
        version=VERSION,
        summary="Takes what ambulances send, and tells them what the hospital has to say.",
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/v1/openapi.json",
    )
    app.state.hospital = hospital
    app.state.threads = Threads()
    app.state.probe = health.Probe(hospital.images)
    problems.install(app)
    openapi.install(app)
    for router in (events.router, inbox.router, images.router, enrolment.router, releases.router, health.router):
        app.include_router(router)
    app.include_router(web.router)
    app.include_router(admin.router)
    web.mount(app)
    app.add_middleware(BodyLimit)
    app.add_middleware(Compressed, minimum_size=1000, compresslevel=4)
    app.add_middleware(Traced)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    hospital: Hospital = app.state.hospital
    yield
    hospital.close()
