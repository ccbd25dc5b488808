"""What the hospital has to say to a device: numbered, kept, and handed out as often as it is asked for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from pydantic import TypeAdapter
from sqlalchemy import delete, func, update
from sqlmodel import Session, col, select

from shared.errors import FirstRayError
from shared.hospital import Content, Inbox, InboxItem
from sync_server.db.engine import Database, locked
from sync_server.db.tables import DeviceRow, InboxRow
from sync_server.domain.changes import inbox_of, publish

PAGE: Final = 100
"""Items in one answer, at most."""
_CONTENT: Final[TypeAdapter[Content]] = TypeAdapter(Content)


def say(session: Session, device: UUID, content: Content) -> int:
    """Put something into a device's inbox, in the caller's transaction; gives its id.

    Ids grow in the order of commits, and start from the clock, so that none is given twice even after the hospital was
    restored from a backup. The device's row stays locked until the end of the transaction: say it before
    ``histories.refresh`` (order of locks, :mod:`sync_server.db.engine`).

    Raises:
        FirstRayError: ``device_unknown``.
    """
    row = session.exec(locked(session, select(DeviceRow).where(col(DeviceRow.id) == device))).one_or_none()
    if row is None:
        raise FirstRayError("device_unknown", "There is no device with this id.", "It may have been removed.")
    session.refresh(row, ["last_inbox"])
    now = datetime.now(UTC)
    row.last_inbox = max(row.last_inbox + 1, int(now.timestamp() * 1000))
    session.add(row)
    session.add(InboxRow(device=device, id=row.last_inbox, content=content.model_dump(mode="json"), at=now))
    session.flush()
    publish(session, inbox_of(device))
    return row.last_inbox


def fetch(database: Database, device: UUID, after: int) -> Inbox:
    """The items with ids above ``after``, at most :data:`PAGE`; notes when each was first handed out."""
    mine = col(InboxRow.device) == device, col(InboxRow.id) > after
    with database.reading() as session:
        rows = session.exec(select(InboxRow).where(*mine).order_by(col(InboxRow.id)).limit(PAGE)).all()
    items = tuple(InboxItem(id=row.id, content=_CONTENT.validate_python(row.content)) for row in rows)
    if any(row.fetched_at is None for row in rows):
        fresh = update(InboxRow).where(*mine, col(InboxRow.id) <= rows[-1].id, col(InboxRow.fetched_at).is_(None))
        with database.writing() as session:
            session.execute(fresh.values(fetched_at=datetime.now(UTC)))
    return Inbox(items=items, after=items[-1].id if items else after)


def withdraw_revocations(session: Session, device: UUID) -> None:
    """Take back what shut a device out, now that it is let in again: it would obey at its next contact."""
    is_revocation = col(InboxRow.content)["kind"].as_string() == "revocation"
    session.execute(delete(InboxRow).where(col(InboxRow.device) == device, is_revocation))


def waiting(session: Session) -> dict[UUID, int]:
    """Device -> items it has not fetched yet; devices without any are left out."""
    unseen = (
        select(InboxRow.device, func.count()).where(col(InboxRow.fetched_at).is_(None)).group_by(col(InboxRow.device))
    )
    return dict(session.exec(unseen).all())
