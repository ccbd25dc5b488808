"""Opening a store: the lock, the tables, the first look whether all is well, and what a stopped program left behind."""

from __future__ import annotations

import fcntl
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import UUID

from sqlmodel import Session, col, func, select

from edge_app.store import _settings, backups, migrations
from edge_app.store._database import Database
from edge_app.store._deleting import purge
from edge_app.store._disk import make_folder, write_durably
from edge_app.store._graves import Graves
from edge_app.store._journal import Journal, Transaction
from edge_app.store._reading import adopt
from edge_app.store.errors import StoreError, coded
from edge_app.store.images import Images
from edge_app.store.keys import MasterKey
from edge_app.store.tables import ROWS, ChainRow, EventRow, GraveRow, ImageRow
from edge_app.store.views import Backup
from shared.hybrid_clock import HybridClock, Stamp
from shared.identity import new_id

DATABASE: Final = "records.db"
IMAGES: Final = "images"
GRAVES: Final = "deleted"
DEVICE: Final = "device"
LOCK: Final = "lock"


class FolderLock:
    """Holds the folder for this process alone, until closed or the process ends. Raises ``store_locked``."""

    def __init__(self, folder: Path) -> None:
        with coded():
            make_folder(folder)
            self._descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(self._descriptor)
                raise StoreError("store_locked") from None

    def close(self) -> None:
        """Let others in."""
        os.close(self._descriptor)


def open_database(folder: Path, key: MasterKey) -> Database:
    """The store's database, made or migrated as needed.

    Raises:
        StoreError: ``store_missing``, ``store_damaged`` (both with the backups), ``store_newer``, ``disk_full``,
            ``disk_read_only``.
    """
    file = folder / DATABASE
    backups.remove_drafts(folder)
    if _empty(file) and (backups.listed(folder) or any((folder / IMAGES).glob("??/*"))):
        raise _with_backups(StoreError("store_missing"), folder)
    database = Database(file, key.database_key)
    try:
        _migrate(folder, database)
        with database.reading() as session:
            _look(session)
    except StoreError as problem:
        database.close()
        raise _with_backups(problem, folder) from problem
    except BaseException:
        database.close()
        raise
    return database


def open_journal(folder: Path, database: Database) -> Journal:
    """The journal of this device; begins the first chain of a new store."""
    with database.writing() as session:
        device = _device(folder, session)
        clock = session.exec(select(func.max(ChainRow.clock))).one()
        journal = Journal(database, device, HybridClock(device, Stamp.parse(clock) if clock else None))
    with journal.change() as transaction:
        if transaction.end_of_chain() is None:
            transaction.open_chain(None)
    return journal


def sweep(journal: Journal, images: Images, graves: Graves) -> None:
    """Take up originals that have no record, unless it was deleted; remove every other file without one."""
    with images.settled:
        lying = set(images.names())
        with journal.database.reading() as session:
            strays = lying.difference(session.exec(select(ImageRow.name)).all())
        if not strays:
            return
        with journal.database.reading() as session:
            deleted = graves.read().keys() | set(session.exec(select(GraveRow.id)))
        for name in strays:
            label = images.label(name)
            if label is not None and label.kind == "original" and label.radiograph not in deleted:
                adopt(journal, images, label)
            else:
                images.destroy({name})


def restore(folder: Path, key: MasterKey, backup: Backup | None) -> None:
    """Put a backup in the database's place; the next opening takes up the images that are newer.

    It begins a new chain of events, and buries again what was deleted since the backup.
    """

    def renew(file: Path) -> None:
        database = Database(file, key.database_key)
        try:
            _migrate(folder, database, backup_first=False)
            if backup is not None:
                database.check()
                journal = open_journal(folder, database)
                with journal.change() as transaction:
                    made = f"{backup.made_at:%Y-%m-%d %H:%M} UTC"
                    transaction.open_chain(transaction.end_of_chain(), f"restored from the backup of {made}")
                    _bury_again(transaction, Graves(folder / GRAVES, key.grave_key))
        finally:
            database.close()

    lock = FolderLock(folder)
    try:
        backups.put_back(folder, folder / DATABASE, backup, renew)
    finally:
        lock.close()


def _bury_again(transaction: Transaction, graves: Graves) -> None:
    """Delete what the backup still has of deleted records; image files were removed when they were deleted."""
    records = [(type, id) for id, type in graves.read().items() if transaction.session.get(ROWS[type], id) is not None]
    if records:
        purge(transaction, records, None)


def _empty(file: Path) -> bool:
    return not file.exists() or file.stat().st_size == 0


def _with_backups(problem: StoreError, folder: Path) -> StoreError:
    if problem.code in ("store_missing", "store_damaged"):
        problem.backups = backups.restorable(folder)
    return problem


def _migrate(folder: Path, database: Database, backup_first: bool = True) -> None:
    with database.writing_connection() as connection:
        revision = migrations.revision_of(connection)
    if revision == migrations.LATEST:
        return
    if revision is not None:
        if not migrations.known(revision):
            raise StoreError("store_newer")
        if backup_first:
            backups.make(folder, database, "migration")
    with database.writing_connection() as connection:
        migrations.upgrade(connection)


def _look(session: Session) -> None:
    """A first, quick look: the end of the present chain is what its last event says."""
    chain = session.exec(select(ChainRow).order_by(col(ChainRow.place).desc()).limit(1)).first()
    if chain is None:
        return
    last = select(EventRow).where(col(EventRow.chain) == chain.chain).order_by(col(EventRow.number).desc()).limit(1)
    event = session.exec(last).first()
    if event is None or (event.number, event.hash) != (chain.number, chain.hash):
        raise StoreError("store_damaged")


def _device(folder: Path, session: Session) -> UUID:
    """The device's id: in the database, and beside it for the day the database is lost."""
    file = folder / DEVICE
    with coded():
        beside = file.read_text().strip() if file.exists() else None
        known = _settings.get(session, _settings.DEVICE) or beside or str(new_id())
        if beside != known:
            write_durably(file, f"{known}\n".encode())
    if _settings.get(session, _settings.DEVICE) != known:
        _settings.put(session, _settings.DEVICE, known)
    return UUID(known)


def backup_due(folder: Path, hours: float) -> bool:
    """Whether the latest backup is older than ``hours``, or there is none."""
    made = [backup.made_at for backup in backups.restorable(folder)]
    return not made or (datetime.now(UTC) - made[0]).total_seconds() >= hours * 3600
