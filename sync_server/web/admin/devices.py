"""Devices: how they are, taking one on, moving one to another ring, shutting one out."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Form
from sqlmodel import Session
from starlette.requests import Request
from starlette.responses import Response

from shared.errors import FirstRayError
from sync_server.domain import devices, enrolment, fleet, releases
from sync_server.domain.fleet import Device
from sync_server.web.auth import AdminUser, TheHospital
from sync_server.web.i18n import translator
from sync_server.web.pages import PageRoute, redirect, render

router = APIRouter(route_class=PageRoute, prefix="/devices")

Ring = Annotated[str, Form(max_length=40, pattern=f"^{releases.RING.pattern}$")]
Name = Annotated[str, Form(max_length=120, pattern=r"^\P{C}*$")]


@router.get("")
def listed(request: Request, user: AdminUser, hospital: TheHospital) -> Response:
    """All devices, those in need of someone first."""
    with hospital.database.reading() as session:
        found = fleet.devices(session, datetime.now(UTC))
        rings = _rings(session)
    return render(request, "admin/devices.html", devices=found, rings=rings)


@router.post("/code")
def make_code(
    request: Request, user: AdminUser, hospital: TheHospital, name: Name = "", ring: Ring = "general"
) -> Response:
    """A one-time code with its QR picture: shown on this page, and never again."""
    code = enrolment.make_code(hospital, user.actor, name, ring)
    picture = "data:image/svg+xml;base64," + base64.b64encode(code.qr_svg().encode()).decode()
    return render(request, "admin/code.html", code=code, picture=picture, name=name.strip(), ring=ring)


@router.get("/{device}")
def one(request: Request, device: UUID, user: AdminUser, hospital: TheHospital) -> Response:
    """One device, and what can be done with it."""
    with hospital.database.reading() as session:
        return render(request, "admin/device.html", device=_device(session, device), rings=_rings(session))


@router.post("/{device}")
def change(
    request: Request,
    device: UUID,
    user: AdminUser,
    hospital: TheHospital,
    name: Name = "",
    ring: Ring = "general",
) -> Response:
    """Another name, another ring; a device in a new ring is offered what that ring runs."""
    with hospital.database.reading() as session:
        before = _device(session, device).row
    devices.change(hospital, device, user.actor, name=" ".join(name.split()), ring=ring)
    if ring != before.ring and before.revoked_at is None:
        hospital.database.write(lambda session: releases.offer(session, device))
    return redirect(request, f"/admin/devices/{device}", translator(user.language)("The device was changed."))


@router.post("/{device}/revoke")
def revoke(
    request: Request,
    device: UUID,
    user: AdminUser,
    hospital: TheHospital,
    typed: Annotated[str, Form(max_length=200)] = "",
    wipe: Annotated[bool, Form()] = False,
) -> Response:
    """Shut a device out, once its name was typed; with ``wipe`` its records are destroyed at its next contact."""
    with hospital.database.reading() as session:
        name = _device(session, device).row.name
    if " ".join(typed.split()) != " ".join(name.split()):
        raise FirstRayError(
            "not_confirmed",
            "The name that was typed is not the device's, so nothing was done.",
            "Go back and type the name exactly as it is shown.",
        )
    devices.revoke(hospital, device, user.actor, wipe=wipe)
    tr = translator(user.language)
    said = (
        tr("The device is shut out, and will be wiped at its next contact.") if wipe else tr("The device is shut out.")
    )
    return redirect(request, f"/admin/devices/{device}", said, "warning")


def _device(session: Session, device: UUID) -> Device:
    found = next((one for one in fleet.devices(session, datetime.now(UTC)) if one.row.id == device), None)
    if found is None:
        raise FirstRayError("device_unknown", "There is no device with this id.", "It may have been removed.")
    return found


def _rings(session: Session) -> list[str]:
    """Rings there are, for choosing; the hospital's own is none for devices."""
    return sorted({"general"} | {state.ring for state in releases.rings(session) if state.ring != releases.SERVER})
