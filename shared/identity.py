"""Identifiers that a device makes on its own, before any hospital knows it."""

from __future__ import annotations

from uuid import UUID

import uuid6


def new_id() -> UUID:
    """A new UUID version 7 (RFC 9562, 5.7): unique without asking anyone, and ordered by the time it was made."""
    return UUID(int=uuid6.uuid7().int)
