"""Accounts: made, given a role, shut out, given a new password."""

from __future__ import annotations

import secrets
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Form
from sqlmodel import Session, col, select
from starlette.requests import Request
from starlette.responses import Response

from shared.errors import FirstRayError
from shared.overlay import Language
from sync_server.db.tables import AccountRow
from sync_server.domain import accounts, linking
from sync_server.domain.accounts import Role
from sync_server.web.auth import AdminUser, TheHospital
from sync_server.web.i18n import translator
from sync_server.web.pages import PageRoute, redirect, render

router = APIRouter(route_class=PageRoute, prefix="/users")

_LETTERS: Final = "abcdefghjkmnpqrstuvwxyz23456789"
"""Without those that look alike: the password is read aloud or copied by hand."""


@router.get("")
def listed(request: Request, user: AdminUser, hospital: TheHospital) -> Response:
    """All accounts."""
    with hospital.database.reading() as session:
        rows = session.exec(select(AccountRow).order_by(col(AccountRow.login))).all()
        provider = hospital.settings.oidc_provider
        return render(request, "admin/users.html", users=rows, roles=list(Role), provider=provider)


@router.post("")
def create(
    request: Request,
    user: AdminUser,
    hospital: TheHospital,
    login: Annotated[str, Form(max_length=200)] = "",
    name: Annotated[str, Form(max_length=500)] = "",
    role: Annotated[Role, Form()] = Role.ER,
    language: Annotated[Language, Form()] = "ko",
    oidc_name: Annotated[str, Form(max_length=500)] = "",
) -> Response:
    """A new account: with a password that is shown once, or waiting for who comes from the log-in service."""
    if hospital.settings.oidc and oidc_name.strip():

        def prepared(session: Session) -> None:
            row = accounts.create_user(session, login, name, role, None, user.actor, language)
            linking.prepare(session, row.id, oidc_name, user.actor)

        hospital.database.write(prepared)
        said = translator(user.language)("The account is made. It is linked when its owner first logs in.")
        return redirect(request, "/admin/users", said)
    password = new_password()
    row = hospital.database.write(
        lambda session: accounts.create_user(session, login, name, role, password, user.actor, language)
    )
    return render(request, "admin/password.html", login=row.login, password=password, made=True)


@router.post("/{account}/password")
def reset_password(request: Request, account: UUID, user: AdminUser, hospital: TheHospital) -> Response:
    """A new password, shown once; all sessions of the account end."""
    refuse_self(user.id, account)
    password = new_password()
    with hospital.database.reading() as session:
        login = accounts.account(session, account).login
    hospital.database.write(lambda session: accounts.set_password(session, account, password, user.actor))
    return render(request, "admin/password.html", login=login, password=password, made=False)


@router.post("/{account}/role")
def set_role(
    request: Request, account: UUID, user: AdminUser, hospital: TheHospital, role: Annotated[Role, Form()]
) -> Response:
    """Another role, from the account's next request on."""
    refuse_self(user.id, account)
    hospital.database.write(lambda session: accounts.set_role(session, account, role, user.actor))
    return redirect(request, "/admin/users", translator(user.language)("The role was changed."))


@router.post("/{account}/disabled")
def set_disabled(
    request: Request, account: UUID, user: AdminUser, hospital: TheHospital, disabled: Annotated[bool, Form()]
) -> Response:
    """Shut an account out at once, or let it in again."""
    refuse_self(user.id, account)
    hospital.database.write(lambda session: accounts.set_disabled(session, account, disabled, user.actor))
    tr = translator(user.language)
    said = tr("The account is shut out.") if disabled else tr("The account may log in again.")
    return redirect(request, "/admin/users", said)


def new_password() -> str:
    """20 letters in groups of five: 99 bits."""
    return "-".join("".join(secrets.choice(_LETTERS) for _ in range(5)) for _ in range(4))


def refuse_self(admin: UUID, account: UUID) -> None:
    """Nobody changes their own account here: a slip must not shut an admin out."""
    if admin == account:
        raise FirstRayError("own_account", "This is your own account.", "Ask another admin to change it.")
