"""Saying everything that exists again, in a new chain."""

from __future__ import annotations

import json

from sqlalchemy import update
from sqlmodel import col, select

from edge_app.store._journal import Journal
from edge_app.store.tables import ROWS, EventRow, GraveRow, UploadRow
from shared.hybrid_clock import Stamp
from shared.records import RecordType


def restate(journal: Journal, detail: str) -> None:
    """Write one event a record with all that it says, and one for each that was deleted; send all images again.

    Each record is stamped with its latest change. What waited in older chains is in these events too.
    """
    with journal.change() as transaction:
        session = transaction.session
        waiting = col(EventRow.state) == "waiting"
        session.execute(update(EventRow).where(waiting).values(state="moved", body=None))
        transaction.open_chain(transaction.end_of_chain(), detail)
        for type in RecordType:
            for row in session.exec(select(ROWS[type]).order_by(col(ROWS[type].id))):
                latest = max(json.loads(row.stamps).values(), default=None)
                stamp = Stamp.parse(latest) if latest else None
                transaction.say_again(type, row.id, json.loads(row.content), stamp)
        for grave in session.exec(select(GraveRow)).all():
            transaction.bury(RecordType(grave.type), grave.id, None)
        session.execute(
            update(UploadRow)
            .where(col(UploadRow.state) != "refused")
            .values(state="waiting", receipt=None, url=None, offset=0, tries=0)
        )
