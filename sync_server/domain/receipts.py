"""Signing what the hospital holds, and telling devices by which keys."""

from __future__ import annotations

import base64
import json
from datetime import datetime
from typing import Final
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shared.receipts import HeldEvent, HeldImage, Receipt, key_id

_SORTED: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


class ReceiptSigner:
    """Signs receipts with the hospital's key. Sign only what is durable: after the commit, after the fsync."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key: Final = key
        self._id: Final = key_id(key.public_key())

    def sign(self, device: UUID, holds: HeldEvent | HeldImage, stored_at: datetime) -> Receipt:
        """A receipt for ``device``, as :func:`shared.receipts.sign_receipt` makes it, in half the time.

        A receipt holds whole numbers and ASCII text only: there canonical JSON (RFC 8785) is JSON with sorted names
        and without blanks.
        """
        draft = Receipt(device=device, holds=holds, stored_at=stored_at, key=self._id, signature="")
        content = draft.model_dump(mode="json", exclude={"signature"})
        signature = base64.b64encode(self._key.sign(_SORTED.encode(content).encode())).decode()
        return draft.model_copy(update={"signature": signature})

    @property
    def public_keys(self) -> dict[str, str]:
        """Key id -> base64 of the raw 32 bytes, as devices learn them at enrolment."""
        public = self._key.public_key()
        return {self._id: base64.b64encode(public.public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()}
