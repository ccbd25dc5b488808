"""How images come in, and the question which run one belongs to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kivy.lang import Builder
from kivy.uix.widget import Widget

from edge_app.store.views import RunRow
from edge_app.ui import theme
from edge_app.ui.i18n import Translator
from edge_app.ui.presenters import words
from edge_app.ui.presenters.capture import Assign, AssignPresenter, Capture, CapturePresenter
from edge_app.ui.presenters.places import Place, Screen
from edge_app.ui.screens.home import film_row
from edge_app.ui.screens.parts import View, action, aside, button, notice, row, running_app, section, text

if TYPE_CHECKING:
    from edge_app.station import Status


class CaptureView(View):
    """What waits, and every way an image can come in."""

    presenter: CapturePresenter
    columns_from = 760

    def __init__(self, presenter: CapturePresenter, **kwargs: object) -> None:
        super().__init__(presenter, **kwargs)
        self.title = self.tr("Images")

    def refresh(self) -> None:
        """Show the presenter's state."""
        state: Capture = self.presenter.state
        tr = self.tr
        self.show(self.ids.waiting, (state.waiting, state.taking), lambda: self._waiting(state, tr))
        self.show(self.ids.ways, self._told(state), lambda: self._ways(state, tr))

    def name_of_state(self) -> str:
        """For the window's title."""
        return self.tr("images waiting: {n}", n=len(self.presenter.state.waiting))

    def pick(self) -> None:
        """Choose a file."""
        running_app().pick_file(None)

    def _waiting(self, state: Capture, tr: Translator) -> list[Widget]:
        widgets: list[Widget] = []
        if state.taking:
            widgets.append(text(tr("Taking the file in…"), bold=True))
        widgets.append(section(tr("Waiting for a run")))
        if not state.waiting:
            widgets.append(aside(tr("No image waits. Images go to the run under way by themselves.")))
        for number, film in enumerate(state.waiting):
            widgets.append(film_row(film, tr, f"capture.waiting.{number}", Place(Screen.ASSIGN, film.id)))
            widgets.append(aside(words.device_patient(film.device_patient, tr)))
        return widgets

    def _told(self, state: Capture) -> object:
        status = state.status
        return status and (status.receiver, status.addresses, status.dicom, status.hot_folder, status.models)

    def _ways(self, state: Capture, tr: Translator) -> list[Widget]:
        status = state.status
        if status is None:
            return []
        widgets: list[Widget] = [section(tr("X-ray device (DICOM)")), *receiver_lines(status, tr)]
        widgets.append(section(tr("USB stick or folder")))
        if status.hot_folder is None:
            widgets.append(aside(tr("No folder is watched. Set one up under Status, Settings.")))
        else:
            widgets.append(text(tr("Watched: {folder}", folder=status.hot_folder.name)))
        return widgets


def receiver_lines(status: Status, tr: Translator) -> list[Widget]:
    """What to enter at the X-ray device, and whether it can be reached."""
    receiver = status.receiver
    if receiver is None:
        return [aside(tr("Receiving is switched off."))]
    if receiver.problem is not None:
        return [notice(words.error(receiver.problem, tr), tr("The X-ray device cannot send"), theme.URGENT)]
    address = ", ".join(status.addresses) or tr("no network")
    lines: list[Widget] = [
        text(tr("Ready to receive"), colour=theme.GOOD, bold=True),
        text(tr("AE title: {title}", title=status.dicom.ae_title)),
        text(tr("Address: {address}", address=address)),
        text(tr("Port: {port}", port=status.dicom.port)),
    ]
    last = receiver.last_received
    if last is not None:
        lines.append(aside(tr("Last image: {time}", time=words.clock(last.at))))
    if receiver.refused and receiver.last_refused is not None:
        lines.append(aside(tr("Refused connections: {n}", n=receiver.refused)))
    return lines


class AssignView(View):
    """Asks which run a radiograph belongs to."""

    presenter: AssignPresenter

    def __init__(self, presenter: AssignPresenter, **kwargs: object) -> None:
        super().__init__(presenter, **kwargs)
        self.title = self.tr("Whose image is this?")

    def refresh(self) -> None:
        """Show the presenter's state."""
        state: Assign = self.presenter.state
        if state.film is not None:
            content = (state.film, state.under_way, state.past, state.busy)
            self.show(self.ids.rows, content, lambda: self._rows(state, self.tr))

    def _rows(self, state: Assign, tr: Translator) -> list[Widget]:
        film = state.film
        if film is None:
            return []
        widgets = [
            text(words.device_patient(film.device_patient, tr), bold=True, large=True),
            aside(words.joined([tr("Arrived {time}", time=words.clock(film.received_at)), film.station or ""])),
            button(
                tr("Look at the image"), "assign.look", lambda: running_app().shell.go(Place(Screen.RESULT, film.id))
            ),
        ]
        if state.under_way:
            widgets.append(section(tr("Runs under way")))
            widgets += [self._choice(run, tr, f"assign.under_way.{n}") for n, run in enumerate(state.under_way)]
        widgets.append(action(tr("Begin a new run with it"), "assign.new", self.presenter.begin))
        if state.past:
            widgets.append(section(tr("Earlier runs")))
            widgets += [self._choice(run, tr, f"assign.past.{n}") for n, run in enumerate(state.past)]
        return widgets

    def _choice(self, run: RunRow, tr: Translator, name: str) -> Widget:
        return row(
            name,
            lambda: self.presenter.choose(run.id),
            title=words.joined([words.who(run.who, tr), words.age(run.who, tr)]),
            detail=words.joined([words.clock(run.encounter.started_at), run.encounter.chief_complaint or ""]).replace(
                "\n", " "
            ),
            end=tr("Images: {n}", n=run.radiographs),
        )


Builder.load_file(str(Path(__file__).with_name("capture.kv")))
