"""The home screen, the question who the patient is, and the page of a patient seen before."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from kivy.lang import Builder
from kivy.metrics import dp
from kivy.properties import StringProperty
from kivy.uix.widget import Widget

from edge_app.store.views import Film, Patient, RunRow
from edge_app.ui.i18n import Translator
from edge_app.ui.presenters import words
from edge_app.ui.presenters.places import Place, Screen
from edge_app.ui.presenters.runs import AGES, Begin, BeginPresenter, Known, KnownPresenter, Runs, RunsPresenter
from edge_app.ui.screens.parts import Strip, View, action, aside, button, row, running_app, section, text
from edge_app.ui.widgets import EmptyState, Segment
from shared.records import Sex

AGE_WIDTH = 74


def run_row(run: RunRow, tr: Translator, name: str) -> Widget:
    """A run as a line of a list, leading to it."""
    line, kind = words.run_line(run, tr)
    right, right_kind = words.run_delivery(run, tr)
    began = words.clock(run.encounter.started_at)
    return row(
        name,
        lambda: running_app().shell.go(Place(Screen.RUN, run.id)),
        title=words.joined([words.who(run.who, tr), words.age(run.who, tr)]),
        detail=words.joined([words.marked(line, kind), began, run.encounter.chief_complaint or ""]).replace("\n", " "),
        end=right,
        end_detail="" if run.encounter.ended_at else tr("Under way"),
        kind=kind,
        detail_kind=kind,
        end_kind=right_kind,
    )


def film_row(film: Film, tr: Translator, name: str, place: Place, *, reading: bool = False) -> Widget:
    """A radiograph as a line of a list, leading to ``place``."""
    line, kind = words.film_line(film, tr, reading)
    right, right_kind = words.delivery(words.film_delivery(film), tr)
    if film.news and film.run is None:  # that of a run is said of the run
        right, right_kind = tr("News from the ER"), "warning"
    elif film.reading:
        right, right_kind = tr("Confirmed reading"), "good"
    return row(
        name,
        lambda: running_app().shell.go(place),
        title=words.marked(line, kind),
        detail=words.joined([words.clock(film.received_at), film.station or _source(film, tr)]),
        end=right,
        kind=kind,
        end_kind=right_kind,
        wraps=True,
    )


def _source(film: Film, tr: Translator) -> str:
    return {"dicom": tr("X-ray device"), "file": tr("Picked file"), "folder": tr("Watched folder")}[film.source]


class HomeView(View):
    """Runs under way and past ones, or patients."""

    presenter: RunsPresenter

    def refresh(self) -> None:
        """Show the presenter's state."""
        state: Runs = self.presenter.state
        tr = self.tr
        self.title = tr("Patients") if state.by_patient else tr("Runs")
        self.ids.choice.value = "patients" if state.by_patient else "runs"
        asked = (len(state.waiting), state.not_receiving, state.not_reading)
        self.show(self.ids.waiting, asked, lambda: [*self._waiting(state, tr), *self._blocked(state, tr)])
        content = (state.loading, state.text, state.by_patient, state.under_way, state.past, state.patients)
        self.show(self.ids.rows, content, lambda: self._patients(state) if state.by_patient else self._runs(state))

    def name_of_state(self) -> str:
        """For the window's title."""
        state: Runs = self.presenter.state
        return self.tr("ready") if not state.waiting else self.tr("images wait for a run")

    def begin(self) -> None:
        """Open a run."""
        running_app().shell.go(Place(Screen.BEGIN))

    def list_by(self, what: str) -> None:
        """Runs or patients."""
        self.presenter.show_patients(what == "patients")

    def _waiting(self, state: Runs, tr: Translator) -> list[Widget]:
        if not state.waiting:
            return []
        first = state.waiting[0].id
        one = len(state.waiting) == 1
        message = (
            tr("An image waits: choose its run.")
            if one
            else tr("{n} images wait: choose their runs.", n=len(state.waiting))
        )
        strip = Strip(name="runs.waiting", message=message, action=tr("Choose"))
        place = Place(Screen.ASSIGN, first) if one else Place(Screen.CAPTURE)
        strip.bind(on_tap=lambda _: running_app().shell.go(place))
        return [strip]

    def _blocked(self, state: Runs, tr: Translator) -> list[Widget]:
        """What keeps images from coming or from being read, with the way to why."""
        strips: list[Widget] = []
        for error, name, message, screen in (
            (state.not_receiving, "runs.not_receiving", tr("The X-ray device cannot send"), Screen.CAPTURE),
            (state.not_reading, "runs.not_reading", tr("Images cannot be read"), Screen.STATUS),
        ):
            if error is not None:
                strip = Strip(name=name, message=message, action=tr("Why?"))
                strip.bind(on_tap=lambda _, screen=screen: running_app().go_tab(screen))
                strips.append(strip)
        return strips

    def _runs(self, state: Runs) -> list[Widget]:
        tr = self.tr
        if state.loading:
            return []
        widgets: list[Widget] = []
        if state.under_way:
            widgets.append(section(tr("Under way")))
            widgets += [run_row(run, tr, f"runs.under_way.{n}") for n, run in enumerate(state.under_way)]
        if state.past:
            widgets.append(section(tr("Earlier")))
            widgets += [run_row(run, tr, f"runs.past.{n}") for n, run in enumerate(state.past)]
        if not state.text and state.past:
            widgets.append(button(tr("All earlier runs"), "runs.history", lambda: running_app().go_tab(Screen.HISTORY)))
        if widgets:
            return widgets
        if state.text:
            return [EmptyState(title=tr("Nothing found"), message=tr("Search by name, number or complaint."))]
        return [
            EmptyState(
                title=tr("No run yet"),
                message=tr("Tap “New run” when you reach the patient. Images then attach to it by themselves."),
            )
        ]

    def _patients(self, state: Runs) -> list[Widget]:
        tr = self.tr
        rows = [self._patient_row(patient, n, tr) for n, patient in enumerate(state.patients)]
        return rows or [EmptyState(title=tr("Nothing found"), message=tr("Search by name or number."))]

    def _patient_row(self, patient: Patient, number: int, tr: Translator) -> Widget:
        numbers = ", ".join(one.value for one in patient.fields.identifiers)
        return row(
            f"runs.patient.{number}",
            lambda: running_app().shell.go(Place(Screen.KNOWN, patient.id)),
            title=words.who(patient.fields, tr),
            detail=words.joined([words.person(patient.fields, tr), numbers]),
            end=tr("Runs: {n}", n=patient.runs),
            end_detail=words.clock(patient.last_run_at),
        )


class BeginView(View):
    """Asks who the patient is; whatever is tapped opens the run."""

    presenter: BeginPresenter

    def __init__(self, presenter: BeginPresenter, **kwargs: object) -> None:
        super().__init__(presenter, **kwargs)
        self.title = self.tr("New run: who is it?")

    def refresh(self) -> None:
        """Show the presenter's state."""
        state: Begin = self.presenter.state
        self.show(self.ids.ages, state.age, lambda: [self._age(age, state.age) for age in AGES])

    def begin(self, sex: str) -> None:
        """Open the run."""
        self.presenter.begin(Sex(sex) if sex else None)

    def known(self) -> None:
        """Choose a patient seen before."""
        app = running_app()
        app.shell.tab(Screen.RUNS)
        app.list_patients()

    def _age(self, age: int, chosen: int | None) -> Widget:
        known = age == chosen
        segment = Segment(text=str(age), name=f"begin.age.{age}", selected=known, size_hint_x=None, width=dp(AGE_WIDTH))
        segment.bind(on_release=lambda _: self.presenter.choose_age(None if known else age))
        return segment


class KnownView(View):
    """A patient seen before."""

    presenter: KnownPresenter
    who = StringProperty()

    def refresh(self) -> None:
        """Show the presenter's state."""
        state: Known = self.presenter.state
        tr = self.tr
        if state.patient is None:
            return
        self.title = words.who(state.patient.fields, tr)
        self.show(self.ids.rows, (state.patient, state.runs), lambda: self._rows(state, tr))

    def name_of_state(self) -> str:
        """For the window's title."""
        return self.tr("patient")

    def _rows(self, state: Known, tr: Translator) -> list[Widget]:
        patient = state.patient
        if patient is None:
            return []
        numbers = [f"{words.identifier_name(one.system, tr)}: {one.value}" for one in patient.fields.identifiers]
        widgets = [text(words.person(patient.fields, tr), large=True), *[aside(line) for line in numbers]]
        widgets.append(action(tr("New run for this patient"), "known.begin", self.presenter.begin))
        if state.runs:
            widgets.append(section(tr("Runs")))
            widgets += [run_row(run.row, tr, f"known.run.{n}") for n, run in enumerate(state.runs)]
        films = [film for run in state.runs for film in run.films if film.diagnosis and not film.diagnosis.refused]
        if len(films) > 1:
            widgets.append(
                button(tr("Compare the two latest images"), "known.compare", lambda: _compare(films[1].id, films[0].id))
            )
        return widgets


def _compare(earlier: UUID, later: UUID) -> None:
    running_app().shell.go(Place(Screen.COMPARE, earlier, later))


Builder.load_file(str(Path(__file__).with_name("home.kv")))
