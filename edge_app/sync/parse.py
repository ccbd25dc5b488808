"""Reading what servers say about themselves and their errors, without ever failing on it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from pydantic import ValidationError

from shared.hospital import ProblemDocument


def moment(text: str) -> datetime | None:
    """A date of HTTP (RFC 9110, 5.6.7); None where it is none."""
    try:
        found = parsedate_to_datetime(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


def retry_after(text: str) -> float:
    """Seconds of ``Retry-After`` (RFC 9110, 10.2.3), given as such or as a date; 0 where there is none."""
    if text.isdecimal():
        return float(text)
    until = moment(text)
    return max(0.0, (until - datetime.now(UTC)).total_seconds()) if until else 0.0


def json_object(body: bytes) -> dict[str, Any]:
    """A JSON object; empty where it is none."""
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def problem(status: int, body: bytes) -> ProblemDocument:
    """The problem document (RFC 9457) of a refusal, or one of our own where there is none."""
    try:
        return ProblemDocument.model_validate({"status": status, **json_object(body)})
    except ValidationError:
        return ProblemDocument(status=status)
