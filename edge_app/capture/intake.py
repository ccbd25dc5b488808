"""What the ways in need of the store: a spool to write a radiograph's bytes into, and to commit."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from types import TracebackType
from typing import Protocol, Self
from uuid import UUID

MAX_STATION = 16
"""Longest AE title (PS3.5 6.2)."""


class Source(StrEnum):
    """The way a radiograph came in."""

    DICOM = "dicom"
    FILE = "file"
    FOLDER = "folder"


@dataclass(frozen=True, slots=True)
class Arrival:
    """Where a radiograph came from, and when.

    Attributes:
        source: the way in.
        station: the calling AE title of the device that sent it, at most 16 printable characters; None for files.
        received_at: when its last byte was here, in UTC.
    """

    source: Source
    station: str | None
    received_at: datetime

    def __post_init__(self) -> None:
        if self.station is not None and not (self.station.isprintable() and len(self.station) <= MAX_STATION):
            raise ValueError("not an AE title")
        if self.received_at.utcoffset() != timedelta(0):
            raise ValueError("received_at must be in UTC")


class Spool(Protocol):
    """One radiograph on its way into the store.

    A context manager: what was written is thrown away on exit unless :meth:`commit` returned. Used by one thread at a
    time, not always by the one that opened it (the DICOM receiver writes and commits on different threads).
    """

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def write(self, data: bytes) -> None:
        """Append bytes of the file, any number. Never in the clear on the disk.

        Raises:
            FirstRayError: ``disk_full``, ``disk_read_only``, ``store_locked``, ``store_damaged``.
        """

    def commit(self, arrival: Arrival) -> UUID:
        """Make the radiograph durable: encrypted, on the disk, its record and event committed.

        Returns:
            The radiograph's id. The same bytes again give the same id and no second record.

        Raises:
            FirstRayError: as :meth:`write`.
        """


class Intake(Protocol):
    """The store, as seen from the ways in. Any number of spools may be open at once."""

    def spool(self) -> Spool:
        """Begin a radiograph.

        Raises:
            FirstRayError: ``store_locked``, ``disk_full``, ``disk_read_only``.
        """
