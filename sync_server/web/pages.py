"""How every page is made and sent: templates, language, messages after a change, strict headers, errors as pages.

A page's routes stand on a router made with ``APIRouter(route_class=PageRoute)``: errors raised on purpose become pages
in the user's language, and every answer carries :data:`HEADERS`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Coroutine
from functools import lru_cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from fastapi.exceptions import HTTPException, RequestValidationError
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from sqlalchemy.exc import DataError
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from shared.errors import FirstRayError
from shared.overlay import Language
from sync_server.domain.accounts import Person
from sync_server.threads import RETRY_S
from sync_server.web import words
from sync_server.web.i18n import LANGUAGES, translator

STATIC: Final = Path(__file__).parent / "static"
LANGUAGE_COOKIE: Final = "firstray_language"
SAID_COOKIE: Final = "firstray_said"

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Of every page, image and event stream. No inline script or style is allowed, none is used."""

STATUS: Final = {
    "forbidden": 403,
    "csrf_failed": 403,
    "log_in_failed": 401,
    "session_ended": 401,
    "password_wrong": 403,
    "too_many_attempts": 429,
    "oidc_cancelled": 401,
    "oidc_expired": 401,
    "oidc_failed": 401,
    "oidc_no_account": 403,
    "oidc_off": 404,
    "oidc_unreachable": 502,
    "finding_unknown": 422,
    "image_not_held": 404,
    "image_store_failing": 503,
    "images_busy": 503,
    "image_store_full": 507,
    "disk_full": 507,
    "disk_failed": 503,
}
"""Status of an error's page, by its code; 404 where the code ends in ``_unknown``, 422 else."""


class LogInNeeded(Exception):
    """Nobody is logged in: :class:`PageRoute` sends a person to the log-in, and a script a 401."""


class PageRoute(APIRoute):
    """A route whose errors are pages and whose answers carry :data:`HEADERS`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's handler, wrapped."""
        handle = super().get_route_handler()

        async def page(request: Request) -> Response:
            try:
                response = await handle(request)
            except LogInNeeded:
                response = _to_log_in(request)
            except FirstRayError as error:
                response = problem(request, error)
            except (RequestValidationError, HTTPException, DataError):  # the last: a NUL in a text, on PostgreSQL
                response = problem(request, BAD_REQUEST)
            for name, value in HEADERS.items():
                response.headers.setdefault(name, value)
            return response

        return page


BAD_REQUEST: Final = FirstRayError(
    "bad_request", "The page was asked for something it cannot understand.", "Go back and try again."
)


def render(request: Request, template: str, status: int = 200, **context: Any) -> HTMLResponse:
    """A page from a template.

    Every template knows: ``tr`` (translate), ``user`` (:class:`Person` or None), ``csrf``, ``language``, ``languages``,
    ``path`` (of this page), ``said`` (text and kind of a message to show once), ``asset`` (address of a static file),
    and the filters of :mod:`sync_server.web.words`.
    """
    said = _take_said(request)
    response = HTMLResponse(fragment(request, template, said=said, **context), status)
    if said is not None:
        response.delete_cookie(SAID_COOKIE)
    return response


def fragment(request: Request, template: str, **context: Any) -> str:
    """Part of a page, as text."""
    user = signed_in(request)
    path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    known = {"user": user, "csrf": user.csrf if user else "", "path": path, "said": None}
    return draw(template, language_of(request), **(known | context))


def draw(template: str, language: Language, **context: Any) -> str:
    """A template as text, without a request: for what goes to many at once."""
    page = _environment(language).get_template(template)
    return page.render(**context)


def redirect(request: Request, url: str, said: str = "", kind: str = "good") -> RedirectResponse:
    """After a change: on to another page (303), which shows ``said`` once.

    Args:
        request: of someone who is logged in, where something is said.
        url: a path of this server.
        said: translated text; without patient data, for it travels in a cookie.
        kind: ``good``, ``warning`` or ``urgent``.
    """
    response = RedirectResponse(local(url), 303)
    user = signed_in(request)
    if said and user:
        body = urlsafe_b64encode(json.dumps([said, kind]).encode()).decode()
        secure = request.app.state.hospital.settings.secure
        value = f"{body}.{_signature(user, body)}"
        response.set_cookie(SAID_COOKIE, value, max_age=60, httponly=True, secure=secure, samesite="lax")
    return response


def problem(request: Request, error: FirstRayError, status: int | None = None) -> HTMLResponse:
    """An error as a page, in the user's language."""
    status = status or STATUS.get(error.code, 404 if error.code.endswith("_unknown") else 422)
    message, action = translator(language_of(request)).error(error)
    if "x-fragment" in request.headers:
        response = render(request, "_said.html", status, text=message, action=action, kind="urgent")
    else:
        response = render(request, "problem.html", status, message=message, action=action, code=error.code)
    if status == 503:
        response.headers["Retry-After"] = str(RETRY_S)
    return response


def local(url: str) -> str:
    """``url`` where it is a path of this server, else the front page: nobody is led elsewhere by a link."""
    plain = url.startswith("/") and not url.startswith("//") and "\\" not in url and url.isprintable()
    return url if plain else "/"


def signed_in(request: Request) -> Person | None:
    """Who is logged in, once :mod:`sync_server.web.auth` has found out."""
    return getattr(request.state, "person", None)


def language_of(request: Request) -> Language:
    """Of the account; before the log-in of the cookie, then of the browser, then the hospital's."""
    user = signed_in(request)
    if user is not None:
        return user.language
    wanted = request.cookies.get(LANGUAGE_COOKIE) or request.headers.get("accept-language", "")[:2]
    if wanted in LANGUAGES:
        return "ko" if wanted == "ko" else "en"
    return "en" if request.app.state.hospital.settings.language == "en" else "ko"


def asset(name: str) -> str:
    """Address of a file of ``static``; it changes with the file, so that browsers may keep it for good."""
    return f"/static/{name}?v={_version(name)}"


def _to_log_in(request: Request) -> Response:
    person = request.method == "GET" and "text/html" in request.headers.get("accept", "")
    if person and "x-fragment" not in request.headers:
        wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"/login?next={quote(wanted, safe='')}", 303)
    return Response(status_code=401)


def _signature(user: Person, body: str) -> str:
    return hmac.new(user.csrf.encode(), body.encode(), hashlib.sha256).hexdigest()


def _take_said(request: Request) -> tuple[str, str] | None:
    user = signed_in(request)
    body, _, signature = request.cookies.get(SAID_COOKIE, "").partition(".")
    if user is None or not body or not hmac.compare_digest(signature.encode(), _signature(user, body).encode()):
        return None
    text, kind = json.loads(urlsafe_b64decode(body))
    return text, kind


@lru_cache(maxsize=64)
def _version(name: str) -> str:
    return hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]


@lru_cache(maxsize=4)
def _environment(language: Language) -> Environment:
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    tr = translator(language)
    made.globals |= {"tr": tr, "language": language, "languages": LANGUAGES, "asset": asset, "words": words}
    made.filters |= {
        "moment": words.moment,
        "clock": words.clock,
        "percent": words.percent,
        "finding": tr.finding,
        "iso": words.iso,
        "findings": lambda keys: ", ".join(tr.finding(key) for key in keys),
        "size": words.size,
    }
    return made
