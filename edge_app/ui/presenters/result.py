"""One radiograph: its picture, what was read from it, and what may be done about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from edge_app.store.views import Deletion, Film, PastReading, RunRow
from edge_app.ui.film import Film as Picture
from edge_app.ui.i18n import Translator
from edge_app.ui.presenters import pictures
from edge_app.ui.presenters.desk import Desk, Presenter, nothing
from shared.correction import Correction
from shared.diagnosis import Diagnosis
from shared.errors import FirstRayError
from shared.records import DiagnosisFields

if TYPE_CHECKING:
    from edge_app.station import Station


@dataclass(frozen=True, slots=True)
class ResultState:
    """State of the result screen.

    Attributes:
        film: None until it is read from the store, and after it is deleted.
        heard: what the hospital said up to this item is in ``film``.
        row: its run; None for a radiograph of no run.
        gone: it was deleted.
        found: what is being stored as its latest reading; None at any other time.
        reading: it is being read, or waits for it, and nothing is found yet.
        picture: what the viewer shows; None while there is none.
        sharp: ``picture`` is the original, with all its grey levels.
        earlier: readings before the latest, oldest first.
        chosen: index in ``earlier`` of the reading that is shown; None shows the latest.
        hidden: findings whose boxes are switched off.
        others: other radiographs of the same patient, latest first.
    """

    film: Film | None = None
    heard: int = 0
    row: RunRow | None = None
    gone: bool = False
    found: DiagnosisFields | None = None
    reading: bool = False
    picture: Picture | None = None
    sharp: bool = False
    earlier: tuple[PastReading, ...] = ()
    chosen: int | None = None
    hidden: frozenset[str] = frozenset()
    others: tuple[Film, ...] = ()
    error: FirstRayError | None = None

    @property
    def shown(self) -> DiagnosisFields | None:
        """The reading that is shown; None before the first."""
        if self.chosen is not None and self.chosen < len(self.earlier):
            return self.earlier[self.chosen].fields
        if self.film is None:
            return None
        if self.found is not None:
            return self.found
        if self.film.diagnosis is None and self.film.error is None:
            return None
        film = self.film
        return DiagnosisFields(
            radiograph=film.id,
            made_at=film.made_at,
            result=film.diagnosis,
            error=film.error,
            overridden=film.overridden,
        )

    @property
    def diagnosis(self) -> Diagnosis | None:
        """What that reading says."""
        return self.shown.result if self.shown else None


class ResultPresenter(Presenter[ResultState]):
    """Shows one radiograph and its readings.

    Args:
        desk, station: as in :class:`Presenter`.
        film: its id.
        tr: the translator in use, for the note on a corrected image.
        deleted: called with the deletion, which can be undone.
    """

    def __init__(
        self,
        desk: Desk,
        station: Station,
        film: UUID,
        tr: Callable[[], Translator],
        deleted: Callable[[Deletion], None] = nothing,
    ) -> None:
        super().__init__(desk, station, ResultState())
        self._film = film
        self._tr = tr
        self._deleted = deleted
        self._drawn: tuple[object, ...] | None = None
        self._early = ""
        self._ticket = 0

    def toggle(self, finding: str) -> None:
        """Switch a finding's boxes off, or on again."""
        self._set(hidden=self._state.hidden ^ {finding})

    def choose(self, reading: int | None) -> None:
        """Show an earlier reading, or with None the latest."""
        self._set(chosen=reading)
        self._show_picture()

    def read_anyway(self) -> None:
        """Have it read in spite of its quality; ignored unless that is allowed."""
        diagnosis = self._state.diagnosis
        problem = diagnosis.verdict.reason if diagnosis else None
        if problem is not None and problem.overridable:
            self._read(lambda: self._station.read_again(self._film, overridden=True))

    def read_corrected(self) -> None:
        """Have it turned or inverted as the gate offers, and read again; ignored where nothing is offered."""
        diagnosis = self._state.diagnosis
        offered = diagnosis.verdict.correction if diagnosis else None
        if offered is not None:
            self._read(lambda: self._station.read_again(self._film, correction=offered))

    def read_again(self) -> None:
        """Have it read once more as it came."""
        self._read(lambda: self._station.read_again(self._film))

    def look_early(self) -> None:
        """Show the picture while it is being read."""

        def work() -> Picture | None:
            under_way = self._station.under_way(self._film)
            if under_way is None:
                return None
            correction = under_way.correction
            subject = pictures.subject(self._station.store.film(self._film), correction)
            return pictures.film(under_way.picture, subject, self._note(correction))

        def done(picture: Picture | None) -> None:
            if picture is not None and ticket == self._ticket:
                self._early = picture.subject
                self._set(picture=picture, sharp=False)

        self._ticket += 1
        ticket = self._ticket
        self._do(work, done, long=True)

    def show_found(self) -> None:
        """Show what was found before it is stored."""
        found = self._found()
        if found is not None:
            self._set(found=found, reading=False, chosen=None)

    def sharpen(self) -> None:
        """Show the original with all its grey levels, for looking through another window."""
        if not self._state.sharp and self._state.picture is not None and self._state.chosen is None:
            self._draw(self._original)

    def delete(self) -> None:
        """Delete the radiograph; can be undone for a while."""
        self._do(lambda: self._station.store.delete_film(self._film), self._gone)

    def seen(self) -> None:
        """What is shown of the hospital's readings of this radiograph has been seen."""
        film, heard = self._state.film, self._state.heard
        if film is not None and film.news:
            self._do(lambda: self._station.store.film_seen(film.id, heard))

    def _fetch(self, state: ResultState) -> dict[str, Any]:
        store = self._station.store
        found = self._found()  # before the store is asked, which then has it where nothing is being stored any more
        heard = store.heard()
        try:
            film = store.film(self._film)
        except FirstRayError as error:
            if error.code == "record_unknown":
                return {"film": None, "gone": True}
            raise
        reading = found is None and self._station.is_reading(film)
        first = {"film": film, "heard": heard, "gone": False, "found": found, "reading": reading}
        if state.film is None and not reading:  # what is looked at first comes first; the rest follows
            return first
        row = store.run(film.run).row if film.run else None
        others = store.films_of_patient(row.patient) if row else []
        return {
            **first,
            "row": row,
            "earlier": tuple(store.previous_diagnoses(film.id)),
            "others": tuple(other for other in others if other.id != film.id),
        }

    def _fetched(self, question: int, changes: dict[str, Any]) -> None:
        first = self._state.film is None
        before = self._state.film.diagnosis_id if self._state.film else None
        if changes.get("film") and (found := self._found()) is not None:  # since the store was asked
            changes |= {"found": found, "reading": False}
        super()._fetched(question, changes)
        if first and self._state.film is not None and not self._state.reading:
            self.reload()
        film = self._state.film
        if film is not None and film.diagnosis_id != before and self._state.chosen is not None:
            self._set(chosen=None)
        self._show_picture()

    def _show_picture(self) -> None:
        """Draw the picture of the reading that is shown, unless it is there."""
        film, shown = self._state.film, self._state.shown
        if self._state.found is not None:  # its picture is on the screen, or on its way there
            return
        wanted = (film.id, film.diagnosis_id, self._state.chosen, self._tr().language) if film and shown else None
        if wanted == self._drawn:
            return
        self._drawn = wanted
        early, self._early = self._early, ""
        if film is not None and early == pictures.subject(film, _correction(self._state)):
            return
        if wanted is None or film is None or not (film.picture or self._state.chosen is not None):
            self._ticket += 1
            self._set(picture=None, sharp=False)
            return
        self._draw(self._stored)

    def _draw(self, work: Callable[[ResultState, str], Picture]) -> None:
        """Make a picture on a worker; only the latest asked for is shown."""
        self._ticket += 1
        ticket, state = self._ticket, self._state
        note = self._note(_correction(state))
        sharp = work == self._original

        def done(picture: Picture) -> None:
            if ticket == self._ticket:
                self._set(picture=picture, sharp=sharp)

        def failed(error: FirstRayError) -> None:
            if ticket == self._ticket:
                self._set(picture=None, sharp=False, error=None if error.code == "record_unknown" else error)

        self._do(lambda: work(state, note), done, failed, long=True)

    def _note(self, correction: Correction | None) -> str:
        if not correction:
            return ""
        tr = self._tr()
        return tr("Not as received: {correction}", correction=correction.describe(tr.language))

    def _stored(self, state: ResultState, note: str) -> Picture:
        film, chosen = _there(state), state.chosen
        reading = film.diagnosis_id if chosen is None else state.earlier[chosen].id
        return pictures.film(self._station.picture(film.id, reading), pictures.subject(film, _correction(state)), note)

    def _original(self, state: ResultState, note: str) -> Picture:
        film = _there(state)
        return pictures.film(self._station.pixels(film.id), pictures.subject(film, _correction(state)), note)

    def _read(self, work: Callable[[], None]) -> None:
        self._set(reading=True)
        self._do(work, lambda _: self.reload())

    def _found(self) -> DiagnosisFields | None:
        under_way = self._station.under_way(self._film)
        return under_way.found if under_way is not None else None

    def _gone(self, deletion: Deletion) -> None:
        self._set(film=None, picture=None, gone=True)
        self._deleted(deletion)


def _correction(state: ResultState) -> Correction | None:
    return state.diagnosis.correction if state.diagnosis else None


def _there(state: ResultState) -> Film:
    if state.film is None:
        raise ValueError("there is no radiograph to draw")
    return state.film
