"""What can go wrong with the store, each with its code, what it means and what to do next."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import sqlcipher3.dbapi2 as sqlcipher
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError

from shared.errors import FirstRayError

if TYPE_CHECKING:
    from edge_app.store.views import Backup

FULL: Final = 1 << 20
"""Bytes: a disk with less is full."""
_TEXTS: Final = {
    "store_missing": (
        "The records' database is missing although this device has stored images or backups.",
        "Restore the latest backup; images that are newer come back with it.",
    ),
    "store_locked": (
        "Another FirstRay on this device has the records open.",
        "Close the other one, or restart the device.",
    ),
    "store_damaged": (
        "The records' database cannot be read: it is damaged, or was made with another key.",
        "Restore the latest backup; images that are newer come back with it.",
    ),
    "store_newer": (
        "The records were written by a newer version of FirstRay.",
        "Update FirstRay on this device; nothing was changed.",
    ),
    "disk_full": (
        "The disk is too full to store this safely; nothing was stored half.",
        "Free some space, for example by deleting old runs that the hospital holds, then try again.",
    ),
    "disk_read_only": (
        "The store's folder cannot be written.",
        "Check that the disk is not write-protected and that FirstRay may write there, then try again.",
    ),
    "disk_failed": (
        "The disk did not store or give back what it should; it may be failing.",
        "Try again. If it happens again, use another device and have this one checked.",
    ),
    "record_unknown": (
        "This record does not exist, or was deleted.",
        "Go back to the list and choose again.",
    ),
    "image_damaged": (
        "The stored image is damaged or missing, so it is not shown.",
        "Send the image again from the X-ray device; the record is kept.",
    ),
    "film_of_another_run": (
        "This image is on this device already and belongs to another run; nothing was changed.",
        "Open it in its run. If it does not belong there, choose “It belongs to another run”.",
    ),
    "deletion_past": (
        "What was deleted is gone for good and cannot be brought back.",
        "Nothing more can be done on this device.",
    ),
    "chain_forked": (
        "The hospital holds other records under the same numbers.",
        "What it has not confirmed is sent again under new numbers.",
    ),
    "events_wiped": (
        "The hospital asks for records that were deleted here and can no longer be sent.",
        "Everything that still exists is sent again from the start.",
    ),
    "store_closed": ("The records are locked.", "Unlock the device first."),
    "key_closed": ("The records are locked.", "Unlock the device first."),
}


class StoreError(FirstRayError):
    """The store cannot do what was asked.

    Attributes:
        backups: of ``store_damaged`` and ``store_missing``: what can be restored, latest first.
        fields: of ``value_not_allowed``: the fields in question.
    """

    def __init__(self, code: str, message: str = "", action: str = "") -> None:
        texts = _TEXTS.get(code, ("", ""))
        super().__init__(code, message or texts[0], action or texts[1])
        self.backups: Sequence[Backup] = ()
        self.fields: tuple[str, ...] = ()


def not_allowed(fields: Sequence[str], reason: str) -> StoreError:
    """A value that a record's field cannot have; ``reason`` holds no value."""
    error = StoreError("value_not_allowed", f"Not allowed: {reason}.", "Correct the field and save again.")
    error.fields = tuple(fields)
    return error


def not_allowed_by(problem: ValidationError) -> StoreError:
    """What pydantic found, without the values it found it in."""
    found = {".".join(str(part) for part in each["loc"]): each["msg"] for each in problem.errors(include_input=False)}
    return not_allowed(tuple(found), "; ".join(f"{field}: {text}" for field, text in found.items()))


@contextmanager
def coded(folder: Path | None = None) -> Iterator[None]:
    """Raise what the database and the disk report as a :class:`StoreError`.

    A failure on a disk (of ``folder``) that has no room left is taken for ``disk_full``: SQLite does not always say so.
    """
    try:
        yield
    except (DBAPIError, sqlcipher.Error) as problem:
        cause = problem.orig if isinstance(problem, DBAPIError) else problem
        if code := _database_code(getattr(cause, "sqlite_errorname", None) or ""):
            full = code == "disk_failed" and folder and shutil.disk_usage(folder).free < FULL
            raise StoreError("disk_full" if full else code) from problem
        raise
    except OSError as problem:
        raise StoreError(_disk_code(problem.errno)) from problem


def _database_code(name: str) -> str | None:
    codes = {
        "SQLITE_FULL": "disk_full",
        "SQLITE_READONLY": "disk_read_only",
        "SQLITE_CANTOPEN": "disk_read_only",
        "SQLITE_PERM": "disk_read_only",
        "SQLITE_BUSY": "store_locked",
        "SQLITE_LOCKED": "store_locked",
        "SQLITE_CORRUPT": "store_damaged",
        "SQLITE_NOTADB": "store_damaged",
        "SQLITE_IOERR": "disk_failed",
    }
    return next((code for start, code in codes.items() if name.startswith(start)), None)


def _disk_code(number: int | None) -> str:
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "disk_full"
    if number in (errno.EROFS, errno.EACCES, errno.EPERM):
        return "disk_read_only"
    return "disk_failed"
