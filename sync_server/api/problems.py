"""Errors as problem documents (RFC 9457), whatever goes wrong; nothing of a request's content is repeated in them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DataError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from shared.errors import FirstRayError
from shared.hospital import ProblemDocument
from sync_server.logs import places

MEDIA_TYPE: Final = "application/problem+json"
_CODES: Final = {
    400: "malformed",
    401: "unauthorised",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    408: "too_slow",
    409: "conflict",
    411: "length_required",
    413: "too_large",
    415: "media_type_unknown",
    422: "invalid",
    429: "too_many",
    431: "headers_too_large",
    503: "unavailable",
}
_log = logging.getLogger(__name__)


class Problem(Exception):
    """Answered as a problem document.

    Args:
        status: of HTTP.
        code: stable and machine-readable.
        detail: what happened, what it means, what to do next; no patient data.
        headers: of the answer.
        more: further members of the document.
    """

    def __init__(
        self, status: int, code: str, detail: str = "", headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(f"{status} {code}")
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = headers
        self.more = more


def answer(
    status: int, code: str, detail: str = "", headers: Mapping[str, str] | None = None, **more: Any
) -> JSONResponse:
    """A problem document as a response."""
    document = ProblemDocument(status=status, title=_title(status), detail=detail, code=code)
    return JSONResponse({**document.model_dump(), **more}, status, headers, MEDIA_TYPE)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For a route's ``responses``: these statuses are answered by problem documents."""
    return {
        status: {
            "description": _title(status),
            "content": {MEDIA_TYPE: {"schema": ProblemDocument.model_json_schema()}},
        }
        for status in statuses
    }


def install(app: FastAPI) -> None:
    """Answer every error of an application this way."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(FirstRayError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(OperationalError, _database)
    app.add_exception_handler(DataError, _unstorable)
    app.add_exception_handler(PoolTimeout, _database)


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:  # 460 of tus is none of HTTP's
        return "Refused"


def _problem(_: Request, problem: Exception) -> JSONResponse:
    assert isinstance(problem, Problem)  # noqa: S101
    return answer(problem.status, problem.code, problem.detail, problem.headers, **problem.more)


def _ours(_: Request, problem: Exception) -> JSONResponse:
    assert isinstance(problem, FirstRayError)  # noqa: S101
    return answer(409, problem.code, str(problem))


def _invalid(_: Request, problem: Exception) -> JSONResponse:
    assert isinstance(problem, RequestValidationError)  # noqa: S101
    # Where and why, but not what: the input may be a patient's.
    errors = [
        {"where": ".".join(str(part)[:60] for part in error["loc"]), "why": str(error["type"])}
        for error in problem.errors()[:20]
    ]
    return answer(422, "invalid", "The request does not say what this address expects; see errors.", errors=errors)


def _http(_: Request, problem: Exception) -> JSONResponse:
    assert isinstance(problem, HTTPException)  # noqa: S101
    code = _CODES.get(problem.status_code, "refused")
    return answer(problem.status_code, code, str(problem.detail), problem.headers)


def _database(request: Request, problem: Exception) -> JSONResponse:
    """The database does not answer now: the device tries again."""
    _log.error("the database failed at %s: %s", _route(request), type(problem).__name__)
    detail = "The hospital's database does not answer. Nothing was taken; try again."
    return answer(503, "database_unavailable", detail, {"Retry-After": "2"})


def _unstorable(request: Request, problem: Exception) -> JSONResponse:
    """A text with a NUL in it, which PostgreSQL has none of, or a number out of range."""
    _log.warning("the database cannot hold what came to %s", _route(request))
    return answer(422, "invalid", "The request has a value that cannot be stored; see that its texts hold no NUL.")


def unexpected(request: Request, problem: Exception) -> JSONResponse:
    """For what nobody foresaw; logged without its text, which may hold patient data."""
    found = {"places": places(problem.__traceback__)}
    _log.error("an unexpected error at %s: %s", _route(request), type(problem).__name__, extra=found)
    return answer(500, "internal_error", "The server met an error of its own, and has logged it. Try again later.")


def _route(request: Request) -> str:
    return f"{request.method} {getattr(request.scope.get('route'), 'path', '?')}"
