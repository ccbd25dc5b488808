"""The window's building blocks; how they look is in ``window.kv``."""

from __future__ import annotations

from kivy.clock import Clock
from kivy.metrics import sp
from kivy.properties import BooleanProperty, ColorProperty, NumericProperty, StringProperty
from kivy.uix.boxlayout import BoxLayout
from kivy.uix.button import Button
from kivy.uix.label import Label
from kivy.uix.widget import Widget
from kivy.utils import escape_markup

from edge_app.ui import theme
from edge_app.ui.wording import Notice

BUSY_FRAMES = 10


class Text(Label):
    """Text that wraps at its width and is as high as it needs."""


class Touch(Button):
    """A button large enough for a gloved finger."""

    ground = ColorProperty(theme.CARD)
    ground_down = ColorProperty(theme.CARD_PRESSED)
    edge = ColorProperty(theme.MUTED)


class ActionTouch(Touch):
    """The button for what the user does most."""


class RankedCard(BoxLayout):
    """One of the most likely findings, with its probability as figure and bar."""

    name = StringProperty()
    percent = StringProperty()
    fraction = NumericProperty()
    state = StringProperty()
    state_word = StringProperty()
    explanation = StringProperty()
    urgent = BooleanProperty(False)


class StateMark(Widget):
    """The state of a finding as a shape, told apart without its colour: up, a question, down."""

    state = StringProperty()
    color = ColorProperty(theme.TEXT)


class Doubt(BoxLayout):
    """A line that names what is not excluded."""

    text = StringProperty()


class NoticeCard(BoxLayout):
    """Under one heading: what happened, and in bold what to do next."""

    heading = StringProperty()
    accent = ColorProperty(theme.WARNING)
    large = BooleanProperty(False)

    def __init__(self, notices: list[Notice], **kwargs: object) -> None:
        super().__init__(**kwargs)
        size = sp(theme.LARGE if self.large else theme.BODY)
        for notice in notices:
            parts = [escape_markup(notice.message), f"[b]{escape_markup(notice.action)}[/b]"]
            for text in parts if self.large else [" ".join(parts)]:
                self.add_widget(Text(text=text, font_size=size, markup=True))


class LegendBox(Widget):
    """A small box as drawn on the image."""

    dashed = BooleanProperty(False)


class LegendItem(BoxLayout):
    """What a kind of box means."""

    text = StringProperty()
    dashed = BooleanProperty(False)


class Busy(Widget):
    """A turning mark while something is under way; few frames a second, since drawing takes time from the reading."""

    angle = NumericProperty()

    def on_parent(self, _: Widget, parent: Widget | None) -> None:
        """Turn while it is on screen."""
        Clock.unschedule(self._turn)
        if parent is not None:
            Clock.schedule_interval(self._turn, 1 / BUSY_FRAMES)

    def _turn(self, seconds: float) -> None:
        self.angle += 300 * seconds


class EntryMark(Widget):
    """A folder or a page, before a line of the file chooser."""

    is_folder = BooleanProperty(False)
