"""What can be set: language, colours, lock, PIN, the hospital, and how images come in."""

from __future__ import annotations

from pathlib import Path

from kivy.lang import Builder
from kivy.properties import BooleanProperty, StringProperty
from kivy.uix.widget import Widget

from edge_app.hospital_access import HospitalAccess
from edge_app.ui import theme
from edge_app.ui.editing import Kind
from edge_app.ui.i18n import LANGUAGES
from edge_app.ui.presenters import words
from edge_app.ui.presenters.places import Place, Screen
from edge_app.ui.presenters.status import Settings, SettingsPresenter
from edge_app.ui.presenters.unlock import MOST_DIGITS, MOST_LETTERS
from edge_app.ui.screens.parts import View, aside, button, running_app, section, text

LOCK_MINUTES = ("2", "5", "10", "20", "60")


class SettingsView(View):
    """Preferences and the receiver."""

    presenter: SettingsPresenter
    folder = StringProperty()
    receiver_done = StringProperty()
    complaint = StringProperty()
    busy = BooleanProperty(False)

    def __init__(self, presenter: SettingsPresenter, **kwargs: object) -> None:
        super().__init__(presenter, **kwargs)
        self.title = self.tr("Settings")
        app = running_app()
        self.ids.language.options = list(LANGUAGES.items())
        self.ids.language.value = app.tr.language
        self.ids.theme.value = app.preferences.theme
        self.ids.lock.options = [(n, n) for n in LOCK_MINUTES]
        self.ids.lock.value = str(app.preferences.lock_minutes)
        self._loaded = False

    def refresh(self) -> None:
        """Show the presenter's state."""
        state: Settings = self.presenter.state
        tr = self.tr
        if state.status is not None and not self._loaded:
            self._loaded = True
            self.ids.ae_title.text = state.status.dicom.ae_title
            self.ids.port.text = str(state.status.dicom.port)
        wrong = dict(state.wrong)
        for name in ("ae_title", "port"):
            self.ids[name].error = wrong[name].said(tr) if name in wrong else ""
        folder = state.status.hot_folder if state.status else None
        self.folder = folder.name if folder else tr("none")
        self.busy = state.busy
        self.receiver_done = tr("Saved: the X-ray device must use these values.") if state.done == "receiver" else ""
        said = words.error(state.error, tr) if state.error else None
        self.complaint = f"{said.message} {said.action}" if said else ""
        if state.status is not None:
            hospital, link = state.status.hospital, words.link(state.status.link, tr)
            self.show(self.ids.hospital, (hospital, link), lambda: self._hospital(hospital, *link))

    def set_language(self, language: str) -> None:
        """A tap on a language."""
        running_app().prefer(language=language)

    def set_theme(self, name: str) -> None:
        """A tap on dark or light."""
        running_app().prefer(theme=name)

    def set_lock(self, minutes: str) -> None:
        """A tap on a time."""
        running_app().prefer(lock_minutes=int(minutes))

    def save_receiver(self) -> None:
        """Receive with what was typed."""
        self.presenter.set_receiver(self.ids.ae_title.text, self.ids.port.text)

    def choose_folder(self) -> None:
        """Ask which folder to watch."""
        running_app().pick_place(self.tr("Which folder?"), self.presenter.set_hot_folder)

    def _hospital(self, hospital: HospitalAccess | None, link: str, kind: str) -> list[Widget]:
        """Whom the device sends to."""
        tr = self.tr
        if hospital is None:
            return [
                section(tr("Hospital")),
                aside(tr("Records stay on this device until a hospital is set up.")),
                button(tr("Set up the hospital"), "settings.hospital", self.to_hospital),
            ]
        lines = [
            section(tr("Hospital")),
            text(hospital.name, bold=True, large=True),
            text(f"{theme.KIND_MARK[kind]} {link}", colour=theme.KIND[kind], bold=True),
            aside(hospital.hospital.url),
        ]
        if hospital.enrolled_at is not None:
            since = words.moment(hospital.enrolled_at)
            lines.append(aside(tr("Enrolled since {time} as {name}", time=since, name=hospital.device_name)))
        return [*lines, button(tr("Change the hospital"), "settings.hospital", self.to_hospital)]

    def to_hospital(self) -> None:
        """Set up or change the hospital."""
        running_app().shell.go(Place(Screen.ENROL))

    def to_pin(self) -> None:
        """Change the PIN."""
        running_app().shell.go(Place(Screen.PIN))


class PinView(View):
    """Asks for the PIN or passphrase in use and twice for a new one."""

    presenter: SettingsPresenter
    complaint = StringProperty()
    busy = BooleanProperty(False)
    old_kind = StringProperty(Kind.PIN.value)

    def __init__(self, presenter: SettingsPresenter, **kwargs: object) -> None:
        super().__init__(presenter, **kwargs)
        self.title = self.tr("Change PIN")
        self.old_kind = (Kind.HIDDEN if running_app().unlock.state.passphrase else Kind.PIN).value
        self.ids.kind.value = self.old_kind
        self.ids.old.next_field, self.ids.new.next_field = self.ids.new, self.ids.again

    def refresh(self) -> None:
        """Show the presenter's state."""
        state: Settings = self.presenter.state
        wrong = dict(state.wrong)
        self.ids.again.error = wrong["again"].said(self.tr) if "again" in wrong else ""
        said = words.error(state.error, self.tr) if state.error else None
        self.complaint = f"{said.message} {said.action}" if said else ""
        self.busy = state.busy
        if state.done == "pin":
            running_app().unlock.use_passphrase(self.ids.kind.value == Kind.HIDDEN)

    def most(self, kind: str) -> int:
        """Most characters of a PIN or passphrase."""
        return MOST_LETTERS if kind == Kind.HIDDEN else MOST_DIGITS

    def save(self) -> None:
        """Change it."""
        self.presenter.change_pin(self.ids.old.text, self.ids.new.text, self.ids.again.text)


Builder.load_file(str(Path(__file__).with_name("settings.kv")))
