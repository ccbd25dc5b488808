"""Tokens of devices: minutes long, given for a signed assertion, and checked against the database with every request.

HL7 SMART App Launch 2.x, Backend Services; RFC 7523 for the assertion, RFC 6750 for the token.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OctKey
from sqlalchemy import delete
from sqlmodel import Session, col

from shared.enrolment import ASSERTION_SECONDS, SCOPE, AccessToken
from shared.errors import FirstRayError
from sync_server.db.tables import AssertionRow, DeviceRow
from sync_server.domain.devices import refuse_revoked, token_url

if TYPE_CHECKING:
    from sync_server.hospital import Hospital

TOKEN_SECONDS: Final = 300
LEEWAY_SECONDS: Final = 30
MOST_ASSERTION: Final = 4096
"""Characters of an assertion, at most; one of a device has some 500."""

_ISSUER: Final = "firstray"
_AUDIENCE: Final = "device"


@dataclass(frozen=True, slots=True)
class Bearer:
    """What a token says: which device, and by which of its keys it was got."""

    device: UUID
    key: str


class Tokens:
    """Gives and checks tokens. Safe to use from several threads; every process of the hospital makes the same.

    Args:
        hospital: whose secret signs.
        now: seconds since 1970 UTC.
    """

    def __init__(self, hospital: Hospital, now: Callable[[], float] = time.time) -> None:
        self._hospital = hospital
        self._now = now
        derived = HKDF(SHA256(), 32, salt=None, info=b"firstray device tokens").derive(hospital.settings.secret)
        self._key = OctKey.import_key(derived)

    def exchange(self, assertion: str) -> AccessToken:
        """A token for a device that proves who it is.

        Raises:
            FirstRayError: ``assertion_invalid`` (its message says what is wrong), ``assertion_replayed``,
                ``device_unknown``, ``device_revoked``.
        """
        claims = _claimed(assertion)
        device_id = UUID(claims["iss"])
        with self._hospital.database.reading() as session:
            device = session.get(DeviceRow, device_id)
        if device is None:
            raise FirstRayError(
                "device_unknown", "The hospital does not know this device.", "Enrol it: ask the hospital's IT."
            )
        _verify(assertion, claims, device, token_url(self._hospital.settings), self._now())
        refuse_revoked(device)
        self._hospital.database.write(lambda session: self._spend(session, device_id, claims))
        now = int(self._now())
        token = jwt.encode(
            {"alg": "HS256", "typ": "at+jwt"},
            {
                "iss": _ISSUER,
                "aud": _AUDIENCE,
                "sub": str(device_id),
                "key": device.jwk["kid"],
                "iat": now,
                "exp": now + TOKEN_SECONDS,
            },
            self._key,
            algorithms=["HS256"],
        )
        return AccessToken(access_token=token, token_type="bearer", expires_in=TOKEN_SECONDS, scope=SCOPE)  # noqa: S106

    def check(self, token: str) -> Bearer:
        """What a token says; whether the device is still trusted the database knows.

        Raises:
            FirstRayError: ``token_invalid``, ``token_expired``.
        """
        try:
            claims = jwt.decode(token, self._key, algorithms=["HS256"]).claims
            bearer = Bearer(UUID(claims["sub"]), str(claims["key"]))
            right = claims["iss"] == _ISSUER and claims["aud"] == _AUDIENCE
            expires = float(claims["exp"])
        except (JoseError, ValueError, KeyError, TypeError, AttributeError):
            right, expires, bearer = False, 0.0, Bearer(UUID(int=0), "")
        if not right:
            raise FirstRayError("token_invalid", "The token is none of this hospital.", "Get a new one.")
        if expires <= self._now():
            raise FirstRayError("token_expired", "The token has expired.", "Get a new one.")
        return bearer

    def _spend(self, session: Session, device: UUID, claims: dict[str, Any]) -> None:
        """An assertion is good once (RFC 7523, 3, 7)."""
        now = datetime.now(UTC)
        session.execute(delete(AssertionRow).where(col(AssertionRow.expires_at) < now))
        if session.get(AssertionRow, (device, claims["jti"])) is not None:
            raise FirstRayError("assertion_replayed", "The assertion was used before.", "Make a new one.")
        # Kept as long as its expiry could pass, whatever this clock is set to meanwhile.
        expires = now + timedelta(seconds=ASSERTION_SECONDS + LEEWAY_SECONDS)
        session.add(AssertionRow(device=device, jti=claims["jti"], expires_at=expires))


def _claimed(assertion: str) -> dict[str, Any]:
    """What an assertion claims, before anything of it is believed."""
    if len(assertion) > MOST_ASSERTION:
        raise _invalid("is too long")
    try:
        claims = json.loads(jws.extract_compact(assertion.encode()).payload)
        UUID(claims["iss"])
    except (JoseError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise _invalid("cannot be read, or does not name a device") from None
    return claims


def _verify(assertion: str, claims: dict[str, Any], device: DeviceRow, audience: str, now: float) -> None:
    """Signature by the device's key, and what the claims must be; nothing is returned."""
    try:
        token = jwt.decode(assertion, ECKey.import_key(device.jwk), algorithms=["ES384"])
    except JoseError:
        raise _invalid("is not signed by the key the device was enrolled with") from None
    if token.header.get("kid", device.jwk["kid"]) != device.jwk["kid"]:
        raise _invalid("names another key")
    jti, expires = claims.get("jti"), claims.get("exp")
    if claims.get("sub") != claims["iss"] or claims.get("aud") != audience:
        raise _invalid("is not for this device's token here: iss, sub or aud is wrong")
    if not isinstance(jti, str) or not 16 <= len(jti) <= 64 or not jti.isascii() or not jti.isprintable():
        raise _invalid("needs a jti of 16 to 64 ASCII characters")
    if not isinstance(expires, int | float) or isinstance(expires, bool):
        raise _invalid("has no exp")
    if not now - LEEWAY_SECONDS < expires <= now + ASSERTION_SECONDS + LEEWAY_SECONDS:
        raise _invalid(f"has expired, or expires more than {ASSERTION_SECONDS} seconds from now: compare the clocks")


def _invalid(what: str) -> FirstRayError:
    return FirstRayError("assertion_invalid", f"The client assertion {what}.", "Enrol the device again if this stays.")
