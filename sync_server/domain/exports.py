"""Runs as other systems and people take them: a table (CSV), a FHIR R4 bundle, a ZIP with both and the images.

All three are written as they are sent, run by run: an export of everything needs no more memory than one of a page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from sqlmodel import col, select

from shared.errors import FirstRayError
from sync_server.db.engine import Database
from sync_server.db.tables import HistoryRow
from sync_server.domain import archive, audit
from sync_server.domain.archive import Criteria, Sort
from sync_server.domain.images import ImageStore
from sync_server.domain.whole_runs import Run, whole
from sync_server.interop import fhir, package, table

AT_ONCE: Final = 50
"""Runs held in memory."""
MOST_CHOSEN: Final = 500


class Format(StrEnum):
    """What an export is written as."""

    CSV = "csv"
    FHIR = "fhir"
    ZIP = "zip"


MEDIA_TYPES: Final[Mapping[Format, tuple[str, str]]] = {
    Format.CSV: ("text/csv; charset=utf-8", "csv"),
    Format.FHIR: ("application/fhir+json", "json"),
    Format.ZIP: ("application/zip", "zip"),
}
"""Media type and ending of each format's file."""


def export(
    database: Database,
    images: ImageStore,
    what: Criteria | Sequence[UUID],
    form: Format,
    actor: str,
    now: datetime | None = None,
) -> Iterator[bytes]:
    """Begin an export: it is in the audit log before its first byte is given.

    Args:
        database, images: the hospital's.
        what: all that match, or these runs (visible ones, at most :data:`MOST_CHOSEN`).
        form: which format.
        actor: as the audit log names them.
        now: written into the files.

    Raises:
        FirstRayError: ``nothing_chosen``.
    """
    if not isinstance(what, Criteria) and not 0 < len(what) <= MOST_CHOSEN:
        raise FirstRayError(
            "nothing_chosen", f"An export takes 1 to {MOST_CHOSEN} chosen runs, or all that match.", "Choose again."
        )
    with database.writing() as session:
        if isinstance(what, Criteria):
            audit.record(
                session,
                actor,
                "runs.exported",
                format=form.value,
                criteria=what.model_dump(mode="json", exclude_defaults=True),
            )
        else:
            audit.record(session, actor, "runs.exported", format=form.value, runs=[str(run) for run in what])
    runs = _runs(database, what)
    match form:
        case Format.CSV:
            return table.table(runs)
        case Format.FHIR:
            return fhir.bundle(runs, now or datetime.now(UTC))
        case Format.ZIP:
            return package.package(runs, images, now or datetime.now(UTC))


def _runs(database: Database, what: Criteria | Sequence[UUID]) -> Iterator[Run]:
    """The runs, a few at a time and each few in a transaction of its own: a slow reader holds nobody up."""
    if isinstance(what, Criteria):
        yield from _matching(database, what)
        return
    for start in range(0, len(what), AT_ONCE):
        with database.reading() as session:
            few = what[start : start + AT_ONCE]
            query = select(HistoryRow).where(col(HistoryRow.encounter).in_(few), col(HistoryRow.visible).is_(True))
            found = whole(session, session.exec(query).all())
        yield from found


def _matching(database: Database, criteria: Criteria) -> Iterator[Run]:
    # Whatever the list is sorted by: a run's start stays, so that one that changes meanwhile is neither lost nor twice.
    criteria = criteria.model_copy(update={"sort": Sort.STARTED})
    mark: str | None = None
    while True:
        with database.reading() as session:
            page = archive.find(session, criteria, mark, AT_ONCE)
            found = whole(session, page.rows)
        yield from found
        if (mark := page.next) is None:
            return
