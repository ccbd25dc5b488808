"""Draws a film on the GPU: window and level are two numbers of a shader, so dragging them costs one redraw.

A grey level's two bytes go into luminance and alpha, which OpenGL ES 2 has everywhere. Filtering by the GPU would mix
the bytes apart from each other, so the shader reads the four neighbours unfiltered and mixes the levels itself.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from kivy.graphics import Rectangle, RenderContext
from kivy.graphics.texture import Texture
from kivy.uix.widget import Widget

from edge_app.ui.camera import Rect
from edge_app.ui.film import Film, Level, Window
from shared.errors import FirstRayError

FRAGMENT_SHADER: Final = """
$HEADER$
uniform vec2 texels;
uniform vec2 extent;
uniform vec2 window;

float level(vec2 place) {
    vec4 bytes = texture2D(texture0, (place + 0.5) / texels);
    return (bytes.a * 256.0 + bytes.r) * (255.0 / 65535.0);
}

void main(void) {
    vec2 at = clamp(tex_coord0 * extent - 0.5, vec2(0.0), extent - 1.0);
    vec2 corner = floor(at);
    vec2 part = at - corner;
    float upper = mix(level(corner), level(corner + vec2(1.0, 0.0)), part.x);
    float lower = mix(level(corner + vec2(0.0, 1.0)), level(corner + vec2(1.0, 1.0)), part.x);
    float grey = clamp((mix(upper, lower, part.y) - window.x) * window.y, 0.0, 1.0);
    gl_FragColor = vec4(grey, grey, grey, 1.0);
}
"""
"""``texels``: size of the texture; ``extent``: how much of it the radiograph covers; ``window``: level shown black, and
1 / (level shown white - level shown black), which is negative where black and white are swapped."""

UPSIDE_DOWN: Final = (0, 1, 1, 1, 1, 0, 0, 0)
"""Texture coordinates that put the first row of an array at the top."""


class FilmCanvas(Widget):
    """The radiograph alone, without frame, boxes and touch."""

    def __init__(self, **kwargs: object) -> None:
        self.canvas = RenderContext(use_parent_projection=True, use_parent_modelview=True)
        self.canvas.shader.fs = FRAGMENT_SHADER
        if not self.canvas.shader.success:
            raise FirstRayError(
                "display_unsupported",
                "The graphics driver cannot draw radiographs.",
                "Install its current driver, or set LIBGL_ALWAYS_SOFTWARE=1 to draw without it.",
            )
        super().__init__(**kwargs)
        self._film: Film | None = None
        self._textures: dict[int, Texture] = {}
        self._level = -1
        self._picture = Rectangle(tex_coords=UPSIDE_DOWN)

    def show(self, film: Film | None) -> None:
        """Take another film; it is drawn by the next :meth:`place`."""
        self.canvas.clear()
        self._film, self._textures, self._level = film, {}, -1

    def place(self, rect: Rect, scale: float) -> None:
        """Draw the film there, at ``scale`` screen pixels for a pixel of it; loads the level that this needs."""
        if self._film is None:
            return
        number = self._film.level_for(scale)
        if number != self._level:
            self._use(number, self._film.levels[number])
        self._picture.pos = rect[:2]
        self._picture.size = (rect[2] - rect[0], rect[3] - rect[1])

    def look(self, window: Window) -> None:
        """Show grey levels from ``window[0]`` black to ``window[1]`` white."""
        if self._film is None:
            return
        top = float(self._film.top)
        span = (window[1] - window[0]) / top or 1.0
        self.canvas["window"] = (window[0] / top, 1.0 / span)
        self.canvas.ask_update()

    def _use(self, number: int, level: Level) -> None:
        if number not in self._textures:
            self._textures[number] = _texture(level)
        texture = self._textures[number]
        self.canvas["texels"] = (float(texture.width), float(texture.height))
        self.canvas["extent"] = (float(level.width), float(level.height))
        self._picture.texture = texture
        self._picture.tex_coords = UPSIDE_DOWN
        if self._level < 0:
            self.canvas.add(self._picture)
        self._level = number


def _texture(level: Level) -> Texture:
    height, width = level.values.shape
    texture = Texture.create(size=(width, height), colorfmt="luminance_alpha", bufferfmt="ubyte")
    texture.min_filter = texture.mag_filter = "nearest"
    texture.wrap = "clamp_to_edge"
    data = np.ascontiguousarray(level.values, dtype="<u2").tobytes()
    texture.blit_buffer(data, colorfmt="luminance_alpha", bufferfmt="ubyte")
    return texture
