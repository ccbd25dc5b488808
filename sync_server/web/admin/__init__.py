"""The admin's pages, all below ``/admin``."""

from __future__ import annotations

from fastapi import APIRouter

from sync_server.web.admin import audit_log, devices, histories, linking, overview, patients, releases, users

router = APIRouter(include_in_schema=False)
for part in (overview, histories, patients, devices, users, linking, releases, audit_log):
    router.include_router(part.router, prefix="/admin")
