"""One run at a glance: radiographs, vital signs, the patient, and what the emergency room says."""

from __future__ import annotations

from pathlib import Path

from kivy.lang import Builder
from kivy.uix.widget import Widget

from edge_app.store.views import Film, Run
from edge_app.ui import theme, wording
from edge_app.ui.i18n import Translator
from edge_app.ui.presenters import words
from edge_app.ui.presenters.places import Place, Screen
from edge_app.ui.presenters.run import RunPresenter, RunState
from edge_app.ui.screens.home import film_row
from edge_app.ui.screens.parts import (
    Buttons,
    Figure,
    View,
    action,
    aside,
    button,
    danger,
    running_app,
    section,
    text,
)

VITALS_SHOWN = 5


class RunView(View):
    """A run."""

    presenter: RunPresenter
    columns_from = 760

    def refresh(self) -> None:
        """Show the presenter's state."""
        state: RunState = self.presenter.state
        run, tr = state.run, self.tr
        if run is None:
            return
        self.title = words.joined([words.who(run.patient.fields, tr), words.age(run.patient.fields, tr)])
        self.show(
            self.ids.films,
            (run.films, run.row.encounter.ended_at, state.reading, state.receiving),
            lambda: self._films(state, tr),
        )
        heard = (run.messages, run.acknowledgements, run.films)
        answered = bool(run.messages or any(film.reading or film.server for film in run.films))
        first, last = (self.ids.news, self.ids.er) if answered else (self.ids.er, self.ids.news)
        self.show(first, heard, lambda: self._er(run, tr))
        self.show(last, None, list)
        self.show(self.ids.vitals, run.vital_signs, lambda: self._vitals(run, tr))
        self.show(self.ids.patient, (run.patient, run.row.encounter), lambda: self._patient(run, tr))
        self.show(self.ids.delivery, (run.row, run.films), lambda: self._delivery(run, tr))
        self.show(self.ids.ending, run.row.encounter.ended_at, lambda: self._ending(run, tr))
        self.presenter.seen()

    def name_of_state(self) -> str:
        """For the window's title."""
        run = self.presenter.state.run
        if run is None:
            return self.tr("run")
        return self.tr("run, images: {n}", n=len(run.films))

    def _films(self, state: RunState, tr: Translator) -> list[Widget]:
        run = state.run
        if run is None:
            return []
        widgets: list[Widget] = [section(tr("Images"))]
        if run.films:
            for number, film in enumerate(run.films):
                place = Place(Screen.RESULT, film.id)
                widgets.append(film_row(film, tr, f"run.film.{number}", place, reading=film.id in state.reading))
            later = [film for film in run.films if film.picture]
            if len(later) > 1:
                place = Place(Screen.COMPARE, later[1].id, later[0].id)
                widgets.append(button(tr("Compare two images"), "run.compare", lambda: running_app().shell.go(place)))
        elif run.row.encounter.ended_at is None:
            widgets.append(text(tr("Waiting for an image."), bold=True, large=True))
            way = tr("Send it from the X-ray device: it comes here by itself and is read at once.")
            blocked = tr("The X-ray device cannot send now (see Images). Pick a file.")
            widgets.append(aside(way if state.receiving else blocked))
        else:
            widgets.append(aside(tr("This run has no image.")))
        pick = action if not run.films and run.row.encounter.ended_at is None else button
        widgets.append(pick(tr("Pick a file"), "run.pick", self._pick))
        return widgets

    def _pick(self) -> None:
        run = self.presenter.state.run
        if run is not None:
            running_app().pick_file(run.row.id)

    def _er(self, run: Run, tr: Translator) -> list[Widget]:
        widgets: list[Widget] = [section(tr("Emergency room"))]
        for seen in run.acknowledgements:
            widgets.append(
                text(tr("Seen by {name} at {time}.", name=seen.by, time=words.clock(seen.at)), colour=theme.GOOD)
            )
        for message in run.messages:
            widgets.append(aside(f"{message.by}, {words.clock(message.at)}"))
            widgets.append(text(message.text, bold=True, large=True))
        for film in run.films:
            if film.reading is not None:
                widgets.append(aside(tr("Confirmed reading by {name}", name=film.reading.by)))
                widgets += [text(line, bold=True) for line in words.confirmed(film.reading, tr)]
            if film.server is not None:
                widgets += self._second_reading(film, tr)
        if len(widgets) == 1:
            widgets.append(aside(tr("Nobody there has looked yet, as far as this device knows.")))
        return widgets

    def _second_reading(self, film: Film, tr: Translator) -> list[Widget]:
        """That the hospital's models disagree, what is urgent, and the way to the image."""
        result = film.server.result if film.server else None
        heading = text(tr("The hospital's models read an image differently."))
        urgent = wording.urgent_banner(result, tr) if result and not result.refused else None
        alarm = (
            [text(f"{theme.KIND_MARK['urgent']} {urgent.message}", colour=theme.URGENT, bold=True)] if urgent else []
        )
        place = Place(Screen.RESULT, film.id)
        return [
            heading,
            *alarm,
            button(tr("Compare the readings"), "run.second", lambda: running_app().shell.go(place)),
        ]

    def _vitals(self, run: Run, tr: Translator) -> list[Widget]:
        widgets: list[Widget] = [section(tr("Vital signs"))]
        if run.vital_signs:
            latest = run.vital_signs[0].fields
            figures = Buttons()
            for name, value in words.vital_figures(latest, tr):
                figures.add_widget(Figure(label=name, value=value))
            widgets += [figures, aside(tr("Taken at {time}", time=words.clock(latest.taken_at)))]
        widgets.append(button(tr("Add vital signs"), "run.vitals", self._to_vitals))
        for earlier in run.vital_signs[1:VITALS_SHOWN]:
            line = words.vitals_line(earlier.fields, tr)
            widgets.append(aside(f"{words.clock(earlier.fields.taken_at)}   {line}"))
        if len(run.vital_signs) > VITALS_SHOWN:
            widgets.append(button(tr("All vital signs"), "run.vitals_all", self._to_vitals))
        return widgets

    def _to_vitals(self) -> None:
        run = self.presenter.state.run
        if run is not None:
            running_app().shell.go(Place(Screen.VITALS, run.row.id))

    def _to_patient(self) -> None:
        run = self.presenter.state.run
        if run is not None:
            running_app().shell.go(Place(Screen.PATIENT, run.row.id))

    def _patient(self, run: Run, tr: Translator) -> list[Widget]:
        fields, encounter = run.patient.fields, run.row.encounter
        arrival = words.minutes_to(encounter.expected_arrival, tr)
        lines = [
            words.joined([words.who(fields, tr), words.person(fields, tr)]),
            *[f"{words.identifier_name(one.system, tr)}: {one.value}" for one in fields.identifiers],
            tr("Complaint: {complaint}", complaint=encounter.chief_complaint) if encounter.chief_complaint else "",
            tr("Arrival: {time}", time=arrival) if arrival else "",
            tr("Incident: {number}", number=encounter.incident_number) if encounter.incident_number else "",
            encounter.notes or "",
            tr("Run began {time}", time=words.clock(encounter.started_at)),
            tr("Run ended {time}", time=words.clock(encounter.ended_at)) if encounter.ended_at else "",
        ]
        widgets = [section(tr("Patient")), *[text(line) for line in lines if line]]
        widgets.append(button(tr("Edit patient and run"), "run.edit", self._to_patient))
        return widgets

    def _delivery(self, run: Run, tr: Translator) -> list[Widget]:
        said, kind = words.delivery(run.row.delivery, tr)
        mark = theme.KIND_MARK[kind]
        widgets = [section(tr("Delivery to the hospital")), text(f"{mark} {said}", colour=theme.KIND[kind])]
        for number, film in enumerate(reversed(run.films), 1):
            parts = [
                f"{words.part_name(part, tr)}: {words.delivery(state, tr)[0]}" for part, state in film.delivery.items()
            ]
            widgets.append(aside(tr("Image {n}", n=number) + "   " + words.joined(parts)))
        return widgets

    def _ending(self, run: Run, tr: Translator) -> list[Widget]:
        if run.row.encounter.ended_at is None:
            first = button(tr("End run"), "run.end", self._end)
        else:
            first = button(tr("Reopen run"), "run.reopen", self.presenter.reopen)
        return [first, danger(tr("Delete run"), "run.delete", self._delete)]

    def _end(self) -> None:
        tr = self.tr
        running_app().ask(
            tr("End this run?"),
            tr("Images that arrive afterwards are not put into it by themselves. It can be reopened."),
            tr("End run"),
            self.presenter.end,
        )

    def _delete(self) -> None:
        tr = self.tr
        running_app().ask(
            tr("Delete this run?"),
            tr("Patient data and all images go, at the hospital too once reached. You can undo it for 10 minutes."),
            tr("Delete run"),
            self.presenter.delete,
            destructive=True,
        )


Builder.load_file(str(Path(__file__).with_name("run.kv")))
