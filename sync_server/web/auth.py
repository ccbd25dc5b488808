"""Who asks: the dependencies that every page's route has, and with them the check against forged requests.

A change (any method but GET and HEAD) must carry the session's token in the field ``csrf`` of its form or in the header
``X-CSRF-Token``, and must not come from another site as far as the browser says (Fetch Metadata, ``Origin``).
"""

from __future__ import annotations

import hmac
from typing import Annotated, Final
from urllib.parse import urlsplit

from fastapi import Depends
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from shared.errors import FirstRayError
from sync_server.domain.accounts import LONGEST, Person, person
from sync_server.hospital import Hospital
from sync_server.web.pages import LogInNeeded

SAFE: Final = frozenset({"GET", "HEAD"})


def hospital_of(request: Request) -> Hospital:
    """The hospital this server is."""
    found: Hospital = request.app.state.hospital
    return found


async def er_user(request: Request) -> Person:
    """Someone of the ER, or an admin.

    Raises:
        LogInNeeded: nobody is logged in.
        FirstRayError: ``csrf_failed``.
    """
    found = await _logged_in(request)
    await _refuse_forged(request, found)
    return found


async def admin_user(request: Request) -> Person:
    """An admin; raises as :func:`er_user` does, and FirstRayError ``forbidden`` for anybody else."""
    found = await _logged_in(request)
    if not found.is_admin:
        raise FirstRayError("forbidden", "This page is for admins only.", "Ask an admin of the hospital.")
    await _refuse_forged(request, found)
    return found


async def maybe_user(request: Request) -> Person | None:
    """Whoever is logged in, or None; raises FirstRayError ``csrf_failed`` as :func:`er_user` does."""
    try:
        return await er_user(request)
    except LogInNeeded:
        return None


ErUser = Annotated[Person, Depends(er_user)]
AdminUser = Annotated[Person, Depends(admin_user)]
MaybeUser = Annotated[Person | None, Depends(maybe_user)]
TheHospital = Annotated[Hospital, Depends(hospital_of)]


def cookie_name(request: Request) -> str:
    """The session's cookie; ``__Host-`` (RFC 6265bis, 4.1.3.2) binds it to this very host where there is TLS."""
    return "__Host-firstray" if hospital_of(request).settings.secure else "firstray"


def set_cookie(request: Request, response: Response, token: str) -> None:
    """Give the browser its session."""
    response.set_cookie(
        cookie_name(request),
        token,
        max_age=int(LONGEST.total_seconds()),
        httponly=True,
        secure=hospital_of(request).settings.secure,
        samesite="lax",
    )


def refuse_foreign(request: Request) -> None:
    """Refuse a change that another site began; raises FirstRayError ``csrf_failed``."""
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if site is not None:
        foreign = site not in ("same-origin", "none")
    else:
        foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    if foreign:
        raise _forged()


async def _logged_in(request: Request) -> Person:
    token = request.cookies.get(cookie_name(request))
    found = await run_in_threadpool(person, hospital_of(request).database, token) if token else None
    if found is None:
        raise LogInNeeded
    request.state.person = found
    return found


async def _refuse_forged(request: Request, user: Person) -> None:
    """Comes last: it reads the form, which is done for nobody who may not send one."""
    if request.method in SAFE:
        return
    refuse_foreign(request)
    given = request.headers.get("x-csrf-token")
    if given is None:
        field = (await request.form()).get("csrf")
        given = field if isinstance(field, str) else ""
    if not hmac.compare_digest(given.encode(), user.csrf.encode()):
        raise _forged()


def _forged() -> FirstRayError:
    return FirstRayError(
        "csrf_failed",
        "The request did not come from a page of this log-in, so nothing was changed.",
        "Load the page again and repeat what you did.",
    )
