"""What runs while the device is open: the receiver, the watched folder, the sync with the hospital, deletions."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from edge_app.capture.dicom import DicomReceiver, DicomSettings, Happening, Occasion, ReceiverStatus
from edge_app.capture.hot_folder import HotFolder
from edge_app.capture.intake import Intake
from edge_app.dicom_setup import addresses, settings_from_json, settings_json
from edge_app.enrolment import credentials
from edge_app.health import health
from edge_app.hospital_access import HospitalAccess
from edge_app.releases import ReleaseShelf
from edge_app.station_views import Change, ModelStatus, StationOptions, Status
from edge_app.store.store import Store
from edge_app.sync import SyncClient
from shared.errors import FirstRayError
from shared.hospital import Revocation

log = logging.getLogger(__name__)

SETTLE_SECONDS: Final = 20.0
"""How often deletions whose time is over are carried out."""


class Running:
    """Begins with :meth:`start`, ends with :meth:`stop`.

    One thread at a time may change anything; :meth:`status` and :meth:`wake_sync` may be called by any meanwhile.

    Args:
        store: open; closed by whoever opened it.
        way_in: where images go that come in.
        shelf: of model releases the hospital offers.
        notify: called after every change of receiver and link, on any thread.
        revoked: called once the hospital no longer trusts this device.
    """

    def __init__(
        self,
        store: Store,
        way_in: Intake,
        shelf: ReleaseShelf,
        *,
        notify: Callable[[Change], None],
        revoked: Callable[[Revocation], None],
    ) -> None:
        self.store = store
        self._watched: Path | None = None
        self._access: HospitalAccess | None = None
        self._way_in = way_in
        self._shelf = shelf
        self._notify = notify
        self._revoked = revoked
        self._receiver: DicomReceiver | None = None
        self._hot_folder: HotFolder | None = None
        self._sync: SyncClient | None = None
        self._ended = threading.Event()

    def start(self, options: StationOptions) -> None:
        """Begin everything; what the options leave open is as the store remembers it."""
        store = self.store
        if options.receive:
            self._receive(options.dicom or self._remembered_dicom())
        remembered = store.setting("hot_folder")
        self._watch(options.hot_folder or (Path(remembered) if remembered else None))
        if options.hospital is not None:
            store.set_setting("hospital", options.hospital.to_json())
        self._synchronise()
        threading.Thread(target=self._settle, name="settling", daemon=True).start()

    def stop(self) -> None:
        """End everything but the store. Takes up to a few seconds."""
        self._ended.set()
        for part in (self._receiver, self._hot_folder, self._sync):
            if part is not None:
                part.stop()

    @property
    def dicom_address(self) -> tuple[str, int]:
        """Host and port the receiver listens on; raises RuntimeError where it does not."""
        if self._receiver is None:
            raise RuntimeError("receiving is switched off")
        return self._receiver.address

    def status(self, models: ModelStatus, reading: int) -> Status:
        """A snapshot. Takes some milliseconds.

        Args:
            models: that read films.
            reading: films that wait to be read or are being read.
        """
        receiver, sync = self._receiver, self._sync
        return Status(
            receiver=receiver.status if receiver else None,
            dicom=receiver.settings if receiver else DicomSettings(),
            addresses=addresses(),
            hot_folder=self._watched,
            models=models,
            link=sync.state if sync else None,
            standing=self.store.standing(),
            room=self.store.room(),
            health=health(),
            reading=reading,
            hospital=self._access,
        )

    def wake_sync(self) -> None:
        """There may be something to send."""
        if (sync := self._sync) is not None:
            sync.wake()

    def set_dicom(self, settings: DicomSettings) -> None:
        """Receive with other settings from now on, and remember them; where that fails, go on with those before.

        Raises:
            FirstRayError: ``dicom_port_in_use``, ``dicom_address_unavailable``, or of the store.
        """
        before, remembered = self._receiver, self.store.setting("dicom")
        self.store.set_setting("dicom", settings_json(settings))  # where this fails, nothing was stopped yet
        if before is not None:
            before.stop()
        if error := self._receive(settings).error:
            if before is not None:
                self._receive(before.settings)
            self.store.set_setting("dicom", remembered)
            raise error

    def set_hot_folder(self, folder: Path | None) -> None:
        """Watch another folder, or none, from now on, and remember it."""
        self.store.set_setting("hot_folder", str(folder) if folder else None)
        self._watch(folder)

    def set_hospital(self, access: HospitalAccess | None) -> None:
        """Set up, change or forget the hospital; the sync starts anew."""
        if self._sync is not None:
            self._sync.stop()
            self._sync = None
        self.store.set_setting("hospital", access.to_json() if access else None)
        self._synchronise()

    def _remembered_dicom(self) -> DicomSettings:
        remembered = self.store.setting("dicom")
        return settings_from_json(remembered) if remembered else DicomSettings()

    def _receive(self, settings: DicomSettings) -> ReceiverStatus:
        """Receive; where that is not possible the device goes on without, and says so."""
        self._receiver = receiver = DicomReceiver(self._way_in, settings, on_event=self._happened)
        try:
            receiver.start()
        except FirstRayError as error:
            log.warning("The DICOM receiver does not listen: %s", error.code)
        self._notify(Change("receiver", error=receiver.status.error))
        return receiver.status

    def _watch(self, folder: Path | None) -> None:
        if self._hot_folder is not None:
            self._hot_folder.stop()
        self._watched = folder
        self._hot_folder = HotFolder(
            self._way_in,
            folder,
            on_problem=lambda problem: self._notify(Change("refused", error=problem.error)),
            recall=lambda: self.store.setting("files_taken", []),
            remember=lambda marks: self.store.set_setting("files_taken", marks),
        )
        self._hot_folder.start()

    def _synchronise(self) -> None:
        remembered = self.store.setting("hospital")
        self._access = None if remembered is None else HospitalAccess.from_json(remembered)
        if self._access is None:
            return
        self._sync = SyncClient(
            self.store.outbox,
            self._access.hospital,
            credentials(self.store, self._access),
            on_state=lambda _: self._notify(Change("link")),
            on_revoked=self._revoked,
            on_release=self._shelf.offered,
            shelf=self._shelf,
        )
        self._sync.start()

    def _settle(self) -> None:
        while not self._ended.wait(SETTLE_SECONDS):
            try:
                self.store.settle(datetime.now(UTC))
            except FirstRayError as error:
                log.warning("Deletions could not be carried out: %s", error.code)

    def _happened(self, happening: Happening) -> None:
        if happening.occasion is Occasion.REFUSED:
            self._notify(Change("refused", error=happening.error))
        self._notify(Change("receiver"))
