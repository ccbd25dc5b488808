"""Deleting runs and radiographs: hidden at once, undone for a while, then gone for good."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from pydantic import ValidationError
from sqlalchemy import delete, update
from sqlmodel import Session, col, select

from edge_app.store._columns import visible
from edge_app.store._graves import Graves
from edge_app.store._journal import Journal, Transaction
from edge_app.store._reading import destroy_unowned
from edge_app.store.errors import StoreError, not_allowed_by
from edge_app.store.images import Images
from edge_app.store.tables import (
    ROWS,
    DeletionRow,
    DiagnosisRow,
    EncounterRow,
    EventRow,
    FindingRow,
    GraveRow,
    ImageRow,
    InboxRow,
    RadiographRow,
    UploadRow,
    VitalSignsRow,
)
from edge_app.store.views import Deletion
from shared.events import Delete
from shared.identity import new_id
from shared.records import RecordType

LONGEST_UNDO: Final = timedelta(days=1)
"""A deletion can be undone so long, at most."""
Records = list[tuple[RecordType, UUID]]
_ORDER: Final = (
    RecordType.DIAGNOSIS,
    RecordType.RADIOGRAPH,
    RecordType.VITAL_SIGNS,
    RecordType.ENCOUNTER,
    RecordType.PATIENT,
)
"""What refers to others goes first."""


def hide(journal: Journal, kind: str, subject: UUID, reason: str, undo_seconds: float) -> Deletion:
    """Hide a ``run`` (with its radiographs) or a ``film`` until it is due, after a day at most."""
    try:
        reason = Delete(type=RecordType.ENCOUNTER, id=subject, reason=reason).reason or ""
    except ValidationError as problem:
        raise not_allowed_by(problem) from None
    due_at = datetime.now(UTC) + min(timedelta(seconds=undo_seconds), LONGEST_UNDO)
    deletion = Deletion(new_id(), subject, due_at, kind)
    with journal.change() as transaction:
        session = transaction.session
        if kind == "film":
            film = visible(session, RadiographRow, subject)
            film.hidden = deletion.id
            session.add(film)
        else:
            run = visible(session, EncounterRow, subject)
            run.hidden = deletion.id
            session.add(run)
            films = col(RadiographRow.encounter) == subject, col(RadiographRow.hidden).is_(None)
            session.execute(update(RadiographRow).where(*films).values(hidden=deletion.id))
        session.add(
            DeletionRow(id=deletion.id, kind=kind, subject=subject, reason=reason or None, due_at=deletion.due_at)
        )
        transaction.tell(kind, subject)
        transaction.tell("deletion", deletion.id)
    return deletion


def pending(session: Session) -> list[Deletion]:
    """What can be undone, latest first."""
    rows = session.exec(select(DeletionRow).order_by(col(DeletionRow.due_at).desc()))
    return [Deletion(row.id, row.subject, row.due_at, row.kind) for row in rows]


def undo(journal: Journal, deletion: UUID) -> None:
    """Show again what was hidden; raises ``deletion_past``."""
    with journal.change() as transaction:
        session = transaction.session
        row = session.get(DeletionRow, deletion)
        if row is None or row.due_at <= datetime.now(UTC):
            raise StoreError("deletion_past")
        for table in (EncounterRow, RadiographRow):
            session.execute(update(table).where(col(table.hidden) == deletion).values(hidden=None))
        session.delete(row)
        transaction.tell(row.kind, row.subject)
        transaction.tell("deletion", deletion)


def show_all(session: Session) -> None:
    """Show everything again that waits to be deleted."""
    for table in (EncounterRow, RadiographRow):
        session.execute(update(table).where(col(table.hidden).is_not(None)).values(hidden=None))
    session.execute(delete(DeletionRow))


def settle(journal: Journal, images: Images, graves: Graves, now: datetime) -> None:
    """Delete for good what is due: events, rows, event bodies and files."""
    with journal.database.reading() as session:
        is_due = col(DeletionRow.due_at) <= now
        # One due later than any could be was asked for before the clock was set back.
        due = session.exec(select(DeletionRow).where(is_due | (col(DeletionRow.due_at) > now + LONGEST_UNDO))).all()
    for deletion in due:
        with journal.change() as transaction:
            row = transaction.session.get(DeletionRow, deletion.id)
            if row is None:  # undone, or settled on another thread
                continue
            records = _records(transaction.session, row)
            graves.add(records)
            names = purge(transaction, records, row.reason)
            transaction.tell("deletion", deletion.id)
            transaction.tell(deletion.kind, deletion.subject)
        destroy_unowned(journal, images, names)


def _records(session: Session, deletion: DeletionRow) -> Records:
    """Everything that goes with a run or a radiograph, what refers to others first."""
    runs = [deletion.subject] if deletion.kind == "run" else []
    films = [deletion.subject]
    if runs:
        films = list(session.exec(select(RadiographRow.id).where(col(RadiographRow.encounter).in_(runs))))
    readings = session.exec(select(DiagnosisRow.id).where(col(DiagnosisRow.radiograph).in_(films)))
    signs = session.exec(select(VitalSignsRow.id).where(col(VitalSignsRow.encounter).in_(runs)))
    found: Records = [(RecordType.DIAGNOSIS, id) for id in readings]
    found += [(RecordType.RADIOGRAPH, id) for id in films]
    found += [(RecordType.VITAL_SIGNS, id) for id in signs]
    for run in session.exec(select(EncounterRow).where(col(EncounterRow.id).in_(runs))):
        found.append((RecordType.ENCOUNTER, run.id))
        others = select(EncounterRow.id).where(col(EncounterRow.patient) == run.patient, col(EncounterRow.id) != run.id)
        if session.exec(others).first() is None:
            found.append((RecordType.PATIENT, run.patient))
    return found


def purge(transaction: Transaction, records: Records, reason: str | None) -> set[str]:
    """Delete records with an event each; returns the names of the files they had."""
    session = transaction.session
    ids = [id for _, id in records]
    for type, id in records:
        transaction.bury(type, id, reason)
        session.merge(GraveRow(id=id, type=type.value))
    names = set(session.exec(select(ImageRow.name).where(col(ImageRow.radiograph).in_(ids))))
    _hand_over_uploads(session, ids)
    session.execute(delete(ImageRow).where(col(ImageRow.radiograph).in_(ids)))
    session.execute(delete(FindingRow).where(col(FindingRow.radiograph).in_(ids)))
    session.execute(delete(DeletionRow).where(col(DeletionRow.subject).in_(ids)))
    heard = col(InboxRow.encounter).in_(ids) | col(InboxRow.radiograph).in_(ids)
    session.execute(delete(InboxRow).where(heard))
    session.flush()
    for type in _ORDER:
        session.execute(delete(ROWS[type]).where(col(ROWS[type].id).in_(ids)))
    wipe_bodies(session, ids)
    return names


def wipe_bodies(session: Session, records: Iterable[UUID]) -> None:
    """Forget what the events of deleted records said, where the hospital has answered them."""
    session.execute(
        update(EventRow)
        .where(col(EventRow.subject).in_(tuple(records)), col(EventRow.kind) == "put", col(EventRow.state) != "waiting")
        .values(body=None)
    )


def _hand_over_uploads(session: Session, films: list[UUID]) -> None:
    """Give uploads to another radiograph of the same bytes; drop those that no other has."""
    for upload in session.exec(select(UploadRow).where(col(UploadRow.radiograph).in_(films))).all():
        same = select(ImageRow.radiograph).where(
            col(ImageRow.sha256) == upload.sha256,
            col(ImageRow.kind) == upload.kind,
            col(ImageRow.radiograph).not_in(films),
        )
        if other := session.exec(same).first():
            upload.radiograph = other
            session.add(upload)
        else:
            session.delete(upload)
    session.flush()
