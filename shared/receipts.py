"""Proof that the hospital holds something: a receipt signed by a key that the device learnt at enrolment.

Nothing is called delivered before its receipt is verified and stored on the device. Signatures are Ed25519 (RFC 8032)
over the canonical JSON (RFC 8785) of the receipt without its signature.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import BaseModel, ConfigDict, Field

from shared.errors import FirstRayError
from shared.records import Line, Moment, Sha256


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HeldEvent(_Frozen):
    """An event is in the hospital's database."""

    kind: Literal["event"] = "event"
    chain: UUID
    number: Annotated[int, Field(ge=1)]
    hash: Sha256


class HeldImage(_Frozen):
    """All bytes of an image or preview are in the hospital's store."""

    kind: Literal["image"] = "image"
    sha256: Sha256
    size: Annotated[int, Field(ge=1)]


class Receipt(_Frozen):
    """What the hospital holds, since when, and its signature.

    Attributes:
        device: whose delivery it was.
        holds: the event or image.
        stored_at: when it was durable.
        key: id of the signing key (:func:`key_id`).
        signature: base64 of 64 bytes.
    """

    device: UUID
    holds: Annotated[HeldEvent | HeldImage, Field(discriminator="kind")]
    stored_at: Moment
    key: Line
    signature: Annotated[str, Field(max_length=88)]

    def verify(self, keys: Mapping[str, Ed25519PublicKey]) -> None:
        """Check the signature against the hospital's keys, by key id.

        Raises:
            FirstRayError: ``receipt_key_unknown`` or ``receipt_forged``.
        """
        key = keys.get(self.key)
        if key is None:
            raise FirstRayError(
                "receipt_key_unknown",
                "The hospital signed a receipt with a key this device does not know.",
                "It keeps sending. Enrol the device again if the hospital has changed its key.",
            )
        try:
            key.verify(base64.b64decode(self.signature, validate=True), _signed(self))
        except (InvalidSignature, ValueError):
            raise FirstRayError(
                "receipt_forged",
                "A receipt's signature is wrong: it does not come from the hospital, or was damaged on the way.",
                "Nothing is taken as delivered. Tell the hospital if this happens again.",
            ) from None


def sign_receipt(key: Ed25519PrivateKey, device: UUID, holds: HeldEvent | HeldImage, stored_at: datetime) -> Receipt:
    """A receipt of the hospital for one thing it holds."""
    draft = Receipt(device=device, holds=holds, stored_at=stored_at, key=key_id(key.public_key()), signature="")
    return draft.model_copy(update={"signature": base64.b64encode(key.sign(_signed(draft))).decode()})


def key_id(key: Ed25519PublicKey) -> str:
    """Short name of a public key: the first 16 hexadecimal digits of the SHA-256 of its raw 32 bytes."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


def _signed(receipt: Receipt) -> bytes:
    return rfc8785.dumps(receipt.model_dump(mode="json", exclude={"signature"}))
