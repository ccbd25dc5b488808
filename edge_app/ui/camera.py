"""Where a zoomed and moved image lies on the screen. Without Kivy; screen coordinates have their origin bottom left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_ZOOM: Final = 8.0

Point = tuple[float, float]
Rect = tuple[float, float, float, float]
"""Left, bottom, right, top in screen pixels."""


@dataclass
class Camera:
    """An image of ``width`` x ``height`` pixels seen through a frame.

    Attributes:
        frame: the part of the screen that shows the image.
        zoom: 1 shows the whole image, up to :data:`MAX_ZOOM`.
        centre: what lies in the middle of the frame, as fractions of the image from its top left corner.
    """

    frame: Rect = (0.0, 0.0, 1.0, 1.0)
    width: float = 1.0
    height: float = 1.0
    zoom: float = 1.0
    centre: Point = (0.5, 0.5)

    @property
    def scale(self) -> float:
        """Screen pixels a pixel of the image."""
        left, bottom, right, top = self.frame
        return max(min((right - left) / self.width, (top - bottom) / self.height), 1e-6) * self.zoom

    @property
    def image(self) -> Rect:
        """Where the whole image lies, possibly beyond the frame."""
        left, bottom = self.to_screen(0.0, 1.0)
        right, top = self.to_screen(1.0, 0.0)
        return left, bottom, right, top

    def to_screen(self, x: float, y: float) -> Point:
        """Fractions of the image, from its top left corner -> screen."""
        left, bottom, right, top = self.frame
        return (
            (left + right) / 2 + (x - self.centre[0]) * self.width * self.scale,
            (bottom + top) / 2 - (y - self.centre[1]) * self.height * self.scale,
        )

    def to_image(self, x: float, y: float) -> Point:
        """Screen -> fractions of the image; beyond 0..1 outside it."""
        left, bottom, right, top = self.frame
        return (
            self.centre[0] + (x - (left + right) / 2) / (self.width * self.scale),
            self.centre[1] - (y - (bottom + top) / 2) / (self.height * self.scale),
        )

    def fit(self) -> None:
        """Show the whole image."""
        self.zoom, self.centre = 1.0, (0.5, 0.5)

    def zoom_by(self, factor: float, anchor: Point) -> None:
        """Zoom; what lies under ``anchor`` on the screen stays there, as far as the image still fills the frame."""
        held = self.to_image(*anchor)
        self.zoom = min(max(self.zoom * factor, 1.0), MAX_ZOOM)
        now = self.to_image(*anchor)
        self.centre = (self.centre[0] + held[0] - now[0], self.centre[1] + held[1] - now[1])
        self.keep_inside()

    def pan(self, right: float, up: float) -> None:
        """Move the image by screen pixels, never so far that the frame shows less of it than it could."""
        x, y = self.centre
        self.centre = (x - right / (self.width * self.scale), y + up / (self.height * self.scale))
        self.keep_inside()

    def keep_inside(self) -> None:
        """Bring the image back where it was moved too far."""
        left, bottom, right, top = self.frame
        self.centre = (
            _kept(self.centre[0], (right - left) / (self.width * self.scale)),
            _kept(self.centre[1], (top - bottom) / (self.height * self.scale)),
        )


def _kept(centre: float, seen: float) -> float:
    """A centre that shows no more beyond the image's edge than must be, where ``seen`` of its length is in sight."""
    return 0.5 if seen >= 1 else min(max(centre, seen / 2), 1 - seen / 2)
