"""Everybody's own account: what it is called here, and another password."""

from __future__ import annotations

from typing import Annotated, Final

import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import APIRouter, Form
from starlette.requests import Request
from starlette.responses import Response

from shared.errors import FirstRayError
from sync_server.domain import accounts
from sync_server.domain.accounts import LONGEST_PASSWORD, SHORTEST_PASSWORD, Person
from sync_server.hospital import Hospital
from sync_server.web.auth import ErUser, TheHospital, cookie_name
from sync_server.web.i18n import translator
from sync_server.web.pages import STATUS, PageRoute, redirect, render

router = APIRouter(route_class=PageRoute, prefix="/account")

_changes: Final = CapacityLimiter(1)
"""Passwords changed at once: one is checked and one hashed, with 64 MiB each."""

Password = Annotated[str, Form(max_length=1000)]


@router.get("")
def own_account(request: Request, user: ErUser, hospital: TheHospital) -> Response:
    """Name, login, role, and the form for another password where the account has one here."""
    return _page(request, user, hospital)


@router.post("/password")
async def change_password(
    request: Request, user: ErUser, hospital: TheHospital, old: Password = "", new: Password = "", again: Password = ""
) -> Response:
    """Another password; the form again, with what was wrong and nothing of what was typed, where it is refused."""
    address = request.client.host if request.client else "unknown"
    token = request.cookies[cookie_name(request)]
    try:
        if new != again:
            raise FirstRayError(
                "passwords_differ", "The two new passwords are not the same, so nothing was changed.", "Type them anew."
            )
        await anyio.to_thread.run_sync(
            accounts.change_password, hospital.database, token, old, new, address, limiter=_changes
        )
    except FirstRayError as error:
        return await anyio.to_thread.run_sync(_page, request, user, hospital, error)
    said = translator(user.language)("Your password was changed. Your log-ins elsewhere have ended.")
    return redirect(request, "/account", said)


def _page(request: Request, user: Person, hospital: Hospital, error: FirstRayError | None = None) -> Response:
    with hospital.database.reading() as session:
        row = accounts.account(session, user.id)
        has_password, since = row.password is not None, row.made_at
    return render(
        request,
        "account.html",
        STATUS.get(error.code, 422) if error else 200,
        error=translator(user.language).error(error) if error else None,
        wrong=error.code if error else "",
        has_password=has_password,
        since=since,
        shortest=SHORTEST_PASSWORD,
        longest=LONGEST_PASSWORD,
    )
