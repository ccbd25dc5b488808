"""The building blocks of every screen; how they look is in ``kit.kv``, what lies over a screen in :mod:`.overlays`."""

from __future__ import annotations

from pathlib import Path

from kivy.clock import Clock
from kivy.lang import Builder
from kivy.metrics import sp
from kivy.properties import (
    BooleanProperty,
    ColorProperty,
    ListProperty,
    NumericProperty,
    ObjectProperty,
    StringProperty,
)
from kivy.uix.behaviors import ButtonBehavior
from kivy.uix.boxlayout import BoxLayout
from kivy.uix.button import Button
from kivy.uix.label import Label
from kivy.uix.scrollview import ScrollView
from kivy.uix.widget import Widget
from kivy.utils import escape_markup

from edge_app.ui import theme
from edge_app.ui.wording import Notice

BUSY_FRAMES = 10


class Text(Label):
    """Text that wraps at its width and is as high as it needs."""


class OneLine(Label):
    """One line of text, cut off with an ellipsis where it has no room."""


class Touch(Button):
    """A button large enough for a gloved finger.

    ``name`` finds it in the outline where its text is only a sign; ``snug`` text never wraps.
    """

    name = StringProperty()
    snug = BooleanProperty(False)
    ground = ColorProperty()
    ground_down = ColorProperty()
    edge = ColorProperty()


class ActionTouch(Touch):
    """The button for what the user does most."""


class DangerTouch(Touch):
    """The button for what cannot simply be taken back."""


class Scroll(ScrollView):
    """Scrolls up and down, with a bar that can be seen."""


class Section(Text):
    """The heading of a part of a screen."""


class Header(BoxLayout):
    """The top of a screen: back, title, and at the right the state of things; further children follow at the right.

    ``status_kind`` is a key of :data:`edge_app.ui.theme.KIND`. Without ``status`` there is no chip.

    Events:
        on_back: the arrow, shown where ``has_back`` is true.
        on_chip: the chip.
    """

    __events__ = ("on_back", "on_chip")
    title = StringProperty()
    has_back = BooleanProperty(False)
    status = StringProperty()
    status_kind = StringProperty("plain")

    def on_back(self) -> None:
        """Default handler of the event."""

    def on_chip(self) -> None:
        """Default handler of the event."""


class StatusChip(ButtonBehavior, BoxLayout):
    """A state in a word, with a mark of its own for each kind; may be tapped."""

    text = StringProperty()
    kind = StringProperty("plain")


class Segment(Touch):
    """One option of a :class:`Choice`."""

    selected = BooleanProperty(False)
    key = StringProperty()


class Choice(BoxLayout):
    """One of several, all in sight: for example a sex.

    ``options`` are pairs of key and text; ``value`` is the key chosen, empty while none is. Where ``clearable``, a
    second tap takes the choice back. Bind ``value``.
    """

    label = StringProperty()
    options = ListProperty()
    value = StringProperty()
    clearable = BooleanProperty(False)

    def on_kv_post(self, _: Widget) -> None:
        """Show the options given at once."""
        self.on_options(self, self.options)

    def on_options(self, _: Widget, options: list[tuple[str, str]]) -> None:
        """Show other options."""
        if "segments" not in self.ids:
            return
        self.ids.segments.clear_widgets()
        for key, text in options:
            segment = Segment(text=text, key=key, selected=key == self.value)
            segment.bind(on_release=lambda touched: self.choose(touched.key))
            self.ids.segments.add_widget(segment)

    def on_value(self, _: Widget, value: str) -> None:
        """Mark the option chosen."""
        for segment in self.ids.segments.children if "segments" in self.ids else []:
            segment.selected = segment.key == value

    def choose(self, key: str) -> None:
        """As a tap on the option does."""
        self.value = "" if self.clearable and key == self.value else key


class Toggle(ButtonBehavior, BoxLayout):
    """A sentence that is on or off; bind ``active``."""

    text = StringProperty()
    detail = StringProperty()
    active = BooleanProperty(False)

    def on_release(self) -> None:
        """Switch over."""
        self.active = not self.active


class Chip(Touch):
    """A short word that is on or off, for filters and for findings; bind ``selected``."""

    selected = BooleanProperty(False)

    def on_release(self) -> None:
        """Switch over."""
        self.selected = not self.selected


class Row(ButtonBehavior, BoxLayout):
    """A line of a list: two texts at the left, two at its end.

    ``kind``, ``detail_kind`` and ``end_kind`` are those of a :class:`StatusChip`, or empty: of the whole line, of its
    second text, of the text at its end. Where it ``wraps``, the title may take three lines.

    As ``viewclass`` of a RecycleView give ``data`` and ``chosen``: a tap calls ``chosen(data)``.
    """

    title = StringProperty()
    detail = StringProperty()
    end = StringProperty()
    end_detail = StringProperty()
    kind = StringProperty()
    detail_kind = StringProperty()
    end_kind = StringProperty()
    wraps = BooleanProperty(False)
    selected = BooleanProperty(False)
    data = ObjectProperty(allownone=True)
    chosen = ObjectProperty(allownone=True)

    def on_release(self) -> None:
        """Hand over what the line stands for."""
        if self.chosen is not None:
            self.chosen(self.data)


class Meter(BoxLayout):
    """How full something is: ``fraction`` 0..1 as a bar, ``figure`` as text; ``kind`` colours it."""

    label = StringProperty()
    figure = StringProperty()
    fraction = NumericProperty()
    kind = StringProperty("plain")


class EmptyState(BoxLayout):
    """What a list says that has nothing in it, and what to do about it.

    Events:
        on_tap: the button, shown where ``action`` has a text.
    """

    __events__ = ("on_tap",)
    title = StringProperty()
    message = StringProperty()
    action = StringProperty()

    def on_tap(self) -> None:
        """Default handler of the event."""


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
    color = ColorProperty()


class Doubt(BoxLayout):
    """A line that names what is not excluded."""

    text = StringProperty()


class NoticeCard(BoxLayout):
    """Under one heading: what happened, and in bold what to do next."""

    heading = StringProperty()
    accent = ColorProperty()
    large = BooleanProperty(False)

    def __init__(self, notices: list[Notice], **kwargs: object) -> None:
        super().__init__(**kwargs)
        size = sp(theme.LARGE if self.large else theme.BODY)
        for notice in notices:
            action = f"[b]{escape_markup(notice.action)}[/b]" if notice.action else ""
            parts = [part for part in (escape_markup(notice.message), action) if part]
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


Builder.load_file(str(Path(__file__).with_name("kit.kv")))
