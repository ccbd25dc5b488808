"""The app's own keyboard, for gloves: Korean and English, symbols, a pad of digits, and pages for addresses and codes.

It lies below everything else and takes no room while no field is written in. A physical keyboard works beside it; while
Korean is chosen its letters are composed too, and Shift with space changes the language. A scanner that types an
enrolment's QR code fills address and code: the blank between them leads from one to the other.
"""

from __future__ import annotations

from enum import IntEnum
from pathlib import Path
from typing import Final

from kivy.app import App
from kivy.clock import Clock
from kivy.core.window import Window
from kivy.input.motionevent import MotionEvent
from kivy.lang import Builder
from kivy.metrics import dp
from kivy.properties import BooleanProperty, ObjectProperty, OptionProperty, StringProperty
from kivy.uix.label import Label
from kivy.uix.scrollview import ScrollView
from kivy.uix.widget import Widget

from edge_app.ui import keys
from edge_app.ui.editing import LATIN, NUMERIC, Kind
from edge_app.ui.field import FOCUS, Field, Focus, blur
from edge_app.ui.hangul import jamo_of
from edge_app.ui.keys import KeyCap, Page

REPEAT_AFTER: Final = 0.45
REPEAT_EVERY: Final = 0.08
GAP: Final = 6
PAD_WIDTH: Final = 760
"""Widest pad of digits; letters take the whole width."""


class Code(IntEnum):
    """Key codes of Kivy's windows."""

    BACKSPACE = 8
    TAB = 9
    ENTER = 13
    ESCAPE = 27
    PAD_ENTER = 271
    RIGHT = 275
    LEFT = 276
    HOME = 278
    END = 279


class Key(Label):
    """One key. ``action`` is empty for a key that types its text."""

    action = StringProperty()
    name = StringProperty()
    face = StringProperty()
    down = BooleanProperty(False)
    cap = ObjectProperty()


class Keyboard(Widget):
    """Docked below the screens; give it an id and ``size_hint_y`` None, its height is its own affair.

    Attributes:
        language: ``"ko"`` or ``"en"``.
        shift: ``"off"``, ``"once"`` for the next letter, ``"locked"`` (Latin letters only).
        symbols: whether the page of digits and punctuation is shown in place of letters.
        field: the field written in, or None.
    """

    language = OptionProperty("ko", options=["ko", "en"])
    shift = OptionProperty("off", options=["off", "once", "locked"])
    symbols = BooleanProperty(False)
    field = ObjectProperty(None, allownone=True)

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self._pages: dict[object, list[list[Key]]] = {}
        self._rows: list[list[Key]] = []
        self._held: dict[object, Key] = {}
        self._modifiers: list[str] = []
        self._repeat = Clock.schedule_interval(self._again, REPEAT_EVERY)
        self._repeat.cancel()
        self._watch = Clock.schedule_interval(self._leave_what_is_gone, 0.25)
        self._watch.cancel()
        FOCUS.bind(field=self._on_focus)
        for name in ("language", "shift", "symbols"):
            self.fbind(name, self._show_page)
        for name in ("pos", "size"):
            self.fbind(name, self._lay_out)

    def attach(self, field: Field | None) -> None:
        """Write in a field, and scroll what is around it so that it is in sight; None puts the keyboard away.

        A field's own ``focus()`` comes here, so nothing else needs to call it.
        """
        was, self.field = self.field, field
        if (was is None) != (field is None):
            self._listen(field is not None)
        if field is not None:
            self.symbols, self.shift = False, "off"
            self._show_page()
            Clock.schedule_once(lambda _: self._reveal(), 0.05)

    def press(self, cap: KeyCap) -> None:
        """What a key does."""
        field = self.field
        match cap.action:
            case None:
                field.type(cap.text)
                if self.shift == "once":
                    self.shift = "off"
            case "space":
                field.type(" ")
            case "newline":
                field.type("\n")
            case "backspace":
                field.backspace()
            case "enter":
                field.done()
            case "hide":
                blur()
            case "language":
                self.switch_language()
            case "symbols" | "letters":
                self.symbols = cap.action == "symbols"
            case "shift":
                self._shift()

    def switch_language(self) -> None:
        """Korean instead of English, or back; ends the syllable being composed."""
        if self.field is not None:
            self.field.editor.settle()
            self.field.redraw()
        self.language = "en" if self.language == "ko" else "ko"
        self.shift = "off"

    def on_touch_down(self, touch: MotionEvent) -> bool:
        """Press the key that is nearest; nothing goes through to what lies below."""
        if self.field is None or not self.collide_point(*touch.pos):
            return False
        if touch.is_mouse_scrolling:
            return True
        key = min((key for row in self._rows for key in row if key.face or key.action), key=lambda k: _far(k, touch))
        touch.grab(self)
        self._held[touch.uid] = key
        key.down = True
        if key.action == "backspace":
            Clock.schedule_once(self._start_repeat, REPEAT_AFTER)
        self.press(key.cap)
        return True

    def on_touch_up(self, touch: MotionEvent) -> bool:
        """Let the key go."""
        if touch.grab_current is not self:
            return bool(super().on_touch_up(touch))
        touch.ungrab(self)
        if key := self._held.pop(touch.uid, None):
            key.down = False
        self._stop_repeat()
        return True

    def _shift(self) -> None:
        order = {"off": "once", "once": "off" if self.language == "ko" else "locked", "locked": "off"}
        self.shift = order[self.shift]

    def _start_repeat(self, _: float) -> None:
        self._repeat()

    def _stop_repeat(self) -> None:
        Clock.unschedule(self._start_repeat)
        self._repeat.cancel()

    def _again(self, _: float) -> None:
        if self.field is not None:
            self.field.backspace()

    def _on_focus(self, _: Focus, field: Field | None) -> None:
        """Take the field; a keyboard of a window laid out before, not yet collected, keeps quiet."""
        self.attach(field if self.get_root_window() is not None else None)

    def _listen(self, listening: bool) -> None:
        """Take keys of a physical keyboard from now on, or leave them to others."""
        if listening:
            Window.bind(on_key_down=self._on_key_down, on_textinput=self._on_textinput)
            self._watch()
            return
        Window.unbind(on_key_down=self._on_key_down, on_textinput=self._on_textinput)
        self._watch.cancel()
        self._stop_repeat()
        self._held.clear()

    def _leave_what_is_gone(self, _: float) -> None:
        """Leave a field that is no longer on screen."""
        if self.field is not None and (self.field.get_root_window() is None or self.field.disabled):
            blur()

    def _on_key_down(self, _: object, key: int, __: int, ___: str, modifiers: list[str]) -> bool:
        field: Field = self.field
        self._modifiers = modifiers
        cursor = field.editor.cursor
        match key:
            case Code.BACKSPACE:
                field.backspace()
            case Code.ENTER | Code.PAD_ENTER if field.kind == Kind.MULTILINE:
                field.type("\n")
            case Code.ENTER | Code.PAD_ENTER | Code.TAB:
                field.done()
            case Code.ESCAPE:
                blur()
            case Code.RIGHT | Code.LEFT:
                field.move(cursor + (1 if key == Code.RIGHT else -1))
            case Code.HOME | Code.END:
                field.move(0 if key == Code.HOME else len(field.text))
            case _:
                return False
        return True

    def _on_textinput(self, _: object, text: str) -> None:
        if text == " " and "shift" in self._modifiers:
            self.switch_language()
            return
        if text == " " and self.field.kind == Kind.ADDRESS:
            self.field.done()
            return
        korean = self.language == "ko" and Kind(self.field.kind) not in NUMERIC | LATIN
        self.field.type("".join(jamo_of(letter) or letter for letter in text) if korean else text)

    def _page(self) -> Page:
        kind = Kind(self.field.kind)
        if kind in NUMERIC:
            return keys.pad(point=kind is Kind.DECIMAL)
        if kind in LATIN:
            return keys.address() if kind is Kind.ADDRESS else keys.code()
        multiline = kind is Kind.MULTILINE
        if self.symbols:
            return keys.symbols(self.language, multiline)
        return keys.letters(self.language, self.shift != "off", multiline)

    def _show_page(self, *_: object) -> None:
        if self.field is None:
            return
        page = self._page()
        if page not in self._pages:
            self._pages[page] = [[_key(cap) for cap in row] for row in page]
        rows = self._pages[page]
        tr = App.get_running_app().tr
        words = {"enter": tr("Next") if self.field.next_field else tr("Done"), "newline": tr("New line")}
        for key in (key for row in rows for key in row if key.action in words):
            key.face = words[key.action]
        if rows is not self._rows:
            self.clear_widgets()
            self._rows = rows
            for key in (key for row in rows for key in row):
                key.down = False
                self.add_widget(key)
            self._lay_out()

    def _lay_out(self, *_: object) -> None:
        """Put the keys of each row side by side, all rows centred."""
        if not self._rows or self.height <= 0:
            return
        gap = dp(GAP)
        units = max(sum(key.cap.width for key in row) for row in self._rows)
        numeric = len(self._rows[0]) < 6
        width = min(self.width, dp(PAD_WIDTH)) if numeric else self.width
        unit, height = (width - gap) / units, (self.height - gap) / len(self._rows)
        top = self.y + self.height  # the property `top` still is that of the last frame here
        for number, row in enumerate(self._rows):
            x = self.center_x - unit * sum(key.cap.width for key in row) / 2 + gap / 2
            for key in row:
                key.size = (unit * key.cap.width - gap, height - gap)
                key.pos = (x, top - height * (number + 1))
                x += unit * key.cap.width

    def _reveal(self) -> None:
        if self.field is None:
            return
        around = self.field.parent
        while around is not None and around is not around.parent:
            if isinstance(around, ScrollView):
                if around.children and around.children[0].height > around.height:
                    around.scroll_to(self.field, padding=dp(16), animate=False)
                return
            around = around.parent


def _key(cap: KeyCap) -> Key:
    return Key(cap=cap, face=cap.text, action=cap.action or "", name=cap.action or "")


def _far(key: Key, touch: MotionEvent) -> float:
    """Squared distance of a touch from a key; 0 on it."""
    across = max(key.x - touch.x, touch.x - key.right, 0.0)
    up = max(key.y - touch.y, touch.y - key.top, 0.0)
    return float(across * across + up * up)


Builder.load_file(str(Path(__file__).with_name("keyboard.kv")))
