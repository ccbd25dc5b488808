"""One radiograph: the image first and large, and beside it what was read from it and what can be done about it."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path

from kivy.clock import Clock
from kivy.lang import Builder
from kivy.properties import BooleanProperty, StringProperty
from kivy.uix.widget import Widget

from edge_app.ui import theme, viewer, wording
from edge_app.ui.i18n import Translator
from edge_app.ui.presenters import pictures, words
from edge_app.ui.presenters.places import Place, Screen
from edge_app.ui.presenters.result import ResultPresenter, ResultState
from edge_app.ui.screens.parts import (
    Flow,
    View,
    action,
    aside,
    button,
    danger,
    notice,
    running_app,
    section,
    text,
)
from edge_app.ui.widgets import Chip, Doubt, LegendItem, NoticeCard, RankedCard
from edge_app.ui.wording import Notice
from shared.diagnosis import Diagnosis

MORE_SECONDS = 0.25
"""After the image and its findings, until what lies below them is added: laying out text holds up the image."""
WIDGETS = (viewer,)
"""Modules whose widget classes ``result.kv`` names."""


class ResultView(View):
    """A radiograph and its reading."""

    presenter: ResultPresenter
    banner_message = StringProperty()
    banner_action = StringProperty()
    centre = StringProperty()
    busy = BooleanProperty(False)

    def __init__(self, presenter: ResultPresenter, **kwargs: object) -> None:
        super().__init__(presenter, **kwargs)
        self._more_of: tuple[Diagnosis | None] | None = None
        self._more_awaited: tuple[Diagnosis | None] | None = None
        self._fill_later = Clock.create_trigger(lambda _: self._fill_more(), MORE_SECONDS)
        self.ids.viewer.bind(windowing=lambda *_: self.presenter.sharpen())

    def refresh(self) -> None:
        """Show the presenter's state."""
        state: ResultState = self.presenter.state
        tr, diagnosis = self.tr, state.diagnosis
        self.title = self._heading(state, tr)
        banner = wording.urgent_banner(diagnosis, tr) if diagnosis and not diagnosis.refused else None
        self.banner_message, self.banner_action = (banner.message, banner.action) if banner else ("", "")
        self.busy = state.reading and state.film is not None and state.picture is None
        self.centre = tr("Reading the radiograph…") if self.busy else ""
        if state.film is not None and not state.film.picture and not state.reading:
            self.centre = tr("No image")
        shown = self.ids.viewer
        if shown.film is not state.picture:
            shown.show(state.picture)
        shown.boxes = pictures.shapes(diagnosis, tr) if state.picture is not None else ()
        shown.hidden = state.hidden
        self.show(self.ids.legend, (diagnosis, state.picture is None), lambda: self._legend(diagnosis, tr))
        self.show(self.ids.panel, _said_first(state), lambda: self._panel(state, tr))
        self._show_more(state)
        self.presenter.seen()

    def release(self) -> None:
        """Let go of the radiograph's textures."""
        self._fill_later.cancel()
        self.ids.viewer.show(None)

    def name_of_state(self) -> str:
        """For the window's title: what was found, never whose it is."""
        state: ResultState = self.presenter.state
        tr, shown = self.tr, state.shown
        if state.reading or shown is None:
            return tr("reading")
        if shown.result is None:
            return tr("error ({code})", code=shown.error)
        if shown.result.refused:
            reason = shown.result.verdict.reason
            return tr("refused ({code})", code=reason.code if reason else "")
        return tr("result: {findings}", findings=words.findings((one.finding for one in shown.result.top3), tr))

    def _heading(self, state: ResultState, tr: Translator) -> str:
        if state.film is None:
            return tr("Image")
        who = words.joined([words.who(state.row.who, tr), words.age(state.row.who, tr)]) if state.row else ""
        nobody = tr("Image of no run") if state.film.run is None else ""
        return words.joined([who or nobody, words.clock(state.film.received_at)])

    def _legend(self, diagnosis: Diagnosis | None, tr: Translator) -> list[Widget]:
        sources = {box.source for box in diagnosis.boxes} if diagnosis else set()
        items: list[Widget] = []
        if "detector" in sources:
            items.append(LegendItem(text=tr("Found by the detector")))
        if "activation" in sources:
            items.append(LegendItem(text=tr("Approximate area"), dashed=True))
        return items

    def _panel(self, state: ResultState, tr: Translator) -> list[Widget]:
        if state.film is None:
            return []
        widgets: list[Widget] = []
        if state.film.run is None:
            place = Place(Screen.ASSIGN, state.film.id)
            widgets.append(action(tr("Choose its run"), "result.assign", lambda: running_app().shell.go(place)))
            widgets.append(aside(words.device_patient(state.film.device_patient, tr)))
        if state.chosen is not None:
            widgets.append(text(tr("An earlier reading of this image."), bold=True, colour=theme.WARNING))
            widgets.append(button(tr("Show the latest reading"), "result.latest", lambda: self.presenter.choose(None)))
        if state.reading:
            widgets.append(text(tr("Reading the radiograph…"), bold=True, large=True))
        return [*widgets, *self._hospital(state, tr), *self._reading(state, tr)]

    def _show_more(self, state: ResultState) -> None:
        """At once where it explains what is shown already, else a moment after it."""
        wanted = (state.diagnosis,)
        if wanted == self._more_of:
            self._fill_more()
        elif state.film is not None and wanted != self._more_awaited:
            self._more_awaited = wanted
            self._fill_later.cancel()
            self._fill_later()

    def _fill_more(self) -> None:
        state: ResultState = self.presenter.state
        self._more_of = self._more_awaited = (state.diagnosis,)
        content = (state.film, state.row, state.reading, state.chosen, state.earlier, state.others, state.diagnosis)
        self.show(self.ids.more, content, lambda: self._more(state, self.tr))

    def _more(self, state: ResultState, tr: Translator) -> list[Widget]:
        """What lies below the findings."""
        if state.film is None:
            return []
        parts = (self._next, self._explained, self._about, self._further)
        return [widget for part in parts for widget in part(state, tr)]

    def _reading(self, state: ResultState, tr: Translator) -> list[Widget]:
        shown = state.shown
        if shown is None:
            return [] if state.reading else self._unread(tr)
        if shown.result is None:
            said = words.reading_error(shown.error or "", tr)
            return [
                NoticeCard([said], heading=tr("Could not be read"), accent=theme.URGENT, large=True),
                aside(tr("Code: {code}", code=shown.error)),
                aside(tr("The image is kept, and goes to the hospital as soon as it is reached.")),
                button(tr("Try to read it again"), "result.again", self.presenter.read_again),
            ]
        if shown.result.refused:
            return self._refusal(state, shown.result, tr)
        return self._result(state, shown.result, tr)

    def _unread(self, tr: Translator) -> list[Widget]:
        """It waits, and nothing reads it: the models are missing, or the outcome could not be stored."""
        said = Notice(tr("This image has not been read."), tr("See under Status why, then try again."))
        return [
            NoticeCard([said], heading=tr("Not read yet"), accent=theme.WARNING, large=True),
            aside(tr("The image is kept, and goes to the hospital as soon as it is reached.")),
            button(tr("Try to read it again"), "result.again", self.presenter.read_again),
        ]

    def _result(self, state: ResultState, diagnosis: Diagnosis, tr: Translator) -> list[Widget]:
        widgets = self._corrected(diagnosis, tr)
        if warnings := wording.warnings(diagnosis, tr):
            widgets.append(NoticeCard(warnings, heading=wording.warning_heading(diagnosis, tr), accent=theme.WARNING))
        if unexcluded := wording.exclusion_note(diagnosis, tr):
            widgets.append(Doubt(text=unexcluded))
        widgets.append(section(tr("Highest probabilities")))
        widgets += [RankedCard(**asdict(one)) for one in wording.ranked_rows(diagnosis, tr)]
        widgets += [text(note) for note in wording.state_notes(diagnosis, tr)]
        return [*widgets, *self._boxes(state, diagnosis, tr)]

    def _explained(self, state: ResultState, tr: Translator) -> list[Widget]:
        """What the words beside the bars mean, and what was not looked for."""
        diagnosis = state.diagnosis
        if diagnosis is None or diagnosis.refused:
            return []
        notes = [
            *wording.level_notes(diagnosis, tr),
            tr("Anything but the 13 findings FirstRay knows is not assessed."),
            wording.population_note(diagnosis, tr),
        ]
        return [section(tr("What the words mean")), *[aside(note) for note in notes]]

    def _boxes(self, state: ResultState, diagnosis: Diagnosis, tr: Translator) -> list[Widget]:
        boxed = list(dict.fromkeys(box.finding for box in diagnosis.boxes))
        if not boxed:
            return [aside(wording.box_note(diagnosis, tr))]
        flow = Flow()
        for finding in boxed:
            shown = finding not in state.hidden
            chip = Chip(text=tr.finding(finding), name=f"result.box.{finding}", selected=shown)
            chip.bind(on_release=lambda _, finding=finding: self.presenter.toggle(finding))
            flow.add_widget(chip)
        return [section(tr("Boxes on the image")), flow]

    def _refusal(self, state: ResultState, diagnosis: Diagnosis, tr: Translator) -> list[Widget]:
        problem = diagnosis.verdict.reason
        if problem is None:
            return []
        said = wording.problem_notice(problem, tr)
        widgets: list[Widget] = [NoticeCard([said], heading=tr("Not read"), accent=theme.WARNING, large=True)]
        widgets += self._corrected(diagnosis, tr)
        widgets.append(aside(tr("Code: {code}", code=problem.code)))
        widgets.append(
            aside(tr("Nothing was assessed. The image goes to the hospital all the same, as soon as it is reached."))
        )
        if state.reading or state.chosen is not None:
            return widgets
        if offer := wording.correction_offer(diagnosis, tr):
            widgets.append(action(offer, "result.correct", self.presenter.read_corrected))
        if problem.overridable:
            widgets.append(button(tr("Read it all the same"), "result.anyway", self.presenter.read_anyway))
        return widgets

    def _corrected(self, diagnosis: Diagnosis, tr: Translator) -> list[Widget]:
        note = wording.correction_note(diagnosis, tr)
        return [notice(note, tr("Not as received"))] if note else []

    def _hospital(self, state: ResultState, tr: Translator) -> list[Widget]:
        """A physician's reading before what the models say, and what the hospital's models say differently."""
        film, widgets = state.film, []
        if film is None:
            return []
        if film.reading is not None:
            lines = [Notice("", line) for line in words.confirmed(film.reading, tr)]
            by = tr("Confirmed reading by {name}, {time}", name=film.reading.by, time=words.clock(film.reading.at))
            widgets.append(NoticeCard(lines, heading=by, accent=theme.GOOD))
        if film.server is not None:
            accent = theme.URGENT if film.server.result.urgent else theme.WARNING
            said = wording.second_reading(film.server.result, tr)
            widgets.append(NoticeCard(said, heading=tr("The hospital's models read it differently"), accent=accent))
        return widgets

    def _about(self, state: ResultState, tr: Translator) -> list[Widget]:
        film, shown = state.film, state.shown
        widgets: list[Widget] = [section(tr("About this image"))]
        if film is None:
            return []
        for part, delivered in film.delivery.items():
            said, kind = words.delivery(delivered, tr)
            line = f"{theme.KIND_MARK[kind]} {words.part_name(part, tr)}: {said}"
            widgets.append(text(line, colour=theme.KIND[kind]))
        if film.device_patient is not None:
            widgets.append(aside(words.device_patient(film.device_patient, tr)))
        if shown is not None and shown.result is not None:
            widgets.append(aside(wording.made_by(shown.result, tr)))
        if shown is not None:
            widgets.append(aside(tr("Read {time}", time=words.moment(shown.made_at))))
        return widgets

    def _next(self, state: ResultState, tr: Translator) -> list[Widget]:
        """Where one goes from here."""
        film, widgets = state.film, []
        if film is None:
            return []
        if state.row is not None:
            run = Place(Screen.RUN, state.row.id)
            widgets.append(button(tr("Open the run"), "result.run", lambda: running_app().shell.go(run)))
        other = next((one for one in state.others if one.picture), None)
        if other is not None and film.picture:
            both = Place(Screen.COMPARE, other.id, film.id)
            compare = button(tr("Compare with another image"), "result.compare", lambda: running_app().shell.go(both))
            widgets.append(compare)
        return widgets

    def _further(self, state: ResultState, tr: Translator) -> list[Widget]:
        """What is seldom needed."""
        film = state.film
        if film is None:
            return []
        widgets: list[Widget] = []
        for number, reading in reversed(list(enumerate(state.earlier))):
            if number != state.chosen:
                label = tr("Earlier reading, {time}", time=words.moment(reading.fields.made_at))
                widgets.append(button(label, f"result.earlier.{number}", partial(self.presenter.choose, number)))
        if state.row is not None:
            move = Place(Screen.ASSIGN, film.id)
            words_ = tr("It belongs to another run")
            widgets.append(button(words_, "result.move", lambda: running_app().shell.go(move)))
        widgets.append(danger(tr("Delete image"), "result.delete", self._delete))
        return widgets

    def _delete(self) -> None:
        tr = self.tr
        running_app().ask(
            tr("Delete this image?"),
            tr("The image and its readings go, at the hospital too once reached. You can undo it for 10 minutes."),
            tr("Delete image"),
            self.presenter.delete,
            destructive=True,
        )


def _said_first(state: ResultState) -> object:
    """What the panel beside the image says."""
    film, shown = state.film, state.shown
    if film is None:
        return None
    unassigned = film.device_patient if film.run is None else ()
    said = (shown.result, shown.error) if shown else None
    return unassigned, film.reading, film.server, said, state.reading, state.chosen, state.hidden


Builder.load_file(str(Path(__file__).with_name("result.kv")))
