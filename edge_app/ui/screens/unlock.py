"""The unlock screen: a number pad for gloves, and a page of its own for a store that does not open."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from kivy.clock import Clock
from kivy.lang import Builder
from kivy.metrics import dp
from kivy.properties import BooleanProperty, NumericProperty, StringProperty
from kivy.uix.boxlayout import BoxLayout
from kivy.uix.widget import Widget

from edge_app.store.views import Backup
from edge_app.ui import keyboard, theme
from edge_app.ui.field import blur
from edge_app.ui.i18n import Translator
from edge_app.ui.presenters import words
from edge_app.ui.presenters.unlock import (
    LEAST_DIGITS,
    LEAST_LETTERS,
    MOST_DIGITS,
    Step,
    Unlock,
    UnlockPresenter,
)
from edge_app.ui.screens.parts import View, aside, button, danger, notice, running_app, text
from edge_app.ui.widgets import ActionTouch, Touch
from edge_app.ui.wording import Notice

RESTORABLE = frozenset({"store_damaged", "store_missing"})
CRAMPED = 640
"""Height of the window, in density-independent pixels, below which the keyboard leaves room for the passphrase only."""
WIDGETS = (keyboard,)
"""Modules whose widget classes ``unlock.kv`` names."""


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
    passphrase = BooleanProperty(False)
    cramped = BooleanProperty(False)
    troubled = BooleanProperty(False)

    presenter: UnlockPresenter

    def __init__(self, presenter: UnlockPresenter, **kwargs: object) -> None:
        super().__init__(presenter, **kwargs)
        self._ticking = Clock.schedule_interval(lambda _: self.refresh(), 0.5)
        self.most = MOST_DIGITS
        self.ids.keyboard.bind(field=lambda *_: self._leave_room())
        self.bind(size=lambda *_: self._leave_room())
        self.ids.words.bind(on_done=lambda _: self._entered())

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
        self.heading, self.hint = self._asked(state, tr)
        self.complaint = self._complaint(state, wait, tr)
        self.passphrase = state.passphrase and state.trouble is None
        if not state.digits and self.ids.words.text:
            self.ids.words.text = ""
        self.digits, self.busy, self.ready = state.digits, state.busy, state.ready and not wait
        arrived = running_app().shell.state.arrived
        self.arrived = tr("New images: {n}. Unlock to see them.", n=arrived) if arrived else ""
        self.troubled = state.trouble is not None
        wiped = running_app().shell.state.revoked and state.step is not Step.ENTER
        self.troubled = self.troubled or wiped
        trouble = (state.trouble, state.backups, state.busy, wiped)
        self.show(self.ids.trouble, trouble, lambda: self._wiped() if wiped else self._trouble(state))

    def use_passphrase(self, passphrase: bool) -> None:
        """A tap on the button that changes over."""
        self.presenter.use_passphrase(passphrase)
        if passphrase:
            Clock.schedule_once(lambda _: self.ids.words.focus(), 0.1)
        else:
            blur()

    def _entered(self) -> bool:
        """The enter key; the keyboard stays for the next try."""
        self.presenter.submit()
        return True

    def _leave_room(self) -> None:
        """On a low window the keyboard takes the place of everything but the passphrase."""
        self.cramped = self.ids.keyboard.field is not None and self.height < dp(CRAMPED)

    def _asked(self, state: Unlock, tr: Translator) -> tuple[str, str]:
        """What to type, and a hint."""
        if state.step is Step.REPEAT:
            return tr("Type it again"), tr("Remember it well: without it the data cannot be read.")
        if state.step is Step.ENTER:
            return (tr("Enter the passphrase") if state.passphrase else tr("Enter the PIN")), ""
        if state.passphrase:
            least = tr(
                "At least {n} letters, digits or signs. It locks the patients' data on this device.", n=LEAST_LETTERS
            )
            return tr("Choose a passphrase"), least
        return tr("Choose a PIN"), tr("6 to 12 digits. It locks the patients' data on this device.")

    def _complaint(self, state: Unlock, wait: int, tr: Translator) -> str:
        if wait:
            return tr("Too many wrong tries. Next try in {time}.", time=f"{wait // 60}:{wait % 60:02d}")
        if state.error:
            said = words.error(state.error, tr)
            if state.passphrase:
                said = {
                    "pin_wrong": Notice(tr("This passphrase is wrong."), tr("Try again.")),
                    "pin_differs": Notice(tr("The two passphrases differ."), tr("Choose one again.")),
                }.get(state.error.code, said)
            tries = tr("Wrong tries: {n}.", n=state.tries) if state.tries > 1 else ""
            return " ".join(part for part in (said.message, said.action, tries) if part)
        if running_app().shell.state.revoked:
            said = words.revoked(tr)
            return f"{said.message} {said.action}"
        return ""

    def _wiped(self) -> list[Widget]:
        """The hospital had the key destroyed; the program that held it cannot go on."""
        tr = self.tr
        said = Notice(
            tr("The hospital no longer trusts this device and had its records destroyed: nobody can read them."),
            tr("Ask the hospital's IT to enrol this device again."),
        )
        return [
            notice(said, tr("This device was wiped"), theme.URGENT, large=True),
            button(tr("Close FirstRay"), "unlock.close", running_app().stop, ActionTouch),
        ]

    def _trouble(self, state: Unlock) -> list[Widget]:
        if state.trouble is None:
            return []
        tr, error = self.tr, state.trouble
        said = words.error(error, tr)
        if state.lost_key:
            said = Notice(tr("They were made with a key that no longer exists."), tr("Begin with empty records."))
        widgets = [notice(said, tr("The records cannot be opened"), theme.URGENT, large=True)]
        widgets.append(aside(tr("Code: {code}", code=error.code)))
        if state.busy:
            return [*widgets, text(tr("Working…"), bold=True)]
        if error.code not in RESTORABLE:
            return [*widgets, button(tr("Try again"), "unlock.retry", self.presenter.retry)]
        for number, backup in enumerate(state.backups):
            made = words.moment(backup.made_at)
            label = tr("Restore the backup of {time} ({size})", time=made, size=words.size(backup.size))
            kind = Touch if number else ActionTouch
            widgets.append(button(label, f"unlock.restore.{number}", partial(self._restore, backup), kind))
        if state.backups:
            widgets.append(aside(tr("Images that came in after it are found again; what was typed after it is not.")))
        widgets.append(button(tr("Try again"), "unlock.retry", self.presenter.retry))
        if not state.backups:
            widgets.append(danger(tr("Begin with empty records"), "unlock.empty", partial(self._restore, None)))
        return widgets

    def _restore(self, backup: Backup | None) -> None:
        tr = self.tr
        if backup is None:
            lost = tr("All that was typed is lost here.")
        else:
            lost = tr("What was typed since {time} is lost here.", time=words.moment(backup.made_at))
        running_app().ask(
            tr("Restore this backup?") if backup else tr("Begin with empty records?"),
            f"{lost} {tr('The damaged records are put aside.')}",
            tr("Restore") if backup else tr("Begin"),
            lambda: self.presenter.restore(backup),
            destructive=backup is None,
        )


Builder.load_file(str(Path(__file__).with_name("unlock.kv")))
