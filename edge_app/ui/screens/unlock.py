"""The unlock screen: a number pad for gloves, and a page of its own for a store that does not open."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kivy.clock import Clock
from kivy.lang import Builder
from kivy.properties import BooleanProperty, NumericProperty, StringProperty
from kivy.uix.boxlayout import BoxLayout
from kivy.uix.widget import Widget

from edge_app.store.views import Backup
from edge_app.ui import theme
from edge_app.ui.presenters import words
from edge_app.ui.presenters.unlock import LEAST_DIGITS, MOST_DIGITS, Step, Unlock, UnlockPresenter
from edge_app.ui.screens.parts import View, action, aside, button, notice, running_app, section, text

RESTORABLE = frozenset({"store_damaged", "store_missing"})


class PinDots(Widget):
    """How many digits were typed: filled dots, and empty ones up to the shortest PIN."""

    count = NumericProperty(0)
    least = NumericProperty(LEAST_DIGITS)


class NumberPad(BoxLayout):
    """Ten digits, erase and OK, each as large as there is room.

    Events:
        on_digit: with the digit.
        on_erase, on_enter: the other two keys.
    """

    __events__ = ("on_digit", "on_erase", "on_enter")
    ready = BooleanProperty(False)
    enter_text = StringProperty()
    erase_text = StringProperty()

    def on_digit(self, digit: str) -> None:
        """Default handler of the event."""

    def on_erase(self) -> None:
        """Default handler of the event."""

    def on_enter(self) -> None:
        """Default handler of the event."""


class UnlockView(View):
    """Asks for the PIN."""

    heading = StringProperty()
    hint = StringProperty()
    complaint = StringProperty()
    arrived = StringProperty()
    digits = NumericProperty(0)
    busy = BooleanProperty(False)
    ready = BooleanProperty(False)
    troubled = BooleanProperty(False)

    presenter: UnlockPresenter

    def __init__(self, presenter: UnlockPresenter, **kwargs: object) -> None:
        super().__init__(presenter, **kwargs)
        self._ticking = Clock.schedule_interval(lambda _: self.refresh(), 0.5)
        self.most = MOST_DIGITS

    def stop(self) -> None:
        """The screen is gone."""
        self._ticking.cancel()

    def name_of_state(self) -> str:
        """For the window's title."""
        state: Unlock = self.presenter.state
        if state.trouble:
            return self.tr("error ({code})", code=state.trouble.code)
        return self.tr("choose a PIN") if state.step is not Step.ENTER else self.tr("locked")

    def refresh(self) -> None:
        """Show the presenter's state."""
        state: Unlock = self.presenter.state
        tr = self.tr
        wait = self.presenter.seconds_left()
        headings = {
            Step.CHOOSE: (tr("Choose a PIN"), tr("6 to 12 digits. It locks the patients' data on this device.")),
            Step.REPEAT: (tr("Type it again"), tr("Remember it well: without it the data cannot be read.")),
            Step.ENTER: (tr("Enter the PIN"), ""),
        }
        self.heading, self.hint = headings[state.step]
        self.complaint = ""
        if wait:
            self.complaint = tr("Too many wrong PINs. Next try in {time}.", time=f"{wait // 60}:{wait % 60:02d}")
        elif state.error:
            said = words.error(state.error, tr)
            self.complaint = f"{said.message} {said.action}"
            if state.tries > 1:
                self.complaint += " " + tr("Wrong tries: {n}.", n=state.tries)
        elif running_app().shell.state.revoked:
            said = words.revoked(tr)
            self.complaint = f"{said.message} {said.action}"
        self.digits, self.busy, self.ready = state.digits, state.busy, state.ready and not wait
        arrived = running_app().shell.state.arrived
        self.arrived = tr("New images: {n}. Unlock to see them.", n=arrived) if arrived else ""
        self.troubled = state.trouble is not None
        trouble = (state.trouble, state.backups, state.busy)
        self.show(self.ids.trouble, trouble, lambda: self._trouble(state))

    def _trouble(self, state: Unlock) -> list[Widget]:
        if state.trouble is None:
            return []
        tr, error = self.tr, state.trouble
        widgets = [notice(words.error(error, tr), tr("The records cannot be opened"), theme.URGENT, large=True)]
        widgets.append(aside(tr("Code: {code}", code=error.code)))
        if state.busy:
            return [*widgets, text(tr("Working…"), bold=True)]
        widgets.append(action(tr("Try again"), "unlock.retry", self.presenter.retry))
        if error.code in RESTORABLE and state.backups:
            widgets.append(section(tr("Restore a backup")))
            widgets.append(aside(tr("Images that came in after it are found again.")))
            for number, backup in enumerate(state.backups):
                label = tr("Backup of {time} ({size})", time=words.moment(backup.made_at), size=words.size(backup.size))
                widgets.append(button(label, f"unlock.restore.{number}", self._restoring(backup)))
        return widgets

    def _restoring(self, backup: Backup) -> Callable[[], None]:
        return lambda: self._restore(backup)

    def _restore(self, backup: Backup) -> None:
        tr = self.tr
        running_app().ask(
            tr("Restore this backup?"),
            tr("The damaged records are put aside and the backup takes their place."),
            tr("Restore"),
            lambda: self.presenter.restore(backup),
        )


Builder.load_file(str(Path(__file__).with_name("unlock.kv")))
