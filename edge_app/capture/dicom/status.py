"""What the receiver tells about itself: its status for the screen, and each thing that happened."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from edge_app.capture.dicom.errors import dicom_error
from shared.errors import FirstRayError

LOG: Final = logging.getLogger(__name__)


class Occasion(StrEnum):
    """What happened at the receiver."""

    ASSOCIATED = "associated"
    RECEIVED = "received"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that happened.

    Attributes:
        occasion: an association was established, a radiograph is durably stored, or something was refused.
        at: when, UTC.
        station: calling AE title, as far as known.
        radiograph: id of what was stored (RECEIVED).
        error: why it was refused (REFUSED): a code of :data:`edge_app.capture.dicom.errors.ERRORS` or of the store.
    """

    occasion: Occasion
    at: datetime
    station: str | None = None
    radiograph: UUID | None = None
    error: FirstRayError | None = None


@dataclass(frozen=True, slots=True)
class ReceiverStatus:
    """The receiver at one moment.

    Attributes:
        listening: whether devices can connect.
        error: why not, where starting failed.
        last_associated: the last association established.
        last_received: the last radiograph stored.
        last_refused: the last refusal.
        received: radiographs stored since the start, those sent twice counted twice.
        refused: connections, associations and objects refused since the start.
    """

    listening: bool = False
    error: FirstRayError | None = None
    last_associated: Happening | None = None
    last_received: Happening | None = None
    last_refused: Happening | None = None
    received: int = 0
    refused: int = 0

    @property
    def problem(self) -> FirstRayError | None:
        """Why no device can connect; None where they can."""
        return None if self.listening else self.error or dicom_error("dicom_not_listening")


class Bulletin:
    """Keeps the status and passes on what happens. Safe to use from several threads."""

    def __init__(self, on_event: Callable[[Happening], None] | None) -> None:
        self._on_event = on_event
        self._lock = threading.Lock()
        self._status = ReceiverStatus()

    @property
    def status(self) -> ReceiverStatus:
        """The status now."""
        with self._lock:
            return self._status

    def listening(self, listening: bool, error: FirstRayError | None = None) -> None:
        """The receiver began or ended to listen, or could not."""
        with self._lock:
            self._status = replace(self._status, listening=listening, error=error)
        LOG.info("DICOM receiver %s", "listens" if listening else error.code if error else "stopped")

    def associated(self, station: str | None) -> None:
        """An association was established."""
        happening = Happening(Occasion.ASSOCIATED, datetime.now(UTC), station)
        with self._lock:
            self._status = replace(self._status, last_associated=happening)
        self._tell(happening)

    def received(self, station: str | None, radiograph: UUID) -> None:
        """A radiograph is durably stored."""
        happening = Happening(Occasion.RECEIVED, datetime.now(UTC), station, radiograph)
        with self._lock:
            self._status = replace(self._status, last_received=happening, received=self._status.received + 1)
        LOG.info("radiograph %s stored", radiograph)
        self._tell(happening)

    def refused(self, station: str | None, error: FirstRayError) -> None:
        """A connection, association or object was refused."""
        happening = Happening(Occasion.REFUSED, datetime.now(UTC), station, error=error)
        with self._lock:
            self._status = replace(self._status, last_refused=happening, refused=self._status.refused + 1)
        LOG.warning("refused: %s", error.code)
        self._tell(happening)

    def _tell(self, happening: Happening) -> None:
        if self._on_event is None:
            return
        try:
            self._on_event(happening)
        except Exception as error:  # noqa: BLE001  a mistake in a listener must not cost an image
            LOG.error("a listener failed: %s", type(error).__name__)
