"""The ER board: runs under way, most urgent first, live."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from shared.overlay import Language
from sync_server.domain import audit, board
from sync_server.hospital import Hospital
from sync_server.web.auth import ErUser, TheHospital, cookie_name
from sync_server.web.live import board_events, feed_of, stream
from sync_server.web.pages import PageRoute, draw, render

router = APIRouter(route_class=PageRoute)


@router.get("/board")
def board_page(request: Request, user: ErUser, hospital: TheHospital) -> Response:
    """The page; what comes later comes over :func:`live`."""
    with hospital.database.reading() as session:
        seen = board.read(session)
    hospital.database.write(lambda session: audit.record(session, user.actor, "board.viewed"))
    return render(request, "board.html", board=seen)


@router.get("/board/live")
async def live(request: Request, user: ErUser, hospital: TheHospital) -> Response:
    """The board's events."""
    feed = feed_of(request, lambda language: drawn(hospital, language))
    return stream(board_events(hospital, feed, user.language, request.cookies[cookie_name(request)]))


def drawn(hospital: Hospital, language: Language) -> str:
    """The board as the live pages get it: in one line, without the template's indents."""
    with hospital.database.reading() as session:
        text = draw("_board.html", language, board=board.read(session))
    return " ".join(text.split())
