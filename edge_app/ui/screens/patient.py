"""The forms of a run: who the patient is, and one set of vital signs."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from pathlib import Path

from kivy.clock import Clock
from kivy.lang import Builder
from kivy.metrics import dp
from kivy.properties import StringProperty
from kivy.uix.widget import Widget

from edge_app.store.views import Run
from edge_app.ui import theme
from edge_app.ui.field import Field
from edge_app.ui.i18n import Translator
from edge_app.ui.presenters import forms, words
from edge_app.ui.presenters.run import RunPresenter, RunState
from edge_app.ui.screens.parts import Flow, View, aside, button, running_app, saved_field, section, set_text, text

MINUTES = (5, 10, 15, 20, 30, 45)
"""Times to arrival offered with one tap."""


class PatientView(View):
    """Everything about the patient and the run that can be typed; each field is saved when it is left."""

    presenter: RunPresenter
    foot = theme.TARGET + 16
    saved = StringProperty()

    def __init__(self, presenter: RunPresenter, **kwargs: object) -> None:
        super().__init__(presenter, **kwargs)
        tr, make = self.tr, presenter
        self.title = tr("Patient and run")
        self._fields: dict[str, Field] = {
            "name": saved_field("patient.name", make.set_name, label=tr("Name"), max_length=120),
            "birth_date": saved_field(
                "patient.birth_date", make.set_birth_date, label=tr("Birth date"), hint="1968-04-23", kind="date"
            ),
            "estimated_age": saved_field(
                "patient.age", make.set_age, label=tr("Or age, estimated"), kind="digits", max_length=3
            ),
            "chief_complaint": saved_field(
                "patient.complaint",
                partial(make.set_text, "chief_complaint"),
                label=tr("Chief complaint"),
                kind="multiline",
                lines=2,
                max_length=4000,
            ),
            "expected_arrival": saved_field(
                "patient.arrival",
                make.set_arrival,
                label=tr("Arrival: minutes, or time"),
                hint="12 / 1405",
                kind="digits",
                max_length=4,
            ),
            "incident_number": saved_field(
                "patient.incident",
                partial(make.set_text, "incident_number"),
                label=tr("Incident number"),
                max_length=120,
            ),
            "notes": saved_field(
                "patient.notes",
                partial(make.set_text, "notes"),
                label=tr("Notes"),
                kind="multiline",
                lines=4,
                max_length=4000,
            ),
        }
        self._numbers: dict[str, Field] = {
            system: saved_field(
                f"patient.number.{system}",
                partial(make.set_identifier, system),
                label=words.identifier_name(system, tr),
                max_length=120,
            )
            for system in forms.IDENTIFIER_SYSTEMS
        }
        for name, column in (("name", "who"), ("birth_date", "who"), ("estimated_age", "who")):
            self.ids[column].add_widget(self._fields[name])
        for field in self._numbers.values():
            self.ids.numbers.add_widget(field)
        for name in ("chief_complaint", "expected_arrival"):
            self.ids.run.add_widget(self._fields[name])
        self.ids.run.add_widget(self._minutes(tr))
        for name in ("incident_number", "notes"):
            self.ids.run.add_widget(self._fields[name])
        chain = ["name", "birth_date", "estimated_age"]
        for name, following in pairwise(chain):
            self._fields[name].next_field = self._fields[following]

    def refresh(self) -> None:
        """Show what is stored, except where the user is writing."""
        state: RunState = self.presenter.state
        if state.run is None:
            return
        for name, field in self._fields.items():
            field.error = state.wrong[name].said(self.tr) if name in state.wrong else ""
        for name, value in self._values(state.run).items():
            set_text(self._fields[name], value)
        numbers = {one.system: one.value for one in state.run.patient.fields.identifiers}
        for system, field in self._numbers.items():
            set_text(field, numbers.get(system, ""))
        fields = state.run.patient.fields
        self.ids.sex.value = fields.sex.value if fields.sex else ""
        arrival = words.minutes_to(state.run.row.encounter.expected_arrival, self.tr)
        if arrival != self._fields["expected_arrival"].help and not self._fields["expected_arrival"].focused:
            self._fields["expected_arrival"].text = self._fields["expected_arrival"].saved_text = ""
        self._fields["expected_arrival"].help = arrival
        self._fields["birth_date"].help = words.age(fields, self.tr) if fields.birth_date else ""
        self.saved = self.tr("Saved") if state.saved else ""

    def choose_sex(self, key: str) -> None:
        """A tap on the choice."""
        run = self.presenter.state.run
        now = run.patient.fields.sex.value if run and run.patient.fields.sex else ""
        if run is not None and key != now:
            self.presenter.set_sex(key)

    def done(self) -> None:
        """Back to the run; fields left are saved on the way."""
        running_app().shell.back()

    def _values(self, run: Run) -> dict[str, str]:
        who, encounter = run.patient.fields, run.row.encounter
        return {
            "name": who.name or "",
            "birth_date": who.birth_date.isoformat() if who.birth_date else "",
            "estimated_age": "" if who.estimated_age is None else str(who.estimated_age),
            "chief_complaint": encounter.chief_complaint or "",
            "expected_arrival": "",
            "incident_number": encounter.incident_number or "",
            "notes": encounter.notes or "",
        }

    def _minutes(self, tr: Translator) -> Widget:
        flow = Flow()
        for minutes in MINUTES:
            arrive = partial(self.presenter.set_arrival, str(minutes))
            name = f"patient.arrival.{minutes}"
            flow.add_widget(button(tr("{n} min", n=minutes), name, arrive, size_hint_x=None, width=dp(96)))
        return flow


class VitalsView(View):
    """One set of vital signs on the number pad, and the sets before."""

    presenter: RunPresenter
    foot = theme.TARGET + 16

    def __init__(self, presenter: RunPresenter, **kwargs: object) -> None:
        super().__init__(presenter, **kwargs)
        tr = self.tr
        self.title = tr("Vital signs")
        self._begun = False
        self._fields: dict[str, Field] = {}
        for name in forms.VITAL_SIGNS:
            unit = words.VITAL_UNITS[name]
            self._fields[name] = Field(
                name=f"vitals.{name}",
                label=f"{words.vital_name(name, tr)} ({unit})",
                kind="digits",
                max_length=3,
            )
            self.ids.fields.add_widget(self._fields[name])
        for name, following in pairwise(forms.VITAL_SIGNS):
            self._fields[name].next_field = self._fields[following]
        self._fields[forms.VITAL_SIGNS[-1]].bind(on_done=lambda _: self.save())

    def refresh(self) -> None:
        """Show the presenter's state."""
        state: RunState = self.presenter.state
        for name, field in self._fields.items():
            field.error = state.wrong[name].said(self.tr) if name in state.wrong else ""
        if state.run is not None:
            run = state.run
            if not self._begun:
                self._begun = True
                Clock.schedule_once(lambda _: self._fields[forms.VITAL_SIGNS[0]].focus(), 0.1)
            self.show(self.ids.earlier, run.vital_signs, lambda: self._earlier(run))

    def save(self) -> None:
        """Save what was typed, and go back to the run."""
        texts = {name: field.text for name, field in self._fields.items()}
        self.presenter.add_vital_signs(texts, running_app().shell.back)

    def _earlier(self, run: Run) -> list[Widget]:
        if not run.vital_signs:
            return []
        widgets: list[Widget] = [section(self.tr("Earlier"))]
        for signs in run.vital_signs:
            widgets.append(aside(words.clock(signs.fields.taken_at)))
            widgets.append(text(words.vitals_line(signs.fields, self.tr)))
        return widgets


Builder.load_file(str(Path(__file__).with_name("patient.kv")))
