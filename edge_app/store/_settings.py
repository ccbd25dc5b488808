"""Small values in the database, by key; the store's own begin with an underscore."""

from __future__ import annotations

import json
from typing import Any

from sqlmodel import Session

from edge_app.store.tables import SettingRow

DEVICE = "_device"
INBOX = "_inbox_position"
LAST_RECEIPT = "_last_receipt_at"


def get(session: Session, key: str, default: Any = None) -> Any:
    """The value, or ``default``."""
    row = session.get(SettingRow, key)
    return default if row is None else json.loads(row.value)


def put(session: Session, key: str, value: Any) -> None:
    """Set the value: anything JSON can say."""
    session.merge(SettingRow(key=key, value=json.dumps(value)))
