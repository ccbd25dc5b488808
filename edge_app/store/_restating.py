"""Saying again what the hospital has lost: the end of a chain, or everything that exists in a new chain."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from sqlalchemy import update
from sqlmodel import Session, col, select

from edge_app.store._journal import Journal, Transaction
from edge_app.store.errors import StoreError
from edge_app.store.tables import ROWS, EventRow, GraveRow, UploadRow
from shared.events import Position
from shared.hybrid_clock import Stamp
from shared.records import RecordType


def restate(journal: Journal, detail: str, clock_was_ahead: bool = False) -> None:
    """Write one event a record with all that it says, and one for each that was deleted; ask about all images again.

    Each record is stamped with its latest change. What older chains say is in these events too: what still waited in
    them is not sent any more, and what was held is held no longer until it is held again.
    """
    if clock_was_ahead:
        journal.clock.set_back()
    with journal.change() as transaction:
        session = transaction.session
        session.execute(update(EventRow).where(col(EventRow.state) != "moved").values(state="moved", body=None))
        transaction.open_chain(transaction.end_of_chain(), detail)
        for type in RecordType:
            if clock_was_ahead:
                _stamp_anew(transaction, ROWS[type])
            transaction.say_again(_said(transaction, type))
        for grave in session.exec(select(GraveRow)).all():
            transaction.bury(RecordType(grave.type), grave.id, None)
        doubt_images(session)


def lost_after(journal: Journal, position: Position) -> None:
    """See :meth:`edge_app.store.outbox.Outbox.lost_after`."""
    with journal.change() as transaction:
        session, of_chain = transaction.session, col(EventRow.chain) == position.chain
        ours = session.exec(select(EventRow).where(of_chain, col(EventRow.number) == position.number)).first()
        if ours is None or ours.hash != position.hash:
            raise StoreError("chain_forked")
        after = of_chain, col(EventRow.number) > position.number, col(EventRow.state).in_(("held", "refused"))
        if session.exec(select(EventRow.id).where(*after, col(EventRow.body).is_(None)).limit(1)).first() is not None:
            raise StoreError("events_wiped")
        again = {"state": "waiting", "receipt": None, "code": None, "message": None}
        session.execute(update(EventRow).where(*after).values(**again))
        doubt_images(session)
        transaction.tell("delivery")


def doubt_images(session: Session) -> None:
    """The hospital may have lost what it held: it is asked about each image again, after those it never held."""
    again = {"receipt": None, "url": None, "offset": 0, "tries": 0}
    session.execute(update(UploadRow).where(col(UploadRow.state) == "held").values(state="doubted", **again))
    session.execute(update(UploadRow).where(col(UploadRow.state) == "waiting").values(**again))


def _said(transaction: Transaction, type: RecordType) -> Iterator[tuple[RecordType, UUID, dict[str, Any], Stamp]]:
    table = ROWS[type]
    for id, content, stamps in transaction.session.exec(select(table.id, table.content, table.stamps)).all():
        latest = max(json.loads(stamps).values(), default=None)
        yield type, id, json.loads(content), Stamp.parse(latest) if latest else transaction.stamp()


def _stamp_anew(transaction: Transaction, table: Any) -> None:
    """Stamp with the present those changes that are stamped with the future."""
    session, now = transaction.session, str(transaction.stamp())
    for id, text in session.exec(select(table.id, table.stamps)).all():
        stamps: dict[str, str] = json.loads(text)
        if max(stamps.values(), default="") > now:
            renewed = json.dumps({field: min(stamp, now) for field, stamp in stamps.items()})
            session.execute(update(table).where(table.id == id).values(stamps=renewed))
