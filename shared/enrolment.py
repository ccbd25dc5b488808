"""How a device is taken on by a hospital: what both sides say, and the code an admin hands over.

1. The device asks ``GET /v1/enrolment`` for :class:`Trust` over a connection it cannot trust yet, and believes the
   certificates only if their fingerprint is the one in the code it was given.
2. Over a connection that these certificates vouch for it asks for :class:`Trust` once more, for the hospital's name,
   and sends ``POST /v1/enrolment``: :class:`EnrolmentRequest` with the one-time code and the public half of its ES384
   key -> :class:`Enrolled`.
3. From then on it asks ``POST /v1/token`` for tokens that live minutes, by a signed assertion (HL7 SMART App Launch
   2.x, Backend Services; RFC 7523): ``grant_type=client_credentials``, ``iss`` = ``sub`` = device id, ``aud`` =
   :attr:`Enrolled.token_url`, ``exp`` at most :data:`ASSERTION_SECONDS` ahead, each ``jti`` once.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from shared.errors import FirstRayError
from shared.records import Line

ALPHABET: Final = "23456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Without 0, 1, I, L, O and U: nothing here is read for something else."""
CODE_LENGTH: Final = 12
"""Characters of a one-time code: 58 bits."""
FINGERPRINT_LENGTH: Final = 20
"""Characters of the certificates' fingerprint: 98 bits."""
ASSERTION_SECONDS: Final = 300
"""How far in the future an assertion's ``exp`` may lie, at most."""
ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
SCOPE: Final = "system/*.cruds"
"""What a device's token is for, in SMART's words: all that the device's own records need."""

_GROUP: Final = 4
_CERTIFICATE: Final = re.compile("-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Trust(_Frozen):
    """Whom a device is about to trust.

    Attributes:
        ca_pem: the certificates (PEM) of which one vouches for the server; None where it speaks plain HTTP.
        hospital: its name, to be believed only over a connection that these certificates vouch for.
    """

    ca_pem: Annotated[str, Field(max_length=64 * 1024)] | None
    hospital: Line = ""


class PublicKey(_Frozen):
    """The public half of an ES384 key as a JSON Web Key (RFC 7517; RFC 7518, 6.2.1)."""

    kty: Literal["EC"] = "EC"
    crv: Literal["P-384"] = "P-384"
    x: Annotated[str, StringConstraints(pattern="^[A-Za-z0-9_-]{64}$")]
    y: Annotated[str, StringConstraints(pattern="^[A-Za-z0-9_-]{64}$")]

    @property
    def thumbprint(self) -> str:
        """Its name (RFC 7638): base64url of the SHA-256 of its members in canonical JSON; the ``kid`` of assertions."""
        members = f'{{"crv":"{self.crv}","kty":"{self.kty}","x":"{self.x}","y":"{self.y}"}}'
        return base64.urlsafe_b64encode(hashlib.sha256(members.encode()).digest()).rstrip(b"=").decode()


class EnrolmentRequest(_Frozen):
    """A device registers.

    Attributes:
        code: the one-time code, :data:`CODE_LENGTH` characters of :data:`ALPHABET`.
        device: its id, that of all its events.
        jwk: public half of the key it signs assertions with.
        app: version of FirstRay.
    """

    code: Annotated[str, StringConstraints(pattern=f"^[{ALPHABET}]{{{CODE_LENGTH}}}$")]
    device: UUID
    jwk: PublicKey
    app: Line = ""


class Enrolled(_Frozen):
    """What the device learns.

    Attributes:
        hospital: its name.
        device_name: what the hospital calls the device.
        receipt_keys: key id -> base64 of the raw 32 bytes of an Ed25519 key that signs receipts.
        token_url: ``aud`` of assertions; tokens are asked for at its path.
    """

    hospital: Line = ""
    device_name: Line = ""
    receipt_keys: Annotated[dict[str, str], Field(min_length=1)]
    token_url: Annotated[str, StringConstraints(min_length=1, max_length=500)]


class AccessToken(BaseModel):
    """Answer of the token endpoint (RFC 6749, 5.1); more members may come."""

    model_config = ConfigDict(frozen=True)

    access_token: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._~+/=-]{1,4000}$")]
    token_type: str
    expires_in: Annotated[int, Field(ge=1, le=86_400)]
    scope: str = ""


@dataclass(frozen=True, slots=True)
class EnrolmentCode:
    """What an admin hands over: the one-time ``code``, and the ``fingerprint`` of whom to give it to ("" for none)."""

    code: str
    fingerprint: str = ""

    @classmethod
    def new(cls, fingerprint: str) -> Self:
        """A code nobody has seen."""
        return cls("".join(secrets.choice(ALPHABET) for _ in range(CODE_LENGTH)), fingerprint)

    def __str__(self) -> str:
        """For people: groups of four, ``ABCD-EFGH-...``."""
        return grouped(self.code + self.fingerprint)

    @classmethod
    def parse(cls, text: str) -> Self:
        """What somebody typed; case, blanks and hyphens don't matter.

        Raises:
            FirstRayError: ``enrolment_code_mistyped``.
        """
        plain = re.sub(r"[\s-]", "", text).upper()
        right = len(plain) in (CODE_LENGTH, CODE_LENGTH + FINGERPRINT_LENGTH) and set(plain) <= set(ALPHABET)
        if not right:
            raise FirstRayError(
                "enrolment_code_mistyped",
                "This is no enrolment code: it has eight groups of four letters and digits.",
                "Type it again as the hospital's admin page shows it. The letters I, L, O and U and the digits 0 and 1 "
                "are in none.",
            )
        return cls(plain[:CODE_LENGTH], plain[CODE_LENGTH:])


def grouped(text: str) -> str:
    """In groups of four, for people."""
    return "-".join(text[start : start + _GROUP] for start in range(0, len(text), _GROUP))


def fingerprint(pem: str) -> str:
    """Of certificates: :data:`FINGERPRINT_LENGTH` characters that come from the SHA-256 of their DER, in order.

    Raises:
        ValueError: there is no certificate, or one that is not base64.
    """
    found = _CERTIFICATE.findall(pem)
    if not found:
        raise ValueError("no certificate")
    ders = [base64.b64decode("".join(one.split()), validate=True) for one in found]
    number = int.from_bytes(hashlib.sha256(b"".join(ders)).digest())
    letters = []
    for _ in range(FINGERPRINT_LENGTH):
        number, rest = divmod(number, len(ALPHABET))
        letters.append(ALPHABET[rest])
    return "".join(letters)


def claims(device: UUID, token_url: str, now: int, jti: str) -> dict[str, Any]:
    """What a device's assertion says (SMART App Launch 2.x, Backend Services, "Request"); ``now`` in seconds."""
    # A minute less than allowed: the two clocks may differ a little.
    return {
        "iss": str(device),
        "sub": str(device),
        "aud": token_url,
        "iat": now,
        "exp": now + ASSERTION_SECONDS - 60,
        "jti": jti,
    }
