"""What stays around every screen: title and back, state of delivery, lock, tabs, keyboard."""

from __future__ import annotations

from pathlib import Path

from kivy.lang import Builder
from kivy.metrics import dp
from kivy.properties import BooleanProperty, StringProperty
from kivy.uix.boxlayout import BoxLayout
from kivy.uix.widget import Widget

from edge_app.ui import keyboard
from edge_app.ui.presenters import words
from edge_app.ui.presenters.places import TABS, Place, Screen
from edge_app.ui.presenters.shell import Shell
from edge_app.ui.screens.parts import NavTouch, View, running_app

WIDGETS = (keyboard,)
"""Modules whose widget classes ``frame.kv`` names."""


CRAMPED = 640
"""Height of a window, in density-independent pixels, below which the keyboard leaves room for the screen only."""


class AppFrame(BoxLayout):
    """Header, tabs and the place where screens are shown."""

    title = StringProperty()
    back = BooleanProperty(False)
    chip = StringProperty()
    chip_kind = StringProperty("plain")
    wide = BooleanProperty(True)
    cramped = BooleanProperty(False)

    def __init__(self, **kwargs: object) -> None:
        self.shown: View | None = None
        super().__init__(**kwargs)
        app = running_app()
        names = {
            Screen.RUNS: app.tr("Runs"),
            Screen.CAPTURE: app.tr("Images"),
            Screen.HISTORY: app.tr("History"),
            Screen.STATUS: app.tr("Status"),
        }
        self._tabs: dict[Screen, NavTouch] = {}
        for screen in TABS:
            tab = NavTouch(text=names[screen], name=f"nav.{screen}")
            tab.bind(on_release=lambda _, screen=screen: app.go_tab(screen))
            self._tabs[screen] = tab
        self._lay_tabs()
        self.ids.keyboard.bind(field=lambda *_: self._lay_tabs())

    def on_size(self, _: Widget, size: tuple[float, float]) -> None:
        """Tabs at the left where the window is wide, else at the foot."""
        self.wide = size[0] > size[1]
        self._lay_tabs()

    def _lay_tabs(self) -> None:
        """Put the tabs where they belong; on a low window the keyboard takes their place, and the header's."""
        side, foot = self.ids.side, self.ids.foot
        typing = self.ids.keyboard.field is not None
        self.cramped = typing and (not self.wide or self.height < dp(CRAMPED))
        for bar in (side, foot):
            bar.clear_widgets()
        if not self.cramped:
            for tab in self._tabs.values():
                (side if self.wide else foot).add_widget(tab)
        side.width = dp(124 if self.width >= dp(1000) else 100) if self.wide and not self.cramped else 0
        foot.height = 0 if self.wide or self.cramped else dp(76)

    def put(self, view: View) -> None:
        """Show a screen."""
        if view is not self.shown:
            self.ids.slot.clear_widgets()
            self.ids.slot.add_widget(view)
            self.shown = view
        self.title = view.title

    def refresh(self, shell: Shell) -> None:
        """Show the state of the frame."""
        tr = running_app().tr
        self.chip, self.chip_kind = words.chip(shell.link, shell.standing, tr)
        self.back = len(shell.stack) > 1
        for screen, tab in self._tabs.items():
            tab.selected = screen == shell.tab
            tab.count = shell.waiting if screen is Screen.CAPTURE else 0

    def to_status(self) -> None:
        """A tap on the state of delivery."""
        running_app().shell.tab(Screen.STATUS)

    def to(self, place: Place) -> None:
        """Open a place."""
        running_app().shell.go(place)


Builder.load_file(str(Path(__file__).with_name("frame.kv")))
