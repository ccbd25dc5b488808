"""Model releases: taken in, given to rings of devices and to the hospital itself, rolled back."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response

from sync_server.domain import releases
from sync_server.threads import threads_of
from sync_server.web.auth import AdminUser, TheHospital
from sync_server.web.i18n import translator
from sync_server.web.pages import BAD_REQUEST, PageRoute, redirect, render

router = APIRouter(route_class=PageRoute, prefix="/releases")

HOME = "/admin/releases"


@router.get("")
def listed(request: Request, user: AdminUser, hospital: TheHospital) -> Response:
    """All releases and rings."""
    with hospital.database.reading() as session:
        rows = releases.listed(session)
        rings = releases.rings(session)
    return render(request, "admin/releases.html", releases=rows, rings=rings, server=releases.SERVER)


@router.post("")
async def upload(request: Request, user: AdminUser, hospital: TheHospital) -> Response:
    """Take a release in: its signature and every file's hash are checked first.

    The form has the ZIP as ``file``. It is no parameter, for those are read before anybody asks who sends them.
    """
    async with request.form(max_files=1, max_fields=10) as form:
        if not isinstance(file := form.get("file"), UploadFile):
            raise BAD_REQUEST
        row = await threads_of(request).admins.run(releases.upload, hospital, file.file, user.actor)
    said = translator(user.language)("Release {release}: signature and files are right.", release=row.id)
    return redirect(request, HOME, said)


@router.post("/assign")
def assign(
    request: Request,
    user: AdminUser,
    hospital: TheHospital,
    ring: Annotated[str, Form(max_length=40)],
    release: Annotated[str, Form(max_length=120)],
) -> Response:
    """Have a ring run a release."""
    count = releases.assign(hospital, ring, release, user.actor)
    said = translator(user.language)(
        "Ring {ring} runs {release}; devices told: {count}", ring=ring, release=release, count=count
    )
    return redirect(request, HOME, said)


@router.post("/rollback")
def roll_back(
    request: Request, user: AdminUser, hospital: TheHospital, ring: Annotated[str, Form(max_length=40)]
) -> Response:
    """Have a ring run what it ran before."""
    release = releases.roll_back(hospital, ring, user.actor)
    said = translator(user.language)("Ring {ring} runs {release} again.", ring=ring, release=release)
    return redirect(request, HOME, said, "warning")
