"""The radiograph on screen: fitted, zoomed with two fingers, wheel or buttons, moved with one finger."""

from __future__ import annotations

from kivy.graphics.texture import Texture
from kivy.graphics.transformation import Matrix
from kivy.input.motionevent import MotionEvent
from kivy.properties import ObjectProperty
from kivy.uix.floatlayout import FloatLayout
from kivy.uix.scatter import Scatter
from kivy.uix.stencilview import StencilView
from PIL import Image

MAX_ZOOM = 8.0
WHEEL_STEP = 1.2


def to_texture(picture: Image.Image) -> Texture:
    """An RGB picture as a texture that also looks smooth when shown smaller."""
    texture = Texture.create(size=picture.size, colorfmt="rgb", mipmap=True)
    texture.min_filter = "linear_mipmap_linear"
    texture.blit_buffer(picture.tobytes(), colorfmt="rgb", bufferfmt="ubyte")
    texture.flip_vertical()
    return texture


class PictureScatter(Scatter):
    """Moves and scales its picture, but never out of its frame."""

    def fit(self) -> None:
        """Show the whole picture."""
        self.scale = 1.0
        self.pos = self.parent.pos if self.parent else (0, 0)

    def zoom(self, factor: float, anchor: tuple[float, float]) -> None:
        """Scale by ``factor`` about ``anchor`` in the parent's coordinates."""
        factor = min(max(factor, self.scale_min / self.scale), self.scale_max / self.scale)
        self.apply_transform(Matrix().scale(factor, factor, factor), anchor=self.to_local(*anchor))
        self.keep_inside()

    def keep_inside(self) -> None:
        """Bring the picture back where it was moved too far to fill its frame."""
        frame = self.parent
        (left, bottom), (width, height) = self.bbox
        self.x += min(frame.x - left, 0) or max(frame.right - left - width, 0)
        self.y += min(frame.y - bottom, 0) or max(frame.top - bottom - height, 0)

    def on_touch_move(self, touch: MotionEvent) -> bool:
        """Follow the finger, within the frame."""
        handled = bool(super().on_touch_move(touch))
        if handled:
            self.keep_inside()
        return handled


class Frame(StencilView, FloatLayout):
    """Cuts off what the zoomed picture has outside, touches too."""

    def on_touch_down(self, touch: MotionEvent) -> bool:
        """Touches outside are not the picture's, however large it is."""
        return self.collide_point(*touch.pos) and bool(super().on_touch_down(touch))


class Viewer(FloatLayout):
    """A picture with its zoom buttons; ``texture`` None shows nothing."""

    texture = ObjectProperty(None, allownone=True)

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self._picture: Image.Image | None = None
        self._subject = ""

    def show(self, picture: Image.Image | None, subject: str) -> None:
        """Show another picture; zoom and place stay where ``subject`` names the same radiograph as before."""
        if picture is not self._picture:
            self.texture = None if picture is None else to_texture(picture)
            self._picture = picture
        if subject != self._subject:
            self.ids.scatter.fit()
            self._subject = subject

    def zoom(self, factor: float) -> None:
        """Zoom about the middle."""
        self.ids.scatter.zoom(factor, self.ids.frame.center)

    def on_touch_down(self, touch: MotionEvent) -> bool:
        """Zoom with the wheel; everything else as usual."""
        if self.texture is not None and self.collide_point(*touch.pos) and touch.is_mouse_scrolling:
            self.ids.scatter.zoom(WHEEL_STEP if touch.button == "scrolldown" else 1 / WHEEL_STEP, touch.pos)
            return True
        return bool(super().on_touch_down(touch))
