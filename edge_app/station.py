"""The device without its screens: locked or open, receiving, reading, storing, sending. Windows and services sit on it.

Every method is safe to call from any thread; those that say "takes long" don't belong on a screen's thread.

Behind a locked screen the station stays open: images go on arriving, being read and sent. Only a start of the program
needs the PIN again before anything can be received.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import UUID

from edge_app import diagnostics
from edge_app.capture.dicom import DicomReceiver, DicomSettings, Happening, Occasion, ReceiverStatus
from edge_app.capture.files import take_file
from edge_app.capture.hot_folder import HotFolder
from edge_app.capture.intake import Arrival, Spool
from edge_app.dicom_setup import addresses, settings_from_json, settings_json
from edge_app.enrolment import credentials, enrol
from edge_app.health import Health, health
from edge_app.hospital_access import HospitalAccess
from edge_app.preferences import Preferences, load_preferences, save_preferences
from edge_app.reading import FilmReader, Screened, screened, screened_picture
from edge_app.reading_desk import ReadingDesk, Request
from edge_app.releases import ReleaseShelf
from edge_app.store.keys import KeyRing, MasterKey
from edge_app.store.store import Store
from edge_app.store.views import Backup, Film, Room, Standing
from edge_app.store.views import Change as Stored
from edge_app.sync import LinkState, SyncClient
from shared.correction import Correction
from shared.errors import FirstRayError
from shared.hospital import Revocation
from shared.prevalence import SitePrevalence
from shared.radiograph import decode_radiograph
from shared.version import VERSION

log = logging.getLogger(__name__)

SETTLE_SECONDS: Final = 20.0
"""How often deletions whose time is over are carried out."""


@dataclass(frozen=True, slots=True)
class Change:
    """Something changed.

    Attributes:
        kind: ``models``, ``film``, ``reading`` (of a film begins), ``picture`` (:meth:`Station.picture_being_read` has
            it), ``read`` (its outcome is stored), ``run``,
            ``patient``, ``delivery``, ``inbox``, ``deletion``, ``link``, ``receiver``, ``refused`` (an image could not
            be taken or read: ``error`` says why), ``revoked``.
        id: of the record, where one is meant.
        error: why, where something failed.
    """

    kind: str
    id: UUID | None = None
    error: FirstRayError | None = None


@dataclass(frozen=True, slots=True)
class StationOptions:
    """How the station starts; what the command line says wins over what the store remembers.

    Attributes:
        release: folder of the model release; None means the installed one.
        prevalence: a site's own prevalences.
        dicom: the receiver's settings; None means as remembered, else the defaults.
        receive: whether to receive at all.
        hot_folder: folder to take images from; None means as remembered, else none.
        hospital: to send to from now on; None means as remembered, else none.
        alone: nobody is there to be asked to which run an image belongs; each image begins one of its own.
    """

    release: Path | None = None
    prevalence: SitePrevalence | None = None
    dicom: DicomSettings | None = None
    receive: bool = True
    hot_folder: Path | None = None
    hospital: HospitalAccess | None = None
    alone: bool = False


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """Whether films can be read, and by what; ``error`` where they cannot."""

    ready: bool
    release: str = ""
    precision: str = ""
    runtime: str = ""
    error: FirstRayError | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """Everything the status screen shows.

    Attributes:
        receiver: None where receiving is switched off; ``receiver.error`` says why it does not listen.
        dicom: the receiver's settings: AE title and port to enter at the X-ray device.
        addresses: this machine's IPv4 addresses, to enter at the X-ray device.
        hot_folder: watched for images; None for none.
        models: what reads films.
        link: None where no hospital is set up.
        standing, room, health: see there.
        reading: films that wait to be read or are being read.
        version: of FirstRay.
    """

    receiver: ReceiverStatus | None
    dicom: DicomSettings
    addresses: tuple[str, ...]
    hot_folder: Path | None
    models: ModelStatus
    link: LinkState | None
    standing: Standing
    room: Room
    health: Health
    reading: int
    version: str = VERSION


@dataclass(slots=True)
class _Running:
    """What runs while the station is open."""

    store: Store
    receiver: DicomReceiver | None = None
    hot_folder: HotFolder | None = None
    watched: Path | None = None
    sync: SyncClient | None = None
    ended: threading.Event = field(default_factory=threading.Event)


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
        self._running: _Running | None = None
        self.preferences: Preferences = load_preferences(folder)
        self._shelf = ReleaseShelf(folder / "releases", installed=self._renew_models)
        self._desk = ReadingDesk(
            FilmReader(self._options.release, self._options.prevalence, self._shelf),
            tries=folder / "reading.json",
            language=lambda: self.preferences.language,
            alone=self._options.alone,
            began=lambda film: notify(Change("reading", film)),
            drawn=lambda film: notify(Change("picture", film)),
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
    def _open(self) -> _Running:
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
            running.ended.set()
            for part in (running.receiver, running.hot_folder, running.sync):
                if part is not None:
                    part.stop()
        self._desk.close()
        if running is not None:
            running.store.close()

    def set_preferences(self, **changes: object) -> None:
        """Change and keep preferences; raises ValueError for a value that is not allowed."""
        self.preferences = Preferences.model_validate({**self.preferences.model_dump(), **changes})
        save_preferences(self._folder, self.preferences)

    def spool(self) -> Spool:
        """Where the ways in put an image; once committed it is read by itself."""
        return _Arriving(self._open.store.spool(), self._arrived)

    def take_file(self, path: Path, run: UUID | None = None) -> UUID:
        """Store a picked file and have it read, as part of ``run`` if one is given. Takes long.

        Raises:
            FirstRayError: as :func:`edge_app.capture.files.take_file`.
        """
        return take_file(path, _Picked(self, run))

    def read_again(self, film: UUID, *, overridden: bool = False, correction: Correction | None = None) -> None:
        """Have a film read once more: in spite of the gate's refusal, corrected as the gate offers, or as it came."""
        self._desk.ask(Request(film, overridden, correction, afresh=not overridden and correction is None))

    def is_reading(self, film: Film) -> bool:
        """Whether a film is being read or waits for its turn; one that nothing here can read is not."""
        return self._desk.reading(film.id) or (film.waiting_to_be_read and self._desk.storing(film.id))

    def picture_being_read(self, film: UUID) -> tuple[Screened, Correction | None] | None:
        """The display picture of a film whose reading is under way, and how it is corrected; None at any other time."""
        return self._desk.picture(film)

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
        receiver = self._open.receiver
        if receiver is None:
            raise RuntimeError("receiving is switched off")
        return receiver.address

    def status(self) -> Status:
        """A snapshot. Takes some milliseconds."""
        running = self._open
        models = self._desk.models
        return Status(
            receiver=running.receiver.status if running.receiver else None,
            dicom=running.receiver.settings if running.receiver else DicomSettings(),
            addresses=addresses(),
            hot_folder=running.watched,
            models=ModelStatus(
                ready=models is not None,
                release=models.release.id if models else "",
                precision=models.variant.precision if models else "",
                runtime=models.variant.runtime if models else "",
                error=self._desk.error,
            ),
            link=running.sync.state if running.sync else None,
            standing=running.store.standing(),
            room=running.store.room(),
            health=health(),
            reading=self._desk.queued,
        )

    def diagnostics(self) -> bytes:
        """A ZIP for support, without patient data."""
        return diagnostics.bundle(self.status())

    def set_hospital(self, access: HospitalAccess | None) -> None:
        """Set up, change or forget the hospital; the sync starts anew."""
        with self._lock:
            running = self._open
            if running.sync is not None:
                running.sync.stop()
                running.sync = None
            running.store.set_setting("hospital", access.to_json() if access else None)
            self._start_sync(running)
        self._notify(Change("link"))

    def enrol(self, url: str, code: str) -> HospitalAccess:
        """Have a hospital take this device on, and send to it from now on. Takes long.

        Raises:
            FirstRayError: as :func:`edge_app.enrolment.enrol`.
        """
        access = enrol(self.store, url, code)
        self.set_hospital(access)
        return access

    def set_dicom(self, settings: DicomSettings) -> None:
        """Receive with other settings from now on, and remember them. Raises ``dicom_port_in_use``."""
        with self._lock:
            running = self._open
            if running.receiver is not None:
                running.receiver.stop()
            running.store.set_setting("dicom", settings_json(settings))
            self._start_receiver(running, settings)
            if running.receiver is not None and running.receiver.status.error:
                raise running.receiver.status.error

    def set_hot_folder(self, folder: Path | None) -> None:
        """Watch another folder, or none, from now on, and remember it."""
        with self._lock:
            running = self._open
            running.store.set_setting("hot_folder", str(folder) if folder else None)
            self._start_hot_folder(running, folder)
        self._notify(Change("receiver"))

    def _start(self, key: MasterKey) -> None:
        try:
            store = Store.open(self._folder, key)
        finally:
            key.close()
        self._running = running = _Running(store)
        store.listen(self._stored)
        self._desk.open(store)
        if self._options.receive:
            self._start_receiver(running, self._options.dicom or self._remembered_dicom(store))
        remembered = store.setting("hot_folder")
        self._start_hot_folder(running, self._options.hot_folder or (Path(remembered) if remembered else None))
        if self._options.hospital is not None:
            store.set_setting("hospital", self._options.hospital.to_json())
        self._start_sync(running)
        threading.Thread(target=self._settle, args=(running,), name="settling", daemon=True).start()

    @staticmethod
    def _remembered_dicom(store: Store) -> DicomSettings:
        remembered = store.setting("dicom")
        return settings_from_json(remembered) if remembered else DicomSettings()

    def _start_receiver(self, running: _Running, settings: DicomSettings) -> None:
        """Receive; where that is not possible the station goes on without, and says so."""
        running.receiver = DicomReceiver(self, settings, on_event=self._happened)
        try:
            running.receiver.start()
        except FirstRayError as error:
            log.warning("The DICOM receiver does not listen: %s", error.code)
        self._notify(Change("receiver", error=running.receiver.status.error))

    def _start_hot_folder(self, running: _Running, folder: Path | None) -> None:
        if running.hot_folder is not None:
            running.hot_folder.stop()
        running.watched = folder
        running.hot_folder = HotFolder(
            self,
            folder,
            on_problem=lambda problem: self._notify(Change("refused", error=problem.error)),
            recall=lambda: running.store.setting("files_taken", []),
            remember=lambda marks: running.store.set_setting("files_taken", marks),
        )
        running.hot_folder.start()

    def _start_sync(self, running: _Running) -> None:
        remembered = running.store.setting("hospital")
        if remembered is None:
            return
        access = HospitalAccess.from_json(remembered)
        running.sync = SyncClient(
            running.store.outbox,
            access.hospital,
            credentials(running.store, access),
            on_state=lambda _: self._notify(Change("link")),
            on_revoked=self._revoked,
            on_release=self._shelf.offered,
            shelf=self._shelf,
        )
        running.sync.start()

    def _settle(self, running: _Running) -> None:
        while not running.ended.wait(SETTLE_SECONDS):
            try:
                running.store.settle(datetime.now(UTC))
            except FirstRayError as error:
                log.warning("Deletions could not be carried out: %s", error.code)

    def _stored(self, change: Stored) -> None:
        """After each commit of the store."""
        self._notify(Change(change.kind, change.id))
        running = self._running
        if running is not None and running.sync is not None and change.kind in ("run", "film", "patient", "deletion"):
            running.sync.wake()

    def _arrived(self, film: UUID, run: UUID | None = None) -> None:
        """An image is safely stored."""
        store = self.store
        if run is not None:
            store.assign(film, run)
        if store.film(film).waiting_to_be_read:
            self._desk.ask(Request(film))
        self._notify(Change("film", film))

    def _film_read(self, film: UUID, error: FirstRayError | None) -> None:
        self._notify(Change("refused" if error else "read", film, error))

    def _renew_models(self) -> None:
        """Another release was installed."""
        self._desk.renew()

    def _happened(self, happening: Happening) -> None:
        if happening.occasion is Occasion.REFUSED:
            self._notify(Change("refused", error=happening.error))
        self._notify(Change("receiver"))

    def _revoked(self, revocation: Revocation) -> None:
        """The hospital no longer trusts this device."""
        if revocation.wipe:
            self._keys.destroy()
            threading.Thread(target=self.close, name="wiping", daemon=True).start()
        self._notify(Change("revoked"))


class _Arriving:
    """A spool of the store that has the film read once it is committed."""

    def __init__(self, spool: Spool, arrived: Callable[[UUID], None]) -> None:
        self._spool = spool
        self._arrived = arrived

    def __enter__(self) -> _Arriving:
        self._spool.__enter__()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._spool.__exit__(kind, error, trace)  # type: ignore[arg-type]

    def write(self, data: bytes) -> None:
        """As the store's spool."""
        self._spool.write(data)

    def commit(self, arrival: Arrival) -> UUID:
        """As the store's spool."""
        film = self._spool.commit(arrival)
        self._arrived(film)
        return film


class _Picked:
    """The way in of a picked file, which knows its run."""

    def __init__(self, station: Station, run: UUID | None) -> None:
        self._station = station
        self._run = run

    def spool(self) -> Spool:
        """As the station's."""
        station, run = self._station, self._run
        return _Arriving(station.store.spool(), lambda film: station._arrived(film, run))
