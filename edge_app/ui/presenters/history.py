"""All runs, filtered and searched, page after page; and what is about to be deleted for good."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from edge_app.store.views import Deletion, RunRow
from edge_app.ui.presenters.desk import Desk, Presenter, nothing
from shared.errors import FirstRayError

if TYPE_CHECKING:
    from edge_app.station import Station

PAGE: Final = 50


class Span(StrEnum):
    """Ranges of dates offered with one tap."""

    ALL = "all"
    TODAY = "today"
    WEEK = "week"
    MONTH = "month"
    CHOSEN = "chosen"


DAYS: Final = {Span.TODAY: 1, Span.WEEK: 7, Span.MONTH: 30}


@dataclass(frozen=True, slots=True)
class History:
    """State of the history.

    Attributes:
        rows: runs, latest first, as far as they were read.
        more: there are older ones.
        loading: rows are being read.
        text: what is searched for.
        span, first, last: which days, both included; None is open.
        finding: only runs with this finding suspected.
        deletions: what can still be undone.
    """

    rows: tuple[RunRow, ...] = ()
    more: bool = False
    loading: bool = True
    text: str = ""
    span: Span = Span.ALL
    first: date | None = None
    last: date | None = None
    finding: str | None = None
    deletions: tuple[Deletion, ...] = ()
    error: FirstRayError | None = None

    @property
    def filtered(self) -> bool:
        """Something is left out."""
        return bool(self.text or self.finding or self.first or self.last)


class HistoryPresenter(Presenter[History]):
    """Lists and filters.

    Args:
        desk, station: as in :class:`Presenter`.
        deleted: called with a deletion, which can be undone.
        today: the local date.
    """

    def __init__(
        self,
        desk: Desk,
        station: Station,
        deleted: Callable[[Deletion], None] = nothing,
        today: Callable[[], date] = date.today,
    ) -> None:
        super().__init__(desk, station, History())
        self._deleted = deleted
        self._today = today

    def search(self, text: str) -> None:
        """Only what matches a text; empty shows everything."""
        if text.strip() != self._state.text:
            self._filter(text=text.strip())

    def choose_span(self, span: Span) -> None:
        """Only the last days; for days of one's own see :meth:`choose_days`."""
        days = DAYS.get(span)
        first = self._today() - timedelta(days=days - 1) if days else None
        self._filter(span=span, first=first, last=None)

    def choose_days(self, first: date | None, last: date | None) -> None:
        """Only these days, both included."""
        if first and last and first > last:
            first, last = last, first
        self._filter(span=Span.CHOSEN if first or last else Span.ALL, first=first, last=last)

    def choose_finding(self, finding: str | None) -> None:
        """Only runs with this finding suspected."""
        self._filter(finding=finding)

    def clear(self) -> None:
        """Show everything."""
        self._filter(text="", span=Span.ALL, first=None, last=None, finding=None)

    def load_more(self) -> None:
        """Read the next page; ignored where there is none or one is being read."""
        state, question = self._state, self._question
        if not state.more or state.loading:
            return
        self._set(loading=True)

        def done(rows: tuple[RunRow, ...]) -> None:
            if question == self._question:
                self._set(rows=self._state.rows + rows, more=len(rows) == PAGE, loading=False)

        self._do(lambda: self._page(state, state.rows[-1].id), done, self._not_loaded)

    def delete(self, run: UUID) -> None:
        """Delete a run; can be undone for a while."""
        self._do(lambda: self._station.store.delete_run(run), self._gone)

    def undo(self, deletion: UUID) -> None:
        """Bring back what was deleted."""
        self._do(lambda: self._station.store.undo(deletion), lambda _: self.reload())

    def _filter(self, **changes: object) -> None:
        self.ask(**changes, loading=True)

    def _fetch(self, state: History) -> dict[str, Any]:
        """The rows shown so far, again; at least one page."""
        rows: list[RunRow] = []
        wanted = max(PAGE, len(state.rows) if not state.loading else 0)
        while len(rows) < wanted:
            page = self._page(state, rows[-1].id if rows else None)
            rows += page
            if len(page) < PAGE:
                break
        more = len(rows) >= wanted and len(rows) % PAGE == 0 and bool(rows)
        return {
            "rows": tuple(rows),
            "more": more,
            "loading": False,
            "deletions": tuple(self._station.store.deletions()),
        }

    def _page(self, state: History, before: UUID | None) -> tuple[RunRow, ...]:
        return tuple(
            self._station.store.runs(
                state.text,
                since=_start(state.first) if state.first else None,
                until=_start(state.last + timedelta(days=1)) if state.last else None,
                finding=state.finding,
                limit=PAGE,
                before=before,
            )
        )

    def _gone(self, deletion: Deletion) -> None:
        self._deleted(deletion)
        self.reload()

    def _not_loaded(self, error: FirstRayError) -> None:
        self._set(loading=False, error=error)


def _start(day: date) -> datetime:
    """The moment a local day begins."""
    return datetime.combine(day, time()).astimezone(UTC)
