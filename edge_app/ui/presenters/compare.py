"""Two radiographs of one patient side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from edge_app.store.views import Film, Patient
from edge_app.ui.film import Film as Picture
from edge_app.ui.presenters import pictures
from edge_app.ui.presenters.desk import Desk, Presenter
from shared.errors import FirstRayError

if TYPE_CHECKING:
    from edge_app.station import Station


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: which, and its picture once it is there."""

    id: UUID
    film: Film | None = None
    picture: Picture | None = None


@dataclass(frozen=True, slots=True)
class Compare:
    """State of the comparison.

    Attributes:
        sides: left and right; they begin as the earlier and the later one.
        films: all of the patient, latest first, to choose from.
        linked: both move together.
    """

    sides: tuple[Side, Side]
    patient: Patient | None = None
    films: tuple[Film, ...] = ()
    linked: bool = True
    error: FirstRayError | None = None


class ComparePresenter(Presenter[Compare]):
    """Shows two radiographs of one patient.

    Args:
        desk, station: as in :class:`Presenter`.
        left, right: their ids.
        note: says on the image how it was corrected; empty for nothing.
    """

    def __init__(self, desk: Desk, station: Station, left: UUID, right: UUID, note: Callable[[Film], str]) -> None:
        super().__init__(desk, station, Compare((Side(left), Side(right))))
        self._note = note

    def choose(self, number: int, film: UUID) -> None:
        """Show another radiograph at the left (0) or the right (1)."""
        sides = list(self._state.sides)
        sides[number] = Side(film)
        self.ask(sides=(sides[0], sides[1]))

    def link(self, linked: bool) -> None:
        """Move both together, or each alone."""
        self._set(linked=linked)

    def _fetch(self, state: Compare) -> dict[str, Any]:
        store = self._station.store
        films = [store.film(side.id) for side in state.sides]
        run = next((film.run for film in films if film.run), None)
        patient = store.run(run).patient if run else None
        sides = tuple(replace(side, film=film) for side, film in zip(state.sides, films, strict=True))
        of_patient = tuple(store.films_of_patient(patient.id)) if patient else ()
        return {"sides": sides, "patient": patient, "films": of_patient}

    def _fetched(self, question: int, changes: dict[str, Any]) -> None:
        if "sides" in changes:
            both = zip(changes["sides"], self._state.sides, strict=True)
            changes["sides"] = tuple(
                replace(side, picture=now.picture if _reading(now.film) == _reading(side.film) else None)
                for side, now in both
            )
        super()._fetched(question, changes)
        for number, side in enumerate(self._state.sides):
            if side.film is not None and side.film.picture and side.picture is None:
                self._draw(number, side.film)

    def _draw(self, number: int, film: Film) -> None:
        note = self._note(film)

        def work() -> Picture:
            stored = self._station.picture(film.id, film.diagnosis_id)
            return pictures.film(
                stored, pictures.subject(film, film.diagnosis.correction if film.diagnosis else None), note
            )

        def done(picture: Picture) -> None:
            sides = list(self._state.sides)
            if sides[number].picture is None and _reading(sides[number].film) == _reading(film):
                sides[number] = replace(sides[number], picture=picture)
                self._set(sides=(sides[0], sides[1]))

        self._do(work, done, long=True)


def _reading(film: Film | None) -> tuple[UUID, UUID | None] | None:
    """What a picture is of: a radiograph as one reading shows it."""
    return (film.id, film.diagnosis_id) if film else None
