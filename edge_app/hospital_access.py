"""Which hospital this device sends to, and the token that lets it in: as the store keeps it, or as a file says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from edge_app.sync import Hospital
from shared.errors import FirstRayError


@dataclass(frozen=True, slots=True)
class HospitalAccess:
    """The hospital, and what to show it.

    Attributes:
        hospital: see there.
        token: a bearer token (RFC 6750) that never changes, for a hospital that hands out such.
        token_url: of a hospital that enrolled this device: where it gets tokens for its key.
    """

    hospital: Hospital
    token: str | None = None
    token_url: str | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON values, with the receipt keys as they are."""
        values = asdict(self.hospital)
        keys = dict(self.hospital.receipt_keys)
        return {**values, "receipt_keys": keys, "token": self.token, "token_url": self.token_url}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The reverse of :meth:`to_json`; raises FirstRayError as ``Hospital`` does, TypeError for other fields."""
        fields = dict(values)
        token, token_url = fields.pop("token", None), fields.pop("token_url", None)
        return cls(Hospital(**fields), token, token_url)


def load_access(file: Path) -> HospitalAccess:
    """Read a JSON file: ``url``, ``ca_pem``, ``receipt_keys``, and as wished ``name``, ``token``, ``allow_http``.

    Raises:
        FirstRayError: ``hospital_file_invalid``, or as ``Hospital``.
    """
    try:
        values = json.loads(file.read_text())
        return HospitalAccess.from_json(values)
    except (OSError, ValueError, TypeError, AttributeError):
        raise FirstRayError(
            "hospital_file_invalid",
            "The file of the hospital's settings cannot be read or is none.",
            "Ask the hospital's IT for it again.",
        ) from None
