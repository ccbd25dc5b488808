"""What the hospital holds and what waits, in numbers."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import text
from sqlmodel import Session, col, func, select

from edge_app.store import _settings
from edge_app.store.tables import ChainRow, EventRow, ImageRow, UploadRow
from edge_app.store.views import Refusal, Standing

MOST_REFUSALS: Final = 50
"""Refused events, and images, that are told one by one: the latest."""


def standing(session: Session) -> Standing:
    """See :class:`edge_app.store.views.Standing`."""
    # Counted without those held, which are the most by far: the chains say how many events there are in all.
    open_states = "SELECT state, count(*) FROM eventrow WHERE state IN ('waiting', 'refused', 'moved') GROUP BY state"
    events: dict[str, int] = dict(session.execute(text(open_states)).all())
    written = session.exec(select(func.coalesce(func.sum(ChainRow.number), 0))).one()
    uploads = {
        kind: (number, size - done)
        for kind, number, size, done in session.execute(
            text(
                'SELECT kind, count(*), sum(size), sum("offset") FROM uploadrow'
                " WHERE state IN ('waiting', 'doubted') GROUP BY kind"
            )
        )
    }
    oldest = select(EventRow.at).where(col(EventRow.state) == "waiting").order_by(col(EventRow.id)).limit(1)
    last = _settings.get(session, _settings.LAST_RECEIPT)
    chains = session.exec(select(ChainRow.detail).order_by(col(ChainRow.place))).all()
    return Standing(
        events_held=int(written) - sum(events.values()),
        events_waiting=events.get("waiting", 0),
        previews_waiting=uploads.get("preview", (0, 0))[0],
        originals_waiting=uploads.get("original", (0, 0))[0],
        bytes_waiting=sum(size for _, size in uploads.values()),
        oldest_waiting_at=session.exec(oldest).first(),
        refusals=_refusals(session),
        last_receipt_at=datetime.fromisoformat(last) if last else None,
        chains=len(chains),
        chain_detail=chains[-1] if chains else None,
    )


def image_bytes(session: Session) -> int:
    """Of all image files."""
    return int(session.exec(select(func.coalesce(func.sum(ImageRow.size), 0))).one())


def _refusals(session: Session) -> tuple[Refusal, ...]:
    refused = select(EventRow).where(col(EventRow.state) == "refused")
    events = session.exec(refused.order_by(col(EventRow.id).desc()).limit(MOST_REFUSALS))
    found = [Refusal(f"{row.type or row.kind} {row.number}", row.code or "", row.message or "") for row in events]
    images = session.exec(select(UploadRow).where(col(UploadRow.state) == "refused").limit(MOST_REFUSALS))
    return (*found, *(Refusal(row.kind, row.code or "", row.message or "") for row in images))
