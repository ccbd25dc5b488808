"""The synced histories: found, exported, deleted with a reason, shown again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Form, Query
from sqlmodel import Session, col, select
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from shared.findings import KEYS
from sync_server.db.tables import DeviceRow, EncounterRow
from sync_server.domain import archive, audit, hiding
from sync_server.domain.archive import Shown, Sort
from sync_server.domain.exports import MEDIA_TYPES, MOST_CHOSEN, Format, export
from sync_server.threads import threads_of
from sync_server.web.admin.asked import Wanted
from sync_server.web.auth import AdminUser, TheHospital
from sync_server.web.i18n import Translator, translator
from sync_server.web.pages import PageRoute, redirect, render

router = APIRouter(route_class=PageRoute, prefix="/histories")

HOME: Final = "/admin/histories"
Filter = Annotated[str, Form(max_length=2000)]
Runs = Annotated[list[UUID], Form(max_length=MOST_CHOSEN)]


@router.get("")
def listed(
    request: Request,
    user: AdminUser,
    hospital: TheHospital,
    wanted: Annotated[Wanted, Query()],
    mark: Annotated[str | None, Query(max_length=1000)] = None,
    of: Annotated[int | None, Query(ge=0, le=archive.MOST_COUNTED)] = None,
) -> Response:
    """One page of what matches; ``of`` is what the first page counted. Who looked for what goes into the audit log."""
    criteria = wanted.criteria
    with hospital.database.reading() as session:
        page = archive.find(session, criteria, mark)
        devices = {row.id: row.name for row in session.exec(select(DeviceRow).order_by(col(DeviceRow.name))).all()}
        gone = _gone(session, [row.encounter for row in page.rows]) if wanted.shown is Shown.HIDDEN else {}
    asked = criteria.model_dump(mode="json", exclude_defaults=True)
    hospital.database.write(lambda session: audit.record(session, user.actor, "runs.listed", criteria=asked))
    return render(
        request,
        "admin/histories.html",
        wanted=wanted,
        filter=wanted.query(),
        page=page,
        count=of if page.count is None else page.count,
        most=archive.MOST_COUNTED,
        devices=devices,
        gone=gone,
        findings=KEYS,
        sorts=[(sort, _sort_name(sort, translator(user.language))) for sort in Sort],
        purge_after=timedelta(days=hospital.settings.purge_days),
    )


@router.post("/export")
def export_runs(
    request: Request,
    user: AdminUser,
    hospital: TheHospital,
    form: Annotated[Format, Form(alias="format")],
    scope: Annotated[Literal["chosen", "all"], Form()],
    run: Runs = [],  # noqa: B006  FastAPI copies it
    filter: Filter = "",
) -> Response:
    """A file of the chosen runs, or of all that match; sent while it is made."""
    what = list(run) if scope == "chosen" else Wanted.parse(filter).criteria
    media_type, ending = MEDIA_TYPES[form]
    name = f"firstray-{datetime.now(UTC).astimezone():%Y%m%d-%H%M%S}.{ending}"
    parts = export(hospital.database, hospital.images, what, form, user.actor)
    return StreamingResponse(
        threads_of(request).admins.each(parts),
        media_type=media_type,
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


@router.post("/delete")
def delete(
    request: Request,
    user: AdminUser,
    hospital: TheHospital,
    run: Runs = [],  # noqa: B006
    reason: Annotated[str, Form(max_length=2000)] = "",
    filter: Filter = "",
) -> Response:
    """Take runs out of every list and board; they can be shown again until they are purged."""
    count = hospital.database.write(lambda session: hiding.hide(session, run, reason, user.actor))
    tr = translator(user.language)
    said = tr("Deleted: {count}. Gone for good in {days} days.", count=count, days=hospital.settings.purge_days)
    return redirect(request, _home(filter), said)


@router.post("/restore")
def restore(
    request: Request,
    user: AdminUser,
    hospital: TheHospital,
    run: Runs = [],  # noqa: B006
    filter: Filter = "",
) -> Response:
    """Show runs again that the hospital deleted."""
    count = hospital.database.write(lambda session: hiding.show(session, run, user.actor))
    tr = translator(user.language)
    if count:
        return redirect(request, _home(filter), tr("Shown again: {count}", count=count))
    return redirect(request, _home(filter), tr("A crew deleted these, so only the crew decides."), "warning")


def _home(filter: str) -> str:
    return f"{HOME}?{Wanted.parse(filter).query()}"


def _gone(session: Session, runs: list[UUID]) -> Mapping[UUID, EncounterRow]:
    found = session.exec(select(EncounterRow).where(col(EncounterRow.id).in_(runs))).all()
    return {row.id: row for row in found}


def _sort_name(sort: Sort, tr: Translator) -> str:
    return {
        Sort.STARTED: tr("Start of the run"),
        Sort.CHANGED: tr("Last change"),
        Sort.URGENCY: tr("Urgency"),
        Sort.NAME: tr("Name"),
    }[sort]
