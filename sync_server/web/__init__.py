"""The hospital's pages for the ER and for admins; ``router`` holds the ER's, :func:`mount` adds the static files."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI
from starlette.datastructures import MutableHeaders
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from shared.fonts import BOLD, REGULAR
from sync_server.web import board, login, loose, oidc, own_account, runs
from sync_server.web.pages import STATIC

router = APIRouter(include_in_schema=False)
router.include_router(login.router)
router.include_router(oidc.router)
router.include_router(own_account.router)
router.include_router(board.router)
router.include_router(runs.router)
router.include_router(loose.router)

_FOR_GOOD = "public, max-age=31536000, immutable"


class _Static(StaticFiles):
    """Files whose address changes with them, so that they may be kept for good."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The file; others than those meant for browsers are not there."""
        response = await super().get_response(path, scope)
        _marked(response.headers)
        return response


def mount(app: FastAPI) -> None:
    """Serve the static files: scripts, styles, and the typeface that has Hangul on machines without one."""

    def font(weight: str) -> FileResponse:
        response = FileResponse(BOLD if weight == "bold" else REGULAR, media_type="font/ttf")
        _marked(response.headers)
        return response

    app.add_api_route("/static/fonts/{weight}.ttf", font, methods=["GET"], include_in_schema=False)
    app.mount("/static", _Static(directory=STATIC), name="static")


def _marked(headers: MutableHeaders) -> None:
    headers["Cache-Control"] = _FOR_GOOD
    headers["X-Content-Type-Options"] = "nosniff"
