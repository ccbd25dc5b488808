"""The device without its screens: locked or open, receiving, reading, storing, sending. Windows and services sit on it.

Every method is safe to call from any thread; those that say "takes long" don't belong on a screen's thread.

Behind a locked screen the station stays open: images go on arriving, being read and sent. Only a start of the program
needs the PIN again before anything can be received.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from edge_app import diagnostics
from edge_app.arrivals import Arrivals
from edge_app.capture.dicom import DicomSettings
from edge_app.capture.intake import Spool
from edge_app.enrolment import Recognised, recognise, register
from edge_app.hospital_access import HospitalAccess
from edge_app.preferences import Preferences, load_preferences, save_preferences
from edge_app.reading import FilmReader, Screened, screened, screened_picture
from edge_app.reading_desk import ReadingDesk, Request, UnderWay
from edge_app.releases import ReleaseShelf
from edge_app.running import Running
from edge_app.station_views import Change, ModelStatus, StationOptions, Status
from edge_app.store.keys import KeyRing, MasterKey
from edge_app.store.store import Store
from edge_app.store.views import Backup, Film
from edge_app.store.views import Change as Stored
from shared.correction import Correction
from shared.errors import FirstRayError
from shared.hospital import Revocation
from shared.radiograph import decode_radiograph

__all__ = ["Change", "ModelStatus", "Station", "StationOptions", "Status"]


class Station:
    """One device.

    Args:
        folder: where everything is kept; made if it does not exist.
        options: see :class:`StationOptions`.
        notify: called after every change, on any thread; must return soon.
    """

    def __init__(
        self, folder: Path, *, options: StationOptions | None = None, notify: Callable[[Change], None] = lambda _: None
    ) -> None:
        self._folder = folder
        self._options = options or StationOptions()
        self._notify = notify
        self._keys = KeyRing(folder)
        self._lock = threading.RLock()
        self._running: Running | None = None
        self._arrivals = Arrivals(lambda: self.store, self._arrived)
        self.preferences: Preferences = load_preferences(folder)
        self._shelf = ReleaseShelf(folder / "releases", installed=self._renew_models)
        self._desk = ReadingDesk(
            FilmReader(self._options.release, self._options.prevalence, self._shelf),
            tries=folder / "reading.json",
            language=lambda: self.preferences.language,
            alone=self._options.alone,
            began=lambda film: notify(Change("reading", film)),
            drawn=lambda film: notify(Change("picture", film)),
            found=lambda film: notify(Change("found", film)),
            read=self._film_read,
            models_changed=lambda: notify(Change("models", error=self._desk.error)),
        )

    @property
    def is_new(self) -> bool:
        """No PIN was ever chosen."""
        return not self._keys.exists

    @property
    def is_open(self) -> bool:
        """The key is in memory; images are received, read and sent, also behind a locked screen."""
        return self._running is not None

    @property
    def store(self) -> Store:
        """The open store; raises FirstRayError ``store_closed`` before it was unlocked."""
        return self._open.store

    @property
    def _open(self) -> Running:
        if self._running is None:
            raise FirstRayError("store_closed", "The records are locked.", "Unlock with the PIN.")
        return self._running

    def warm_up(self) -> None:
        """Load the models in the background; returns at once."""
        self._desk.start()

    def set_up(self, pin: str) -> None:
        """Choose the PIN of a new device, and open it. Takes long.

        Raises:
            FirstRayError: as :meth:`KeyRing.create` and ``Store.open``.
        """
        with self._lock:
            self._start(self._keys.create(pin))

    def unlock(self, pin: str) -> None:
        """Open the station, or, where it is open behind a locked screen, only check the PIN. Takes long.

        Raises:
            PinWrong, FirstRayError: as :meth:`KeyRing.unlock` and ``Store.open``.
        """
        with self._lock:
            key = self._keys.unlock(pin)
            if self._running is not None:
                key.close()
                return
            self._start(key)

    def backups(self) -> tuple[Backup, ...]:
        """Backups of the database, latest first."""
        return Store.backups(self._folder)

    def restore(self, pin: str, backup: Backup | None) -> None:
        """Replace a damaged database by a backup (None: by an empty one), then open it. Takes long.

        Raises:
            FirstRayError: as :meth:`unlock` and ``Store.restore``.
        """
        with self._lock:
            key = self._keys.unlock(pin)
            Store.restore(self._folder, key, backup)
            self._start(key)

    def change_pin(self, old: str, new: str) -> None:
        """Takes long. Raises as :meth:`unlock` and :meth:`set_up`."""
        self._keys.change_pin(old, new)

    def close(self) -> None:
        """Stop receiving and sending, finish what is being read, close the store. Takes up to a few seconds."""
        with self._lock:
            running, self._running = self._running, None
        if running is not None:
            running.stop()
        self._desk.close()
        if running is not None:
            running.store.close()

    def set_preferences(self, **changes: object) -> None:
        """Change and keep preferences; raises ValueError for a value that is not allowed."""
        self.preferences = Preferences.model_validate({**self.preferences.model_dump(), **changes})
        save_preferences(self._folder, self.preferences)

    def spool(self) -> Spool:
        """Where the ways in put an image; once committed it is read by itself."""
        return self._arrivals.spool()

    def take_file(self, path: Path, run: UUID | None = None) -> UUID:
        """Store a picked file and have it read, as part of ``run`` if one is given. Takes long.

        Raises:
            FirstRayError: as :func:`edge_app.capture.files.take_file`.
        """
        return self._arrivals.take_file(path, run)

    def read_again(self, film: UUID, *, overridden: bool = False, correction: Correction | None = None) -> None:
        """Have a film read once more: in spite of the gate's refusal, corrected as the gate offers, or as it came."""
        self._desk.ask(Request(film, overridden, correction, afresh=not overridden and correction is None))

    def is_reading(self, film: Film) -> bool:
        """Whether a film is being read or waits for its turn; one that nothing here can read is not."""
        return self._desk.reading(film.id) or (film.waiting_to_be_read and self._desk.storing(film.id))

    @property
    def is_busy(self) -> bool:
        """Whether any film is being read or waits for it."""
        return self._desk.queued > 0

    def under_way(self, film: UUID) -> UnderWay | None:
        """Picture of a film whose reading is under way, and what was found in it so far; None at any other time."""
        return self._desk.under_way(film)

    def picture(self, film: UUID, diagnosis: UUID | None = None) -> Screened:
        """The display picture as it was read, at most 2048 pixels a side. Takes some ten milliseconds."""
        return screened_picture(self.store.picture(film, diagnosis))

    def pixels(self, film: UUID) -> Screened:
        """The original in its full depth, corrected as its diagnosis says. Takes long.

        Raises:
            FirstRayError: ``image_damaged``, or of ``shared.radiograph`` where it cannot be decoded.
        """
        diagnosis = self.store.film(film).diagnosis
        correction = diagnosis.correction if diagnosis else None
        radiograph = self._desk.recent(film, correction)
        if radiograph is None:
            radiograph = decode_radiograph(self.store.original(film))
            if correction:
                radiograph = radiograph.corrected(correction)
        return screened(radiograph)

    @property
    def dicom_address(self) -> tuple[str, int]:
        """Host and port the receiver listens on; raises RuntimeError where it does not."""
        return self._open.dicom_address

    def status(self) -> Status:
        """A snapshot. Takes some milliseconds."""
        return self._open.status(ModelStatus.of(self._desk.models, self._desk.error), self._desk.queued)

    def diagnostics(self) -> bytes:
        """A ZIP for support, without patient data."""
        return diagnostics.bundle(self.status())

    def set_hospital(self, access: HospitalAccess | None) -> None:
        """Set up, change or forget the hospital; the sync starts anew."""
        with self._lock:
            self._open.set_hospital(access)
        self._notify(Change("link"))

    def recognise(self, url: str, code: str) -> Recognised:
        """Find out whose hospital answers, without telling it anything. Takes long.

        Raises:
            FirstRayError: as :func:`edge_app.enrolment.recognise`.
        """
        return recognise(url, code)

    def register(self, recognised: Recognised) -> HospitalAccess:
        """Have a recognised hospital take this device on, and send to it from now on. Takes long.

        Raises:
            FirstRayError: as :func:`edge_app.enrolment.register`.
        """
        access = register(self.store, recognised)
        self.set_hospital(access)
        return access

    def enrol(self, url: str, code: str) -> HospitalAccess:
        """:meth:`recognise` and :meth:`register` in one, where nobody is there to be asked in between."""
        return self.register(self.recognise(url, code))

    def set_dicom(self, settings: DicomSettings) -> None:
        """Receive with other settings from now on, and remember them. Raises ``dicom_port_in_use``."""
        with self._lock:
            self._open.set_dicom(settings)

    def set_hot_folder(self, folder: Path | None) -> None:
        """Watch another folder, or none, from now on, and remember it."""
        with self._lock:
            self._open.set_hot_folder(folder)
        self._notify(Change("receiver"))

    def _start(self, key: MasterKey) -> None:
        try:
            store = Store.open(self._folder, key)
        finally:
            key.close()
        self._running = running = Running(
            store, self._arrivals, self._shelf, notify=self._notify, revoked=self._revoked
        )
        store.listen(self._stored)
        self._desk.open(store)
        running.start(self._options)

    def _stored(self, change: Stored) -> None:
        """After each commit of the store."""
        self._notify(Change(change.kind, change.id))
        running = self._running
        if running is not None and change.kind in ("run", "film", "patient", "deletion"):
            running.wake_sync()

    def _arrived(self, film: UUID, data: bytes | None) -> None:
        """An image is safely stored."""
        if self.store.film(film).waiting_to_be_read:
            self._desk.ask(Request(film), data)
        self._notify(Change("film", film))

    def _film_read(self, film: UUID, error: FirstRayError | None) -> None:
        self._notify(Change("refused" if error else "read", film, error))

    def _renew_models(self) -> None:
        """Another release was installed."""
        self._desk.renew()

    def _revoked(self, revocation: Revocation) -> None:
        """The hospital no longer trusts this device."""
        if revocation.wipe:
            self._keys.destroy()
            threading.Thread(target=self.close, name="wiping", daemon=True).start()
        self._notify(Change("revoked"))
