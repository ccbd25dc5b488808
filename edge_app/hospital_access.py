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
    """The hospital, and the bearer token to show it (RFC 6750); None shows nothing."""

    hospital: Hospital
    token: str | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON values, with the receipt keys as they are."""
        values = asdict(self.hospital)
        return {**values, "receipt_keys": dict(self.hospital.receipt_keys), "token": self.token}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The reverse of :meth:`to_json`; raises FirstRayError as ``Hospital`` does, TypeError for other fields."""
        fields = dict(values)
        token = fields.pop("token", None)
        return cls(Hospital(**fields), token)


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
