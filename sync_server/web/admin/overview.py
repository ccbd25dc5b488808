"""The first page: how the devices and the queue are, and what needs someone."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from uuid import UUID

from fastapi import APIRouter
from sqlalchemy import func
from sqlmodel import Session, col, select
from starlette.requests import Request
from starlette.responses import Response

from sync_server.db.tables import EncounterRow, HistoryRow, ImageRow
from sync_server.domain import audit, fleet, readings
from sync_server.web.auth import AdminUser, TheHospital
from sync_server.web.i18n import translator
from sync_server.web.pages import PageRoute, redirect, render

router = APIRouter(route_class=PageRoute)


@router.get("")
def overview(request: Request, user: AdminUser, hospital: TheHospital) -> Response:
    """Fleet and queue health, and what is held."""
    now = datetime.now(UTC)
    with hospital.database.reading() as session:
        devices = fleet.devices(session, now)
        return render(
            request,
            "admin/overview.html",
            devices=[one for one in devices if one.standing in fleet.NEEDY],
            standings=Counter(one.standing.value for one in devices),
            waiting=sum(one.missing for one in devices),
            uploads=sum(one.uploads for one in devices),
            queue=fleet.queue(session, now),
            set_aside=fleet.set_aside(session),
            held=_held(session),
            purge_days=hospital.settings.purge_days,
        )


@router.post("/readings/{reading}/again")
def read_again(request: Request, reading: UUID, user: AdminUser, hospital: TheHospital) -> Response:
    """Have an image that was set aside read again."""
    tr = translator(user.language)

    def act(session: Session) -> bool:
        if not readings.try_again(session, reading):
            return False
        audit.record(session, user.actor, "reading.tried_again", str(reading))
        return True

    if hospital.database.write(act):
        return redirect(request, "/admin", tr("The image waits to be read again."))
    return redirect(request, "/admin", tr("The image is no longer set aside."), "warning")


def _held(session: Session) -> dict[str, int]:
    count = func.count()
    images, size = session.exec(select(count, func.coalesce(func.sum(ImageRow.size), 0))).one()
    return {
        "runs": session.exec(select(count).where(col(HistoryRow.visible).is_(True))).one(),
        "under_way": session.exec(
            select(count).where(col(HistoryRow.visible).is_(True), col(HistoryRow.under_way).is_(True))
        ).one(),
        "deleted": session.exec(
            select(count).where(
                col(EncounterRow.purged_at).is_(None),
                col(EncounterRow.hidden_at).is_not(None) | col(EncounterRow.deleted).is_not(None),
            )
        ).one(),
        "images": images,
        "size": int(size),
    }
