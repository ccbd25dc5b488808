"""Hospitals in temporary folders."""

import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any

from sync_server.db.engine import migrate, open_engine
from sync_server.hospital import Hospital, open_hospital
from sync_server.settings import Settings, load_settings

DATABASES = ("sqlite", "postgresql")


def settings_for(folder: Path, database: str | None = None, **more: Any) -> Settings:
    """Settings of a hospital in ``folder``; on SQLite unless a URL is given."""
    return load_settings(data=folder / "hospital", database=database, **more)


def new_hospital(folder: Path, database: str | None = None, listen: bool = True, **more: Any) -> Hospital:
    """A hospital in ``folder``; close it."""
    file = folder / "hospital" / "hospital.db"
    if database is None and not file.exists():
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copyfile(Path(_template().name) / "hospital.db", file)
    return open_hospital(settings_for(folder, database, **more), listen)


@functools.cache
def _template() -> "tempfile.TemporaryDirectory[str]":
    """An SQLite database with tables, made once in a test run: making them takes most of a test's time."""
    folder = tempfile.TemporaryDirectory(prefix="firstray")
    engine = open_engine(f"sqlite:///{folder.name}/hospital.db")
    migrate(engine)
    engine.dispose()
    return folder
