"""Backups: the database as it was at one moment, the keys, and every image; and how they become a hospital again.

A backup folder holds one folder a backup, named by its time (``hospital.db`` or ``hospital.dump``, ``images.csv``,
``keys/``, ``backup.json``), and ``images/``, which all of them share: bytes that an earlier backup has are not copied
again. The database goes first: whatever it says is held is then copied, unless it was purged meanwhile. A backup counts
once its ``backup.json`` is there, which is written last.

PostgreSQL is dumped and restored by its own tools (``pg_dump``, ``pg_restore``).
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict
from sqlalchemy import URL
from sqlmodel import Session, select

from shared.errors import FirstRayError
from shared.version import VERSION
from sync_server.db.engine import Database, open_engine
from sync_server.db.tables import ImageRow, ReleaseRow
from sync_server.domain.images import ImageStore, sync_file, sync_folder
from sync_server.settings import Settings

KEYS: Final = ("secret.key", "receipt.key")
MANIFEST: Final = "backup.json"
IMAGES: Final = "images"
_CHUNK: Final = 1 << 20
_HOURS: Final = 6 * 3600


class Backup(BaseModel):
    """What a backup holds, as its ``backup.json`` says.

    Attributes:
        made_at, version: when, and by which version of FirstRay.
        database: name of the file, and its SHA-256.
        images, bytes: how many images are listed, and their size.
        absent: images the database named that were not held: purged while the backup ran, or lost.
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
        FirstRayError: ``backup_failed`` (no room, no rights, no ``pg_dump``).
    """
    now = (now or datetime.now(UTC)).astimezone(UTC)
    folder = target / f"{now:%Y%m%dT%H%M%SZ}"
    with _explained():
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700)
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
        with open(folder / MANIFEST, "x", encoding="utf-8", opener=_private) as manifest:
            manifest.write(made.model_dump_json(indent=2))
        sync_file(folder / MANIFEST)
        sync_folder(folder)
        sync_folder(target)
        _forget(target, keep)
    return made


def backups(target: Path) -> list[Path]:
    """The folders of whole backups, latest first."""
    return sorted((file.parent for file in target.glob(f"*/{MANIFEST}")), reverse=True)


def listed_images(folder: Path) -> dict[str, int]:
    """SHA-256 -> size of a backup's images."""
    with (folder / "images.csv").open(newline="", encoding="utf-8") as file:
        return {row["sha256"]: int(row["size"]) for row in csv.DictReader(file)}


def _dump(url: URL, folder: Path) -> Path:
    if url.get_backend_name() == "sqlite":
        return _copy_sqlite(Path(str(url.database)), folder / "hospital.db")
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
    try:
        source = store.open(sha256)
    except FirstRayError as error:
        if error.code == "image_not_held":
            return False
        raise
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = file.with_suffix(".part")
    with source, open(draft, "wb", opener=_private) as target:
        shutil.copyfileobj(source, target, _CHUNK)
        target.flush()
        os.fsync(target.fileno())
    draft.replace(file)
    return True


def _write_list(file: Path, listed: dict[str, int]) -> None:
    with open(file, "w", newline="", encoding="utf-8", opener=_private) as target:
        writer = csv.writer(target)
        writer.writerow(("sha256", "size"))
        writer.writerows(sorted(listed.items()))


def _forget(target: Path, keep: int) -> None:
    """Remove old backups, then images that none of the others lists."""
    kept = backups(target)
    for old in kept[keep:]:
        (old / MANIFEST).unlink()
        shutil.rmtree(old)
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
def _explained() -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise FirstRayError(
            "backup_failed", f"The backup could not be written ({error}).", "Mend that, then try again."
        ) from error
