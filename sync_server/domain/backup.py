"""Backups: the database as it was at one moment, the keys, and every image; and how they become a hospital again.

A backup folder holds one folder a backup, named by its time (``hospital.db`` or ``hospital.dump``, ``images.csv``,
``keys/``, ``backup.json``), and ``images/``, which all of them share: bytes that an earlier backup has are not copied
again. The database goes first: whatever it says is held is then copied, unless it was purged meanwhile. A backup counts
once its ``backup.json`` is there, which is written last. One at a time is written into a folder (``lock``): what
another has just copied is named by no backup yet, and would be forgotten.

PostgreSQL is dumped and restored by its own tools (``pg_dump``, ``pg_restore``).
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import hashlib
import os
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final

from pydantic import BaseModel, ConfigDict
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session, select

from shared.errors import FirstRayError
from shared.version import VERSION
from sync_server.db.engine import Database, open_engine, refuse_unfinished
from sync_server.db.tables import ImageRow, ReleaseRow
from sync_server.domain.images import ImageStore, sync_file, sync_folder
from sync_server.settings import Settings

KEYS: Final = ("secret.key", "receipt.key")
MANIFEST: Final = "backup.json"
IMAGES: Final = "images"
LOCK: Final = "lock"
_NAME: Final = re.compile(r"\d{8}T\d{6}Z")
_CHUNK: Final = 1 << 20
_HOURS: Final = 6 * 3600


class Backup(BaseModel):
    """What a backup holds, as its ``backup.json`` says.

    Attributes:
        made_at, version: when, and by which version of FirstRay.
        database: name of the file, and its SHA-256.
        images, bytes: how many images are listed, and their size.
        absent: images the database named that were not held: purged while the backup ran, lost, or damaged.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 1
    made_at: datetime
    version: str
    database: str
    database_sha256: str
    images: int
    bytes: int
    absent: int


def back_up(settings: Settings, target: Path, keep: int = 7, now: datetime | None = None) -> Backup:
    """Make a backup while the server runs, then forget all but the latest ``keep`` and images that only those had.

    So what was purged leaves the backups as well, after as many backups.

    Raises:
        FirstRayError: ``backup_failed`` (no room, no rights, no ``pg_dump``), ``backup_running``,
            ``restore_unfinished``.
    """
    now = (now or datetime.now(UTC)).astimezone(UTC)
    with explained("backup_failed", "The backup could not be written"):
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        (target / LOCK).touch(mode=0o600)
        with locked(target):
            _remove_cut_off(target)
            folder = target / f"{now:%Y%m%dT%H%M%SZ}"
            folder.mkdir(mode=0o700)
            try:
                made = _fill(settings, target, folder, now)
            except BaseException:
                with contextlib.suppress(OSError):
                    _remove(folder)  # a whole database, perhaps, on a disk that is full
                raise
            _forget(target, folder, keep)
    return made


@contextlib.contextmanager
def locked(target: Path, how: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Nobody else backs up into the folder meanwhile; with ``LOCK_SH`` others may restore from it, as this one does.

    Raises:
        FirstRayError: ``backup_running``.
    """
    with (target / LOCK).open("rb" if how == fcntl.LOCK_SH else "ab") as lock:  # to read is all a read-only disk allows
        try:
            fcntl.flock(lock, how | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FirstRayError(
                "backup_running",
                f"A backup into {target}, or a restore from it, is under way.",
                "Wait for its end, then try again.",
            ) from None
        yield


def _fill(settings: Settings, target: Path, folder: Path, now: datetime) -> Backup:
    """Write all of a backup; on the disk on return."""
    for private in (folder / "keys", target / IMAGES):
        private.mkdir(mode=0o700, exist_ok=True)
    file = _dump(settings.database_url, folder)
    for name in KEYS:
        if (settings.data / name).is_file():
            shutil.copy2(settings.data / name, folder / "keys" / name)
    store = ImageStore(settings.images, settings.data / "locks")
    listed, absent = _copy_images(settings, store, target / IMAGES)
    _write_list(folder / "images.csv", listed)
    made = Backup(
        made_at=now,
        version=VERSION,
        database=file.name,
        database_sha256=file_sha256(file),
        images=len(listed),
        bytes=sum(listed.values()),
        absent=absent,
    )
    for part in folder.rglob("*"):
        if part.is_file():
            sync_file(part)
    for names in (*(target / IMAGES).glob("??"), target / IMAGES, folder / "keys"):
        sync_folder(names)
    with open(folder / MANIFEST, "x", encoding="utf-8", opener=_private) as manifest:
        manifest.write(made.model_dump_json(indent=2))
    sync_file(folder / MANIFEST)
    sync_folder(folder)
    sync_folder(target)
    return made


def backups(target: Path) -> list[Path]:
    """The folders of whole backups, latest first."""
    return sorted((file.parent for file in target.glob(f"*/{MANIFEST}")), reverse=True)


def listed_images(folder: Path) -> dict[str, int]:
    """SHA-256 -> size of a backup's images; raises FirstRayError ``backup_damaged`` where its list is not whole."""
    try:
        made = Backup.model_validate_json((folder / MANIFEST).read_bytes())
        with (folder / "images.csv").open(newline="", encoding="utf-8") as file:
            listed = {row["sha256"]: int(row["size"]) for row in csv.DictReader(file)}
        whole = (len(listed), sum(listed.values())) == (made.images, made.bytes)
    except (FileNotFoundError, ValueError, TypeError, KeyError, csv.Error):
        whole = False
    if not whole:
        raise FirstRayError(
            "backup_damaged",
            f"The list of images of the backup {folder.name} is damaged.",
            "Restore another one by name; look at the disk.",
        )
    return listed


def _dump(url: URL, folder: Path) -> Path:
    if url.get_backend_name() == "sqlite":
        return _copy_sqlite(Path(str(url.database)), folder / "hospital.db")
    engine = open_engine(url)
    try:
        refuse_unfinished(engine)
    finally:
        engine.dispose()
    file = folder / "hospital.dump"
    run_tool("pg_dump", url, "--format=custom", f"--file={file}")
    return file


def _copy_sqlite(source: Path, target: Path) -> Path:
    """SQLite's own online backup: one consistent state, while others read and write."""
    if not source.is_file():
        raise FirstRayError("backup_failed", f"There is no database at {source}.", "Check FIRSTRAY_SERVER_DATABASE.")
    target.touch(mode=0o600)
    with (
        contextlib.closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as live,
        contextlib.closing(sqlite3.connect(target)) as copy,
    ):
        live.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")
        if copy.execute("PRAGMA quick_check").fetchone() != ("ok",):
            raise FirstRayError(
                "backup_failed", "The copy of the database is damaged.", "Check the disk; keep earlier backups."
            )
    return target


def run_tool(tool: str, url: URL, *arguments: str) -> None:
    """Run one of PostgreSQL's tools on the database; the password goes by the environment, not the command line.

    Raises:
        FirstRayError: ``backup_failed``.
    """
    plain = url.set(drivername="postgresql")._replace(password=None).render_as_string(hide_password=False)
    environment = {**os.environ, **({"PGPASSWORD": str(url.password)} if url.password else {})}
    try:
        done = subprocess.run(
            [tool, f"--dbname={plain}", "--no-password", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=_HOURS,
            check=False,
            umask=0o077,
        )
    except FileNotFoundError:
        raise FirstRayError(
            "backup_failed", f"{tool} is not installed.", "Install PostgreSQL's client (postgresql-client)."
        ) from None
    except subprocess.TimeoutExpired:
        raise FirstRayError(
            "backup_failed", f"{tool} did not end within {_HOURS // 3600} hours.", "Look at the database and the disk."
        ) from None
    if done.returncode:
        said = done.stderr.strip()[:500]
        raise FirstRayError("backup_failed", f"{tool} failed: {said}", "Mend that, then try again.")


def _copy_images(settings: Settings, store: ImageStore, target: Path) -> tuple[dict[str, int], int]:
    """Copy what the target has not; gives SHA-256 -> size, and how many are not held."""
    database = Database(open_engine(settings.database_url))
    try:
        with database.reading() as session:
            wanted = _named(session)
    finally:
        database.close()
    listed: dict[str, int] = {}
    for sha256, size in wanted.items():
        file = target / sha256[:2] / sha256
        if (file.is_file() and file.stat().st_size == size) or _copied(store, sha256, file):
            listed[sha256] = file.stat().st_size
    return listed, len(wanted) - len(listed)


def _named(session: Session) -> dict[str, int]:
    """All bytes of the image store that the database names: images and the ZIPs of releases."""
    images = session.exec(select(ImageRow.sha256, ImageRow.size)).all()
    releases = session.exec(select(ReleaseRow.sha256, ReleaseRow.size)).all()
    return dict(images) | dict(releases)


def _copied(store: ImageStore, sha256: str, file: Path) -> bool:
    """Copy bytes of the store; False where it does not hold them, or other ones under their name."""
    try:
        source = store.open(sha256)
    except FirstRayError as error:
        if error.code == "image_not_held":
            return False
        raise
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = file.with_suffix(".part")
    try:
        with source, open(draft, "wb", opener=_private) as target:
            if copy(source, target) != sha256:
                return False
            target.flush()
            os.fsync(target.fileno())
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
    return True


def copy(source: BinaryIO, target: BinaryIO) -> str:
    """Copy to the end; gives the SHA-256 of what was copied."""
    digest = hashlib.sha256()
    while piece := source.read(_CHUNK):
        digest.update(piece)
        target.write(piece)
    return digest.hexdigest()


def _write_list(file: Path, listed: dict[str, int]) -> None:
    with open(file, "w", newline="", encoding="utf-8", opener=_private) as target:
        writer = csv.writer(target)
        writer.writerow(("sha256", "size"))
        writer.writerows(sorted(listed.items()))


def _remove_cut_off(target: Path) -> None:
    """Remove what backups have left that were killed: each may hold a whole database, and none counts."""
    for folder in target.iterdir():
        if _NAME.fullmatch(folder.name) and folder.is_dir() and MANIFEST not in os.listdir(folder):
            _remove(folder)


def _remove(folder: Path) -> None:
    (folder / MANIFEST).unlink(missing_ok=True)  # first: what is there by half must not count
    shutil.rmtree(folder)


def _forget(target: Path, latest: Path, keep: int) -> None:
    """Remove old backups, then images that none of the others lists; not ``latest``, where a clock was set back."""
    kept = [latest, *(folder for folder in backups(target) if folder != latest)]
    for old in kept[keep:]:
        _remove(old)
    named: set[str] = set()
    for folder in kept[:keep]:
        named |= listed_images(folder).keys()
    for file in (target / IMAGES).glob("??/*"):
        if file.name not in named:
            file.unlink()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def file_sha256(file: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@contextlib.contextmanager
def explained(code: str, what: str) -> Iterator[None]:
    """What disk and database refuse inside is a FirstRayError with this code."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise FirstRayError(code, f"{what} ({error}).", "Mend that, then try again.") from error
    except DBAPIError as error:
        raise FirstRayError(code, f"{what} ({error.orig}).", "Mend that, then try again.") from error
