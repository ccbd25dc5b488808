"""Log-in through the hospital's OpenID provider: authorization code flow with PKCE (OpenID Connect Core 1.0, 3.1).

There and back are plain links and redirects, so the pages' policy (``form-action 'self'``) needs no exception. Whatever
goes wrong is told on the log-in page, where a password still works.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final

import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from shared.errors import FirstRayError
from sync_server.domain import linking, oidc
from sync_server.domain.oidc import ATTEMPT_SECONDS, Attempts
from sync_server.hospital import Hospital
from sync_server.web.auth import TheHospital, set_cookie
from sync_server.web.login import form
from sync_server.web.pages import PageRoute, local

if TYPE_CHECKING:
    from sync_server.domain.oidc_provider import Provider

router = APIRouter(route_class=PageRoute, prefix="/login/oidc")

_asking: Final = CapacityLimiter(8)
"""So many wait for the provider at once: one that hangs holds up nobody but those."""
_making: Final = threading.Lock()


@router.get("")
async def begin(
    request: Request, hospital: TheHospital, next: Annotated[str, Query(max_length=2000)] = "/"
) -> Response:
    """Send the browser to the provider; what it needs afterwards it keeps itself."""
    try:
        provider = await anyio.to_thread.run_sync(_provider, request)
        attempt = oidc.begin(local(next))
        url = await anyio.to_thread.run_sync(provider.authorization_url, attempt, limiter=_asking)
    except FirstRayError as error:
        return form(request, next, error=error)
    response = RedirectResponse(url, 303)
    response.set_cookie(
        _cookie(hospital),
        Attempts(hospital.settings.secret).seal(attempt),
        max_age=ATTEMPT_SECONDS,
        httponly=True,
        secure=hospital.settings.secure,
        samesite="lax",  # strict would not come back with who returns from another site
    )
    return response


@router.get("/callback")
async def finish(
    request: Request,
    hospital: TheHospital,
    state: Annotated[str, Query(max_length=200)] = "",
    code: Annotated[str, Query(max_length=8000)] = "",
    error: Annotated[str, Query(max_length=200)] = "",
    iss: Annotated[str | None, Query(max_length=500)] = None,
) -> Response:
    """The browser comes back: a session for whom the provider names, or the log-in page with what went wrong."""
    next, settings = "/", hospital.settings
    try:
        provider = await anyio.to_thread.run_sync(_provider, request)
        attempt = Attempts(settings.secret).open(request.cookies.get(_cookie(hospital), ""), state)
        next = attempt.next
        if error or not code:
            raise _refused(error)
        prove = partial(provider.identity, code, attempt, iss)
        address = request.client.host if request.client else "unknown"
        token = await anyio.to_thread.run_sync(
            linking.log_in, hospital.database, str(settings.oidc_issuer), prove, address, limiter=_asking
        )
    except FirstRayError as problem:
        response = form(request, next, error=problem)
    else:
        response = RedirectResponse(local(next), 303)
        set_cookie(request, response, token)
    response.delete_cookie(_cookie(hospital), secure=settings.secure, httponly=True, samesite="lax")
    return response


def _provider(request: Request) -> Provider:
    """The provider of this server, made when it is first needed; raises FirstRayError ``oidc_off`` without one."""
    hospital: Hospital = request.app.state.hospital
    settings = hospital.settings
    if not (settings.oidc_issuer and settings.oidc_client_id and settings.oidc_client_secret):
        raise off()
    with _making:
        if not hasattr(request.app.state, "oidc"):
            from sync_server.domain.oidc_provider import Provider

            request.app.state.oidc = Provider(
                settings.oidc_issuer, settings.oidc_client_id, settings.oidc_client_secret, settings.oidc_redirect
            )
        made: Provider = request.app.state.oidc
        return made


def off() -> FirstRayError:
    """``oidc_off``: no provider is set up here."""
    return FirstRayError(
        "oidc_off", "This hospital has no log-in service set up.", "Log in with your login and password."
    )


def _refused(error: str) -> FirstRayError:
    """The provider let nobody in (RFC 6749, 4.1.2.1; Core 1.0, 3.1.2.6): cancelled, out of order, or set up wrong."""
    if error == "access_denied":
        return FirstRayError(
            "oidc_cancelled",
            "The log-in was cancelled at the log-in service, or you may not use FirstRay there.",
            "Start again, or log in with a password.",
        )
    return oidc.not_believed(f"the provider answered {oidc.plain_code(error)}")


def _cookie(hospital: Hospital) -> str:
    """Bound to this very host where there is TLS, as the session's is."""
    return "__Host-firstray_oidc" if hospital.settings.secure else "firstray_oidc"
