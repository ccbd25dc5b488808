"""From a radiograph's pixels to the square grey image the models see.

Training, conversion and inference all use these functions, so that a model meets at the bedside what it met in
training: the whole radiograph fitted into a square, grey levels stretched between its own low and high percentiles
(which takes away exposure, window and bit depth), the rest of the square black.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

GreyImage = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
FloatImage = npt.NDArray[np.float32]

RANGE_PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Where a ``width`` x ``height`` image lies inside a ``side`` x ``side`` square.

    ``left``, ``top``, ``inner_width`` and ``inner_height`` are whole pixels of the square.
    """

    side: int
    left: int
    top: int
    inner_width: int
    inner_height: int

    @classmethod
    def fit(cls, width: int, height: int, side: int) -> Letterbox:
        """Centre a ``width`` x ``height`` image in the square, its longer side filling it."""
        scale = side / max(width, height)
        inner_width = min(side, max(1, round(width * scale)))
        inner_height = min(side, max(1, round(height * scale)))
        return cls(side, (side - inner_width) // 2, (side - inner_height) // 2, inner_width, inner_height)

    def to_fractions(self, xyxy: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Corners ``[N, 4]`` (x1, y1, x2, y2) in pixels of the square -> fractions of the image, clipped to 0..1."""
        offset = np.array([self.left, self.top, self.left, self.top], np.float32)
        size = np.array([self.inner_width, self.inner_height] * 2, np.float32)
        return np.clip((xyxy - offset) / size, 0.0, 1.0).astype(np.float32)

    def from_fractions(self, xyxy: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Corners ``[N, 4]`` in fractions of the image -> pixels of the square."""
        offset = np.array([self.left, self.top, self.left, self.top], np.float32)
        size = np.array([self.inner_width, self.inner_height] * 2, np.float32)
        return (xyxy * size + offset).astype(np.float32)


def resampling_source(pixels: GreyImage) -> Image.Image:
    """Presentation values ``[H, W]`` as a Pillow image that can be resampled: ``L`` for uint8, ``F`` for uint16."""
    return Image.fromarray(pixels if pixels.dtype == np.uint8 else pixels.astype(np.float32))


def shrink(source: Image.Image, box: Letterbox) -> FloatImage:
    """Resample to the letterbox's inner size, anti-aliased, in the grey levels of ``source``."""
    size = (box.inner_width, box.inner_height)
    return np.asarray(source.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0), dtype=np.float32)


def grey_range(image: FloatImage) -> tuple[float, float]:
    """Low and high grey level of ``image``: its 0.5 and 99.5 percentiles, estimated on every second pixel."""
    sample = image[::2, ::2] if image.size > 40_000 else image
    low, high = np.percentile(sample, RANGE_PERCENTILES)
    return float(low), float(high)


def stretch(image: FloatImage, low: float, high: float) -> FloatImage:
    """Map ``low..high`` to 0..1 and clip. A flat image becomes all 0."""
    if high <= low:
        return np.zeros_like(image)
    return np.clip((image - low) * np.float32(1.0 / (high - low)), 0.0, 1.0).astype(np.float32)


def place(image: FloatImage, box: Letterbox) -> FloatImage:
    """Put the shrunken image into its black square ``[side, side]``."""
    square = np.zeros((box.side, box.side), np.float32)
    square[box.top : box.top + box.inner_height, box.left : box.left + box.inner_width] = image
    return square


def model_image(source: GreyImage | Image.Image, side: int) -> tuple[FloatImage, Letterbox]:
    """One radiograph as a model sees it.

    Args:
        source: ``[H, W]`` presentation values, uint8 or uint16, high is bright (MONOCHROME2); or the
            :func:`resampling_source` of them, where several sizes are made from one radiograph.
        side: side of the square in pixels.

    Returns:
        float32 ``[side, side]`` in 0..1, and where the radiograph lies in it.
    """
    image = source if isinstance(source, Image.Image) else resampling_source(source)
    box = Letterbox.fit(image.width, image.height, side)
    small = shrink(image, box)
    return place(stretch(small, *grey_range(small)), box), box
