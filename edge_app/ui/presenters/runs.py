"""The home screen: runs under way and past ones, patients, and starting a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from edge_app.store.views import Film, Patient, Run, RunRow
from edge_app.ui.presenters.desk import Desk, Presenter
from shared.errors import FirstRayError
from shared.records import Sex

if TYPE_CHECKING:
    from edge_app.station import Station

PAST: Final = 20
"""Past runs on the home screen; the others are in the history."""
MOST: Final = 50

AGES: Final = (1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90)
"""Estimated ages offered with one tap."""


@dataclass(frozen=True, slots=True)
class Runs:
    """State of the home screen.

    Attributes:
        loading: nothing was read yet.
        text: what is searched for.
        under_way, past: runs, latest first; those that match ``text`` where there is one.
        patients: patients that match.
        waiting: radiographs of no run, oldest first.
        not_receiving, not_reading: why no image can come from the X-ray device, why none can be read; None if all is
            well.
        by_patient: patients are listed instead of runs.
    """

    loading: bool = True
    text: str = ""
    under_way: tuple[RunRow, ...] = ()
    past: tuple[RunRow, ...] = ()
    patients: tuple[Patient, ...] = ()
    waiting: tuple[Film, ...] = ()
    not_receiving: FirstRayError | None = None
    not_reading: FirstRayError | None = None
    by_patient: bool = False
    error: FirstRayError | None = None


class RunsPresenter(Presenter[Runs]):
    """Lists runs and patients."""

    def __init__(self, desk: Desk, station: Station) -> None:
        super().__init__(desk, station, Runs())

    def search(self, text: str) -> None:
        """Show what matches; empty shows everything."""
        if text.strip() != self._state.text:
            self.ask(text=text.strip())

    def show_patients(self, patients: bool) -> None:
        """List patients, or runs."""
        if patients != self._state.by_patient:
            self.ask(by_patient=patients)

    def _fetch(self, state: Runs) -> dict[str, Any]:
        store = self._station.store
        status = self._station.status()
        changes: dict[str, Any] = {
            "loading": False,
            "waiting": tuple(store.waiting_films()),
            "not_receiving": status.receiver.problem if status.receiver else None,
            "not_reading": status.models.error,
        }
        if state.by_patient:
            return {**changes, "patients": tuple(store.patients(state.text, limit=MOST))}
        return {
            **changes,
            "under_way": tuple(store.runs(state.text, under_way=True, limit=MOST)),
            "past": tuple(store.runs(state.text, under_way=False, limit=MOST if state.text else PAST)),
        }


@dataclass(frozen=True, slots=True)
class Begin:
    """State of the question who the patient is; ``age`` is an estimate in years."""

    age: int | None = None
    busy: bool = False
    error: FirstRayError | None = None


class BeginPresenter(Presenter[Begin]):
    """Opens a run for somebody unknown, at once.

    Args:
        desk, station: as in :class:`Presenter`.
        begun: called with the run's id.
    """

    def __init__(self, desk: Desk, station: Station, begun: Callable[[UUID], None]) -> None:
        super().__init__(desk, station, Begin())
        self._begun = begun

    def choose_age(self, age: int | None) -> None:
        """Say about how old the patient is."""
        self._set(age=age)

    def begin(self, sex: Sex | None = None) -> None:
        """Open the run; a second tap while it is opened does nothing."""
        if self._state.busy:
            return
        who: dict[str, Any] = {"sex": sex, "estimated_age": self._state.age}
        known = {name: value for name, value in who.items() if value is not None}
        self._set(busy=True)
        self._do(lambda: self._station.store.start_run(who=known), self._done, self._not_done)

    def _fetch(self, state: Begin) -> dict[str, Any]:
        del state
        return {}

    def _done(self, run: UUID) -> None:
        self._set(busy=False)
        self._begun(run)

    def _not_done(self, error: FirstRayError) -> None:
        self._set(busy=False, error=error)


@dataclass(frozen=True, slots=True)
class Known:
    """State of the page of a patient seen before."""

    patient: Patient | None = None
    runs: tuple[Run, ...] = ()
    busy: bool = False
    error: FirstRayError | None = None


class KnownPresenter(Presenter[Known]):
    """A patient seen before: what there was, and another run.

    Args:
        desk, station: as in :class:`Presenter`.
        patient: its id.
        begun: called with the id of a new run.
    """

    def __init__(self, desk: Desk, station: Station, patient: UUID, begun: Callable[[UUID], None]) -> None:
        super().__init__(desk, station, Known())
        self._patient = patient
        self._begun = begun

    def begin(self) -> None:
        """Open another run for this patient."""
        if self._state.busy:
            return
        self._set(busy=True)
        self._do(lambda: self._station.store.start_run(self._patient), self._done, self._not_done)

    def _fetch(self, state: Known) -> dict[str, Any]:
        del state
        store = self._station.store
        patient = store.patient(self._patient)
        runs = tuple(store.run(row.id) for row in store.runs(patient=self._patient, limit=MOST))
        return {"patient": patient, "runs": runs}

    def _done(self, run: UUID) -> None:
        self._set(busy=False)
        self._begun(run)

    def _not_done(self, error: FirstRayError) -> None:
        self._set(busy=False, error=error)
