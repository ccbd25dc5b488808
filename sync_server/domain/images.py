"""Bytes of images, named by their SHA-256: in a local folder, or whatever else fsspec reaches (``s3://bucket/prefix``).

What lies under a name is whole: a local file is complete and on the disk before it gets its name, and an object of S3
appears only once all of it was taken.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO, Final

import fsspec
from fsspec.implementations.local import LocalFileSystem
from sqlmodel import Session

from shared.errors import FirstRayError

BLOCK: Final = 4 << 20
"""Bytes read ahead at once from what is not a local file."""
WAIT_S: Final = 20.0
SLOWEST: Final = 1_000_000
"""Bytes that a remote store takes in a second, at least; after them and :data:`WAIT_S` it is given up."""
_SHA256: Final = re.compile("[0-9a-f]{64}")
_S3: Final[Mapping[str, Any]] = {
    "config_kwargs": {
        "connect_timeout": 5,
        "read_timeout": 10,
        "retries": {"mode": "standard", "total_max_attempts": 2},
    }
}
"""A service that hangs is given up after some 20 seconds, not minutes: uploads wait for it in few threads."""

StoredHook = Callable[[Session, str], None]
"""Called in the transaction that notes that an original was delivered, with its SHA-256; again if it comes again."""


Alone = Callable[[int], AbstractContextManager[None]]
"""Makes sure that nobody else, on other machines either, is inside with the same number (64 bits, signed)."""


class ImageStore:
    """Where images lie. Safe to use from several threads and processes; from several machines with ``alone``.

    Args:
        url: a local path, ``file://...`` or any URL of fsspec. Made if it is a local folder that does not exist.
        locks: local folder of the lock files that :meth:`guarded` takes.
        alone: what :meth:`guarded` takes besides, where other machines use the store.

    Attributes:
        on_original: called when an original was delivered.

    Raises:
        FirstRayError: ``image_store_unusable`` where fsspec has no way to the URL or the folder cannot be made.
    """

    def __init__(self, url: str, locks: Path, alone: Alone | None = None) -> None:
        self.on_original: list[StoredHook] = []
        self._locks = locks
        self._alone = alone
        try:
            self._files, self._root = _file_system(url)
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
                self._files.put_file(str(file), self._path(sha256), **self._within(file.stat().st_size))

    def open(self, sha256: str) -> BinaryIO:
        """The bytes, to read from any place; the caller closes it. For what is large; see :meth:`read`.

        Raises:
            FirstRayError: ``image_not_held``, ``image_store_failing``; the latter also by whatever reads it.
        """
        with _explained():
            try:
                return io.BufferedReader(_Held(self._files.open(self._path(sha256), "rb", block_size=BLOCK)))
            except FileNotFoundError:
                raise _not_held() from None

    def read(self, sha256: str) -> bytes:
        """All bytes. Raises as :meth:`open`."""
        with _explained():
            try:
                return bytes(self._files.cat_file(self._path(sha256)))
            except FileNotFoundError:
                raise _not_held() from None

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
        """Nobody else adds or purges these bytes meanwhile, on this machine or (with ``alone``) on another.

        Taken around both what is done to the bytes and what the database says of them; never from inside a
        transaction that writes.
        """
        with (self._locks / f"{_checked(sha256)[:2]}.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            everywhere = self._alone(int(sha256[:16], 16) - (1 << 63)) if self._alone else contextlib.nullcontext()
            with everywhere:
                yield

    def check(self) -> None:
        """Write, read and remove a probe.

        Raises:
            FirstRayError: ``image_store_full``, ``image_store_failing``.
        """
        probe = f"{self._root}/.probe-{uuid.uuid4().hex}"
        with _explained():
            self._files.pipe_file(probe, b"probe", **self._within(5))
            read = self._files.cat_file(probe)
            self._files.rm_file(probe)
        if read != b"probe":
            raise _failing(OSError("another content"))

    def _within(self, size: int) -> dict[str, float]:
        """How long sending may take: S3's client waits without end for a service that does not take what it is sent."""
        return {"timeout": WAIT_S + size / SLOWEST} if self._files.async_impl else {}

    def _path(self, sha256: str) -> str:
        return f"{self._root}/{_checked(sha256)[:2]}/{sha256}"


class _Held(io.RawIOBase):
    """A file of the store whose errors say what they mean, also after it was opened."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with _explained():
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        with _explained():
            return bytes(self._file.read())

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def _file_system(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it."""
    if not url.startswith(("s3://", "s3a://")):
        return fsspec.core.url_to_fs(url)
    files, root = fsspec.core.url_to_fs(url, **_S3)
    files.retries = 1  # S3's client repeats by itself; s3fs would repeat that again, five times
    return files, root


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


def _not_held() -> FirstRayError:
    return FirstRayError(
        "image_not_held",
        "The hospital does not hold these bytes.",
        "They come once the ambulance has a connection, or were purged.",
    )


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
