"""What the screens are put together from."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from kivy.app import App
from kivy.lang import Builder
from kivy.metrics import dp, sp
from kivy.properties import BooleanProperty, ListProperty, NumericProperty, StringProperty
from kivy.uix.boxlayout import BoxLayout
from kivy.uix.layout import Layout
from kivy.uix.stacklayout import StackLayout
from kivy.uix.widget import Widget

from edge_app.ui import theme
from edge_app.ui.field import Field
from edge_app.ui.i18n import Translator
from edge_app.ui.presenters.desk import Presenter
from edge_app.ui.widgets import ActionTouch, DangerTouch, NoticeCard, Row, Section, Text, Touch
from edge_app.ui.wording import Notice

if TYPE_CHECKING:
    from edge_app.ui.app import FirstRayApp


def running_app() -> FirstRayApp:
    """The app, for translating, moving about and asking."""
    return cast("FirstRayApp", App.get_running_app())


class View(BoxLayout):
    """Base of the screens: made from a presenter, shown by the frame.

    A part of the screen is made anew only if what it says has changed (:meth:`show`), so that a finger never taps on
    a button that is just being replaced.
    """

    columns_from = 560
    """Width in density-independent pixels from which two columns have room."""
    foot = 0
    """Height in density-independent pixels of buttons at the lower edge, which no message may cover."""
    title = StringProperty()
    wide = BooleanProperty(True)
    """Whether two columns have room beside each other."""

    def __init__(self, presenter: Presenter[Any], **kwargs: object) -> None:
        self.presenter = presenter
        self._said: dict[int, object] = {}
        super().__init__(**kwargs)

    @property
    def tr(self) -> Translator:
        """The translator in use."""
        return running_app().tr

    def on_size(self, _: Widget, size: Sequence[float]) -> None:
        """Choose the layout that fits."""
        self.wide = size[0] >= dp(self.columns_from) and size[0] > size[1]

    def refresh(self) -> None:
        """Show the presenter's state."""
        raise NotImplementedError

    def release(self) -> None:
        """The screen is gone for good: let go of what is large, without waiting for the garbage collector."""

    def name_of_state(self) -> str:
        """The state in words for the window's title; without patient data."""
        return self.title

    def show(self, place: Layout, content: Hashable | object, make: Callable[[], list[Widget]]) -> None:
        """Fill a part of the screen, unless it says ``content`` already."""
        if id(place) in self._said and self._said[id(place)] == content:
            return
        self._said[id(place)] = content
        place.clear_widgets()
        for widget in make():
            place.add_widget(widget)


class Column(BoxLayout):
    """Widgets below each other, as high as they need."""


class Buttons(BoxLayout):
    """Buttons beside each other; below each other where there is no room."""


class Flow(StackLayout):
    """Chips in lines, as many as there is room for."""


class Figure(BoxLayout):
    """A vital sign: its value large, its name small."""

    label = StringProperty()
    value = StringProperty()


class NavTouch(Touch):
    """One tab of the bar; ``count`` above 0 is shown beside its text."""

    selected = BooleanProperty(False)
    sign = StringProperty()
    count = NumericProperty(0)


class Banner(BoxLayout):
    """A red strip over the whole width."""

    message = StringProperty()
    action = StringProperty()
    compact = BooleanProperty(False)


class Strip(BoxLayout):
    """A line that asks for something, with one button.

    Events:
        on_tap: the button.
    """

    __events__ = ("on_tap",)
    name = StringProperty()
    message = StringProperty()
    action = StringProperty()
    ground = ListProperty([0, 0, 0, 0])

    def on_tap(self) -> None:
        """Default handler of the event."""


def section(text: str) -> Widget:
    """The heading of a part."""
    return Section(text=text)


def text(words: str, *, bold: bool = False, large: bool = False, colour: theme.Colour | None = None) -> Widget:
    """A paragraph."""
    size = theme.LARGE if large else theme.BODY
    return Text(text=words, bold=bold, font_size=sp(size), color=colour or theme.TEXT)


def aside(words: str) -> Widget:
    """A paragraph that is less important."""
    return Text(text=words, color=theme.MUTED)


def button(words: str, name: str, tapped: Callable[[], object], kind: type[Touch] = Touch, **values: Any) -> Widget:
    """A button as wide as its place."""
    made = kind(text=words, name=name, **values)
    made.bind(on_release=lambda _: tapped())
    return cast("Widget", made)


def action(words: str, name: str, tapped: Callable[[], object]) -> Widget:
    """The button for what is done next."""
    return button(words, name, tapped, ActionTouch)


def danger(words: str, name: str, tapped: Callable[[], object]) -> Widget:
    """The button for what destroys something."""
    return button(words, name, tapped, DangerTouch)


def row(name: str, tapped: Callable[[], object], **values: Any) -> Widget:
    """A line of a list."""
    made = Row(chosen=lambda _: tapped(), **values)
    made.name = name
    return cast("Widget", made)


def notice(said: Notice, heading: str, accent: theme.Colour | None = None, *, large: bool = False) -> Widget:
    """What happened and what to do next."""
    return NoticeCard([said], heading=heading, accent=accent or theme.WARNING, large=large)


def column(*widgets: Widget) -> Widget:
    """Widgets below each other."""
    made = Column()
    for widget in widgets:
        made.add_widget(widget)
    return cast("Widget", made)


def saved_field(name: str, save: Callable[[str], None], **values: Any) -> Field:
    """A field whose text is saved when the user leaves it."""
    made = Field(name=name, **values)
    made.saved_text = made.stored_text = made.text

    def left(_: Field, focused: bool) -> None:
        if not focused and made.text != made.saved_text:
            made.saved_text = made.text
            save(made.text)

    made.bind(focused=left)
    return made


def set_text(field: Field, words: str) -> None:
    """Show what is stored once that changes, unless the user is writing there or what he wrote was not taken."""
    if words == field.stored_text:
        return
    field.stored_text = words
    if not field.focused and not field.error:
        field.saved_text = words
        field.text = words


Builder.load_file(str(Path(__file__).with_name("parts.kv")))
