"""From a backup back to a hospital (:mod:`sync_server.domain.backup`).

What came after the backup is gone here, but not on the devices: each sees by the next answer where its chain ends at
the hospital and sends what is missing again. What the hospital told devices since then keeps its ids for ever: new ones
are greater. Images the backup has not are no longer said to be held.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError
from sqlalchemy import delete, inspect, update
from sqlmodel import Session, col, select

from shared.errors import FirstRayError
from sync_server.db.engine import Database, migrate, open_engine
from sync_server.db.tables import DeviceRow, EnrolmentCodeRow, ImageDeliveryRow, ImageRow, WebSessionRow
from sync_server.domain import audit
from sync_server.domain.backup import IMAGES, KEYS, MANIFEST, Backup, backups, file_sha256, listed_images, run_tool
from sync_server.domain.images import ImageStore, sync_file
from sync_server.settings import Settings


class Restored(BaseModel):
    """What was restored; ``lost`` are images the database named that the backup has not, or not whole."""

    model_config = ConfigDict(frozen=True)

    backup: Backup
    images: int
    lost: int


def restore(settings: Settings, source: Path, name: str | None = None, now: datetime | None = None) -> Restored:
    """Restore a backup, the latest if no ``name`` is given, where there is no hospital yet. The server must not run.

    Raises:
        FirstRayError: ``backup_unknown``, ``backup_damaged``, ``restore_not_empty``, ``backup_failed``.
    """
    now = now or datetime.now(UTC)
    folder = _chosen(source, name)
    made = _checked(folder)
    _refuse_occupied(settings)
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    for key in KEYS:
        if (folder / "keys" / key).is_file():
            shutil.copy2(folder / "keys" / key, settings.data / key)
            (settings.data / key).chmod(0o600)
    images = _put_images(settings, source / IMAGES, listed_images(folder))
    _load(settings, folder / made.database)
    engine = open_engine(settings.database_url)
    database = Database(engine)
    try:
        migrate(engine)
        with database.writing() as session:
            lost = _settle(session, images, made, now)
    finally:
        database.close()
    return Restored(backup=made, images=len(images), lost=lost)


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
        occupied = Path(str(url.database)).exists()
    else:
        engine = open_engine(url)
        try:
            occupied = bool(inspect(engine).get_table_names())
        finally:
            engine.dispose()
    if occupied:
        raise FirstRayError(
            "restore_not_empty",
            "There is a hospital in this place already; a restore would overwrite it.",
            "Move its database away, or name an empty one; nothing was changed.",
        )


def _put_images(settings: Settings, source: Path, listed: dict[str, int]) -> set[str]:
    """Put the backup's images into the store, each checked against its name; gives those that are held."""
    store = ImageStore(settings.images, settings.data / "locks")
    held: set[str] = set()
    for sha256, size in listed.items():
        if store.size(sha256) == size:
            held.add(sha256)
            continue
        draft = settings.data / f".restore-{uuid.uuid4().hex}"
        try:
            if _copy(source / sha256[:2] / sha256, draft) == sha256:
                store.put(draft, sha256)
                held.add(sha256)
        finally:
            draft.unlink(missing_ok=True)
    return held


def _copy(source: Path, target: Path) -> str | None:
    """Copy a file; gives the SHA-256 of what was copied, None where there is nothing to copy."""
    if not source.is_file():
        return None
    digest = hashlib.sha256()
    with source.open("rb") as read, target.open("xb") as written:
        while chunk := read.read(1 << 20):
            digest.update(chunk)
            written.write(chunk)
    return digest.hexdigest()


def _load(settings: Settings, file: Path) -> None:
    url = settings.database_url
    if url.get_backend_name() == "postgresql":
        run_tool("pg_restore", url, "--no-owner", "--exit-on-error", "--single-transaction", str(file))
        return
    target = Path(str(url.database))
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = target.with_name(f".{uuid.uuid4().hex}")
    shutil.copyfile(file, draft)
    draft.chmod(0o600)
    sync_file(draft)
    os.replace(draft, target)


def _settle(session: Session, held: set[str], made: Backup, now: datetime) -> int:
    """Make the restored database true: see the module's first lines. Open log-ins and codes end."""
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
    return len(missing)
