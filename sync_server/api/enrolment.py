"""``/v1/enrolment`` and ``/v1/token``: how a device is taken on and gets tokens. See :mod:`shared.enrolment`."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Form, Request, Response

from shared.enrolment import ASSERTION_TYPE, AccessToken, Enrolled, EnrolmentRequest, Trust
from shared.errors import FirstRayError
from sync_server.api.auth import tokens_of
from sync_server.api.parts import hospital_of
from sync_server.api.problems import Problem, responses
from sync_server.domain import enrolment
from sync_server.domain.devices import DeviceRevoked
from sync_server.domain.tokens import Tokens
from sync_server.hospital import Hospital

router: Final = APIRouter(prefix="/v1", tags=["enrolment"])
"""Open to who has no token yet: a code or a signed assertion lets in."""

_STATUS: Final = {"code_wrong": 403, "too_many_attempts": 429, "key_invalid": 422, "device_known": 409}
_UNCACHED: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}

HospitalHere = Annotated[Hospital, Depends(hospital_of)]


@router.get("/enrolment", responses=responses(503))
def trust(hospital: HospitalHere) -> Trust:
    """The certificates that vouch for this server; a device compares their fingerprint with that in its code."""
    try:
        return enrolment.trust(hospital.settings)
    except FirstRayError as error:
        raise Problem(503, error.code, str(error)) from None


@router.post("/enrolment", status_code=201, responses=responses(400, 403, 409, 422, 429))
def enrol(wanted: EnrolmentRequest, request: Request, hospital: HospitalHere) -> Enrolled:
    """Take on a device by its one-time code; the same request again gets the same answer."""
    try:
        return enrolment.enrol(hospital, wanted, request.client.host if request.client else "")
    except FirstRayError as error:
        status = _STATUS.get(error.code, 409)
        raise Problem(status, error.code, str(error), {"Retry-After": "900"} if status == 429 else None) from None


@router.post("/token", responses=responses(400, 401, 403, 422))
def token(
    response: Response,
    tokens: Annotated[Tokens, Depends(tokens_of)],
    grant_type: Annotated[str, Form(max_length=100)] = "",
    client_assertion_type: Annotated[str, Form(max_length=100)] = "",
    client_assertion: Annotated[str, Form(max_length=8192)] = "",
    scope: Annotated[str, Form(max_length=1000)] = "",
) -> AccessToken:
    """A token of five minutes for a signed assertion (SMART App Launch 2.x, Backend Services).

    Errors are problem documents that have RFC 6749's ``error`` and ``error_description`` too.
    """
    del scope  # a device gets the one scope there is, whatever it asks for
    if grant_type != "client_credentials":
        raise _refused(400, "grant_type_unknown", "grant_type must be client_credentials.", "unsupported_grant_type")
    if client_assertion_type != ASSERTION_TYPE:
        raise _refused(
            400, "assertion_type_unknown", f"client_assertion_type must be {ASSERTION_TYPE}.", "invalid_request"
        )
    try:
        given = tokens.exchange(client_assertion)
    except DeviceRevoked as error:
        raise Problem(
            403,
            error.code,
            str(error),
            _UNCACHED,
            wipe=error.wipe,
            error="invalid_client",
            error_description=str(error),
        ) from None
    except FirstRayError as error:
        raise _refused(401, error.code, str(error), "invalid_client") from None
    response.headers.update(_UNCACHED)
    return given


def _refused(status: int, code: str, detail: str, error: str) -> Problem:
    return Problem(status, code, detail, _UNCACHED, error=error, error_description=detail)
