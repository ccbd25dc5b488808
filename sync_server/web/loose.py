"""The page of a radiograph that no run has yet: what it shows, and the way to its run once it has one."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from shared.errors import FirstRayError
from sync_server.domain import audit, loose
from sync_server.domain.accounts import Person
from sync_server.domain.loose import OneLoose
from sync_server.hospital import Hospital
from sync_server.web import films
from sync_server.web.auth import ErUser, TheHospital, cookie_name
from sync_server.web.i18n import translator
from sync_server.web.live import film_events, stream
from sync_server.web.pages import PageRoute, render

router = APIRouter(route_class=PageRoute, prefix="/films/{film}")


@router.get("")
def film_page(request: Request, film: UUID, user: ErUser, hospital: TheHospital) -> Response:
    """The page, or the way to that of the run the radiograph belongs to by now; every view is in the audit log."""
    found = _found(hospital, film)
    if found.encounter is not None:
        return RedirectResponse(f"/runs/{found.encounter}?film={film}", 303)
    return _show(request, "film.html", hospital, user, found)


@router.get("/facts")
def facts(request: Request, film: UUID, user: ErUser, hospital: TheHospital) -> Response:
    """The parts of the page that change; 404 once there is a run, so that the page is loaded again."""
    return _show(request, "_film.html", hospital, user, _without_run(hospital, film))


@router.get("/live")
async def live(request: Request, film: UUID, user: ErUser, hospital: TheHospital) -> Response:
    """Says when something of the radiograph has changed."""

    def version() -> object:
        try:
            return _found(hospital, film).version
        except FirstRayError:
            return None

    return stream(film_events(hospital, version, request.cookies[cookie_name(request)]))


@router.get("/image")
async def image(
    request: Request, film: UUID, user: ErUser, hospital: TheHospital, turns: films.Turns = 0, invert: bool = False
) -> Response:
    """The radiograph from its original, turned and inverted as asked."""
    sha256 = (await run_in_threadpool(_looked_at, hospital, user, film)).film.fields.sha256
    if sha256 is None:
        raise loose.GONE
    return await films.image(request, hospital, sha256, turns, invert)


@router.get("/preview")
async def preview(request: Request, film: UUID, user: ErUser, hospital: TheHospital) -> Response:
    """The small picture with boxes that the ambulance sent ahead."""
    sha256 = (await run_in_threadpool(_looked_at, hospital, user, film)).film.fields.preview_sha256
    if sha256 is None:
        raise loose.GONE
    return await films.preview(request, hospital, sha256)


def _found(hospital: Hospital, film: UUID) -> OneLoose:
    with hospital.database.reading() as session:
        return loose.read(session, film)


def _without_run(hospital: Hospital, film: UUID) -> OneLoose:
    found = _found(hospital, film)
    if found.encounter is not None:
        raise loose.GONE
    return found


def _seen(hospital: Hospital, user: Person, found: OneLoose) -> OneLoose:
    film = str(found.film.id)
    hospital.database.write(lambda session: audit.record(session, user.actor, "film.viewed", film))
    return found


def _looked_at(hospital: Hospital, user: Person, film: UUID) -> OneLoose:
    return _seen(hospital, user, _without_run(hospital, film))


def _show(request: Request, template: str, hospital: Hospital, user: Person, found: OneLoose) -> Response:
    film = _seen(hospital, user, found).film
    viewer = films.viewer(f"/films/{film.id}", film, translator(user.language))
    return render(request, template, film=film, device=found.device, viewer=viewer)
