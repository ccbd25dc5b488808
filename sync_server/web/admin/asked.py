"""What an admin asked for, as addresses of pages say it: empty fields mean any, dates are the server's local days."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, urlencode
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared.errors import FirstRayError
from sync_server.domain.archive import Criteria, Shown, Sort
from sync_server.domain.audit_search import AuditCriteria

Day = Annotated[date, Field(ge=date(1900, 1, 1), lt=date(9999, 1, 1))]
"""One that has a midnight in every time zone."""


class _Asked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    since: Day | None = None
    until: Day | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        if any("\0" in value for value in given.values() if isinstance(value, str)):
            raise ValueError("no database has a NUL in its texts")
        return {name: value for name, value in given.items() if value != ""}

    @classmethod
    def parse(cls, query: str) -> Any:
        """From the query of an address, as a hidden field carries it.

        Raises:
            FirstRayError: ``bad_request``.
        """
        try:
            return cls.model_validate(dict(parse_qsl(query, max_num_fields=30)))
        except (ValidationError, ValueError):
            raise FirstRayError(
                "bad_request", "The page was asked for something it cannot understand.", "Go back and try again."
            ) from None

    def query(self, **changes: object) -> str:
        """As the query of an address, with some fields changed; None leaves one out."""
        fields = self.model_dump(mode="json", exclude_defaults=True) | changes
        return urlencode({name: value for name, value in fields.items() if value not in (None, "")})

    @property
    def _from(self) -> datetime | None:
        return _midnight(self.since)

    @property
    def _to(self) -> datetime | None:
        return _midnight(self.until + timedelta(days=1)) if self.until and self.until < date.max else None


class Wanted(_Asked):
    """Which histories; ``until`` is the last day."""

    q: str = Field(default="", max_length=200)
    finding: str | None = None
    device: UUID | None = None
    urgent: bool | None = None
    differs: bool | None = None
    confirmed: bool | None = None
    shown: Shown = Shown.VISIBLE
    sort: Sort = Sort.STARTED
    order: Literal["up", "down"] = "down"

    @property
    def criteria(self) -> Criteria:
        """For the archive."""
        return Criteria(
            text=self.q,
            since=self._from,
            until=self._to,
            finding=self.finding,
            device=self.device,
            urgent=self.urgent,
            differs=self.differs,
            confirmed=self.confirmed,
            shown=self.shown,
            sort=self.sort,
            descending=self.order == "down",
        )


class WantedAudit(_Asked):
    """Which rows of the audit log; ``until`` is the last day."""

    actor: str = Field(default="", max_length=120)
    action: str = Field(default="", max_length=120)
    subject: str = Field(default="", max_length=120)

    @property
    def criteria(self) -> AuditCriteria:
        """For the audit log."""
        return AuditCriteria(
            actor=self.actor.strip(),
            action=self.action.strip(),
            subject=self.subject.strip(),
            since=self._from,
            until=self._to,
        )


def _midnight(day: date | None) -> datetime | None:
    return datetime.combine(day, time.min).astimezone() if day else None
