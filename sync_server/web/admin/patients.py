"""Two patients that are one: compared, merged, and taken apart again."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Form, Query
from sqlmodel import col, select
from starlette.requests import Request
from starlette.responses import Response

from shared.errors import FirstRayError
from sync_server.db.tables import AccountRow, HistoryRow
from sync_server.domain import audit, merging
from sync_server.web.auth import AdminUser, TheHospital
from sync_server.web.i18n import translator
from sync_server.web.pages import PageRoute, redirect, render

router = APIRouter(route_class=PageRoute, prefix="/merges")


@router.get("")
def standing(request: Request, user: AdminUser, hospital: TheHospital) -> Response:
    """Merges that can be undone."""
    with hospital.database.reading() as session:
        merges = merging.standing(session)
        people = select(AccountRow).where(col(AccountRow.id).in_({one.merge.by for one in merges}))
        names = {row.id: row.name for row in session.exec(people).all()}
    hospital.database.write(lambda session: audit.record(session, user.actor, "merges.listed"))
    return render(request, "admin/merges.html", merges=merges, names=names)


@router.get("/new")
def compare(
    request: Request,
    user: AdminUser,
    hospital: TheHospital,
    run: Annotated[list[UUID], Query(max_length=50)] = [],  # noqa: B006  FastAPI copies it
) -> Response:
    """Both patients of two chosen runs beside each other, before anything is done."""
    with hospital.database.reading() as session:
        rows = session.exec(select(HistoryRow).where(col(HistoryRow.encounter).in_(run))).all()
        patients = sorted({row.patient for row in rows if row.patient is not None})
        if len(patients) != 2:
            raise FirstRayError(
                "not_two_patients",
                "Two patients are merged at a time, and the chosen runs are not of exactly two.",
                "Choose one run of each patient.",
            )
        sides = [merging.side(session, patient) for patient in patients]
    hospital.database.write(
        lambda session: audit.record(session, user.actor, "patients.compared", subjects=[str(one) for one in patients])
    )
    return render(request, "admin/merge.html", sides=sides)


@router.post("")
def merge(
    request: Request,
    user: AdminUser,
    hospital: TheHospital,
    one: Annotated[UUID, Form()],
    other: Annotated[UUID, Form()],
    into: Annotated[UUID, Form()],
    reason: Annotated[str, Form(max_length=2000)] = "",
) -> Response:
    """Merge: ``into`` is which of the two remains."""
    if into not in (one, other):
        raise FirstRayError("patient_unknown", "There is no such patient, or it was deleted.", "Load the list again.")
    patient = other if into == one else one
    hospital.database.write(lambda session: merging.merge(session, patient, into, reason, user.id, user.actor))
    return redirect(request, "/admin/merges", translator(user.language)("The two are one patient now."))


@router.post("/{merge}/undo")
def undo(request: Request, merge: UUID, user: AdminUser, hospital: TheHospital) -> Response:
    """Take a merge back."""
    hospital.database.write(lambda session: merging.unmerge(session, merge, user.id, user.actor))
    return redirect(request, "/admin/merges", translator(user.language)("They are two patients again."))
