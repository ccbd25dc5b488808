"""One run: the patient, vital signs, radiographs, what the ER says. Every field is saved as soon as it is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from edge_app.store.views import Deletion, Run
from edge_app.ui.presenters import forms
from edge_app.ui.presenters.desk import Desk, Presenter, nothing
from edge_app.ui.presenters.forms import Mistake
from shared.errors import FirstRayError
from shared.records import Identifier, PatientFields, RecordType, Sex

if TYPE_CHECKING:
    from edge_app.station import Station


@dataclass(frozen=True, slots=True)
class RunState:
    """State of a run's screens.

    Attributes:
        run: None until it is read, and after it is deleted.
        heard: what the hospital said up to this item is in ``run``.
        gone: it was deleted, here or by undoing nothing.
        wrong: field -> why what was typed was not saved.
        saved: grows with each field saved; the screen shows that it was.
        reading: ids of radiographs that are being read now.
        receiving: the X-ray device can send to this device.
        error: what could not be done.
    """

    run: Run | None = None
    heard: int = 0
    gone: bool = False
    wrong: Mapping[str, Mistake] = field(default_factory=dict)
    saved: int = 0
    reading: frozenset[UUID] = frozenset()
    receiving: bool = True
    error: FirstRayError | None = None


class RunPresenter(Presenter[RunState]):
    """Shows and changes one run.

    Args:
        desk, station: as in :class:`Presenter`.
        run: its id.
        deleted: called with the deletion, which can be undone.
        today: the local date, for checking birth dates.
    """

    def __init__(
        self,
        desk: Desk,
        station: Station,
        run: UUID,
        deleted: Callable[[Deletion], None] = nothing,
        today: Callable[[], date] = date.today,
    ) -> None:
        super().__init__(desk, station, RunState())
        self._run = run
        self._deleted = deleted
        self._today = today

    # the patient

    def set_name(self, text: str) -> None:
        """Save the name; empty makes it unknown."""
        self._change_patient("name", text.strip() or None)

    def set_sex(self, key: str) -> None:
        """Save the sex; empty makes it unknown."""
        self._change_patient("sex", Sex(key) if key else None)

    def set_birth_date(self, text: str) -> None:
        """Save the birth date; the estimated age is no longer needed then."""
        born = forms.birth_date(text, self._today())
        if self._refuse("birth_date", born):
            return
        self._change_patient("birth_date", born, **({"estimated_age": None} if born else {}))

    def set_age(self, text: str) -> None:
        """Save the estimated age in years."""
        age = forms.whole_number(PatientFields, "estimated_age", text)
        if not self._refuse("estimated_age", age):
            self._change_patient("estimated_age", age)

    def set_identifier(self, system: str, value: str) -> None:
        """Save a number the patient is known by; empty takes it away."""
        run = self._state.run
        if run is not None:
            numbers: tuple[Identifier, ...] = run.patient.fields.identifiers
            self._change_patient("identifiers", forms.with_identifier(numbers, system, value.strip()))

    # the run

    def set_text(self, name: str, text: str) -> None:
        """Save the incident number, the chief complaint or the notes."""
        self._change(RecordType.ENCOUNTER, self._run, name, {name: text.strip() or None})

    def set_arrival(self, text: str) -> None:
        """Save when the ambulance arrives, from minutes or a clock time."""
        moment = forms.arrival(text, datetime.now(UTC))
        if not self._refuse("expected_arrival", moment):
            self._change(RecordType.ENCOUNTER, self._run, "expected_arrival", {"expected_arrival": moment})

    def add_vital_signs(self, texts: Mapping[str, str], done: Callable[[], None] = nothing) -> None:
        """Save one set of vital signs, taken now; ``done`` is called once it is saved."""
        values, wrong = forms.vital_signs(texts)
        if not values and not wrong:
            wrong = {forms.VITAL_SIGNS[0]: forms.mistake("Fill in at least one value.")}
        self._set(wrong=wrong)
        if wrong:
            return
        fields = {**values, "taken_at": datetime.now(UTC)}

        def saved(_: object) -> None:
            self._saved()
            done()

        self._do(lambda: self._station.store.add_vital_signs(self._run, fields), saved)

    def end(self) -> None:
        """The patient is handed over."""
        self._do(lambda: self._station.store.end_run(self._run), lambda _: self.reload())

    def reopen(self) -> None:
        """It was ended by mistake."""
        self._do(lambda: self._station.store.reopen_run(self._run), lambda _: self.reload())

    def delete(self) -> None:
        """Delete the run with all it holds; can be undone for a while."""
        self._do(lambda: self._station.store.delete_run(self._run), self._gone)

    def seen(self) -> None:
        """What is shown of the hospital's answers has been seen."""
        run, heard = self._state.run, self._state.heard
        if run is not None and run.row.news:
            self._do(lambda: self._station.store.run_seen(self._run, heard))

    def _fetch(self, state: RunState) -> dict[str, Any]:
        del state
        heard = self._station.store.heard()
        try:
            run = self._station.store.run(self._run)
        except FirstRayError as error:
            if error.code == "record_unknown":
                return {"run": None, "gone": True}
            raise
        reading = frozenset(film.id for film in run.films if self._station.is_reading(film))
        receiver = self._station.status().receiver
        receiving = receiver is not None and receiver.listening
        return {"run": run, "heard": heard, "gone": False, "reading": reading, "receiving": receiving}

    def _refuse(self, name: str, value: object) -> bool:
        """Whether ``value`` is a mistake; it is shown at its field then."""
        if isinstance(value, Mistake):
            self._set(wrong={**self._state.wrong, name: value})
            return True
        return False

    def _change_patient(self, name: str, value: object, **others: object) -> None:
        run = self._state.run
        if run is not None:
            self._change(RecordType.PATIENT, run.patient.id, name, {name: value, **others})

    def _change(self, record: RecordType, id: UUID, name: str, fields: dict[str, object]) -> None:
        self._set(wrong={key: value for key, value in self._state.wrong.items() if key != name})

        def failed(error: FirstRayError) -> None:
            if error.code == "value_not_allowed":
                self._refuse(name, forms.mistake("This cannot be saved as it is."))
            else:
                self._failed(error)

        self._do(lambda: self._station.store.change(record, id, fields), lambda _: self._saved(), failed)

    def _saved(self) -> None:
        self._set(saved=self._state.saved + 1)
        self.reload()

    def _gone(self, deletion: Deletion) -> None:
        self._set(run=None, gone=True)
        self._deleted(deletion)
