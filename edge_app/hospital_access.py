"""Which hospital this device sends to, and the token that lets it in: as the store keeps it, or as a file says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
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
        device_name: what the hospital calls this device; "" where it was not told.
        enrolled_at: when it took this device on; None where it was set up by hand.
    """

    hospital: Hospital
    token: str | None = None
    token_url: str | None = None
    device_name: str = ""
    enrolled_at: datetime | None = None

    @property
    def name(self) -> str:
        """Of the hospital, for people: its own, or else its address."""
        return self.hospital.name or self.hospital.url

    def to_json(self) -> dict[str, Any]:
        """JSON values, with the receipt keys as they are."""
        values = asdict(self.hospital)
        return {
            **values,
            "receipt_keys": dict(self.hospital.receipt_keys),
            "token": self.token,
            "token_url": self.token_url,
            "device_name": self.device_name,
            "enrolled_at": self.enrolled_at and self.enrolled_at.isoformat(),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The reverse of :meth:`to_json`; raises FirstRayError as ``Hospital`` does, TypeError for other fields."""
        fields = dict(values)
        ours = {name: fields.pop(name) for name in ("token", "token_url", "device_name") if name in fields}
        at = fields.pop("enrolled_at", None)
        return cls(Hospital(**fields), **ours, enrolled_at=datetime.fromisoformat(at) if at else None)


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
