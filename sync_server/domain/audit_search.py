"""Looking into the audit log: who did what to whom, latest first."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import Session, col, select

from sync_server.db.tables import AuditRow

PAGE: Final = 100


class AuditCriteria(BaseModel):
    """What is looked for; None and empty mean any.

    Attributes:
        actor, subject: the beginning of it (``user:kim``, an id).
        action: the beginning of it (``run.``, ``runs.exported``).
        since, until: until exclusive.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    actor: str = Field(default="", max_length=120)
    action: str = Field(default="", max_length=120)
    subject: str = Field(default="", max_length=120)
    since: datetime | None = None
    until: datetime | None = None


def find(session: Session, criteria: AuditCriteria, before: int | None = None) -> Sequence[AuditRow]:
    """At most :data:`PAGE` rows with numbers below ``before``, latest first."""
    query = select(AuditRow)
    for column, start in (
        (AuditRow.actor, criteria.actor),
        (AuditRow.action, criteria.action),
        (AuditRow.subject, criteria.subject),
    ):
        if start:
            query = query.where(col(column).startswith(start, autoescape=True))
    if criteria.since is not None:
        query = query.where(col(AuditRow.at) >= criteria.since)
    if criteria.until is not None:
        query = query.where(col(AuditRow.at) < criteria.until)
    if before is not None:
        query = query.where(col(AuditRow.number) < before)
    return session.exec(query.order_by(col(AuditRow.number).desc()).limit(PAGE)).all()
