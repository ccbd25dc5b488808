"""Bytes of images, named by their SHA-256: in a local folder, or whatever else fsspec reaches (``s3://bucket/prefix``).

What lies under a name is whole: a local file is complete and on the disk before it gets its name, and an object of S3
appears only once all of it was taken.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem
from sqlmodel import Session

from shared.errors import FirstRayError

_SHA256: Final = re.compile("[0-9a-f]{64}")

StoredHook = Callable[[Session, str], None]
"""Called in the transaction that notes an original's bytes for the first time, with their SHA-256."""


class ImageStore:
    """Where images lie. Safe to use from several threads and, on one machine, processes.

    Args:
        url: a local path, ``file://...`` or any URL of fsspec. Made if it is a local folder that does not exist.
        locks: local folder of the lock files that :meth:`guarded` takes.

    Attributes:
        on_original: called when an original's bytes are held for the first time.

    Raises:
        FirstRayError: ``image_store_unusable`` where fsspec has no way to the URL or the folder cannot be made.
    """

    def __init__(self, url: str, locks: Path) -> None:
        self.on_original: list[StoredHook] = []
        self._locks = locks
        try:
            self._files, self._root = fsspec.core.url_to_fs(url)
            locks.mkdir(parents=True, exist_ok=True)
            if self._local:
                Path(self._root).mkdir(parents=True, exist_ok=True)
        except (ImportError, ValueError, OSError) as error:
            raise FirstRayError(
                "image_store_unusable",
                f"The place for images cannot be used ({type(error).__name__}).",
                "Check FIRSTRAY_SERVER_IMAGES: a folder this user may write to, or s3:// with the extra 's3'.",
            ) from error

    @property
    def _local(self) -> bool:
        return isinstance(self._files, LocalFileSystem)

    def put(self, file: Path, sha256: str) -> None:
        """Hold the bytes of ``file``, which the caller has verified and may remove afterwards. Durable on return.

        A local file may become another name of the very same bytes: nobody may write to ``file`` any more.

        Raises:
            FirstRayError: ``image_store_full``, ``image_store_failing``.
        """
        with _explained():
            if self._local:
                _put_local(file, Path(self._path(sha256)))
            else:
                self._files.put_file(str(file), self._path(sha256))

    def open(self, sha256: str) -> BinaryIO:
        """The bytes, to read from any place; the caller closes it.

        Raises:
            FirstRayError: ``image_not_held``, ``image_store_failing``.
        """
        try:
            return cast(BinaryIO, self._files.open(self._path(sha256), "rb"))
        except FileNotFoundError:
            raise FirstRayError(
                "image_not_held",
                "The hospital does not hold these bytes.",
                "They come once the ambulance has a connection, or were purged.",
            ) from None
        except OSError as error:
            raise _failing(error) from error

    def size(self, sha256: str) -> int | None:
        """How many bytes are held under this name; None for nothing. Raises ``image_store_failing``."""
        with _explained():
            self._files.invalidate_cache()
            try:
                return int(self._files.info(self._path(sha256))["size"])
            except FileNotFoundError:
                return None

    def exists(self, sha256: str) -> bool:
        """Whether the bytes are held. Raises ``image_store_failing``."""
        return self.size(sha256) is not None

    def delete(self, sha256: str) -> None:
        """Hold the bytes no longer; nothing happens where they are not held. Inside :meth:`guarded` only.

        Raises:
            FirstRayError: ``image_store_failing``.
        """
        with _explained(), contextlib.suppress(FileNotFoundError):
            self._files.rm_file(self._path(sha256))

    @contextlib.contextmanager
    def guarded(self, sha256: str) -> Iterator[None]:
        """Nobody else on this machine adds or purges these bytes meanwhile.

        Taken around both what is done to the bytes and what the database says of them; never from inside a
        transaction that writes.
        """
        with (self._locks / f"{_checked(sha256)[:2]}.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def check(self) -> None:
        """Write, read and remove a probe.

        Raises:
            FirstRayError: ``image_store_full``, ``image_store_failing``.
        """
        probe = f"{self._root}/.probe-{uuid.uuid4().hex}"
        with _explained():
            self._files.pipe_file(probe, b"probe")
            read = self._files.cat_file(probe)
            self._files.rm_file(probe)
        if read != b"probe":
            raise _failing(OSError("another content"))

    def _path(self, sha256: str) -> str:
        return f"{self._root}/{_checked(sha256)[:2]}/{sha256}"


def _checked(sha256: str) -> str:
    if not _SHA256.fullmatch(sha256):
        raise ValueError("not a SHA-256 in lower-case hexadecimal")
    return sha256


def _put_local(file: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    draft = target.with_name(f".{uuid.uuid4().hex}")
    try:
        try:
            os.link(file, draft)
        except OSError:  # another file system, or one without hard links
            shutil.copyfile(file, draft)
        sync_file(draft)
        draft.replace(target)
        sync_folder(target.parent)
        sync_folder(target.parent.parent)
    finally:
        draft.unlink(missing_ok=True)


def sync_file(file: Path) -> None:
    """Have a file's bytes on the disk before going on."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


def sync_folder(folder: Path) -> None:
    """Have a folder's names on the disk before going on."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except FirstRayError:
        raise
    except OSError as error:
        raise _failing(error) from error
    except Exception as error:
        # What S3's client raises is of its own kind; what it means here is the same.
        if type(error).__module__.partition(".")[0] not in ("botocore", "aiobotocore", "aiohttp"):
            raise
        raise _failing(error) from error


def _failing(error: Any) -> FirstRayError:
    if is_full(error):
        return FirstRayError(
            "image_store_full", "The hospital's store of images is full.", "Nothing is lost: make room, or purge."
        )
    return FirstRayError(
        "image_store_failing",
        f"The hospital's store of images does not work ({type(error).__name__}).",
        "Look at the disk or the S3 service; the ambulances keep what is not held and send it again.",
    )


def is_full(error: BaseException) -> bool:
    """Whether there is no room left: the disk is full, or a quota is used up."""
    import errno

    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
