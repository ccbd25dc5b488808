"""The hospital's delete: a run leaves every list and board at once, can be shown again, and is purged after a set time.

What the crew deleted on its device is not the hospital's to show again; it is hidden already and purged as well
(:mod:`sync_server.domain.purge`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from uuid import UUID

from sqlmodel import Session, col, select

from shared.errors import FirstRayError
from sync_server.db.tables import EncounterRow
from sync_server.domain import audit, histories
from sync_server.domain.changes import BOARD, publish, run_of


def hide(session: Session, runs: Iterable[UUID], reason: str, actor: str) -> int:
    """Delete runs from every list, with a reason; gives how many were shown before.

    Raises:
        FirstRayError: ``reason_missing``, or ``run_unknown``.
    """
    reason = needed(reason)
    hidden = [row for row in _locked(session, runs) if row.hidden_at is None and row.purged_at is None]
    for row in hidden:
        row.hidden_at, row.hidden_by, row.hidden_reason = datetime.now(UTC), actor, reason
        session.add(row)
    _changed(session, hidden)
    for row in hidden:
        audit.record(session, actor, "run.deleted", str(row.id), reason=reason)
    return len(hidden)


def show(session: Session, runs: Iterable[UUID], actor: str) -> int:
    """Undo :func:`hide`; gives how many of the runs were hidden. Purged runs stay as they are.

    Raises:
        FirstRayError: ``run_unknown``.
    """
    shown = [row for row in _locked(session, runs) if row.hidden_at is not None and row.purged_at is None]
    for row in shown:
        row.hidden_at = row.hidden_by = row.hidden_reason = None
        session.add(row)
    _changed(session, shown)
    for row in shown:
        audit.record(session, actor, "run.restored", str(row.id))
    return len(shown)


def needed(reason: str) -> str:
    """A reason without blanks around it; raises FirstRayError ``reason_missing`` where there is none."""
    reason = " ".join(reason.split())
    if not reason or len(reason) > 500 or not reason.isprintable():
        raise FirstRayError(
            "reason_missing", "This needs a reason of at most 500 letters, and nothing was changed.", "Say why."
        )
    return reason


def _locked(session: Session, runs: Iterable[UUID]) -> Sequence[EncounterRow]:
    wanted = set(runs)
    query = select(EncounterRow).where(col(EncounterRow.id).in_(wanted)).order_by(col(EncounterRow.id))
    found = session.exec(query.with_for_update()).all()
    if not wanted or len(found) < len(wanted):
        raise FirstRayError("run_unknown", "There is no such run, or none was chosen.", "Load the list again.")
    return found


def _changed(session: Session, rows: Sequence[EncounterRow]) -> None:
    if not rows:
        return
    session.flush()
    histories.refresh(session, [row.id for row in rows])
    publish(session, BOARD, *(run_of(row.id) for row in rows))
