"""The synced histories as an admin finds them: search, filters, sort and pages over
:class:`HistoryRow`.

Pages are keyset pages: the next one begins behind the last row of this one, so page 2,000 costs what page 1 costs and a
run that arrives meanwhile shifts nothing.
"""

from __future__ import annotations

import base64
import binascii
import json
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import ColumnElement, func, literal, not_, or_, tuple_
from sqlmodel import Session, col, select

from shared.errors import FirstRayError
from shared.findings import BY_KEY, FINDINGS, Urgency
from sync_server.db.tables import HistoryRow
from sync_server.domain.folding import folded

PAGE: Final = 50
"""Rows on one page."""
MOST_COUNTED: Final = 1000
"""Matches are counted up to here; counting all of a broad search would cost more than showing it."""


URGENT: Final = tuple(finding.key for finding in FINDINGS if finding.urgency is not Urgency.ROUTINE)
"""Findings that need action in the ambulance or on arrival."""


class Sort(StrEnum):
    """What a list of histories is sorted by; the run's id breaks ties."""

    STARTED = "started"
    CHANGED = "changed"
    URGENCY = "urgency"
    NAME = "name"


class Shown(StrEnum):
    """Which histories a list shows."""

    VISIBLE = "visible"
    HIDDEN = "hidden"
    """Deleted by the hospital or the crew, and not yet purged."""


class Criteria(BaseModel):
    """What is looked for; None and empty mean any.

    Attributes:
        text: every word must occur in name, identifiers, incident number or complaint.
        since, until: of the run's start, until exclusive.
        finding: key of a finding that is likely on one of its films.
        device: who recorded it.
        urgent, differs, confirmed: as :class:`HistoryRow` has them.
        shown, sort, descending: which, and in what order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str = Field(default="", max_length=200)
    since: datetime | None = None
    until: datetime | None = None
    finding: str | None = None
    device: UUID | None = None
    urgent: bool | None = None
    differs: bool | None = None
    confirmed: bool | None = None
    shown: Shown = Shown.VISIBLE
    sort: Sort = Sort.STARTED
    descending: bool = True


class Page(BaseModel):
    """One page of histories.

    Attributes:
        rows: in order.
        next, previous: marks of the neighbouring pages, None at the ends.
        count: how many match: exact below :data:`MOST_COUNTED`, else that or more. Of the first page only: the same
            look into the index gives both.
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    rows: tuple[HistoryRow, ...]
    next: str | None
    previous: str | None
    count: int | None = None


def find(session: Session, criteria: Criteria, mark: str | None = None, size: int = PAGE) -> Page:
    """The page at ``mark`` (of :class:`Page`), the first without one.

    Raises:
        FirstRayError: ``unknown_finding`` or ``bad_mark``.
    """
    back, value, run = _parsed(mark, criteria.sort) if mark else (False, None, None)
    descending = criteria.descending != back
    key = _key(criteria.sort)
    which = select(HistoryRow.encounter).where(*_conditions(criteria))
    if run is not None:
        which = which.where(_beyond(key, value, run, descending))
    order = (key.desc(), col(HistoryRow.encounter).desc()) if descending else (key, col(HistoryRow.encounter))
    # Which runs is answered by the index alone (``ix_history_listed``); then a page of them is read from the table.
    found = session.exec(which.order_by(*order).limit(max(size + 1, 0 if mark else MOST_COUNTED))).all()
    listed = select(HistoryRow).where(col(HistoryRow.encounter).in_(found[:size])).order_by(*order)
    rows = list(session.exec(listed).all())
    more = len(found) > size
    if back:
        rows.reverse()
    ahead, behind = (run is not None, more) if back else (more, run is not None)
    return Page(
        rows=tuple(rows),
        next=_mark(rows[-1], criteria.sort, back=False) if rows and ahead else None,
        previous=_mark(rows[0], criteria.sort, back=True) if rows and behind else None,
        count=None if mark else min(len(found), MOST_COUNTED),
    )


def _conditions(criteria: Criteria) -> list[ColumnElement[bool]]:
    row = HistoryRow
    wanted: list[ColumnElement[bool]] = [col(row.visible).is_(criteria.shown is Shown.VISIBLE)]
    wanted += [col(row.search).contains(word, autoescape=True) for word in folded(criteria.text).split()]
    if criteria.since is not None:
        wanted.append(col(row.started_at) >= criteria.since)
    if criteria.until is not None:
        wanted.append(col(row.started_at) < criteria.until)
    if criteria.finding is not None:
        if criteria.finding not in BY_KEY:
            raise FirstRayError(
                "unknown_finding", "There is no finding of that name.", "Choose one of the findings of the list."
            )
        wanted.append(_found(criteria.finding))
    if criteria.device is not None:
        wanted.append(col(row.device) == criteria.device)
    if criteria.urgent is not None:
        found = or_(*(_found(key) for key in URGENT))
        wanted.append(found if criteria.urgent else not_(found))
    for column, value in ((row.differs, criteria.differs), (row.confirmed, criteria.confirmed)):
        if value is not None:
            wanted.append(col(column).is_(value))
    return wanted


def _found(finding: str) -> ColumnElement[bool]:
    return col(HistoryRow.found).contains(f",{finding},", autoescape=True)


def _key(sort: Sort) -> Any:
    match sort:
        case Sort.STARTED:
            return col(HistoryRow.started_at)
        case Sort.CHANGED:
            return col(HistoryRow.changed_at)
        case Sort.URGENCY:
            return col(HistoryRow.rank)
        case Sort.NAME:
            return func.coalesce(HistoryRow.name, "")


def _beyond(key: Any, value: Any, run: UUID, descending: bool) -> ColumnElement[bool]:
    # As a row value: both databases begin in the index there; the same with AND and OR would read all before it.
    encounter: Any = col(HistoryRow.encounter)
    here = tuple_(key, encounter)
    mark = tuple_(literal(value, key.type), literal(run, encounter.type))
    return here < mark if descending else here > mark


def _mark(row: HistoryRow, sort: Sort, back: bool) -> str:
    value: Any
    match sort:
        case Sort.STARTED:
            value = row.started_at.isoformat()
        case Sort.CHANGED:
            value = row.changed_at.isoformat()
        case Sort.URGENCY:
            value = row.rank
        case Sort.NAME:
            value = row.name or ""
    return base64.urlsafe_b64encode(json.dumps([back, value, row.encounter.hex]).encode()).decode().rstrip("=")


def _parsed(mark: str, sort: Sort) -> tuple[bool, Any, UUID]:
    try:
        back, value, run = json.loads(base64.urlsafe_b64decode(mark + "=" * (-len(mark) % 4)))
        if sort in (Sort.STARTED, Sort.CHANGED):
            value = datetime.fromisoformat(value).astimezone(UTC)
        elif not isinstance(value, int if sort is Sort.URGENCY else str):
            raise ValueError("a mark of another sort")
        return bool(back), value, UUID(run)
    except (ValueError, TypeError, AttributeError, binascii.Error):
        raise FirstRayError(
            "bad_mark", "This page of the list cannot be found again.", "Go back to the first page."
        ) from None
