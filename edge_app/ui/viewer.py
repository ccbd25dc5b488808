"""The radiograph on screen: zoomed, moved, looked at through another window, with its boxes drawn over it.

One finger moves it, two fingers or the wheel zoom, a double tap zooms in there or shows the whole film. After a tap on
the half-dark circle one finger changes what is seen instead: up is brighter, right is more contrast. Nothing of this
changes what was read or stored.
"""

from __future__ import annotations

from pathlib import Path

from kivy.clock import Clock
from kivy.core.text import Label as TextTexture
from kivy.graphics import Color, Line, Mesh, Rectangle
from kivy.graphics.texture import Texture
from kivy.input.motionevent import MotionEvent
from kivy.lang import Builder
from kivy.metrics import dp, sp
from kivy.properties import BooleanProperty, ListProperty, NumericProperty, ObjectProperty, StringProperty
from kivy.uix.floatlayout import FloatLayout
from kivy.uix.stencilview import StencilView
from kivy.uix.widget import Widget

from edge_app.ui import theme
from edge_app.ui.camera import MAX_ZOOM, Camera, Point, Rect
from edge_app.ui.film import Film, Preset, Window
from edge_app.ui.filmcanvas import FilmCanvas
from edge_app.ui.marks import BoxShape, grown, outline, place_label

__all__ = ["MAX_ZOOM", "BoxShape", "FilmCanvas", "Viewer"]

WHEEL_STEP = 1.2
DOUBLE_TAP_ZOOM = 2.5
CONTRAST_A_FRAME = 3.0
"""Moving the finger over the whole frame divides the window's width by e to the power of it."""


class Frame(StencilView, FloatLayout):
    """Cuts off what the zoomed radiograph has outside."""


class Marks(Widget):
    """Boxes and labels over the radiograph."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self._texts: dict[str, Texture] = {}

    def draw(self, shapes: list[BoxShape], camera: Camera, reserved: list[Rect]) -> None:
        """Draw the boxes where the camera sees them, the first one on top; no label goes where ``reserved`` says."""
        line, dash, rim = dp(3), dp(14), dp(1)
        rects = [_on_screen(shape, camera) for shape in shapes]
        strokes = [
            stroke
            for shape, rect in zip(reversed(shapes), reversed(rects), strict=True)
            for stroke in outline(rect, camera.frame, line, dash if shape.dashed else 0.0)
        ]
        self.canvas.clear()
        with self.canvas:
            Color(*theme.BOX_RIM)
            _fill(grown(strokes, rim))
            Color(*theme.BOX)
            _fill(strokes)
        taken = list(reserved)
        for shape, rect in zip(shapes, rects, strict=True):
            self._label(shape.label, rect, camera.frame, taken, [other for other in rects if other is not rect])

    def _label(self, text: str, box: Rect, frame: Rect, taken: list[Rect], others: list[Rect]) -> None:
        if text not in self._texts:
            label = TextTexture(text=text, font_size=sp(theme.BODY), bold=True)
            label.refresh()
            self._texts[text] = label.texture
        texture, pad = self._texts[text], dp(5)
        size = (texture.width + 2 * pad, texture.height + pad)
        place = place_label(box, size, frame, taken, others, dp(3))
        if place is None:
            return
        taken.append(place)
        with self.canvas:
            Color(*theme.BOX_LABEL)
            Rectangle(pos=place[:2], size=size)
            Color(*theme.BOX_RIM)
            Line(rectangle=(*place[:2], *size), width=dp(1))
            Color(*theme.IMAGE_TEXT)
            Rectangle(texture=texture, pos=(round(place[0] + pad), round(place[1] + pad / 2)), size=texture.size)


class Viewer(FloatLayout):
    """A radiograph with its tools; see the module for the gestures.

    Attributes:
        boxes: tuple of :class:`BoxShape`, the most important first.
        hidden: set of keys of findings whose boxes are not drawn.
        boxes_shown: False takes all boxes away; the viewer's own button switches it.
        windowing: one finger changes the window, and the presets are offered.
        tools: whether the buttons are there.
        readout: width and level of the window, shown while it is changed and as long as it is not the one as read.
        note: of the film, shown on it; ``note_width`` is its width on one line.
        window: the grey levels shown black and white, see :class:`edge_app.ui.film.Film`.
    """

    boxes = ListProperty()
    hidden = ObjectProperty(frozenset())
    boxes_shown = BooleanProperty(True)
    windowing = BooleanProperty(False)
    tools = BooleanProperty(True)
    film = ObjectProperty(None, allownone=True)
    readout = StringProperty()
    note = StringProperty()
    note_width = NumericProperty()
    preset = StringProperty(Preset.AS_READ.value)
    zoom_level = NumericProperty(1.0)

    def __init__(self, **kwargs: object) -> None:
        self.camera = Camera()
        self.window: Window = (0.0, 1.0)
        self._linked: list[Viewer] = []
        self._fingers: dict[object, Point] = {}
        self._redraw = Clock.create_trigger(self._draw, -1)
        super().__init__(**kwargs)
        for name in ("boxes", "hidden", "boxes_shown", "windowing", "preset", "tools", "pos", "size"):
            self.fbind(name, self._redraw)

    def show(self, film: Film | None) -> None:
        """Show another film, or none; zoom, place and window stay where its subject is the one shown before."""
        before, self.film = self.film, film
        self.note = film.note if film else ""
        self.note_width = TextTexture(font_size=sp(theme.BODY), bold=True).get_extents(self.note)[0]
        self.ids.film.show(film)
        if film is not None:
            self.camera.width, self.camera.height = film.size
            if before is None or before.subject != film.subject:
                self.camera.fit()
                self.use(Preset.AS_READ)
            else:
                self._look(self.window)
        self._redraw()

    def fit(self) -> None:
        """Show the whole film."""
        self.camera.fit()
        self._moved()

    def zoom(self, factor: float, anchor: Point | None = None) -> None:
        """Zoom about a place on the screen, or about the middle."""
        self.camera.zoom_by(factor, anchor or self.center)
        self._moved()

    def use(self, preset: Preset | str) -> None:
        """Look at the film through a preset's window."""
        if self.film is not None:
            self.preset = Preset(preset).value
            self._look(self.film.preset(Preset(preset)))

    def invert(self) -> None:
        """Swap black and white."""
        self.preset = ""
        self._look((self.window[1], self.window[0]))

    def link(self, other: Viewer) -> None:
        """From now on both are zoomed and moved together, for comparing two films."""
        self._linked.append(other)
        other._linked.append(self)

    def unlink(self, other: Viewer) -> None:
        """Each is zoomed and moved by itself again."""
        self._linked.remove(other)
        other._linked.remove(self)

    def on_touch_down(self, touch: MotionEvent) -> bool:
        """Buttons first; then the wheel, a double tap, or the beginning of a gesture."""
        if super().on_touch_down(touch):
            return True
        if self.film is None or not self.collide_point(*touch.pos):
            return False
        if touch.is_mouse_scrolling:
            self.zoom(WHEEL_STEP if touch.button == "scrolldown" else 1 / WHEEL_STEP, touch.pos)
            return True
        if touch.is_double_tap and not self._fingers:
            if self.camera.zoom > 1.01:
                self.fit()
            else:
                self.zoom(DOUBLE_TAP_ZOOM, touch.pos)
        touch.grab(self)
        self._fingers[touch.uid] = touch.pos
        return True

    def on_touch_move(self, touch: MotionEvent) -> bool:
        """One finger moves the film or changes its window, two zoom and move it."""
        if touch.grab_current is not self or touch.uid not in self._fingers:
            return bool(super().on_touch_move(touch))
        before = dict(self._fingers)
        self._fingers[touch.uid] = touch.pos
        right, up = touch.x - before[touch.uid][0], touch.y - before[touch.uid][1]
        if len(self._fingers) > 1:
            self._pinch(before)
        elif self.windowing:
            self._drag_window(right, up)
        else:
            self.camera.pan(right, up)
            self._moved()
        return True

    def on_touch_up(self, touch: MotionEvent) -> bool:
        """A finger is gone."""
        if touch.grab_current is not self:
            return bool(super().on_touch_up(touch))
        touch.ungrab(self)
        self._fingers.pop(touch.uid, None)
        return True

    def _pinch(self, before: dict[object, Point]) -> None:
        """Zoom by how the first two fingers' distance changed, and follow their middle."""
        first, second = list(self._fingers)[:2]
        was, now = (_spread(fingers[first], fingers[second]) for fingers in (before, self._fingers))
        self.camera.zoom_by(now[1] / was[1], was[0])
        self.camera.pan(now[0][0] - was[0][0], now[0][1] - was[0][1])
        self._moved()

    def _drag_window(self, right: float, up: float) -> None:
        brighter, contrast = up / self.height, right / self.width * CONTRAST_A_FRAME
        self.preset = ""
        self._look(self.film.adjusted(self.window, brighter, contrast))

    def _look(self, window: Window) -> None:
        self.window = window
        self.readout = f"W {abs(window[1] - window[0]):.0f}   L {(window[0] + window[1]) / 2:.0f}"
        self.ids.film.look(window)

    def _moved(self) -> None:
        """The camera moved: draw, and take linked viewers along."""
        self._redraw()
        for other in self._linked:
            other.camera.zoom, other.camera.centre = self.camera.zoom, self.camera.centre
            other.camera.keep_inside()
            other._redraw()

    def _draw(self, *_: object) -> None:
        self.camera.frame = (self.x, self.y, self.right, self.top)
        self.camera.keep_inside()
        self.zoom_level = self.camera.zoom
        self.ids.film.place(self.camera.image, self.camera.scale)
        seen = [box for box in self.boxes if self.boxes_shown and box.finding not in self.hidden]
        above = [self.ids[part] for part in ("tools", "reading", "presets", "note") if self.ids[part].opacity > 0]
        reserved = [(part.x, part.y, part.right, part.top) for part in above]
        self.ids.marks.draw(seen if self.film is not None else [], self.camera, reserved)


def _on_screen(shape: BoxShape, camera: Camera) -> Rect:
    left, top = camera.to_screen(shape.x, shape.y)
    right, bottom = camera.to_screen(shape.x + shape.w, shape.y + shape.h)
    return left, bottom, right, top


def _fill(rects: list[Rect]) -> None:
    """Add filled rectangles to the canvas that is open, in as few instructions as OpenGL ES 2 lets."""
    most = 65535 // 4
    for start in range(0, len(rects), most):
        part = rects[start : start + most]
        vertices = [
            value for a, b, c, d in part for x, y in ((a, b), (c, b), (c, d), (a, d)) for value in (x, y, 0.0, 0.0)
        ]
        indices = [4 * n + corner for n in range(len(part)) for corner in (0, 1, 2, 2, 3, 0)]
        Mesh(vertices=vertices, indices=indices, mode="triangles")


def _spread(one: Point, other: Point) -> tuple[Point, float]:
    """The middle of two fingers, and their distance (never 0)."""
    middle = ((one[0] + other[0]) / 2, (one[1] + other[1]) / 2)
    return middle, max(((one[0] - other[0]) ** 2 + (one[1] - other[1]) ** 2) ** 0.5, 1.0)


Builder.load_file(str(Path(__file__).with_name("viewer.kv")))
