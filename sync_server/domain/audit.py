"""Who saw, changed, exported or deleted what, written in the transaction of the act itself.

Each row holds the SHA-256 of its content and of the row before (canonical JSON, RFC 8785): a row that was changed,
taken out or slipped in later shows. That rows were cut off at the end shows only against a number and hash noted
elsewhere: :func:`head`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import rfc8785
from sqlalchemy import text
from sqlmodel import Session, col, select

from sync_server.db.engine import dialect
from sync_server.db.tables import AuditRow

FIRST_PREVIOUS: Final = "0" * 64
_LOCK: Final = 5_201_002
_SOME: Final = 1000


@dataclass(frozen=True, slots=True)
class Verdict:
    """What :func:`verify` found: rows checked, and the number at which the log is broken; None where it is whole."""

    rows: int
    broken_at: int | None
    head: str

    @property
    def whole(self) -> bool:
        """Nothing was changed, taken out or slipped in."""
        return self.broken_at is None


def record(session: Session, actor: str, action: str, subject: str = "", **details: Any) -> AuditRow:
    """Write down an act, in its own transaction; the log is locked until that ends, so do it last.

    Args:
        session: of a writing transaction.
        actor: who: ``user:LOGIN``, ``device:ID`` or ``system``.
        action: what, as ``patient.viewed``.
        subject: id of what it was done to.
        details: JSON values; whole numbers up to 2^53.
    """
    if dialect(session) == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    number, previous = head(session)
    row = AuditRow(
        number=number + 1,
        at=datetime.now(UTC),
        actor=actor,
        action=action,
        subject=subject,
        details=details,
        previous=previous,
        hash="",
    )
    row.hash = _hash(row)
    session.add(row)
    session.flush()
    return row


def head(session: Session) -> tuple[int, str]:
    """Number and hash of the last row: noted elsewhere, they prove later that none was cut off."""
    last = select(AuditRow.number, AuditRow.hash).order_by(col(AuditRow.number).desc()).limit(1)
    return session.exec(last).first() or (0, FIRST_PREVIOUS)


def verify(session: Session) -> Verdict:
    """Check the whole log, from its first row."""
    number, previous = 0, FIRST_PREVIOUS
    for row in _all(session):
        if row.number != number + 1 or row.previous != previous or row.hash != _hash(row):
            return Verdict(number, number + 1, previous)
        number, previous = row.number, row.hash
    return Verdict(number, None, previous)


def _all(session: Session) -> Iterator[AuditRow]:
    last = -1
    while rows := session.exec(
        select(AuditRow).where(col(AuditRow.number) > last).order_by(col(AuditRow.number)).limit(_SOME)
    ).all():
        yield from rows
        last = rows[-1].number
        session.expunge_all()


def _hash(row: AuditRow) -> str:
    content: dict[str, Any] = {
        "number": row.number,
        "at": row.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "actor": row.actor,
        "action": row.action,
        "subject": row.subject,
        "details": row.details,
        "previous": row.previous,
    }
    return hashlib.sha256(rfc8785.dumps(content)).hexdigest()
