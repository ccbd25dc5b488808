"""Images on their way in: one local file an upload, which grows as bytes come and whose length is the offset.

Several processes may receive into one file. Each piece is appended under a lock of moments, and only where the file
ends as the writer believes: a connection that hangs holds nobody up, and whoever comes late finds another end. Nothing
is flushed to the disk on the way; what a power cut leaves, the SHA-256 of the whole judges.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from shared.errors import FirstRayError
from sync_server.domain.images import is_full


class OffsetWrong(FirstRayError):
    """The upload ends elsewhere (tus 1.0, "PATCH": 409); ``offset`` is where."""

    def __init__(self, offset: int) -> None:
        super().__init__(
            "offset_wrong", "The upload has another length than the sender believes.", "Ask for it with HEAD."
        )
        self.offset = offset


class UploadGone(FirstRayError):
    """There is no such upload, or no longer."""

    def __init__(self) -> None:
        super().__init__("upload_unknown", "There is no such upload, or no longer.", "Begin it anew.")


class Spool:
    """The folder of uploads under way; made if it does not exist."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def create(self, id: str) -> None:
        """An empty upload, unless somebody has created it meanwhile."""
        self.path(id).touch(mode=0o600)

    def path(self, id: str) -> Path:
        """Its file; ``id`` is one that this server made."""
        return self._folder / id

    def length(self, id: str) -> int:
        """How many bytes have come. Raises UploadGone."""
        try:
            return self.path(id).stat().st_size
        except FileNotFoundError:
            raise UploadGone from None

    def append(self, id: str, offset: int, piece: bytes | bytearray) -> int:
        """Add a piece at ``offset``, which must be the end; gives the new end.

        Raises:
            OffsetWrong, UploadGone: see there.
            FirstRayError: ``hospital_full``.
        """
        with self.locked(id) as file:
            end = os.fstat(file).st_size
            if end != offset:
                raise OffsetWrong(end)
            try:
                rest = memoryview(piece)
                while rest:
                    written = os.pwrite(file, rest, offset)
                    offset, rest = offset + written, rest[written:]
            except OSError as error:
                if not is_full(error):
                    raise
                raise FirstRayError(
                    "hospital_full", "The hospital has no room for more images now.", "It is tried again by itself."
                ) from None
        return offset

    def take_back(self, id: str, start: int, end: int) -> None:
        """Forget what came from ``start`` on, unless somebody has added to it beyond ``end``. Raises UploadGone."""
        with self.locked(id) as file:
            if os.fstat(file).st_size == end:
                os.ftruncate(file, start)

    def sha256(self, id: str) -> str:
        """SHA-256 of what has come. Raises UploadGone."""
        try:
            with self.path(id).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            raise UploadGone from None

    def remove(self, id: str) -> None:
        """Forget the upload."""
        self.path(id).unlink(missing_ok=True)

    def old(self, seconds: float) -> list[str]:
        """Uploads to which nothing was added for so long."""
        before = time.time() - seconds
        found = []
        for file in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if file.is_file() and file.stat().st_mtime < before:
                    found.append(file.name)
        return found

    @contextlib.contextmanager
    def locked(self, id: str) -> Iterator[int]:
        """The file, which nobody else appends to or finishes meanwhile. Raises UploadGone."""
        try:
            file = os.open(self.path(id), os.O_RDWR)
        except FileNotFoundError:
            raise UploadGone from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            # It may have been finished or removed, and the bytes be an image's, while this waited for the lock.
            if not self._is_current(id, file):
                raise UploadGone
            yield file
        finally:
            os.close(file)

    def _is_current(self, id: str, file: int) -> bool:
        try:
            return os.path.samestat(os.fstat(file), self.path(id).stat())
        except FileNotFoundError:
            return False
