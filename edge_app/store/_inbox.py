"""What the hospital said to this device."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import ColumnElement
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
    known = session.get(RadiographRow, film) if film else None
    run = known.encounter if known else content.encounter  # the hospital may not have heard yet that it was moved
    deleted = session.exec(select(GraveRow.id).where(col(GraveRow.id).in_([id for id in (run, film) if id]))).first()
    if deleted or session.get(InboxRow, item.id):
        return
    session.add(InboxRow(id=item.id, kind=content.kind, encounter=run, radiograph=film, body=content.model_dump_json()))
    session.flush()
    if film is not None:
        transaction.tell("reviewed", film)
    else:
        transaction.tell("inbox", run)


def run_seen(journal: Journal, run: UUID, until: int) -> None:
    """The crew has seen what was said about a run and its radiographs, up to the item ``until``."""
    with journal.change() as transaction:
        shown = select(RadiographRow.id).where(col(RadiographRow.hidden).is_(None))
        of_shown = col(InboxRow.radiograph).is_(None) | col(InboxRow.radiograph).in_(shown)
        _mark(transaction, (col(InboxRow.encounter) == run) & of_shown, until)


def film_seen(journal: Journal, film: UUID, until: int) -> None:
    """The crew has seen what was said about one radiograph, up to the item ``until``."""
    with journal.change() as transaction:
        _mark(transaction, col(InboxRow.radiograph) == film, until)


def _mark(transaction: Transaction, about: ColumnElement[bool], until: int) -> None:
    session, unseen = transaction.session, (about, col(InboxRow.seen).is_(False), col(InboxRow.id) <= until)
    for row in session.exec(select(InboxRow).where(*unseen)).all():
        row.seen = True
        session.add(row)
        if row.radiograph is not None:
            transaction.tell("film", row.radiograph)
        if row.encounter is not None:
            transaction.tell("run", row.encounter)
