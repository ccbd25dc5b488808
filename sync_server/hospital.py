"""The hospital's application without HTTP: its parts put together once, used by pages, API, jobs and command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID

from sqlmodel import Session, select

from shared.hybrid_clock import HybridClock
from shared.identity import new_id
from sync_server.db.engine import Database, migrate, open_engine, refuse_unfinished
from sync_server.db.tables import SettingRow
from sync_server.domain import fleet, readings
from sync_server.domain.changes import Changes
from sync_server.domain.effects import IntakeResult
from sync_server.domain.images import ImageStore
from sync_server.domain.receipts import ReceiptSigner
from sync_server.settings import Settings

_ID = "hospital"


@dataclass
class Hospital:
    """One hospital.

    Attributes:
        settings: as it was started.
        database: transactions.
        clock: refuses stamps of the future; its own stamps carry the hospital's id.
        receipts: signs what is held.
        images: bytes by their SHA-256.
        changes: tells who waits.
        after_events: called in the transaction that stored a device's events, each with what came of them.
    """

    settings: Settings
    database: Database
    clock: HybridClock
    receipts: ReceiptSigner
    images: ImageStore
    changes: Changes
    after_events: list[Callable[[Session, IntakeResult], None]] = field(default_factory=list)

    def close(self) -> None:
        """Stop listening, close all connections."""
        self.changes.close()
        self.database.close()


def open_hospital(settings: Settings, listen: bool = True) -> Hospital:
    """Make or open everything; migrates the database.

    Args:
        settings: of the server.
        listen: hear of other processes' changes; a command that waits for nothing needs it not.

    Raises:
        FirstRayError: ``database_newer``, ``restore_unfinished``, ``key_damaged``, ``key_unsafe`` and what the image
            store raises.
    """
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    engine = open_engine(settings.database_url)
    try:
        refuse_unfinished(engine)
        migrate(engine)
        database = Database(engine)
        hospital = Hospital(
            settings=settings,
            database=database,
            clock=HybridClock(database.write(_hospital_id)),
            receipts=ReceiptSigner(settings.receipt_key),
            images=ImageStore(settings.images, settings.data / "locks", database.alone),
            changes=Changes(database, listen),
        )
        hospital.images.on_original.append(readings.original_held)
        hospital.after_events += [readings.events_came, fleet.note_release]
        return hospital
    except BaseException:
        engine.dispose()
        raise


@contextmanager
def opened(settings: Settings) -> Iterator[Hospital]:
    """A hospital for the length of a command, with or without a running server. Raises as :func:`open_hospital`."""
    hospital = open_hospital(settings, listen=False)
    try:
        yield hospital
    finally:
        hospital.close()


def _hospital_id(session: Session) -> UUID:
    """Made at the first start, and kept in the database."""
    row = session.exec(select(SettingRow).where(SettingRow.key == _ID)).one_or_none()
    if row is None:
        row = SettingRow(key=_ID, value=str(new_id()))
        session.add(row)
        session.flush()
    return UUID(row.value)
