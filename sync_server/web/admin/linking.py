"""An account and the hospital's log-in service: linked, prepared for who comes, or neither."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Form
from starlette.requests import Request
from starlette.responses import Response

from sync_server.domain import accounts, linking
from sync_server.hospital import Hospital
from sync_server.web.admin.users import refuse_self
from sync_server.web.auth import AdminUser, TheHospital
from sync_server.web.i18n import translator
from sync_server.web.oidc import off
from sync_server.web.pages import PageRoute, redirect, render

router = APIRouter(route_class=PageRoute, prefix="/users/{account}/link")


class Known(StrEnum):
    """How the admin knows the person: by a name, at their first log-in, or by the service's subject."""

    NAME = "name"
    SUBJECT = "subject"


@router.get("")
def shown(request: Request, account: UUID, user: AdminUser, hospital: TheHospital) -> Response:
    """How the account is linked now, and the forms to change it."""
    _refuse_off(hospital)
    with hospital.database.reading() as session:
        row = accounts.account(session, account)
        return render(
            request,
            "admin/link.html",
            row=row,
            subject=linking.subject_of(row),
            provider=hospital.settings.oidc_provider,
            issuer=hospital.settings.oidc_issuer,
        )


@router.post("")
def link(
    request: Request,
    account: UUID,
    user: AdminUser,
    hospital: TheHospital,
    known: Annotated[Known, Form()],
    value: Annotated[str, Form(max_length=500)] = "",
) -> Response:
    """Link the account to a subject, or have it wait for who comes with a name."""
    _refuse_off(hospital)
    refuse_self(user.id, account)
    issuer, tr = str(hospital.settings.oidc_issuer), translator(user.language)
    if known is Known.SUBJECT:
        hospital.database.write(lambda session: linking.link(session, account, issuer, value, user.actor))
        said = tr("The account is linked.")
    else:
        hospital.database.write(lambda session: linking.prepare(session, account, value, user.actor))
        said = tr("The account is linked when its owner first logs in.")
    return redirect(request, "/admin/users", said)


@router.post("/end")
def unlink(request: Request, account: UUID, user: AdminUser, hospital: TheHospital) -> Response:
    """Take the link away; also where the service is set up no more."""
    refuse_self(user.id, account)
    hospital.database.write(lambda session: linking.unlink(session, account, user.actor))
    return redirect(request, "/admin/users", translator(user.language)("The link was taken away."))


def _refuse_off(hospital: Hospital) -> None:
    if not hospital.settings.oidc:
        raise off()
