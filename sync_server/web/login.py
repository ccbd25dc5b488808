"""Log-in, log-out and the choice of language."""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import quote

import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import APIRouter, Form
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from shared.errors import FirstRayError
from shared.overlay import Language
from sync_server.domain import accounts
from sync_server.web.auth import ErUser, MaybeUser, TheHospital, cookie_name, refuse_foreign, set_cookie
from sync_server.web.i18n import translator
from sync_server.web.pages import LANGUAGE_COOKIE, STATUS, PageRoute, language_of, local, render

router = APIRouter(route_class=PageRoute)

_checks: Final = CapacityLimiter(2)
"""Passwords checked at once: each takes 64 MiB, and a flood of them must hold up nobody but itself."""
A_YEAR: Final = 365 * 86_400


@router.get("/")
def front(user: ErUser) -> Response:
    """The front page is the board."""
    return RedirectResponse("/board", 303)


@router.get("/login")
def log_in_page(request: Request, next: str = "/") -> Response:
    """The form."""
    return form(request, next)


@router.post("/login")
async def log_in(
    request: Request,
    hospital: TheHospital,
    login: Annotated[str, Form(max_length=200)],
    password: Annotated[str, Form(max_length=1000)],
    next: Annotated[str, Form(max_length=2000)] = "/",
) -> Response:
    """Check login and password; the form again, with what was wrong, where they do not fit."""
    refuse_foreign(request)
    address = request.client.host if request.client else "unknown"
    try:
        token = await anyio.to_thread.run_sync(
            accounts.log_in, hospital.database, login, password, address, limiter=_checks
        )
    except FirstRayError as error:
        return form(request, next, login[:64], error)
    response = RedirectResponse(local(next), 303)
    set_cookie(request, response, token)
    return response


@router.post("/logout")
def log_out(request: Request, user: ErUser, hospital: TheHospital) -> Response:
    """End this session; the browser forgets what it kept of it."""
    name = cookie_name(request)
    with hospital.database.writing() as session:
        accounts.log_out(session, request.cookies[name], user.actor)
    response = RedirectResponse("/login", 303)
    response.delete_cookie(name, secure=hospital.settings.secure, httponly=True, samesite="lax")
    response.headers["Clear-Site-Data"] = '"cache"'
    return response


@router.post("/language")
def choose_language(
    request: Request,
    user: MaybeUser,
    hospital: TheHospital,
    language: Annotated[Language, Form()],
    next: Annotated[str, Form(max_length=2000)] = "/",
) -> Response:
    """Switch the language: of the account, and of this browser's log-in page."""
    refuse_foreign(request)
    if user is not None:
        with hospital.database.writing() as session:
            accounts.set_language(session, user.id, language)
    response = RedirectResponse(local(next), 303)
    secure = hospital.settings.secure
    response.set_cookie(LANGUAGE_COOKIE, language, max_age=A_YEAR, httponly=True, secure=secure, samesite="lax")
    return response


@router.get("/session", status_code=204)
def session_holds(user: ErUser) -> None:
    """204 while the log-in holds, 401 once it has ended: for a script whose stream was refused."""


def form(request: Request, next: str, login: str = "", error: FirstRayError | None = None) -> Response:
    """The log-in page, with what went wrong; ``next`` is where to go afterwards."""
    texts = translator(language_of(request)).error(error) if error else None
    status = STATUS.get(error.code, 422) if error else 200
    oidc = request.app.state.hospital.settings.oidc_provider
    path = f"/login?next={quote(local(next), safe='')}"  # whatever was asked: a switch of language leads back to this
    return render(request, "login.html", status, next=local(next), login=login, error=texts, oidc=oidc, path=path)
