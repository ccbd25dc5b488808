"""The page of a patient's run: what is known, the films, and what the ER does with them."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Form
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from shared.errors import FirstRayError
from shared.findings import KEYS
from shared.hospital import Presence
from sync_server.db.tables import RadiographRow
from sync_server.domain import acts, audit, run
from sync_server.domain.accounts import Person
from sync_server.hospital import Hospital
from sync_server.web import films
from sync_server.web.auth import ErUser, TheHospital, cookie_name
from sync_server.web.i18n import translator
from sync_server.web.live import run_events, stream
from sync_server.web.pages import PageRoute, redirect, render

router = APIRouter(route_class=PageRoute, prefix="/runs/{encounter}")


@router.get("")
def run_page(
    request: Request, encounter: UUID, user: ErUser, hospital: TheHospital, film: UUID | None = None
) -> Response:
    """The page; every view of it is written into the audit log."""
    return _show(request, "run.html", hospital, user, encounter, film)


@router.get("/facts")
def facts(request: Request, encounter: UUID, user: ErUser, hospital: TheHospital, film: UUID | None = None) -> Response:
    """The parts of the page that change, without those in which somebody may be typing."""
    return _show(request, "_facts.html", hospital, user, encounter, film)


@router.get("/live")
async def live(request: Request, encounter: UUID, user: ErUser, hospital: TheHospital) -> Response:
    """Says when something of the run has changed."""
    return stream(run_events(hospital, encounter, request.cookies[cookie_name(request)]))


@router.get("/films/{film}/image")
async def image(
    request: Request,
    encounter: UUID,
    film: UUID,
    user: ErUser,
    hospital: TheHospital,
    turns: films.Turns = 0,
    invert: bool = False,
) -> Response:
    """The radiograph from its original, turned and inverted as asked."""
    sha256 = (await run_in_threadpool(_film, hospital, user, encounter, film)).sha256
    if sha256 is None:
        raise acts.FILM_GONE
    return await films.image(request, hospital, sha256, turns, invert)


@router.get("/films/{film}/preview")
async def preview(request: Request, encounter: UUID, film: UUID, user: ErUser, hospital: TheHospital) -> Response:
    """The small picture with boxes that the ambulance sent ahead."""
    sha256 = (await run_in_threadpool(_film, hospital, user, encounter, film)).preview_sha256
    if sha256 is None:
        raise acts.FILM_GONE
    return await films.preview(request, hospital, sha256)


@router.post("/acknowledge")
def acknowledge(request: Request, encounter: UUID, user: ErUser, hospital: TheHospital) -> Response:
    """Someone in the ER has looked at the run."""
    acts.acknowledge(hospital, user, encounter)
    return _done(request, f"/runs/{encounter}", translator(user.language)("Acknowledged. The crew sees it."))


@router.post("/message")
def message(
    request: Request,
    encounter: UUID,
    user: ErUser,
    hospital: TheHospital,
    text: Annotated[str, Form(max_length=20_000)] = "",
) -> Response:
    """A message to the crew."""
    acts.send_message(hospital, user, encounter, text)
    return _done(request, f"/runs/{encounter}", translator(user.language)("The message is on its way to the crew."))


@router.post("/films/{film}/confirm")
async def confirm(request: Request, encounter: UUID, film: UUID, user: ErUser, hospital: TheHospital) -> Response:
    """A physician's reading; the form has a field for each finding."""
    form = await request.form()
    given = {key: value for key in KEYS if isinstance(value := form.get(f"finding-{key}"), str) and value}
    text = form.get("text")
    try:
        findings = {key: Presence(value) for key, value in given.items()}
    except ValueError:
        raise FirstRayError("finding_unknown", "The reading says something unknown.", "Load the page again.") from None
    await run_in_threadpool(
        acts.confirm, hospital, user, encounter, film, findings, text if isinstance(text, str) else ""
    )
    said = translator(user.language)("The reading is kept, and the crew sees it.")
    return _done(request, f"/runs/{encounter}?film={film}", said)


def _show(
    request: Request, template: str, hospital: Hospital, user: Person, encounter: UUID, film: UUID | None
) -> Response:
    with hospital.database.reading() as session:
        found = run.read(session, encounter)
    hospital.database.write(lambda session: audit.record(session, user.actor, "run.viewed", str(encounter)))
    chosen = found.film(film)
    base = f"/runs/{encounter}/films/{chosen.id}" if chosen else ""
    viewer = films.viewer(base, chosen, translator(user.language)) if chosen else None
    return render(request, template, run=found, film=chosen, viewer=viewer, findings=KEYS, user_id=user.id)


def _film(hospital: Hospital, user: Person, encounter: UUID, film: UUID) -> RadiographRow:
    with hospital.database.reading() as session:
        acts.live_run(session, encounter)
        row = session.get(RadiographRow, film)
        if row is None or row.encounter != encounter or not acts.is_live(row):
            raise acts.FILM_GONE
    hospital.database.write(
        lambda session: audit.record(session, user.actor, "film.viewed", str(film), run=str(encounter))
    )
    return row


def _done(request: Request, url: str, said: str) -> Response:
    """After an act: a line for a script that sent the form, the page again for a browser that did."""
    if "x-fragment" not in request.headers:
        return redirect(request, url, said)
    return render(request, "_said.html", text=said, action="", kind="good")
