"""The hospital's address and code, then whose hospital it is and the yes to it."""

from __future__ import annotations

from pathlib import Path

from kivy.lang import Builder
from kivy.metrics import sp
from kivy.properties import BooleanProperty, StringProperty
from kivy.uix.widget import Widget

from edge_app.ui import theme
from edge_app.ui.field import Field, blur
from edge_app.ui.presenters import words
from edge_app.ui.presenters.enrol import Doing, Enrol, EnrolPresenter
from edge_app.ui.screens.parts import View, action, aside, button, notice, running_app, section, text
from edge_app.ui.widgets import Text


class EnrolView(View):
    """Asks for address and code, or, once a hospital was recognised, whether it is the right one."""

    presenter: EnrolPresenter
    doing = StringProperty()
    now = StringProperty()
    asking = BooleanProperty(False)

    def __init__(self, presenter: EnrolPresenter, **kwargs: object) -> None:
        super().__init__(presenter, **kwargs)
        self.title = self.tr("Hospital")
        self._form, self._answer = self.ids.form.__self__, self.ids.answer.__self__
        self.ids.body.remove_widget(self._answer)

    def refresh(self) -> None:
        """Show the presenter's state."""
        state: Enrol = self.presenter.state
        tr = self.tr
        wrong = dict(state.wrong)
        for name, typed in (("address", state.address), ("code", state.code)):
            field: Field = self.ids[name]
            field.text = typed
            field.error = wrong[name].said(tr) if name in wrong else ""
        self.now = tr("This device sends to: {hospital}", hospital=state.hospital.name) if state.hospital else ""
        self.doing = {
            Doing.LOOKING: tr("Looking for the hospital… This may take half a minute."),
            Doing.ENROLLING: tr("The hospital takes this device on…"),
        }.get(state.doing, "")
        self._turn(asking=state.found is not None)
        self.show(self.ids.error, state.error, self._error)
        self.show(self._answer, (state.found, state.doing, state.hospital), self._question)

    def name_of_state(self) -> str:
        """For the window's title."""
        return self.tr("Is this the right hospital?") if self.presenter.state.found else self.title

    def look(self) -> None:
        """A tap on the button: find out whose hospital it is."""
        blur()
        self.presenter.look()

    def accept(self) -> None:
        """Yes; where the device has a hospital already, asked once more what that means."""
        state = self.presenter.state
        if state.hospital is None or state.found is None:
            self.presenter.accept()
            return
        tr = self.tr
        if state.same:
            told = tr("This device sends to: {hospital}", hospital=state.hospital.name)
            running_app().ask(tr("Enrol this device again?"), told, tr("Enrol again"), self.presenter.accept)
            return
        was = tr("{old} gets nothing more from this device, and keeps what it has.", old=state.hospital.name)
        will = tr("The new hospital gets everything that is on this device, earlier runs too.")
        running_app().ask(
            tr("Replace the hospital?"), f"{was} {will}", tr("Replace"), self.presenter.accept, destructive=True
        )

    def _turn(self, *, asking: bool) -> None:
        """Show the form, or the question."""
        if asking == self.asking:
            return
        self.asking = asking
        body, before, after = self.ids.body, *((self._form, self._answer)[:: 1 if asking else -1])
        place = body.children.index(before)
        body.remove_widget(before)
        body.add_widget(after, place)
        self.ids.scroll.scroll_y = 1

    def _error(self) -> list[Widget]:
        error = self.presenter.state.error
        return [notice(words.error(error, self.tr), self.tr("This device was not enrolled"))] if error else []

    def _question(self) -> list[Widget]:
        state, tr = self.presenter.state, self.tr
        if state.found is None:
            return []
        hospital = state.found.hospital
        widgets = [
            section(tr("Is this the right hospital?")),
            Text(text=hospital.name or hospital.url, bold=True, font_size=sp(theme.FIGURE)),
            text(hospital.url, large=True),
        ]
        if state.found.fingerprint:
            groups = state.found.fingerprint
            widgets.append(text(tr("Fingerprint of its certificate: {groups}", groups=groups), large=True))
            widgets.append(aside(tr("It is that of the code: nobody else can answer in the hospital's place.")))
        else:
            widgets.append(aside(tr("No certificate: the server runs on this machine, for trying it out only.")))
        yes = action(tr("Yes, send to this hospital"), "enrol.accept", self.accept)
        no = button(tr("No, change address or code"), "enrol.decline", self.presenter.decline)
        for one in (yes, no):
            one.disabled = bool(state.doing)
        return [*widgets, yes, no]


Builder.load_file(str(Path(__file__).with_name("enrol.kv")))
