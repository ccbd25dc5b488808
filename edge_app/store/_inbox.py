"""What the hospital said to this device."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import update
from sqlmodel import Session, col, select

from edge_app.store import _settings
from edge_app.store._journal import Journal, Transaction
from edge_app.store.tables import GraveRow, InboxRow, RadiographRow
from shared.hospital import Acknowledgement, ConfirmedReading, ErMessage, Inbox, InboxItem, ServerDiagnosis


def position(session: Session) -> int:
    """Id of the last item taken."""
    return int(_settings.get(session, _settings.INBOX, 0))


def take(journal: Journal, inbox: Inbox) -> None:
    """Keep what is about runs, once; what is about a deleted one is dropped."""
    with journal.change() as transaction:
        for item in inbox.items:
            _take_one(transaction, item)
        reached = max([position(transaction.session), inbox.after, *(item.id for item in inbox.items)])
        _settings.put(transaction.session, _settings.INBOX, reached)


def _take_one(transaction: Transaction, item: InboxItem) -> None:
    session, content = transaction.session, item.content
    if not isinstance(content, Acknowledgement | ConfirmedReading | ServerDiagnosis | ErMessage):
        return
    film = content.radiograph if isinstance(content, ConfirmedReading | ServerDiagnosis) else None
    run = content.encounter
    if run is None and film is not None:
        known = session.get(RadiographRow, film)
        run = known.encounter if known else None
    deleted = session.exec(select(GraveRow.id).where(col(GraveRow.id).in_([id for id in (run, film) if id]))).first()
    if deleted or session.get(InboxRow, item.id):
        return
    session.add(InboxRow(id=item.id, kind=content.kind, encounter=run, radiograph=film, body=content.model_dump_json()))
    session.flush()
    transaction.tell("inbox", run)


def seen(journal: Journal, run: UUID) -> None:
    """The crew has seen everything said about a run."""
    with journal.change() as transaction:
        unseen = col(InboxRow.encounter) == run, col(InboxRow.seen).is_(False)
        if transaction.session.execute(update(InboxRow).where(*unseen).values(seen=True)).rowcount:  # type: ignore[attr-defined]
            transaction.tell("run", run)
