"""The app's own file chooser: one tap opens a file or a folder, rows are as tall as a gloved finger."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from kivy.app import App
from kivy.input.motionevent import MotionEvent
from kivy.lang import Builder
from kivy.metrics import dp, sp
from kivy.properties import BooleanProperty, ObjectProperty, StringProperty
from kivy.uix.behaviors import ButtonBehavior
from kivy.uix.boxlayout import BoxLayout
from kivy.uix.widget import Widget

from edge_app.ui import theme
from edge_app.ui.folder import Entry, entries, places, readable
from edge_app.ui.widgets import Touch
from edge_app.ui.wording import place_name, size_text
from shared.errors import FirstRayError


class EntryMark(Widget):
    """A folder or a page, before a line of the file chooser."""

    is_folder = BooleanProperty(False)


class EntryRow(ButtonBehavior, BoxLayout):
    """One folder or file."""

    name = StringProperty()
    detail = StringProperty()
    is_folder = BooleanProperty(False)
    entry = ObjectProperty()
    chosen = ObjectProperty()

    def on_release(self) -> None:
        """Open the folder, or choose the file."""
        self.chosen(self.entry)


class Chooser(BoxLayout):
    """Fills the window until a file is chosen or the choice is given up.

    Events:
        on_choose: with the file's path.
        on_cancel: without arguments.
    """

    __events__ = ("on_choose", "on_cancel")
    modal = True
    path_text = StringProperty()
    notice = StringProperty()

    def __init__(self, folder: Path, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self._tr = App.get_running_app().tr
        home = Path.home()
        for place in places(home):
            button = Touch(
                text=place_name(place, home, self._tr),
                size_hint_x=None,
                width=dp(200),
                font_size=sp(theme.BODY),
                shorten=True,
            )
            button.bind(on_release=lambda _, place=place: self.go(place))
            self.ids.places.add_widget(button)
        self.go(folder)

    def go(self, folder: Path) -> None:
        """Show another folder."""
        self._folder = folder
        self.path_text = readable(folder)
        try:
            found = entries(folder)
            self.notice = "" if found else self._tr("No radiographs here. Look in another folder.")
        except FirstRayError as error:
            found = []
            self.notice = f"{self._tr.message(error.code, error.message)} {self._tr.action(error.code, error.action)}"
        self.ids.rows.data = [self._row(entry) for entry in found]
        self.ids.rows.scroll_y = 1

    def up(self) -> None:
        """Show the folder above."""
        self.go(self._folder.parent)

    def on_touch_down(self, touch: MotionEvent) -> bool:
        """Let nothing through to what lies below."""
        super().on_touch_down(touch)
        return True

    def on_choose(self, path: Path) -> None:
        """Default handler of the event."""

    def on_cancel(self) -> None:
        """Default handler of the event."""

    def _row(self, entry: Entry) -> dict[str, object]:
        modified = datetime.fromtimestamp(entry.modified).strftime("%Y-%m-%d %H:%M")
        return {
            "name": entry.name,
            "detail": "" if entry.is_folder else f"{modified}   {size_text(entry)}",
            "is_folder": entry.is_folder,
            "entry": entry,
            "chosen": self._chosen,
        }

    def _chosen(self, entry: Entry) -> None:
        if entry.is_folder:
            self.go(entry.path)
        else:
            self.dispatch("on_choose", entry.path)


Builder.load_file(str(Path(__file__).with_name("chooser.kv")))
