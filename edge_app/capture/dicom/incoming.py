"""One object on its way from the wire into the store."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from uuid import UUID

from edge_app.capture.dicom.errors import as_error, dicom_error
from edge_app.capture.dicom.part10 import HEAD_BYTES, Label, check_head, file_start
from edge_app.capture.dicom.settings import DicomSettings
from edge_app.capture.intake import Arrival, Intake, Source, Spool
from shared.errors import FirstRayError


class Incoming:
    """Passes an object's fragments to a spool as they arrive, and commits it when it is whole.

    The bytes are nowhere but in the spool, except for the first 64 KiB, which are kept in memory to be checked. When
    the store refuses, the rest is counted and thrown away, so that the sender can be told by the answer.

    Fragments come from one thread, the commit from another, and :meth:`discard` from either.

    Args:
        intake: the store.
        label: what the C-STORE-RQ says.
        station: calling AE title, printable, or None.
        settings: the limits.
    """

    def __init__(self, intake: Intake, label: Label, station: str | None, settings: DicomSettings) -> None:
        self.label = label
        self.station = station
        self._most = settings.object_bytes
        self._deadline = time.monotonic() + settings.object_seconds
        self._lock = threading.Lock()
        self._head = bytearray()
        self._bytes = 0
        self._failure: FirstRayError | None = None
        self._open = ExitStack()
        self._spool: Spool | None = None
        try:
            self._spool = self._open.enter_context(intake.spool())
        except Exception as error:  # noqa: BLE001  kept for the answer
            self._failure = as_error(error)
        self._write(file_start(label))

    def write(self, fragment: bytes) -> None:
        """Take the next fragment of the data set.

        Raises:
            FirstRayError: ``dicom_object_too_large`` or ``dicom_too_slow``: the association must be aborted.
        """
        if time.monotonic() > self._deadline:
            raise dicom_error("dicom_too_slow")
        if len(self._head) < HEAD_BYTES:
            self._head += fragment[: HEAD_BYTES - len(self._head)]
        self._write(fragment)

    def _write(self, data: bytes) -> None:
        self._bytes += len(data)
        if self._bytes > self._most:
            raise dicom_error("dicom_object_too_large")
        with self._lock:
            if self._spool is None:
                return
            try:
                self._spool.write(data)
            except Exception as error:  # noqa: BLE001  kept for the answer
                self._failure = as_error(error)
                self._close()

    def commit(self) -> UUID:
        """Make the whole object durable.

        Returns:
            Its id.

        Raises:
            FirstRayError: of the store (now or while it was written), ``dicom_class_mismatch``,
                ``dicom_not_understood``; nothing of it is kept then.
        """
        with self._lock:
            try:
                if self._failure is None:
                    check_head(bytes(self._head), self.label)
                if self._failure is not None or self._spool is None:
                    raise self._failure or dicom_error("dicom_cut_off")
                return self._spool.commit(Arrival(Source.DICOM, self.station, datetime.now(UTC)))
            except Exception as error:
                raise as_error(error) from error
            finally:
                self._close()

    def discard(self) -> None:
        """Throw away what arrived, unless it is committed. Waits for a running commit."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        self._spool = None
        self._open.close()
