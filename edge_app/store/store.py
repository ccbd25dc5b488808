"""The device's store, whole: everything screens, receiver, reader and sync ask of it.

A state change and the event that tells the hospital of it become durable in one transaction. Every method may be called
from every thread; readers never wait for a writer.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self
from uuid import UUID

import sqlcipher3.dbapi2 as sqlcipher

from edge_app.store import _deleting, _inbox, _opening, _reading, _settings, backups
from edge_app.store._columns import visible
from edge_app.store._database import Database
from edge_app.store._graves import Graves
from edge_app.store._reading import StoreSpool
from edge_app.store._reads import Reads
from edge_app.store.errors import StoreError, not_allowed
from edge_app.store.images import Images
from edge_app.store.keys import MasterKey
from edge_app.store.outbox import Outbox
from edge_app.store.tables import EncounterRow, RadiographRow, VitalSignsRow
from edge_app.store.views import Backup, Change, Deletion
from shared.diagnosis import Diagnosis
from shared.records import RecordType

RESERVE: Final = 200 << 20
"""Bytes left free for records: new images are refused (``disk_full``) before the disk is full."""
BACKUP_HOURS: Final = 1.0
"""A backup is made at opening unless the latest is younger than this."""
BACKUP_EVERY_S: Final = 6 * 3600.0
"""Seconds from one look whether a backup is due to the next, while the store is open."""
_log = logging.getLogger(__name__)


class Store(Reads):
    """An open store; :meth:`open` gives one.

    Attributes:
        device: this device's id in all its events.
        outbox: what the sync needs.
        damage: what the full check in the background found, or why no backup could be made; None if all is well.
    """

    def __init__(self, folder: Path, lock: _opening.FolderLock, database: Database, images: Images, graves: Graves):
        super().__init__(folder, database, images)
        self._lock = lock
        self._graves = graves
        self._journal = _opening.open_journal(folder, database)
        self._closing = threading.Event()
        self._checker: threading.Thread | None = None
        self.device = self._journal.device
        self.outbox = Outbox(self._journal, images)
        self.damage: StoreError | None = None

    @classmethod
    def open(cls, folder: Path, key: MasterKey, *, reserve: int = RESERVE, check: bool = True) -> Self:
        """Open the store in ``folder``, or make it.

        Migrates (after a backup), looks whether all is well, takes up images that a stopped program left without a
        record, and deletes what is due. The full check and the backup follow in the background.

        Args:
            folder: of the store; only one process at a time may have it open.
            key: of the store; may be closed afterwards.
            reserve: bytes to leave free for records.
            check: whether to check and back up in the background, then and every few hours.

        Raises:
            StoreError: ``store_locked``, ``store_damaged`` and ``store_missing`` (with the backups that can be
                restored), ``store_newer``, ``disk_full``, ``disk_read_only``, ``disk_failed``.
        """
        lock = _opening.FolderLock(folder)
        database = None
        try:
            database = _opening.open_database(folder, key)
            images = Images(folder / _opening.IMAGES, key.blob_key, key.name_key, reserve)
            store = cls(folder, lock, database, images, Graves(folder / _opening.GRAVES, key.grave_key))
            _opening.sweep(store._journal, images, store._graves)
            store.settle()
        except BaseException:
            if database is not None:
                database.close()
            lock.close()
            raise
        if check:
            store._checker = threading.Thread(target=store._check_and_back_up, name="store-check", daemon=True)
            store._checker.start()
        return store

    @staticmethod
    def backups(folder: Path) -> tuple[Backup, ...]:
        """What can be restored, latest first."""
        return backups.restorable(folder)

    @staticmethod
    def restore(folder: Path, key: MasterKey, backup: Backup | None) -> None:
        """Put a backup in the place of a damaged or missing database; None begins an empty one. Then open the store.

        Images that are newer than the backup come back as radiographs of no run; what was deleted stays deleted. What
        was there before is kept among the backups as ``replaced``.

        Raises:
            StoreError: ``store_locked``, ``store_damaged`` (the backup itself is), ``store_newer``, ``disk_full``, ...
        """
        _opening.restore(folder, key, backup)

    def close(self) -> None:
        """Wait for the running transaction, and let go of the folder."""
        self._closing.set()
        if self._checker:
            while self._checker.is_alive():
                self._database.interrupt()
                self._checker.join(0.05)
        self._database.close()
        self._lock.close()

    def listen(self, callback: Callable[[Change], None]) -> None:
        """Have ``callback`` called after each commit, on the thread that committed; it must be quick."""
        self._journal.listeners.append(callback)

    def start_run(
        self, patient: UUID | None = None, who: Mapping[str, Any] = {}, encounter: Mapping[str, Any] = {}
    ) -> UUID:
        """Begin a run, now, of a known patient or (None) of a new one; returns its id.

        All of a known patient is said again, for the hospital may have purged it with its earlier runs; after the run,
        since a patient of no run may be purged any time.

        Args:
            patient: id, or None.
            who: fields of the patient (``PatientFields``); of a known one, what changes.
            encounter: fields of the run (``EncounterFields``).

        Raises:
            StoreError: ``value_not_allowed``, ``record_unknown``, ``disk_full``, ...
        """
        with self._journal.change() as transaction:
            of = patient or transaction.make(RecordType.PATIENT, who)
            fields = {"started_at": datetime.now(UTC)} | dict(encounter) | {"patient": of}
            run = transaction.make(RecordType.ENCOUNTER, fields)
            if patient is not None:
                transaction.put(RecordType.PATIENT, patient, who, whole=True)
            return run

    def end_run(self, id: UUID) -> None:
        """End a run now, unless it has ended."""
        with self._journal.change() as transaction:
            if visible(transaction.session, EncounterRow, id).ended_at is None:
                transaction.put(RecordType.ENCOUNTER, id, {"ended_at": datetime.now(UTC)})

    def reopen_run(self, id: UUID) -> None:
        """The run is under way again."""
        self.change(RecordType.ENCOUNTER, id, {"ended_at": None})

    def change(self, type: RecordType, id: UUID, fields: Mapping[str, Any]) -> None:
        """Change a record; only what differs is written, and nothing where nothing does.

        Raises:
            StoreError: ``value_not_allowed`` (with ``fields``), ``record_unknown``, ``disk_full``, ...
        """
        with self._journal.change() as transaction:
            transaction.put(type, id, fields)

    def add_vital_signs(self, run: UUID, fields: Mapping[str, Any]) -> UUID:
        """Vital signs of a run, taken now unless ``taken_at`` says when; raises as :meth:`change`."""
        with self._journal.change() as transaction:
            taken = {"taken_at": datetime.now(UTC)} | dict(fields) | {"encounter": run}
            return transaction.make(RecordType.VITAL_SIGNS, taken)

    def delete_vital_signs(self, id: UUID) -> None:
        """Delete one set of vital signs for good: for those entered by mistake. Raises ``record_unknown``."""
        with self._journal.change() as transaction:
            records = [(RecordType.VITAL_SIGNS, id)]
            run = visible(transaction.session, VitalSignsRow, id).encounter
            self._graves.add(records)
            _deleting.purge(transaction, records, None)
            transaction.tell("run", run)

    def spool(self) -> StoreSpool:
        """Begin a radiograph that comes in. Raises ``disk_full``, ``disk_read_only``, ``disk_failed``."""
        return StoreSpool(self._journal, self._images)

    def add_reading(
        self,
        film: UUID,
        *,
        diagnosis: Diagnosis | None,
        error: str | None,
        overridden: bool = False,
        radiograph: Mapping[str, Any] = {},
        picture: bytes | None = None,
        preview: bytes | None = None,
        new_run: bool = False,
    ) -> UUID:
        """What was read of a radiograph, or why nothing could be; queues the preview for the hospital.

        Args:
            film: id of the radiograph.
            diagnosis: the result, or None with the ``error``'s code.
            error: code of the error.
            overridden: read in spite of the gate's refusal.
            radiograph: fields of the radiograph that reading the file showed (``device_patient``, ...); its
                ``encounter`` counts only while it has none.
            picture: display picture, kept with this reading on this device only.
            preview: small JPEG with boxes, sent ahead of the original.
            new_run: begin a run of an unknown patient for it, in the same transaction.

        Returns:
            Id of the diagnosis record.

        Raises:
            StoreError: ``value_not_allowed``, ``record_unknown``, ``disk_full``, ...; then nothing is kept.
        """
        if (diagnosis is None) == (error is None):
            raise not_allowed(("result", "error"), "a reading has either a result or an error")
        reading = {"result": diagnosis, "error": error, "overridden": overridden}
        pictures = {"picture": picture, "preview": preview}
        return _reading.add_reading(self._journal, self._images, film, reading, radiograph, pictures, new_run)

    def assign(self, film: UUID, run: UUID | None) -> None:
        """Say which run a radiograph belongs to. Raises ``record_unknown``."""
        self.change(RecordType.RADIOGRAPH, film, {"encounter": run})

    def claim(self, film: UUID, run: UUID) -> None:
        """Put a radiograph into a run, unless another has it. Raises ``film_of_another_run``, ``record_unknown``."""
        with self._journal.change() as transaction:
            if visible(transaction.session, RadiographRow, film).encounter not in (None, run):
                raise StoreError("film_of_another_run")
            transaction.put(RecordType.RADIOGRAPH, film, {"encounter": run})

    def delete_run(self, id: UUID, reason: str = "", undo_seconds: float = 600) -> Deletion:
        """Hide a run with all that belongs to it, and delete it for good when the time to undo is over."""
        return _deleting.hide(self._journal, "run", id, reason, undo_seconds)

    def delete_film(self, id: UUID, reason: str = "", undo_seconds: float = 600) -> Deletion:
        """Hide a radiograph, and delete it for good when the time to undo is over."""
        return _deleting.hide(self._journal, "film", id, reason, undo_seconds)

    def undo(self, deletion: UUID) -> None:
        """Bring back what was deleted. Raises ``deletion_past``."""
        _deleting.undo(self._journal, deletion)

    def settle(self, now: datetime | None = None) -> None:
        """Delete for good what is due; to be called now and then."""
        _deleting.settle(self._journal, self._images, self._graves, now or datetime.now(UTC))

    def run_seen(self, run: UUID, until: int) -> None:
        """The crew has seen what the hospital said about a run and its radiographs; ``until``: see :meth:`heard`."""
        _inbox.run_seen(self._journal, run, until)

    def film_seen(self, film: UUID, until: int) -> None:
        """The crew has seen what the hospital said about one radiograph; ``until``: see :meth:`heard`."""
        _inbox.film_seen(self._journal, film, until)

    def set_setting(self, key: str, value: Any) -> None:
        """Keep a small value (anything JSON can say); keys do not begin with an underscore."""
        if key.startswith("_"):
            raise not_allowed(("key",), "a setting's name does not begin with an underscore")
        with self._journal.change() as transaction:
            _settings.put(transaction.session, key, value)
            transaction.tell("setting")

    def back_up(self) -> Backup:
        """Make a backup now."""
        return backups.make(self._folder, self._database, "daily")

    def _check_and_back_up(self) -> None:
        self._look_after(self._database.check)
        while self.damage is None or self.damage.code != "store_damaged":  # else it would push out a sound backup
            self._look_after(self._back_up_if_due)
            if self._closing.wait(BACKUP_EVERY_S):
                return

    def _back_up_if_due(self) -> None:
        if not self._closing.is_set() and _opening.backup_due(self._folder, BACKUP_HOURS):
            self.back_up()

    def _look_after(self, work: Callable[[], object]) -> None:
        try:
            work()
            self.damage = None
        except StoreError as problem:
            self.damage = problem
            _log.error("the check or backup of the store found %s", problem.code)
            self._journal.tell(Change("health"))
        except sqlcipher.OperationalError:
            if not self._closing.is_set():
                raise
