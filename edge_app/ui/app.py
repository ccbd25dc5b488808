"""The Kivy application: one frame, one screen at a time, over one station."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from kivy.app import App
from kivy.base import ExceptionHandler, ExceptionManager
from kivy.clock import Clock
from kivy.core.window import Window
from kivy.metrics import dp
from kivy.properties import ObjectProperty
from kivy.uix.floatlayout import FloatLayout

from edge_app.preferences import Preferences
from edge_app.ui import outline
from edge_app.ui import theme as colours
from edge_app.ui.chooser import Chooser
from edge_app.ui.collector import Collector
from edge_app.ui.field import FOCUS, blur
from edge_app.ui.folder import places
from edge_app.ui.i18n import Translator
from edge_app.ui.overlays import Dialog
from edge_app.ui.presenters.capture import CapturePresenter
from edge_app.ui.presenters.desk import Desk, internal_error
from edge_app.ui.presenters.places import HOME, Place, Screen
from edge_app.ui.presenters.result import ResultPresenter
from edge_app.ui.presenters.runs import RunsPresenter
from edge_app.ui.presenters.shell import News, Shell, ShellPresenter
from edge_app.ui.presenters.unlock import UnlockPresenter
from edge_app.ui.screens.frame import AppFrame
from edge_app.ui.screens.open import Opened, open_place
from edge_app.ui.screens.parts import Column, button
from edge_app.ui.screens.unlock import UnlockView
from edge_app.ui.telling import Teller
from edge_app.ui.wording import place_name
from shared.errors import FirstRayError

if TYPE_CHECKING:
    from edge_app.station import Change, Station

log = logging.getLogger(__name__)

FOLLOW_SECONDS = 0.05
"""After a change, until the screen shown is read again."""
STATUS_SECONDS = 2.0
"""How often the status screen looks anew while it is shown."""


SPARE_SECONDS = 3.0
"""After the start, when everything is loaded and nobody waits for anything."""


class Outlive(ExceptionHandler):
    """Keeps the app running after a mistake in a view: said on the screen, and logged without its text."""

    def __init__(self, report: Callable[[FirstRayError], None]) -> None:
        self._report = report
        self._telling = False

    def handle_exception(self, mistake: Exception) -> int:
        """Log it and go on; what is no plain mistake ends the app as usual."""
        if self._telling or not isinstance(mistake, Exception):
            return int(ExceptionManager.RAISE)
        place = "".join(traceback.format_tb(mistake.__traceback__))
        log.error("A screen failed: %s\n%s", type(mistake).__name__, place)
        self._telling = True
        try:
            self._report(internal_error())
        finally:
            self._telling = False
        return int(ExceptionManager.PASS)


class FirstRayApp(App):
    """The paramedic's app.

    Args:
        make_station: makes the station, given what to call after every change, on any thread.
        files: taken in as soon as the device is open; the first is shown.
        language, theme: override what was remembered; None keeps it.
    """

    tr = ObjectProperty()

    def __init__(
        self,
        make_station: Callable[[Callable[[Change], None]], Station],
        files: list[Path],
        *,
        language: str | None = None,
        theme: str | None = None,
    ) -> None:
        super().__init__()
        self._files = files
        self._opened: dict[Place, Opened] = {}
        self._chooser: Chooser | None = None
        self._outline: outline.Outline | None = None
        self._last_folder = Path.home()
        self.desk = Desk(lambda function: Clock.schedule_once_free(lambda _: function()))
        self.station = make_station(lambda change: Clock.schedule_once_free(lambda _: self._changed(change)))
        given = {"language": language, "theme": theme}
        self.preferences: Preferences = self.station.preferences.model_copy(
            update={name: value for name, value in given.items() if value is not None}
        )
        self.tr = Translator(self.preferences.language)
        colours.use(self.preferences.theme)
        self.shell = ShellPresenter(
            self.desk,
            self.station,
            tell=self.tell,
            typing=lambda: FOCUS.field is not None,
            lock_seconds=lambda: self.preferences.lock_minutes * 60.0,
        )
        self.shell.listen = self.show
        self.unlock = UnlockPresenter(self.desk, self.station, self._unlocked)
        self.capture = CapturePresenter(self.desk, self.station, self._taken)
        self.capture.listen = self._capture_changed
        self._follow = Clock.create_trigger(self._follow_changes, FOLLOW_SECONDS)
        self._collector = Collector(lambda: self.station.is_busy)
        self._teller = Teller(self.shell.go, self.shell.undo)
        self._frame: AppFrame | None = None
        self._lock_view: UnlockView | None = None

    # the life of the app

    def build(self) -> FloatLayout:
        """An empty window in the right colour; the first screen follows at once."""
        self.title = "FirstRay"
        Window.clearcolor = colours.GROUND
        Window.bind(on_touch_down=self._touched, on_key_down=self._touched)
        return FloatLayout()

    def on_start(self) -> None:
        """Show the lock, and load the models in the background."""
        ExceptionManager.add_handler(Outlive(self.shell.report))
        self._outline = outline.outline_asked_for()
        if self._outline is not None:
            self._outline.start()
        self.unlock.listen = self.show
        if self.station.is_open:
            self._unlocked()
        else:
            self.show()
        Clock.schedule_once(lambda _: self.station.warm_up())
        Clock.schedule_once(lambda _: self._collector.start(), SPARE_SECONDS)
        Clock.schedule_interval(lambda _: self.shell.tick(), 1.0)
        Clock.schedule_interval(lambda _: self._look_at_status(), STATUS_SECONDS)

    def on_stop(self) -> None:
        """Finish what is being read and stored."""
        if self._outline is not None:
            self._outline.stop()
        self.desk.close()
        self.station.close()

    # what screens ask for

    def go_tab(self, screen: Screen) -> None:
        """The first place of a tab; once more on the tab shown, its search is kept."""
        self.shell.tab(screen)

    def list_patients(self) -> None:
        """Show the patients on the home screen."""
        opened = self._opened.get(HOME)
        if opened is not None and isinstance(opened.presenter, RunsPresenter):
            opened.presenter.show_patients(True)

    def lock(self) -> None:
        """Lock the screen now."""
        self.shell.lock()

    def prefer(self, **changes: object) -> None:
        """Change preferences; language and colours change on every screen at once."""
        changed = self.preferences.model_copy(update=changes)
        if changed == self.preferences:
            return
        looks = (changed.language, changed.theme) != (self.preferences.language, self.preferences.theme)
        self.preferences = changed
        self.desk.run(lambda: self.station.set_preferences(**changes), lambda _: None, self.shell.report)
        if looks:
            Clock.schedule_once(lambda _: self.rebuild())

    def switch_language(self) -> None:
        """Change to the other language."""
        self.prefer(language=self.tr.other)

    def switch_theme(self) -> None:
        """Change from dark to light, or back."""
        self.prefer(theme="light" if colours.name == "dark" else "dark")

    def ask(
        self, title: str, message: str, confirm: str, do: Callable[[], object], *, destructive: bool = False
    ) -> None:
        """Ask before something is done."""
        dialog = Dialog(
            title=title,
            message=message,
            confirm_text=confirm,
            cancel_text=self.tr("Cancel"),
            destructive=destructive,
        )

        def confirmed(_: Dialog) -> None:
            do()

        dialog.bind(on_confirm=confirmed)
        self.open_dialog(dialog)

    def open_dialog(self, dialog: Dialog) -> None:
        """Show a question over everything but the keyboard."""
        blur()
        dialog.open(self._frame.ids.stage if self._frame is not None and self._frame.parent else self.root)

    def pick_file(self, run: UUID | None) -> None:
        """Let the user choose a file and take it in, as part of ``run`` if one is given."""
        blur()

        def chosen(_: Chooser, path: Path) -> None:
            self._close_chooser()
            self._last_folder = path.parent
            self.capture.take(path, run)

        self._chooser = Chooser(self._last_folder.absolute())
        self._chooser.bind(on_choose=chosen, on_cancel=lambda _: self._close_chooser())
        self.root.add_widget(self._chooser)

    def pick_place(self, title: str, do: Callable[[Path], object]) -> None:
        """Let the user choose the home folder or a medium that is plugged in."""
        home = Path.home()
        dialog = Dialog(title=title, confirm_text=self.tr("Cancel"))
        choices = Column()

        def chosen(place: Path) -> None:
            dialog.close()
            do(place)

        for number, place in enumerate(places(home)):
            name = place_name(place, home, self.tr)
            choices.add_widget(button(name, f"place.{number}", partial(chosen, place)))
        dialog.add_widget(choices)
        self.open_dialog(dialog)

    def tell(self, said: News) -> None:
        """Say something at the foot of the screen, for a while."""
        if self._frame is None or self.shell.state.locked:
            return
        foot = dp(self._frame.shown.foot) if self._frame.shown is not None else 0
        self._teller.tell(said, self._frame.ids.content, foot, self.tr)

    # showing

    def rebuild(self) -> None:
        """Make every screen anew, in the language and colours chosen; places and what was typed stay."""
        blur()
        self.tr = Translator(self.preferences.language)
        colours.use(self.preferences.theme)
        Window.clearcolor = colours.GROUND
        for opened in self._opened.values():
            opened.forget_view()
        if self._lock_view is not None:
            self._lock_view.stop()
        self._frame = self._lock_view = None
        self.root.clear_widgets()
        self.show()

    def show(self) -> None:
        """Show the lock, or the place where the user is."""
        if self.root is None:
            return
        state = self.shell.state
        if state.locked:
            self._show_lock()
        else:
            self._show_place(state)

    def _show_lock(self) -> None:
        if self._lock_view is None:
            blur()
            self._close_chooser()
            just_locked = self._frame is not None and self._frame.parent is not None
            self.root.clear_widgets()
            self._lock_view = UnlockView(self.unlock)
            self.root.add_widget(self._lock_view)
            if just_locked:
                self.unlock.reset()
        self._lock_view.refresh()
        self._name(self._lock_view.name_of_state())

    def _show_place(self, state: Shell) -> None:
        if self._lock_view is not None:
            self._lock_view.stop()
            self._lock_view = None
            self.root.clear_widgets()
        if self._frame is None:
            self._frame = AppFrame()
        if self._frame.parent is None:
            self.root.add_widget(self._frame)
        for place in [place for place in self._opened if place not in state.stack]:
            self._opened.pop(place).close()
        opened = self._opened.get(state.place)
        if opened is None:
            opened = self._opened[state.place] = open_place(self, state.place)
            opened.presenter.listen = lambda: self._state_changed(opened)
            opened.presenter.reload()
            if isinstance(opened.presenter, ResultPresenter):
                opened.presenter.look_early()
        view = opened.view
        if view is not self._frame.shown:
            blur()
        if opened.stale:
            opened.stale = False
            opened.presenter.reload()
        view.refresh()
        self._frame.put(view)
        self._frame.refresh(state)
        self._teller.arrived(state.stack, dp(view.foot))
        self._name(view.name_of_state())

    def _state_changed(self, opened: Opened) -> None:
        """A presenter's state changed: show it if it is on screen, and say its error once."""
        error = opened.presenter.state.error
        if getattr(opened.presenter.state, "gone", False):
            if opened.place.id is not None:
                self.shell.leave(opened.place.id)
            return
        if self.shell.state.locked or self.shell.state.place != opened.place or self._frame is None:
            return
        if error is not None and not opened.shows_errors:
            opened.presenter.dismiss()
            self.shell.report(error)
            return
        opened.view.refresh()
        self._frame.title = opened.view.title
        self._name(opened.view.name_of_state())

    def _name(self, state: str) -> None:
        Window.set_title(f"FirstRay – {state}")

    # what happens

    def _unlocked(self) -> None:
        self.shell.unlocked()
        files, self._files = self._files, []
        for path in files:
            self.capture.take(path)

    def _taken(self, film: UUID) -> None:
        """A picked file is safely stored: look at it."""
        if not self.shell.state.locked:
            self.shell.go(Place(Screen.RESULT, film))

    def _capture_changed(self) -> None:
        error = self.capture.state.error
        if error is not None:
            self.capture.dismiss()
            self.shell.report(error)
        opened = self._opened.get(Place(Screen.CAPTURE))
        if opened is not None:
            self._state_changed(opened)

    def _changed(self, change: Change) -> None:
        """Something changed on the device."""
        if change.kind == "revoked":
            self.unlock.reset()
        if change.kind == "deletion":
            self._teller.deletion_changed(change.id)
        if change.kind == "read":
            self._collector.read()
        opened = self._opened.get(Place(Screen.RESULT, change.id))
        result = opened.presenter if opened is not None and not self.shell.state.locked else None
        if isinstance(result, ResultPresenter) and change.kind == "picture":
            result.look_early()
        elif isinstance(result, ResultPresenter) and change.kind == "found":
            result.show_found()
        elif result is not None and change.kind == "film":  # the crew waits for this: before anything else is asked
            self._follow_changes()
        elif change.kind not in ("picture", "found", "read"):  # the film itself changes when it is read
            self._follow()
        self.shell.changed(change)

    def _follow_changes(self, *_: object) -> None:
        """Read again what is on screen, a moment after a change: what it leads to is shown first."""
        self._follow.cancel()
        for place, opened in self._opened.items():
            if place == self.shell.state.place and not self.shell.state.locked:
                opened.presenter.reload()
            else:
                opened.stale = True

    def _look_at_status(self) -> None:
        opened = self._opened.get(self.shell.state.place)
        if opened is not None and not self.shell.state.locked and opened.place.screen is Screen.STATUS:
            opened.presenter.reload()

    def _touched(self, *_: object) -> None:
        self.shell.touched()

    def _close_chooser(self) -> None:
        if self._chooser is not None:
            self.root.remove_widget(self._chooser)
            self._chooser = None
