"""From a backup back to a hospital (:mod:`sync_server.domain.backup`).

What came after the backup is gone here, but not on the devices: each sees by the next answer where its chain ends at
the hospital and sends what is missing again. What the hospital told devices since then keeps its ids for ever: new ones
are greater. Images the backup has not are no longer said to be held.

A database of which this is not true yet is no hospital: on SQLite it gets its name last, on PostgreSQL a mark keeps
servers away until then.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import sqlite3
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError
from sqlalchemy import URL, delete, inspect, text, update
from sqlmodel import Session, col, select

from shared.errors import FirstRayError
from sync_server.db.engine import UNFINISHED, Database, migrate, open_engine
from sync_server.db.tables import (
    DeviceRow,
    EnrolmentCodeRow,
    ImageDeliveryRow,
    ImageRow,
    ReleaseRow,
    WebSessionRow,
)
from sync_server.domain import audit
from sync_server.domain.backup import (
    IMAGES,
    KEYS,
    LOCK,
    MANIFEST,
    Backup,
    backups,
    copy,
    explained,
    file_sha256,
    listed_images,
    locked,
    run_tool,
)
from sync_server.domain.images import ImageStore, sync_file, sync_folder
from sync_server.settings import Settings

_DRAFT: Final = ".restore-"
_BESIDE: Final = ("", "-wal", "-shm", "-journal")
"""Ends of the names of SQLite's files: it takes what is left of one database for a part of the next."""


class Restored(BaseModel):
    """What was restored.

    Attributes:
        images: images that are held, as the backup lists them.
        mended: those of them that the store held damaged; they are the backup's now.
        lost: images the database named that neither the backup nor the store has whole.
        lost_releases: model releases whose file is lost in the same way.
    """

    model_config = ConfigDict(frozen=True)

    backup: Backup
    images: int
    mended: int
    lost: int
    lost_releases: list[str]


def restore(settings: Settings, source: Path, name: str | None = None, now: datetime | None = None) -> Restored:
    """Restore a backup, the latest if no ``name`` is given, where there is no hospital yet. The server must not run.

    Raises:
        FirstRayError: ``backup_unknown``, ``backup_damaged``, ``backup_running``, ``restore_not_empty``,
            ``restore_failed``, ``backup_failed`` (by ``pg_restore``), and what the image store raises.
    """
    now = now or datetime.now(UTC)
    with explained("restore_failed", "The restore did not come to its end"):
        folder = _chosen(source, name)
        # A copy of a backup may come without the lock.
        with locked(source, fcntl.LOCK_SH) if (source / LOCK).exists() else contextlib.nullcontext():
            made = _checked(folder)
            listed = listed_images(folder)
            _refuse_occupied(settings)
            _make_place(settings)
            _put_keys(settings, folder / "keys")
            held, mended = _put_images(settings, source / IMAGES, listed)
            lost, lost_releases = _load(settings, folder / made.database, held, made, now)
    return Restored(backup=made, images=len(held), mended=mended, lost=lost, lost_releases=lost_releases)


def _chosen(source: Path, name: str | None) -> Path:
    found = [folder for folder in backups(source) if name in (None, folder.name)]
    if not found:
        raise FirstRayError("backup_unknown", f"There is no such backup in {source}.", "Check folder and name.")
    return found[0]


def _checked(folder: Path) -> Backup:
    """What the backup says it is; raises ``backup_damaged`` where its database is not what it was."""
    try:
        made = Backup.model_validate_json((folder / MANIFEST).read_bytes())
        whole = (
            Path(made.database).name == made.database and file_sha256(folder / made.database) == made.database_sha256
        )
    except (OSError, ValidationError):
        whole = False
    if not whole:
        raise FirstRayError("backup_damaged", f"The backup {folder.name} is damaged.", "Restore another one by name.")
    return made


def _refuse_occupied(settings: Settings) -> None:
    url = settings.database_url
    if url.get_backend_name() == "sqlite":
        place = str(url.database)
        occupied = any(Path(place + end).exists() for end in _BESIDE)
        away = f"Move all of {place}* away"
    else:
        engine = open_engine(url)
        try:
            occupied = bool(set(inspect(engine).get_table_names()) - {UNFINISHED})
        finally:
            engine.dispose()
        away = "Move its database away"
    if occupied:
        raise FirstRayError(
            "restore_not_empty",
            "There is a hospital in this place already, or a part of its database; a restore would overwrite it.",
            f"{away}, or name an empty one; it was not changed.",
        )


def _make_place(settings: Settings) -> None:
    """Make the folders, without what a restore has left that was killed: it may hold a whole database."""
    folders = {settings.data}
    if settings.database_url.get_backend_name() == "sqlite":
        folders.add(Path(str(settings.database_url.database)).parent)
    for folder in folders:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _unlink(folder.glob(f"{_DRAFT}*"))


def _put_keys(settings: Settings, source: Path) -> None:
    """On the disk before there is a database: a server that finds no keys makes others, which no device believes."""
    for key in KEYS:
        if (source / key).is_file():
            shutil.copy2(source / key, settings.data / key)
            (settings.data / key).chmod(0o600)
            sync_file(settings.data / key)
    sync_folder(settings.data)


def _put_images(settings: Settings, source: Path, listed: dict[str, int]) -> tuple[set[str], int]:
    """Have the store hold the backup's images, each checked against its name.

    Gives those that are held, and how many of them it held damaged.
    """
    store = ImageStore(settings.images, settings.data / "locks")
    held: set[str] = set()
    mended = 0
    for sha256, size in listed.items():
        there = store.size(sha256)
        if there == size and _whole(store, sha256):
            held.add(sha256)
            continue
        draft = settings.data / f"{_DRAFT}{uuid.uuid4().hex}"
        try:
            if _copy(source / sha256[:2] / sha256, draft) == sha256:
                store.put(draft, sha256)
                held.add(sha256)
                mended += there is not None
        finally:
            draft.unlink(missing_ok=True)
    return held, mended


def _whole(store: ImageStore, sha256: str) -> bool:
    """Whether the store gives the bytes of this name; not where it cannot be read, as on a bad sector."""
    try:
        with store.open(sha256) as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256  # type: ignore[arg-type]
    except FirstRayError:
        return False


def _copy(source: Path, target: Path) -> str | None:
    """Copy a file; gives the SHA-256 of what was copied, None where there is nothing to copy."""
    if not source.is_file():
        return None
    with source.open("rb") as read, target.open("xb") as written:
        return copy(read, written)


def _load(settings: Settings, file: Path, held: set[str], made: Backup, now: datetime) -> tuple[int, list[str]]:
    """Bring the database back; gives what :func:`_settle` gives."""
    url = settings.database_url
    if url.get_backend_name() == "postgresql":
        _execute(url, f"CREATE TABLE IF NOT EXISTS {UNFINISHED} ()")
        run_tool("pg_restore", url, "--no-owner", "--exit-on-error", "--single-transaction", str(file))
        return _settled(url, held, made, now)
    target = Path(str(url.database))
    draft = target.with_name(f"{_DRAFT}{uuid.uuid4().hex}")
    try:
        draft.touch(mode=0o600)
        shutil.copyfile(file, draft)
        lost = _settled(url.set(database=str(draft)), held, made, now)
        with contextlib.closing(sqlite3.connect(draft)) as whole:
            whole.execute("PRAGMA journal_mode = DELETE")  # all of it in the one file that gets the name
        sync_file(draft)
        _refuse_occupied(settings)  # a server may have been started meanwhile
        os.replace(draft, target)
        sync_folder(target.parent)
    finally:
        _unlink(draft.parent.glob(f"{draft.name}*"))
    return lost


def _execute(url: URL, statement: str) -> None:
    engine = open_engine(url)
    try:
        with engine.begin() as connection:
            connection.execute(text(statement))
    finally:
        engine.dispose()


def _unlink(files: Iterable[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)


def _settled(url: URL, held: set[str], made: Backup, now: datetime) -> tuple[int, list[str]]:
    engine = open_engine(url)
    database = Database(engine)
    try:
        migrate(engine)
        with database.writing() as session:
            return _settle(session, held, made, now)
    finally:
        database.close()


def _settle(session: Session, held: set[str], made: Backup, now: datetime) -> tuple[int, list[str]]:
    """Make the restored database true: see the module's first lines. Open log-ins and codes end.

    Gives how many images are lost, and the releases whose file is.
    """
    missing = [one for one in session.exec(select(ImageRow.sha256)).all() if one not in held]
    for start in range(0, len(missing), 500):
        few = missing[start : start + 500]
        session.execute(delete(ImageRow).where(col(ImageRow.sha256).in_(few)))
        session.execute(delete(ImageDeliveryRow).where(col(ImageDeliveryRow.sha256).in_(few)))
    milliseconds = int(now.timestamp() * 1000)
    session.execute(update(DeviceRow).where(col(DeviceRow.last_inbox) < milliseconds).values(last_inbox=milliseconds))
    session.execute(delete(WebSessionRow))
    session.execute(delete(EnrolmentCodeRow).where(col(EnrolmentCodeRow.used_at).is_(None)))
    audit.record(session, "system:restore", "hospital.restored", backup=made.made_at.isoformat(), lost=len(missing))
    session.execute(text(f"DROP TABLE IF EXISTS {UNFINISHED}"))
    releases = session.exec(select(ReleaseRow.id, ReleaseRow.sha256).order_by(ReleaseRow.id)).all()
    return len(missing), [release for release, sha256 in releases if sha256 not in held]
