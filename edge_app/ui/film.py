"""A radiograph made ready for the screen: its own grey levels at falling sizes, and windows to look at them through.

The levels keep 16 bits, so that a narrowed window shows contrast that an 8-bit picture has lost. Making them takes some
tens of milliseconds: do it on a worker thread.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from shared.overlay import SAMPLED_SIDE
from shared.preprocess import GreyImage, grey_range
from shared.radiograph import Radiograph

Window = tuple[float, float]
"""The grey levels shown black and white, in the radiograph's own units; the first is the higher one when inverted."""

LARGEST: Final = 4096
"""Longest side of a level in pixels: what every GPU with OpenGL ES 3 takes, and all but a few of those with 2."""

SMALLEST: Final = 256
"""No level is made that is smaller than this on its longer side."""

NARROWEST: Final = 1 / 64
"""Narrowest window, as a share of the range that the radiograph was read with."""

WIDEST: Final = 4.0


class Preset(StrEnum):
    """Ways to look at a chest radiograph."""

    AS_READ = "as_read"
    """As the models see it."""
    LUNG = "lung"
    """What is dark: lung markings, the edge of a collapsed lung."""
    DENSE = "dense"
    """What is bright: bone, mediastinum, what lies behind the heart."""


LUNG_SHARES: Final = (0.5, 60.0)
DENSE_SHARES: Final = (25.0, 99.9)
"""Percentiles of the grey levels that the two presets show as black and white."""


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """The radiograph at one size.

    Attributes:
        values: uint16 ``[h, w]``, 0..65535 whatever the radiograph's own bits.
        width, height: how much of ``values`` the radiograph covers, in its pixels; half a pixel less than there are
            where an odd side was halved.
    """

    values: npt.NDArray[np.uint16]
    width: float
    height: float

    def halved(self) -> Level:
        """Half the size, each pixel the mean of four; an odd edge is repeated."""
        rows, columns = self.values.shape
        even = self.values
        if rows % 2 or columns % 2:
            even = np.pad(even, ((0, rows % 2), (0, columns % 2)), mode="edge")
        pairs = np.add(even[::2], even[1::2], dtype=np.uint32)
        total = pairs[:, ::2] + pairs[:, 1::2] + np.uint32(2)
        return Level((total >> np.uint32(2)).astype(np.uint16), self.width / 2, self.height / 2)


@dataclass(frozen=True, eq=False)
class Film:
    """A radiograph for :class:`edge_app.ui.viewer.Viewer`.

    Attributes:
        pixels: uint8 or uint16 ``[H, W]``, high is bright.
        window: grey levels shown black and white at first.
        subject: names what is shown; zoom, place and window stay while it stays the same.
        note: shown on the image, for example that it was corrected; empty for none.
        levels: full size first (at most :data:`LARGEST`), each half the one before.
    """

    pixels: GreyImage
    window: Window
    subject: str
    note: str = ""
    levels: tuple[Level, ...] = field(init=False)

    def __post_init__(self) -> None:
        height, width = self.pixels.shape
        wide = self.pixels.astype(np.uint16, copy=False)
        level = Level(wide * np.uint16(257) if self.pixels.dtype == np.uint8 else wide, width, height)
        while max(level.values.shape) > LARGEST:
            level = level.halved()
        levels = [level]
        while max(level.values.shape) >= 2 * SMALLEST:
            level = level.halved()
            levels.append(level)
        object.__setattr__(self, "levels", tuple(levels))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]

    @property
    def top(self) -> int:
        """The highest grey level its kind of pixels can hold."""
        return int(np.iinfo(self.pixels.dtype).max)

    def level_for(self, scale: float) -> int:
        """Index of the level to draw at ``scale`` screen pixels a radiograph's pixel: one to two of its pixels each."""
        widest = self.size[0]
        fitting = [n for n, level in enumerate(self.levels) if level.width >= scale * widest]
        return fitting[-1] if fitting else 0

    def preset(self, preset: Preset) -> Window:
        """The window of a preset for this radiograph."""
        if preset is Preset.AS_READ:
            return self.window
        low, high = np.percentile(sampled(self.pixels), LUNG_SHARES if preset is Preset.LUNG else DENSE_SHARES)
        return float(low), max(float(high), float(low) + 1.0)

    def adjusted(self, window: Window, brighter: float, contrast: float) -> Window:
        """A window changed by the finger.

        Args:
            window: the one now.
            brighter: shares of the range the radiograph was read with, positive is brighter.
            contrast: the window's width is divided by e to the power of it; kept within :data:`NARROWEST` and
                :data:`WIDEST` of that range.
        """
        span = max(abs(self.window[1] - self.window[0]), 1.0)
        middle, half = (window[0] + window[1]) / 2, (window[1] - window[0]) / 2
        direction = -1.0 if half < 0 else 1.0
        width = min(max(2 * abs(half) * float(np.exp(-contrast)), NARROWEST * span), WIDEST * span)
        middle = min(max(middle - direction * brighter * span, 0.0), float(self.top))
        return middle - direction * width / 2, middle + direction * width / 2


def sampled(pixels: GreyImage) -> npt.NDArray[np.float32]:
    """Every so many pixels, enough to tell how grey levels are distributed."""
    step = max(1, max(pixels.shape) // SAMPLED_SIDE)
    return pixels[::step, ::step].astype(np.float32)


def film_of(radiograph: Radiograph, note: str = "") -> Film:
    """A radiograph as the models see it: shown with the same stretch of grey levels as :func:`shared.overlay.grey8`."""
    subject = f"{radiograph.sha256} {radiograph.correction}"
    return Film(radiograph.pixels, grey_range(sampled(radiograph.pixels)), subject, note)
