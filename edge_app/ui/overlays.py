"""What lies over a screen for a while: a question that must be answered, and a message that goes by itself."""

from __future__ import annotations

from pathlib import Path

from kivy.clock import Clock
from kivy.input.motionevent import MotionEvent
from kivy.lang import Builder
from kivy.properties import BooleanProperty, NumericProperty, StringProperty
from kivy.uix.boxlayout import BoxLayout
from kivy.uix.floatlayout import FloatLayout
from kivy.uix.widget import Widget

TOAST_SECONDS = 8.0


class Dialog(FloatLayout):
    """A question over the whole screen. Children added in Python or kv stand between the message and the buttons.

    ``confirm_text`` and ``cancel_text`` are on the buttons; an empty ``cancel_text`` leaves that button out.
    Where ``destructive``, the button that confirms is red.

    Events:
        on_confirm: closes it, unless a handler returns True (the input is not right yet).
        on_cancel: closes it.
    """

    __events__ = ("on_confirm", "on_cancel")
    modal = True
    title = StringProperty()
    message = StringProperty()
    confirm_text = StringProperty()
    cancel_text = StringProperty()
    destructive = BooleanProperty(False)

    def add_widget(self, widget: Widget, *args: object, **kwargs: object) -> None:
        """Put it into the card."""
        if "content" in self.ids:
            self.ids.content.add_widget(widget, *args, **kwargs)
        else:
            super().add_widget(widget, *args, **kwargs)

    def open(self, stage: FloatLayout) -> None:
        """Show it over everything on ``stage``."""
        stage.add_widget(self)

    def close(self) -> None:
        """Take it away."""
        if self.parent is not None:
            self.parent.remove_widget(self)

    def answer(self, confirmed: bool) -> None:
        """As a tap on one of the buttons does."""
        if not self.dispatch("on_confirm" if confirmed else "on_cancel"):
            self.close()

    def on_touch_down(self, touch: MotionEvent) -> bool:
        """Let nothing through to what lies below."""
        super().on_touch_down(touch)
        return True

    def on_confirm(self) -> None:
        """Default handler of the event."""

    def on_cancel(self) -> None:
        """Default handler of the event."""


class Toast(BoxLayout):
    """Says what was done, and offers to take it back while it is there; a tap beside the button takes it away.

    ``lift`` is the height of what it must not cover at the lower edge.

    Events:
        on_tap: the button was tapped; ``on_end`` does not follow.
        on_end: it went without the button being tapped: by itself, or because another took its place.
    """

    __events__ = ("on_tap", "on_end")
    text = StringProperty()
    action = StringProperty()
    seconds = NumericProperty(TOAST_SECONDS)
    lift = NumericProperty(0)

    def open(self, stage: FloatLayout) -> None:
        """Show it at the lower edge of ``stage``, in place of one that is there already."""
        for other in [child for child in stage.children if isinstance(child, Toast)]:
            other.end()
        stage.add_widget(self)
        self._timer = Clock.schedule_once(lambda _: self.end(), self.seconds)

    def on_touch_down(self, touch: MotionEvent) -> bool:
        """Go, unless the button was meant; nothing goes through to what lies below."""
        if not self.collide_point(*touch.pos):
            return False
        if not super().on_touch_down(touch) and not touch.is_mouse_scrolling:
            self.end()
        return True

    def end(self) -> None:
        """Take it away as if its time were over."""
        if self._leave():
            self.dispatch("on_end")

    def act(self) -> None:
        """As a tap on its button does."""
        if self._leave():
            self.dispatch("on_tap")

    def on_tap(self) -> None:
        """Default handler of the event."""

    def on_end(self) -> None:
        """Default handler of the event."""

    def _leave(self) -> bool:
        if self.parent is None:
            return False
        self._timer.cancel()
        self.parent.remove_widget(self)
        return True


Builder.load_file(str(Path(__file__).with_name("overlays.kv")))
