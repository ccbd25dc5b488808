"""Guessing is slowed: failed log-ins are counted by login together with address, by login, and by address.

A stranger who guesses a physician's password from elsewhere does not lock the physician out until the second, much
higher, limit is reached.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import delete, func
from sqlmodel import Session, col, select

from shared.errors import FirstRayError
from sync_server.db.tables import AttemptRow
from sync_server.domain import audit

WINDOW: Final = timedelta(minutes=15)
"""Failures older than this no longer count."""
MOST_BY_BOTH: Final = 8
MOST_BY_ADDRESS: Final = 60
MOST_BY_LOGIN: Final = 100
"""Failures within :data:`WINDOW` from which tries are refused: login and address together, address, login."""

Limit = tuple[str, int]
"""What is counted, and the failures from which it is refused."""


def by_login(login: str, address: str) -> tuple[Limit, ...]:
    """Limits of a try with a login; the first is of both together."""
    return (_both(login, address), by_address(address), (f"login:{_short(login, 32)}", MOST_BY_LOGIN))


def by_address(address: str) -> Limit:
    """Limit of a try that names no login."""
    return f"address:{address}", MOST_BY_ADDRESS


def refuse(session: Session, limits: Sequence[Limit], now: datetime) -> None:
    """Raise FirstRayError ``too_many_attempts`` where a limit is reached."""
    counted = session.exec(
        select(AttemptRow.subject, func.count())
        .where(col(AttemptRow.subject).in_([subject for subject, _ in limits]), col(AttemptRow.at) >= now - WINDOW)
        .group_by(AttemptRow.subject)
    ).all()
    failures = dict(counted)
    if any(failures.get(subject, 0) >= most for subject, most in limits):
        raise FirstRayError(
            "too_many_attempts",
            "There were too many failed log-ins lately.",
            f"Wait {WINDOW.seconds // 60} minutes, or ask an admin to set a new password.",
        )


def failed(session: Session, limits: Sequence[Limit], now: datetime, address: str, **details: Any) -> None:
    """Count a failed log-in and write it into the audit log, with ``details``."""
    session.add_all(AttemptRow(subject=subject, at=now) for subject, _ in limits)
    session.exec(delete(AttemptRow).where(col(AttemptRow.at) < now - WINDOW))
    audit.record(session, "nobody", "log_in.failed", address=address, **details)


def succeeded(session: Session, login: str, address: str) -> None:
    """Forget what failed with this login from this address."""
    session.exec(delete(AttemptRow).where(col(AttemptRow.subject) == _both(login, address)[0]))


def forget(session: Session, login: str) -> None:
    """Let a login be tried again at once, from wherever: after an admin has set its password."""
    session.exec(delete(AttemptRow).where(col(AttemptRow.subject).startswith(f"login:{_short(login, 32)}")))
    session.exec(delete(AttemptRow).where(col(AttemptRow.subject).startswith(f"both:{_short(login, 16)}")))


def _both(login: str, address: str) -> Limit:
    return f"both:{_short(login, 16)}:{_short(address, 16)}", MOST_BY_BOTH


def _short(text: str, letters: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:letters]
