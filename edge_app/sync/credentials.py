"""The device's own key, and the tokens it gets for signed assertions. See :mod:`shared.enrolment`.

ES384 (RFC 7518, 3.4): ECDSA on P-384 with SHA-384, the signature as the two numbers one after the other.
"""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Self
from urllib.parse import urlsplit
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from pydantic import ValidationError

from edge_app.sync.ports import Renewal
from edge_app.sync.problems import Failed
from shared.enrolment import ASSERTION_TYPE, SCOPE, AccessToken, PublicKey, claims

EARLY_S: Final = 45.0
"""Seconds before its end at which a token is renewed: a request on a bad link takes that long to arrive."""
_SIDE: Final = 48
"""Bytes of a coordinate on P-384, and of each half of a signature."""


class DeviceKey:
    """An ES384 key pair; its private half never leaves the device's encrypted store."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key

    @classmethod
    def new(cls) -> Self:
        """A key nobody else has."""
        return cls(ec.generate_private_key(ec.SECP384R1()))

    @classmethod
    def from_pem(cls, pem: str) -> Self:
        """The reverse of :meth:`to_pem`; raises ValueError for anything else."""
        key = load_pem_private_key(pem.encode(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP384R1):
            raise ValueError("no key on P-384")
        return cls(key)

    def to_pem(self) -> str:
        """As PKCS 8, not encrypted: for the encrypted store only."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    @property
    def public(self) -> PublicKey:
        """The half that the hospital learns."""
        numbers = self._key.public_key().public_numbers()
        return PublicKey(x=_base64url(numbers.x.to_bytes(_SIDE)), y=_base64url(numbers.y.to_bytes(_SIDE)))

    def sign(self, content: Mapping[str, Any]) -> str:
        """A JSON Web Token that says ``content`` (RFC 7519)."""
        header = {"alg": "ES384", "typ": "JWT", "kid": self.public.thumbprint}
        signed = ".".join(_base64url(json.dumps(part, separators=(",", ":")).encode()) for part in (header, content))
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(SHA384())))
        return f"{signed}.{_base64url(r.to_bytes(_SIDE) + s.to_bytes(_SIDE))}"


class EnrolledCredentials:
    """Tokens of some minutes, renewed before they end and after a refusal.

    Args:
        key: the device's.
        device: its id.
        token_url: as learnt at enrolment; only its path is asked, at the hospital the device is enrolled with.
        now: seconds since 1970 UTC by the device's clock.
        ticks: seconds that only ever grow.
    """

    def __init__(
        self,
        key: DeviceKey,
        device: UUID,
        token_url: str,
        now: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._key = key
        self._device = device
        self._token_url = token_url
        self._now = now
        self._ticks = ticks
        self._token = ""
        self._good_until = 0.0
        self._asked_at = 0.0

    def renewal(self, clock_ahead_s: float) -> Renewal | None:
        """A signed assertion, in the hospital's time; None while the token is good."""
        if self._token and self._ticks() < self._good_until:
            return None
        self._asked_at = self._ticks()
        now = int(self._now() - clock_ahead_s)
        return Renewal(
            urlsplit(self._token_url).path,
            {
                "grant_type": "client_credentials",
                "scope": SCOPE,
                "client_assertion_type": ASSERTION_TYPE,
                "client_assertion": self._key.sign(
                    claims(self._device, self._token_url, now, secrets.token_urlsafe(24))
                ),
            },
        )

    def renewed(self, answer: bytes) -> None:
        """Take the token; raises Failed where there is none in the answer."""
        try:
            given = AccessToken.model_validate_json(answer)
        except ValidationError:
            raise Failed("hospital_answer_unreadable") from None
        if given.token_type.lower() != "bearer":
            raise Failed("hospital_answer_unreadable")
        self._token = given.access_token
        self._good_until = self._asked_at + max(given.expires_in - EARLY_S, given.expires_in / 2)

    def headers(self) -> Mapping[str, str]:
        """The token as a header (RFC 6750)."""
        return {"Authorization": f"Bearer {self._token}"}

    def refused(self, shown: Mapping[str, str]) -> None:
        """That token is good no longer, whatever it said; another lane may have got a new one meanwhile."""
        if shown == self.headers():
            self._token = ""


def _base64url(data: bytes) -> str:
    """Base64 for URLs without padding (RFC 7515, 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
