"""Which device speaks: its bearer token (RFC 6750), and whether the hospital still trusts it, asked every time."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from shared.errors import FirstRayError
from sync_server.api.parts import hospital_of
from sync_server.api.problems import Problem
from sync_server.db.tables import DeviceRow
from sync_server.domain.devices import DeviceRevoked, refuse_revoked, seen
from sync_server.domain.tokens import Tokens
from sync_server.hospital import Hospital

_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="firstray"'}
_scheme = HTTPBearer(scheme_name="device", description="A token of POST /v1/token.", auto_error=False)


def tokens_of(request: Request, hospital: Annotated[Hospital, Depends(hospital_of)]) -> Tokens:
    """Gives and checks tokens; made once an application."""
    found: Tokens | None = getattr(request.app.state, "tokens", None)
    if found is None:
        found = request.app.state.tokens = Tokens(hospital)
    return found


def device(
    request: Request,
    hospital: Annotated[Hospital, Depends(hospital_of)],
    tokens: Annotated[Tokens, Depends(tokens_of)],
    _: Annotated[object, Depends(_scheme)] = None,
) -> DeviceRow:
    """The device whose token the request shows.

    Raises:
        Problem: 401 ``token_missing``, ``token_invalid`` or ``token_expired``; 403 ``device_revoked`` with ``wipe``.
    """
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() != "bearer" or not token:
        raise Problem(401, "token_missing", "Show a token: Authorization: Bearer TOKEN.", _CHALLENGE)
    try:
        bearer = tokens.check(token.strip())
        with hospital.database.reading() as session:
            row = session.get(DeviceRow, bearer.device)
            if row is not None:
                session.expunge(row)
        if row is None or row.jwk["kid"] != bearer.key:
            raise FirstRayError("token_invalid", "The token is of a device or a key that is known no longer.")
        refuse_revoked(row)
    except DeviceRevoked as error:
        raise Problem(403, error.code, str(error), wipe=error.wipe) from None
    except FirstRayError as error:
        raise Problem(
            401,
            error.code,
            str(error),
            {"WWW-Authenticate": f'{_CHALLENGE["WWW-Authenticate"]}, error="invalid_token"'},
        ) from None
    seen(hospital, row)
    return row


Device = Annotated[DeviceRow, Depends(device)]
"""For a route's parameters."""
