"""Reads the films that wait, one after the other, on a thread of its own, and stores what it read."""

from __future__ import annotations

import ctypes
import json
import logging
import sys
import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import UUID

from edge_app.attaching import run_for
from edge_app.reading import ERRORS, FilmReader, Reading, Screened
from shared.correction import Correction
from shared.diagnosis import Diagnoser
from shared.errors import FirstRayError
from shared.overlay import Language
from shared.radiograph import Radiograph

if TYPE_CHECKING:
    from edge_app.store.store import Store

log = logging.getLogger(__name__)

MOST_TRIES: Final = 2
"""How often a film is begun that ends the whole process; the third time it is set aside."""
KEPT: Final = 2
"""Decoded radiographs kept in memory: the one just read is looked at next."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of one film.

    Attributes:
        film: its id.
        overridden: read it in spite of the gate's refusal.
        correction: to apply on top of what was applied at its last reading.
        afresh: as it came, without the correction of its last reading.
    """

    film: UUID
    overridden: bool = False
    correction: Correction | None = None
    afresh: bool = False


class Tries:
    """Which film is being read, kept in a file: a film that kills the process is not tried for ever after restarts."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def begin(self, film: UUID) -> int:
        """Note that a film is begun; returns how often in a row it was."""
        before = self._kept()
        tries = before.get(str(film), 0) + 1
        with suppress(OSError):  # a full disk: it is read all the same, only uncounted
            self._file.write_text(json.dumps({str(film): tries}))
        return tries

    def end(self) -> None:
        """The film did no harm."""
        with suppress(OSError):
            self._file.unlink(missing_ok=True)

    def _kept(self) -> dict[str, int]:
        try:
            kept = json.loads(self._file.read_text())
        except (OSError, ValueError):
            return {}
        return kept if isinstance(kept, dict) else {}


class ReadingDesk:
    """Owns the models and the thread that uses them.

    Args:
        reader: loads the models on the desk's own thread.
        language: of the labels on previews, asked for at each reading.
        alone: nobody can be asked to which run a film belongs; each begins one of its own.
        began, drawn, read: called on the desk's thread with a film's id: its reading begins, :meth:`picture` has its
            picture, its outcome is stored.
        models_changed: called when the models are loaded or turn out unusable.
    """

    def __init__(
        self,
        reader: FilmReader,
        *,
        tries: Path,
        language: Callable[[], Language],
        alone: bool = False,
        began: Callable[[UUID], None],
        drawn: Callable[[UUID], None],
        read: Callable[[UUID, FirstRayError | None], None],
        models_changed: Callable[[], None],
    ) -> None:
        self._reader = reader
        self._tries = Tries(tries)
        self._language = language
        self._alone = alone
        self._began = began
        self._drawn = drawn
        self._read = read
        self._models_changed = models_changed
        self._store: Store | None = None
        self._waiting: OrderedDict[Request, None] = OrderedDict()
        self._now: UUID | None = None
        self._storing: UUID | None = None
        self._recent: OrderedDict[tuple[UUID, str], Radiograph] = OrderedDict()
        self._picture: tuple[UUID, Screened, Correction | None] | None = None
        self._changed = threading.Condition()
        self._ended = False
        self._renewing = False
        self._thread = threading.Thread(target=self._run, name="reading", daemon=True)
        self.models: Diagnoser | None = None
        self.error: FirstRayError | None = None

    def start(self) -> None:
        """Load the models in the background; films are read as soon as there is a store."""
        self._thread.start()

    def open(self, store: Store) -> None:
        """Read into this store, beginning with what was left unread."""
        films = store.unread_films()
        with self._changed:
            self._store = store
            for film in films:
                self._waiting[Request(film.id)] = None
            self._changed.notify_all()

    def ask(self, request: Request) -> None:
        """Read a film; asking twice for the same is asking once."""
        with self._changed:
            self._waiting[request] = None
            self._changed.notify_all()

    def renew(self) -> None:
        """Another release was installed: read with it from the next film on; returns at once."""
        with self._changed:
            self._renewing = True
            self._changed.notify_all()

    def reading(self, film: UUID) -> bool:
        """Whether a film is being read or waits for it."""
        with self._changed:
            return self._now == film or any(request.film == film for request in self._waiting)

    def storing(self, film: UUID) -> bool:
        """Whether the outcome of a film is being stored."""
        with self._changed:
            return self._storing == film

    @property
    def queued(self) -> int:
        """Films that wait or are being read."""
        with self._changed:
            return len(self._waiting) + (self._now is not None)

    def recent(self, film: UUID, correction: Correction | None) -> Radiograph | None:
        """The decoded radiograph of a film read a moment ago, so corrected; None where it is no longer kept."""
        with self._changed:
            return self._recent.get((film, str(correction)))

    def picture(self, film: UUID) -> tuple[Screened, Correction | None] | None:
        """The picture of a film while it is being read, and how it is corrected; None where it is not, or not yet."""
        with self._changed:
            return self._picture[1:] if self._picture is not None and self._picture[0] == film else None

    def close(self) -> None:
        """Finish what is being read, leave the rest for the next start."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(30)

    def _run(self) -> None:
        self._load()
        while self._something_to_do():
            if self._renewing:
                self._renew()
            if (work := self._next()) is None:
                continue
            request, store = work
            try:
                error = self._serve(request, store)
            except Exception as unexpected:  # noqa: BLE001  the desk must outlive a mistake in here, and say so
                place = "".join(traceback.format_tb(unexpected.__traceback__))
                log.error("Reading a film failed: %s\n%s", type(unexpected).__name__, place)
                error = FirstRayError("internal_error", *ERRORS["internal_error"])
            with self._changed:
                self._now = None
            self._read(request.film, error)
            _give_back_memory()

    def _load(self) -> None:
        try:
            self.models, self.error = self._reader.load(), None
        except FirstRayError as error:
            self.error = error
        self._models_changed()

    def _something_to_do(self) -> bool:
        """Wait until there is; False once the desk is closed."""
        with self._changed:
            while not self._ended and not self._renewing and (self._store is None or not self._waiting):
                self._changed.wait()
            return not self._ended

    def _renew(self) -> None:
        self._renewing = False
        try:
            self.models, self.error = self._reader.renew(), None
        except FirstRayError as error:
            log.error("the models could not be loaded anew, the old ones stay: %s", error.code)
        self._models_changed()

    def _next(self) -> tuple[Request, Store] | None:
        with self._changed:
            if self._ended or self._store is None or not self._waiting:
                return None
            request, _ = self._waiting.popitem()  # the latest first: it is the one that someone waits for
            self._now = request.film
            return request, self._store

    def _serve(self, request: Request, store: Store) -> FirstRayError | None:
        """Read one film and store the outcome; returns what kept it from being read or stored."""
        self._began(request.film)
        try:
            film = store.film(request.film)
            if self._tries.begin(film.id) > MOST_TRIES:
                begins_one = self._alone and film.run is None
                store.add_reading(film.id, diagnosis=None, error="reading_crashed", new_run=begins_one)
                return None
            correction = film.diagnosis.correction if film.diagnosis and not request.afresh else None
            if request.correction:
                correction = (correction or Correction()).then(request.correction)
            reading = self._reader.read(
                store.original(film.id),
                overridden=request.overridden,
                correction=correction,
                language=self._language(),
                drawn=lambda screened: self._show(film.id, screened, correction or None),
            )
            with self._changed:
                self._now, self._storing = None, film.id  # who hears of the outcome finds it no longer being read
            self._store_reading(store, request, reading)
        except FirstRayError as error:
            return error
        finally:
            self._tries.end()
            with self._changed:
                self._picture = self._storing = None
        return None

    def _show(self, film: UUID, screened: Screened, correction: Correction | None) -> None:
        with self._changed:
            self._picture = (film, screened, correction)
        self._drawn(film)

    def _store_reading(self, store: Store, request: Request, reading: Reading) -> None:
        film = store.film(request.film)
        changes: dict[str, object] = {}
        name = None
        if reading.radiograph is not None:
            self._keep(film.id, reading.radiograph)
            labels = asdict(reading.radiograph.labels)
            name = labels["name"]
            acquired_at = labels.pop("acquired_at")
            if any(labels.values()):
                changes["device_patient"] = labels
            if acquired_at:
                changes["acquired_at"] = acquired_at
        begins_one = self._alone and film.run is None
        if film.run is None and not begins_one:
            run = run_for(film.received_at, name, store.runs(under_way=True, limit=2))
            if run is not None:
                changes["encounter"] = run
        keep = partial(
            store.add_reading,
            film.id,
            diagnosis=reading.diagnosis,
            error=reading.error,
            overridden=request.overridden,
            picture=reading.picture,
            preview=reading.preview,
            new_run=begins_one,
        )
        try:
            keep(radiograph=changes)
        except FirstRayError as error:
            if error.code != "record_unknown" or "encounter" not in changes:
                raise
            del changes["encounter"]  # its run was deleted in between: somebody is asked
            keep(radiograph=changes)

    def _keep(self, film: UUID, radiograph: Radiograph) -> None:
        with self._changed:
            self._recent[film, str(radiograph.correction)] = radiograph
            while len(self._recent) > KEPT:
                self._recent.popitem(last=False)


def _give_back_memory() -> None:
    """Let glibc return what a reading has freed: it would keep tens of megabytes of gaps (malloc_trim(3))."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
