"""What routes ask for by ``Depends``."""

from __future__ import annotations

from fastapi import Request

from sync_server.hospital import Hospital


def hospital_of(request: Request) -> Hospital:
    """The hospital that the application serves."""
    hospital: Hospital = request.app.state.hospital
    return hospital
