"""A station without receiver, models and screens over a real store, and the thread of a user interface by hand."""

import io
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
from PIL import Image

from edge_app.capture.dicom import DicomSettings, ReceiverStatus
from edge_app.enrolment import Recognised
from edge_app.health import Health
from edge_app.hospital_access import HospitalAccess
from edge_app.reading import Screened, screened_picture
from edge_app.reading_desk import UnderWay
from edge_app.station import Change, ModelStatus, Status
from edge_app.store.store import Store
from edge_app.store.views import Backup, Film
from edge_app.sync import LinkState
from edge_app.ui.presenters.desk import Desk, Presenter
from edge_app.ui.presenters.shell import ShellPresenter
from shared.correction import Correction
from shared.diagnosis import Diagnosis
from shared.errors import FirstRayError
from tests.unit.edge_app.store.samples import diagnosis, receive

SECONDS = 60.0


def picture(grey: int = 120) -> bytes:
    """A stored display picture."""
    out = io.BytesIO()
    Image.fromarray(np.full((80, 60), grey, np.uint8)).save(out, "JPEG", quality=95)
    return out.getvalue()


@dataclass
class FakeStation:
    """What presenters see of a station. ``answers`` are the outcomes of the next tries to unlock."""

    store: Store
    is_new: bool = False
    answers: list[FirstRayError | None] = field(default_factory=list)
    saved: tuple[Backup, ...] = ()
    pins: list[tuple[str, str]] = field(default_factory=list)
    asked: list[tuple[UUID, bool, Correction | None]] = field(default_factory=list)
    being_read: set[UUID] = field(default_factory=set)
    taken: list[Path] = field(default_factory=list)
    dicom: DicomSettings = field(default_factory=DicomSettings)
    hot_folder: Path | None = None
    originals: int = 0
    receiver_error: FirstRayError | None = None
    models_error: FirstRayError | None = None
    hospital: HospitalAccess | None = None
    link: LinkState | None = None
    answering: dict[str, Recognised] = field(default_factory=dict)
    early: dict[UUID, UnderWay] = field(default_factory=dict)

    def _try(self, what: str, pin: str) -> None:
        self.pins.append((what, pin))
        if self.answers and (answer := self.answers.pop(0)) is not None:
            raise answer

    def set_up(self, pin: str) -> None:
        self._try("set_up", pin)
        self.is_new = False

    def unlock(self, pin: str) -> None:
        self._try("unlock", pin)

    def restore(self, pin: str, backup: Backup | None) -> None:
        self._try(f"restore {backup.name if backup else 'nothing'}", pin)

    def backups(self) -> tuple[Backup, ...]:
        return self.saved

    def change_pin(self, old: str, new: str) -> None:
        self._try(f"change {old}", new)

    def take_file(self, path: Path, run: UUID | None = None) -> UUID:
        self.taken.append(path)
        if not path.exists():
            raise FirstRayError("file_missing", "There is no such file.", "Check the name.")
        film = receive(self.store, path.read_bytes())
        if run is not None:
            self.store.assign(film, run)
        return film

    def read_again(self, film: UUID, *, overridden: bool = False, correction: Correction | None = None) -> None:
        self.asked.append((film, overridden, correction))
        self.being_read.add(film)

    def is_reading(self, film: Film) -> bool:
        return film.id in self.being_read

    def picture(self, film: UUID, diagnosis: UUID | None = None) -> Screened:
        return screened_picture(self.store.picture(film, diagnosis))

    def under_way(self, film: UUID) -> UnderWay | None:
        return self.early.get(film)

    def pixels(self, film: UUID) -> Screened:
        self.originals += 1
        return Screened(np.full((160, 120), 2000, np.uint16), 1000.0, 3000.0)

    def status(self) -> Status:
        return Status(
            receiver=ReceiverStatus(listening=self.receiver_error is None, error=self.receiver_error),
            dicom=self.dicom,
            addresses=("192.0.2.7",),
            hot_folder=self.hot_folder,
            models=ModelStatus(ready=True, release="r1", precision="int8", runtime="litert", error=self.models_error),
            link=self.link,
            standing=self.store.standing(),
            room=self.store.room(),
            health=Health(None, None, None, 300.0, 1000.0, 60.0),
            reading=len(self.being_read),
            hospital=self.hospital,
        )

    def diagnostics(self) -> bytes:
        return b"PK"

    def set_dicom(self, settings: DicomSettings) -> None:
        self._try("dicom", settings.ae_title)
        self.dicom = settings

    def recognise(self, url: str, code: str) -> Recognised:
        self._try(f"recognise {url}", code)
        return self.answering[url]

    def register(self, recognised: Recognised) -> HospitalAccess:
        self._try("register", recognised.hospital.name)
        self.hospital = HospitalAccess(recognised.hospital, token_url="https://x/v1/token")
        return self.hospital

    def set_hot_folder(self, folder: Path | None) -> None:
        self.hot_folder = folder


class WatchedDesk(Desk):
    """Knows how much it was given that is not done yet."""

    def __init__(self, post: Callable[[Callable[[], None]], None]) -> None:
        super().__init__(post)
        self.left = 0
        self._counting = threading.Lock()

    def run(self, *arguments: Any, **options: Any) -> None:
        self._count(1)
        super().run(*arguments, **options)

    def _work(self, *arguments: Any) -> None:
        try:
            super()._work(*arguments)
        finally:
            self._count(-1)

    def _count(self, more: int) -> None:
        with self._counting:
            self.left += more


class Rig:
    """The user interface's thread: what workers post runs when :meth:`wait` is called."""

    def __init__(self, store: Store) -> None:
        self.posted: queue.Queue[Callable[[], None]] = queue.Queue()
        self.store = store
        self.station: Any = FakeStation(store)
        self.desk = WatchedDesk(self.posted.put)
        self.open: Presenter[Any] | None = None
        store.listen(lambda change: self.posted.put(lambda: self._changed(Change(change.kind, change.id))))

    def _changed(self, change: Change) -> None:
        if isinstance(self.open, ShellPresenter):
            self.open.changed(change)
        elif self.open is not None:
            self.open.reload()

    def watch(self, presenter: Presenter[Any]) -> Any:
        """Open a presenter, as the frame does; it hears of changes from now on."""
        self.open = presenter
        presenter.reload()
        return presenter

    def wait(self, until: Callable[[], object], what: str = "") -> None:
        """Run what is posted until something is true."""
        end = time.monotonic() + SECONDS
        while not until():
            left = end - time.monotonic()
            assert left > 0, f"waited in vain {what}"
            try:
                self.posted.get(timeout=min(left, 0.2))()
            except queue.Empty:
                continue

    def settle(self) -> None:
        """Run what is posted until nobody works any more and nothing comes."""
        end = time.monotonic() + SECONDS
        while True:
            busy = self.desk.left
            try:
                self.posted.get(timeout=0.3)()
            except queue.Empty:
                if not busy:
                    return
            assert time.monotonic() < end, "it never settles"

    def film(self, run: UUID | None, result: Diagnosis | None = None, **reading: Any) -> UUID:
        """A radiograph that was received and read."""
        film = receive(self.store)
        if run is not None:
            self.store.assign(film, run)
        self.read(film, result, **reading)
        return film

    def read(self, film: UUID, result: Diagnosis | None = None, **reading: Any) -> UUID:
        """Store one more reading of a radiograph."""
        fields = {"diagnosis": result or diagnosis(), "error": None, "picture": picture()} | reading
        return self.store.add_reading(film, **fields)
