"""Reads the films that wait, one after the other, on a thread of its own, and stores what it read."""

from __future__ import annotations

import json
import logging
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import UUID

from edge_app import memory
from edge_app.attaching import run_for
from edge_app.reading import ERRORS, FilmReader, Reading, Screened
from shared.correction import Correction
from shared.diagnosis import Diagnoser, Diagnosis
from shared.errors import FirstRayError
from shared.overlay import Language
from shared.radiograph import DeviceLabels, Radiograph
from shared.records import DiagnosisFields

if TYPE_CHECKING:
    from edge_app.store.store import Store

log = logging.getLogger(__name__)

MOST_TRIES: Final = 2
"""How often a film is begun that ends the whole process; the third time it is set aside."""
KEPT: Final = 2
"""Decoded radiographs kept in memory: the one just read is looked at next."""
AGAIN_SECONDS: Final = 300.0
"""After a reading that could not be made or stored, for want of models or room, until it is tried again by itself."""


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


@dataclass(frozen=True, slots=True, eq=False)
class UnderWay:
    """A film while it is being read.

    Attributes:
        picture: as it is shown.
        correction: applied to it.
        found: what was read from it; None before the models have answered. Stored a moment later.
    """

    picture: Screened
    correction: Correction | None
    found: DiagnosisFields | None = None


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
        began, drawn, found, read: called on the desk's thread with a film's id: its reading begins, :meth:`under_way`
            has its picture, has what was found, its outcome is stored.
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
        found: Callable[[UUID], None],
        read: Callable[[UUID, FirstRayError | None], None],
        models_changed: Callable[[], None],
    ) -> None:
        self._reader = reader
        self._tries = Tries(tries)
        self._language = language
        self._alone = alone
        self._began = began
        self._drawn = drawn
        self._found = found
        self._read = read
        self._models_changed = models_changed
        self._store: Store | None = None
        self._waiting: OrderedDict[Request, None] = OrderedDict()
        self._now: UUID | None = None
        self._storing: UUID | None = None
        self._at_hand: tuple[UUID, bytes] | None = None
        self._recent: OrderedDict[tuple[UUID, str], Radiograph] = OrderedDict()
        self._under_way: tuple[UUID, UnderWay] | None = None
        self._changed = threading.Condition()
        self._ended = False
        self._renewing = False
        self._failed: dict[Request, str] = {}
        self._again_at: float | None = None
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

    def ask(self, request: Request, data: bytes | None = None) -> None:
        """Read a film; asking twice for the same is asking once.

        Args:
            request: what is asked.
            data: the film's bytes, where they are at hand; those of the latest are kept.
        """
        with self._changed:
            if data is not None:
                self._at_hand = (request.film, data)
            self._failed.pop(request, None)  # who asks is told, whatever was told before
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

    def under_way(self, film: UUID) -> UnderWay | None:
        """Picture of a film while it is being read, until its outcome is stored; None where it is not, or not yet."""
        with self._changed:
            return self._under_way[1] if self._under_way is not None and self._under_way[0] == film else None

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
            if self._again_in() == 0:
                self._try_again()
            if (work := self._next()) is None:
                continue
            request, store = work
            try:
                error = self._serve(request, store)
            except Exception as unexpected:  # noqa: BLE001  the desk must outlive a mistake in here, and say so
                place = "".join(traceback.format_tb(unexpected.__traceback__))
                log.error("Reading a film failed: %s\n%s", type(unexpected).__name__, place)
                error = FirstRayError("internal_error", *ERRORS["internal_error"])
            if self._is_news(request, error):
                self._read(request.film, error)
            memory.give_back()

    def _is_news(self, request: Request, error: FirstRayError | None) -> bool:
        """Keep what failed for another try; returns whether the outcome is another than that of the try before."""
        with self._changed:
            self._now = None
            before = self._failed.pop(request, None)
            if error is None or error.code == "record_unknown":
                self._failed = {other: code for other, code in self._failed.items() if other.film != request.film}
                return error is None or before is None
            self._failed[request] = error.code
            self._again_at = time.monotonic() + AGAIN_SECONDS
            return error.code != before

    def _again_in(self) -> float | None:
        """Seconds until what failed is tried again; None where nothing has."""
        return None if self._again_at is None else max(0.0, self._again_at - time.monotonic())

    def _try_again(self) -> None:
        """Have what failed read, after all else that waits; without models it waits on."""
        self._again_at = None
        if self.models is None:
            try:
                self.models, self.error = self._reader.load(), None
            except FirstRayError:
                self._again_at = time.monotonic() + AGAIN_SECONDS
                return
            self._models_changed()
        with self._changed:
            self._waiting = OrderedDict.fromkeys([*self._failed, *self._waiting])

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
                if (seconds := self._again_in()) == 0:
                    break
                self._changed.wait(seconds)
            return not self._ended

    def _renew(self) -> None:
        self._renewing = False
        try:
            self.models, self.error = self._reader.renew(), None
            self._again_at = time.monotonic()
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
        if request not in self._failed:  # else it would take the screen with each try
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
                self._take(film.id) or store.original(film.id),
                overridden=request.overridden,
                correction=correction,
                language=self._language(),
                drawn=lambda screened: self._show(film.id, UnderWay(screened, correction or None), self._drawn),
                found=lambda diagnosis: self._tell(request, diagnosis),
            )
            with self._changed:
                self._now, self._storing = None, film.id  # who hears of the outcome finds it no longer being read
            self._store_reading(store, request, reading)
        except FirstRayError as error:
            return error
        finally:
            self._tries.end()
            with self._changed:
                self._under_way = self._storing = None
        return None

    def _take(self, film: UUID) -> bytes | None:
        """The bytes of a film that has just come in; they are kept no longer."""
        with self._changed:
            at_hand, self._at_hand = self._at_hand, None
        return at_hand[1] if at_hand is not None and at_hand[0] == film else None

    def _show(self, film: UUID, under_way: UnderWay, tell: Callable[[UUID], None]) -> None:
        with self._changed:
            self._under_way = (film, under_way)
        tell(film)

    def _tell(self, request: Request, diagnosis: Diagnosis) -> None:
        """Have it looked at before it is stored; a power cut in between has the film read again."""
        film = request.film
        if (before := self.under_way(film)) is not None:
            found = DiagnosisFields(
                radiograph=film, made_at=datetime.now(UTC), result=diagnosis, overridden=request.overridden
            )
            self._show(film, replace(before, found=found), self._found)

    def _store_reading(self, store: Store, request: Request, reading: Reading) -> None:
        film = store.film(request.film)
        changes: dict[str, object] = {}
        labels = DeviceLabels()
        if reading.radiograph is not None:
            self._keep(film.id, reading.radiograph)
            labels = reading.radiograph.labels
            written = asdict(labels)
            acquired_at = written.pop("acquired_at")
            if any(written.values()):
                changes["device_patient"] = written
            if acquired_at:
                changes["acquired_at"] = acquired_at
        begins_one = self._alone and film.run is None
        if film.run is None and film.diagnosis_id is None and not begins_one:  # at a later reading it was asked before
            run = run_for(film, labels, store.runs(open_after=film.received_at, limit=2))
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
