"""A field to write in, made for the app's own keyboard: it shows a syllable while it grows, which Kivy's does not.

The system's keyboard never comes up. A physical keyboard types into the focused field through
:class:`edge_app.ui.keyboard.Keyboard`.
"""

from __future__ import annotations

from pathlib import Path

from kivy.core.text import Label as TextTexture
from kivy.event import EventDispatcher
from kivy.graphics import Color, Rectangle
from kivy.lang import Builder
from kivy.metrics import dp, sp
from kivy.properties import BooleanProperty, NumericProperty, ObjectProperty, StringProperty
from kivy.uix.behaviors import ButtonBehavior
from kivy.uix.boxlayout import BoxLayout
from kivy.uix.stencilview import StencilView
from kivy.uix.widget import Widget

from edge_app.ui import theme
from edge_app.ui.editing import Editor, Kind, wrap

PAD = 14
CURSOR = 3
LINE_SPACING = 1.3


class Focus(EventDispatcher):
    """Which field is written in: ``field``, or None."""

    field = ObjectProperty(None, allownone=True)


FOCUS = Focus()
"""One for the whole window."""


def blur() -> None:
    """Leave the field that is written in; the keyboard goes."""
    FOCUS.field = None


class FieldText(ButtonBehavior, StencilView):
    """The text of a field with its cursor, cut off at its edge; a tap places the cursor."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self._text = TextTexture(font_size=sp(theme.LARGE))
        self._measure = self._text.get_cached_extents()
        self._line_height = round(self._measure("가g")[1] * LINE_SPACING)
        self._lines: list[tuple[int, int]] = [(0, 0)]
        self._shown = ""
        self._scrolled = [0.0, 0.0]

    def draw(self, editor: Editor, focused: bool, hint: str) -> None:
        """Draw what the editor holds."""
        multiline = editor.kind is Kind.MULTILINE
        self._shown = editor.shown
        room = self.width - 2 * dp(PAD)
        self._lines = wrap(self._shown, max(room, 1.0), self._width) if multiline else [(0, len(self._shown))]
        self._follow(editor.cursor, room, multiline)
        self.canvas.clear()
        with self.canvas:
            if not self._shown:
                self._line(0, hint, theme.MUTED)
            for number, (start, end) in enumerate(self._lines):
                self._line(number, self._shown[start:end], theme.TEXT)
            if focused:
                self._cursor(editor)

    def index_at(self, x: float, y: float) -> int:
        """Which character a place on the screen is before."""
        number = min(max(int((self._top() - y) / self._line_height), 0), len(self._lines) - 1)
        start, end = self._lines[number]
        wanted = x - self.x - dp(PAD) + self._scrolled[0]
        return min(range(start, end + 1), key=lambda at: abs(self._width(self._shown[start:at]) - wanted))

    def _width(self, text: str) -> float:
        return float(self._measure(text)[0])

    def _top(self) -> float:
        """Upper edge of the first line."""
        if len(self._lines) == 1 and self.height < 2 * self._line_height + 2 * dp(PAD):
            return float(self.center_y + self._line_height / 2)
        return float(self.top - dp(PAD) + self._scrolled[1])

    def _place(self, index: int) -> tuple[int, float]:
        """Line of a character and its distance from that line's start."""
        for number, (start, end) in enumerate(self._lines):
            if index <= end:
                return number, self._width(self._shown[start : max(index, start)])
        start, end = self._lines[-1]
        return len(self._lines) - 1, self._width(self._shown[start:end])

    def _follow(self, cursor: int, room: float, multiline: bool) -> None:
        """Scroll so that the cursor is in sight, and no further than the text reaches."""
        number, x = self._place(cursor)
        across, down = self._scrolled
        spare = max(self._width(self._shown) - room + dp(CURSOR), 0.0)
        self._scrolled[0] = 0.0 if multiline else min(max(across, x - room + dp(CURSOR)), x, spare)
        seen = self.height - 2 * dp(PAD)
        y = number * self._line_height
        self._scrolled[1] = min(max(down, y + self._line_height - seen, 0.0), y) if multiline else 0.0

    def _line(self, number: int, text: str, colour: theme.Colour) -> None:
        bottom = self._top() - (number + 1) * self._line_height
        if not text or bottom > self.top or bottom + self._line_height < self.y:
            return
        texture = TextTexture(text=text, font_size=sp(theme.LARGE))
        texture.refresh()
        Color(*colour)
        place = (round(self.x + dp(PAD) - self._scrolled[0]), round(bottom + self._line_height * 0.12))
        Rectangle(texture=texture.texture, pos=place, size=texture.texture.size)

    def _cursor(self, editor: Editor) -> None:
        number, x = self._place(editor.cursor)
        bottom = self._top() - (number + 1) * self._line_height
        left = self.x + dp(PAD) - self._scrolled[0]
        start = self._place(editor.composing[0])[1] if editor.composing[0] < editor.cursor else x
        Color(*theme.ACTION)
        if start < x:
            Rectangle(pos=(left + start, bottom + dp(1)), size=(x - start, dp(CURSOR)))
        Rectangle(pos=(left + x, bottom + dp(2)), size=(dp(CURSOR), self._line_height - dp(4)))


class Field(BoxLayout):
    """A label, a line (or several) to write in, and what is wrong with it.

    Attributes:
        label: what belongs in; hint: an example, shown while it is empty.
        text: what is in it, with the syllable being composed; bind it, or set it.
        error: shown below in place of ``help``.
        kind: a value of :class:`edge_app.ui.editing.Kind`.
        max_length: most characters; 0 is without limit.
        lines: height of a multiline field.
        next_field: where enter leads; without one, enter leaves the keyboard.
        revealed: show a secret text instead of dots.
        focused: whether it is written in; read only.

    Events:
        on_done: enter. A handler that returns True keeps the keyboard where it is.
    """

    __events__ = ("on_done",)
    name = StringProperty()
    label = StringProperty()
    hint = StringProperty()
    help = StringProperty()
    text = StringProperty()
    error = StringProperty()
    kind = StringProperty(Kind.TEXT.value)
    max_length = NumericProperty(0)
    lines = NumericProperty(3)
    next_field = ObjectProperty(None, allownone=True)
    revealed = BooleanProperty(False)
    focused = BooleanProperty(False)

    def __init__(self, **kwargs: object) -> None:
        self.editor = Editor()
        super().__init__(**kwargs)
        FOCUS.bind(field=self._on_focus)

    @property
    def shown(self) -> str:
        """What may be seen of the text: dots for a secret."""
        return self.editor.shown

    def focus(self) -> None:
        """Write in this field; the keyboard comes."""
        FOCUS.field = self

    def type(self, characters: str) -> None:
        """As keys do."""
        self.editor.type(characters)
        self._edited()

    def backspace(self) -> None:
        """As the key does."""
        self.editor.backspace()
        self._edited()

    def move(self, to: int) -> None:
        """Put the cursor after ``to`` characters."""
        self.editor.move(to)
        self.redraw()

    def done(self) -> None:
        """As the enter key does."""
        self.editor.settle()
        if self.dispatch("on_done"):
            return
        if self.next_field is not None:
            self.next_field.focus()
        else:
            blur()

    def redraw(self, *_: object) -> None:
        """Draw the text again."""
        if "box" in self.ids:
            self.ids.box.draw(self.editor, self.focused, self.hint)

    def tapped(self, touch_pos: tuple[float, float]) -> None:
        """A tap on the text: write there."""
        self.focus()
        self.move(self.ids.box.index_at(*touch_pos))

    def on_done(self) -> None:
        """Default handler of the event."""

    def on_text(self, _: Widget, text: str) -> None:
        """Take a text set from outside."""
        if text != self.editor.text:
            self.editor.set(text)
        self.redraw()

    def on_kind(self, _: Widget, kind: str) -> None:
        """Take another kind of input from now on."""
        self.editor.kind = Kind(kind)
        self.redraw()

    def on_revealed(self, _: Widget, revealed: bool) -> None:
        """Show the text, or dots."""
        self.editor.revealed = revealed
        self.redraw()

    def on_max_length(self, _: Widget, most: int) -> None:
        """Limit the text."""
        self.editor.max_length = int(most)

    def _edited(self) -> None:
        self.text = self.editor.text
        self.redraw()

    def _on_focus(self, _: Focus, field: Field | None) -> None:
        focused = field is self
        if self.focused and not focused:
            self.editor.settle()
        self.focused = focused
        self.redraw()


Builder.load_file(str(Path(__file__).with_name("field.kv")))
