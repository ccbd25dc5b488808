"""Copies of the database under the same key, and going back to one."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from edge_app.store._database import Database
from edge_app.store._disk import make_folder, sync_folder
from edge_app.store.errors import StoreError, coded
from edge_app.store.views import Backup

FOLDER: Final = "backups"
KEPT: Final = 3
WEEKS: Final = 4
SPARE: Final = 4 << 20
"""Bytes that stay free while a backup is made, for what is recorded meanwhile."""
_NAME: Final = re.compile(r"(\d{8}T\d{12}Z)-(daily|migration|replaced)\.db")
_TIME: Final = "%Y%m%dT%H%M%S%fZ"


def listed(folder: Path) -> tuple[Backup, ...]:
    """Everything among the backups of the store in ``folder``, latest first.

    Last come those of the future: the clock is right now and was ahead then, or it was set back and they are older.
    """
    found, now = [], datetime.now(UTC)
    with coded():
        for file in (folder / FOLDER).glob("*.db"):
            if parts := _NAME.fullmatch(file.name):
                made_at = datetime.strptime(parts[1], _TIME).replace(tzinfo=UTC)
                found.append(Backup(file.name, made_at, file.stat().st_size, parts[2]))
    return tuple(sorted(found, key=lambda backup: (backup.made_at <= now, backup.name), reverse=True))


def restorable(folder: Path) -> tuple[Backup, ...]:
    """Those that :func:`put_back` may put in place, latest first: all but the ``replaced``."""
    return tuple(backup for backup in listed(folder) if backup.reason != "replaced")


def make(folder: Path, database: Database, reason: str) -> Backup:
    """A backup of the database as it is now; older ones than are needed are removed.

    Kept are the last :data:`KEPT`, and the last of each of the last :data:`WEEKS` weeks that have one.

    Raises:
        StoreError: ``disk_full`` before anything is written where it would leave records no room.
    """
    with coded():
        make_folder(folder / FOLDER)
        if shutil.disk_usage(folder).free < database.file.stat().st_size + SPARE:
            raise StoreError("disk_full")
        place = _place(folder, reason)
        part = place.with_suffix(".part")
        try:
            database.copy_to(part)
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.replace(place)
        finally:
            part.unlink(missing_ok=True)
        sync_folder(place.parent)
        for backup in _outdated(restorable(folder)):
            (folder / FOLDER / backup.name).unlink(missing_ok=True)
    return next(backup for backup in listed(folder) if backup.name == place.name)


def put_back(folder: Path, database: Path, backup: Backup | None, renew: Callable[[Path], None]) -> None:
    """Put a backup in the database's place; what was there goes to the backups as ``replaced``.

    Args:
        folder: of the store.
        database: the file to be replaced.
        backup: which; None begins with an empty database.
        renew: is handed the copy, closed, before it is put in place.
    """
    part = database.with_name(f"{database.name}.restore.part")
    with coded():
        for left in _family(part):
            left.unlink(missing_ok=True)
        if backup is not None:
            source = folder / FOLDER / backup.name
            if not source.is_file():
                raise StoreError("record_unknown", "This backup does not exist any more.", "Choose another.")
            shutil.copyfile(source, part)
        renew(part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        make_folder(folder / FOLDER)
        aside = _place(folder, "replaced")
        for old, kept in zip(_family(database), _family(aside), strict=True):
            with suppress(FileNotFoundError):
                old.replace(kept)
        sync_folder(aside.parent)
        sync_folder(folder)  # before the copy comes: an old log beside it would be taken for its own
        part.replace(database)
        sync_folder(folder)
        for former in [former for former in listed(folder) if former.reason == "replaced"][1:]:
            for old in _family(folder / FOLDER / former.name):
                old.unlink(missing_ok=True)


def remove_drafts(folder: Path) -> None:
    """Remove what a stopped program left half made."""
    with coded():
        for part in (*folder.glob("*.part*"), *(folder / FOLDER).glob("*.part*")):
            part.unlink()


def _place(folder: Path, reason: str) -> Path:
    return folder / FOLDER / f"{datetime.now(UTC).strftime(_TIME)}-{reason}.db"


def _family(file: Path) -> tuple[Path, ...]:
    return (file, file.with_name(f"{file.name}-wal"), file.with_name(f"{file.name}-shm"))


def _outdated(regular: tuple[Backup, ...]) -> list[Backup]:
    weekly: dict[tuple[int, int], Backup] = {}
    for backup in regular:
        weekly.setdefault(backup.made_at.isocalendar()[:2], backup)
    kept = {*regular[:KEPT], *list(weekly.values())[:WEEKS]}
    return [backup for backup in regular if backup not in kept]
