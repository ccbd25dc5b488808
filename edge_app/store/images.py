"""The image files: encrypted, named so that the disk does not even tell which image lies where."""

from __future__ import annotations

import hashlib
import hmac
import io
import os
import secrets
import shutil
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, cast
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from edge_app.store._disk import make_folder, sync_folder
from edge_app.store._sealed import SealedReader, SealedWriter
from edge_app.store.errors import StoreError, coded

PART: Final = ".part"
CHECK_EVERY: Final = 8 << 20
"""Bytes after which a growing file has the room looked at again."""


class Label(BaseModel):
    """What an image file says of itself, sealed within it: enough to make an original's record again.

    Attributes:
        kind: original, preview or picture.
        radiograph, diagnosis: whose it is.
        sha256, size: of the content.
        received_at, source, station: of an original, as in ``RadiographFields``.
    """

    model_config = ConfigDict(frozen=True)

    kind: str
    radiograph: UUID
    diagnosis: UUID | None = None
    sha256: str
    size: int
    received_at: datetime | None = None
    source: str | None = None
    station: str | None = None


class Images:
    """The folder of image files. Safe to use from several threads.

    Args:
        folder: of the files; made if missing.
        blob_key, name_key: 32 bytes each.
        reserve: bytes that are left free on the disk for records.

    Attributes:
        settled: held from the moment a file is in its place until its record is committed, and while files without a
            record are removed, so that none is taken for the other.
    """

    def __init__(self, folder: Path, blob_key: bytes, name_key: bytes, reserve: int) -> None:
        self.folder = folder
        self._blob_key = blob_key
        self._name_key = name_key
        self._reserve = reserve
        self.settled = threading.RLock()
        with coded():
            make_folder(folder)

    def name(self, sha256: str, kind: str) -> str:
        """Name of the file of that content: 64 hexadecimal digits."""
        return hmac.new(self._name_key, f"{sha256} {kind}".encode(), hashlib.sha256).hexdigest()

    def draft(self) -> Draft:
        """A new file to write into. Raises ``disk_full``, ``disk_read_only``."""
        self.check_room(0)
        return Draft(self, self._blob_key)

    def check_room(self, more: int) -> None:
        """Raise ``disk_full`` where ``more`` bytes would eat into the reserve."""
        with coded():
            if shutil.disk_usage(self.folder).free < self._reserve + more:
                raise StoreError("disk_full")

    def path(self, name: str) -> Path:
        """Where the file of that name lies."""
        return self.folder / name[:2] / name

    def open(self, name: str) -> SealedReader:
        """Read a file from any place.

        Raises:
            StoreError: ``image_damaged`` where it is missing, cut off or altered.
        """
        try:
            return SealedReader(self.path(name).open("rb"), self._blob_key)
        except FileNotFoundError:
            raise StoreError("image_damaged") from None
        except OSError:
            raise StoreError("disk_failed") from None

    def stream(self, name: str) -> BinaryIO:
        """As :meth:`open`, buffered."""
        return cast("BinaryIO", io.BufferedReader(self.open(name), 64 * 1024))

    def read(self, name: str, sha256: str) -> bytes:
        """The whole content, held against its SHA-256. Raises ``image_damaged``."""
        with self.open(name) as reader:
            data = reader.readall()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise StoreError("image_damaged")
        return data

    def label(self, name: str) -> Label | None:
        """What a file says of itself; None where it is damaged."""
        try:
            with self.open(name) as reader:
                return Label.model_validate(reader.label)
        except (StoreError, ValueError):
            return None

    def names(self) -> Iterator[str]:
        """Names of all files; drafts that a stopped program left are removed on the way."""
        with coded():
            for entry in tuple(os.scandir(self.folder)):
                if entry.is_dir():
                    yield from (file.name for file in os.scandir(entry.path))
                elif entry.name.endswith(PART):
                    Path(entry.path).unlink()

    def destroy(self, names: set[str]) -> None:
        """Remove files, durably; missing ones are fine."""
        with coded():
            for name in names:
                self.path(name).unlink(missing_ok=True)
            for folder in {self.path(name).parent for name in names}:
                if folder.is_dir():
                    sync_folder(folder)


class Draft:
    """A file being written: encrypted as it grows, and gone unless it is kept. Used by one thread at a time."""

    def __init__(self, images: Images, key: bytes) -> None:
        self._images = images
        self._path = images.folder / (secrets.token_hex(16) + PART)
        self._digest = hashlib.sha256()
        self.size = 0
        self._checked = 0
        with coded():
            self._file = open(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b")  # noqa: SIM115
            self._sealed = SealedWriter(self._file, key)

    @property
    def sha256(self) -> str:
        """Of what was written so far."""
        return self._digest.hexdigest()

    def write(self, data: bytes) -> None:
        """Append."""
        if self.size + len(data) - self._checked > CHECK_EVERY:
            self._images.check_room(len(data))
            self._checked = self.size
        with coded():
            self._sealed.write(data)
        self._digest.update(data)
        self.size += len(data)

    def keep(self, kind: str, radiograph: UUID, **more: Any) -> Label:
        """Make the file durable in its place, over one of the same content."""
        label = Label(kind=kind, radiograph=radiograph, sha256=self.sha256, size=self.size, **more)
        name = self._images.name(label.sha256, kind)
        place = self._images.path(name)
        with coded():
            self._sealed.finish(label.model_dump(mode="json", exclude_none=True))
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            make_folder(place.parent)
            self._path.replace(place)
            sync_folder(place.parent)
        return label

    def discard(self) -> None:
        """Throw away what is not kept."""
        with suppress(OSError):  # on a full disk: what was buffered is not wanted any more
            self._file.close()
        with coded():
            self._path.unlink(missing_ok=True)
