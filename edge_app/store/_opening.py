"""Opening a store: the lock, the tables, the first look whether all is well, and what a stopped program left behind."""

from __future__ import annotations

import fcntl
import logging
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

from sqlmodel import Session, col, select

from edge_app.store import _settings, backups, migrations
from edge_app.store._database import Database
from edge_app.store._deleting import purge, show_all
from edge_app.store._disk import make_folder, write_durably
from edge_app.store._graves import Graves
from edge_app.store._journal import Journal, Transaction
from edge_app.store._reading import adopt
from edge_app.store.errors import StoreError, coded
from edge_app.store.images import Images
from edge_app.store.keys import MasterKey
from edge_app.store.tables import ROWS, ChainRow, EncounterRow, EventRow, GraveRow, ImageRow, RadiographRow
from edge_app.store.views import Backup
from shared.hybrid_clock import HybridClock, Stamp
from shared.identity import new_id
from shared.records import RecordType

DATABASE: Final = "records.db"
IMAGES: Final = "images"
GRAVES: Final = "deleted"
DEVICE: Final = "device"
LOCK: Final = "lock"
_log = logging.getLogger(__name__)


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
        # Of the present chain alone: a clock that was ahead ended with the chain it was ahead in.
        clock = session.exec(select(ChainRow.clock).order_by(col(ChainRow.place).desc()).limit(1)).first()
        journal = Journal(database, device, HybridClock(device, Stamp.parse(clock) if clock else None))
    with journal.change() as transaction:
        if transaction.end_of_chain() is None:
            transaction.open_chain(None)
    return journal


def sweep(journal: Journal, images: Images, graves: Graves) -> None:
    """Take up originals that have no record, unless it was deleted; remove every other file without one.

    A file that cannot be read stays: it may be an original, and the disk may give it back another time.
    """
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
            if label is None:
                _log.warning("an image file without a record cannot be read; it is left where it is")
            elif label.kind == "original" and label.radiograph not in deleted:
                adopt(journal, images, label)
            else:
                images.destroy({name})


def restore(folder: Path, key: MasterKey, backup: Backup | None) -> None:
    """Put a backup in the database's place; the next opening takes up the images that are newer.

    It begins a new chain of events, and buries again what was deleted since the backup. What waited to be deleted then
    is shown again: it may have been undone since.
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
                    show_all(transaction.session)
                    _bury_again(transaction, Graves(folder / GRAVES, key.grave_key))
        finally:
            database.close()

    lock = FolderLock(folder)
    try:
        backups.put_back(folder, folder / DATABASE, backup, renew)
    finally:
        lock.close()


def _bury_again(transaction: Transaction, graves: Graves) -> None:
    """Delete what the backup still has of deleted records; image files were removed when they were deleted.

    What has left a deleted run since the backup stays: a radiograph belongs to no run again, a patient to the others.
    """
    session, buried = transaction.session, graves.read()
    buried = {id: type for id, type in buried.items() if session.get(ROWS[type], id) is not None}
    runs = [id for id, type in buried.items() if type is RecordType.ENCOUNTER]
    for film in session.exec(select(RadiographRow.id).where(col(RadiographRow.encounter).in_(runs))).all():
        if film not in buried:
            transaction.put(RecordType.RADIOGRAPH, film, {"encounter": None})
    others = select(EncounterRow.patient).where(col(EncounterRow.id).not_in(runs))
    needed = set(session.exec(others))
    if records := [(type, id) for id, type in buried.items() if id not in needed]:
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
    # One made in the future says that a clock was wrong, not that there is nothing to back up.
    return not made or not timedelta(0) <= datetime.now(UTC) - made[0] < timedelta(hours=hours)
