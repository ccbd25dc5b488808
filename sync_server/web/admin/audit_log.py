"""The audit log: looked into, and its chain of hashes checked."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from sync_server.domain import audit, audit_search
from sync_server.web.admin.asked import WantedAudit
from sync_server.web.auth import AdminUser, TheHospital
from sync_server.web.i18n import translator
from sync_server.web.pages import PageRoute, redirect, render

router = APIRouter(route_class=PageRoute, prefix="/audit")


@router.get("")
def listed(
    request: Request,
    user: AdminUser,
    hospital: TheHospital,
    wanted: Annotated[WantedAudit, Query()],
    before: Annotated[int | None, Query(ge=1, lt=2**53)] = None,
) -> Response:
    """One page of the log, latest first; looking into it is in it."""
    with hospital.database.reading() as session:
        rows = audit_search.find(session, wanted.criteria, before)
        number, head = audit.head(session)
    asked = wanted.model_dump(mode="json", exclude_defaults=True)
    hospital.database.write(lambda session: audit.record(session, user.actor, "audit.read", criteria=asked))
    older = wanted.query(before=rows[-1].number) if len(rows) == audit_search.PAGE else None
    return render(
        request, "admin/audit.html", rows=rows, wanted=wanted, older=older, newest=wanted.query(), before=before,
        number=number, head=head,
    )  # fmt: skip


@router.post("/verify")
def verify(request: Request, user: AdminUser, hospital: TheHospital) -> Response:
    """Check the whole chain; the result is in the log as well."""
    tr = translator(user.language)
    with hospital.database.reading() as session:
        found = audit.verify(session)
    hospital.database.write(
        lambda session: audit.record(
            session, user.actor, "audit.verified", rows=found.rows, broken_at=found.broken_at, head=found.head
        )
    )
    if found.whole:
        said = tr("The log is whole: {rows} entries, none changed, taken out or slipped in.", rows=found.rows)
        return redirect(request, "/admin/audit", said)
    said = tr("The log is broken at entry {number}: someone changed the database.", number=found.broken_at)
    return redirect(request, "/admin/audit", said, "urgent")
