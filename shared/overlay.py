"""The radiograph with its boxes drawn on it, at full resolution.

Boxes are red with a dark rim, so that they stand out on lung, bone and the white of a dense lesion alike. Detector
boxes are solid, regions from an activation map are dashed.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from shared.boxes import Box
from shared.diagnosis import Diagnosis
from shared.errors import FirstRayError
from shared.findings import BY_KEY
from shared.fonts import BOLD
from shared.preprocess import grey_range, stretch
from shared.radiograph import Radiograph

Language = Literal["en", "ko"]
Corners = tuple[float, float, float, float]

RED = (255, 48, 48)
RIM = (20, 0, 0)
LABEL_GROUND = (150, 0, 0)
LABEL_TEXT = (255, 255, 255)
CORRECTED: dict[Language, str] = {"en": "Not as received: {}", "ko": "원본과 다름: {}"}
NOTE_GROUND = (60, 45, 0)
NOTE_TEXT = (255, 215, 90)
SAMPLED_SIDE = 400
"""Grey levels are measured on about this many pixels a side."""


def finding_name(key: str, language: Language) -> str:
    """Display name of a finding."""
    finding = BY_KEY[key]
    return finding.korean if language == "ko" else finding.english


def draw(radiograph: Radiograph, diagnosis: Diagnosis, language: Language = "en") -> Image.Image:
    """The radiograph as RGB at full resolution with the diagnosis's boxes, labelled by finding.

    Labels carry no score: a detector's score is no probability and would seem to contradict the one beside the image.
    A corrected radiograph says so in its lower left corner.
    """
    return mark(grey8(radiograph).convert("RGB"), diagnosis, language)


def mark(image: Image.Image, diagnosis: Diagnosis, language: Language = "en") -> Image.Image:
    """Draw a diagnosis on a picture (RGB, any size) of its radiograph, as :func:`draw` does; returns ``image``."""
    canvas = ImageDraw.Draw(image)
    line = max(2, round(max(image.size) / 250))
    font = _font(max(12, round(max(image.size) / 48)))
    taken: list[Corners] = []
    if diagnosis.correction:
        note = CORRECTED[language].format(diagnosis.correction.describe(language))
        taken.append(_note(canvas, image, note, font, line))
    for box in reversed(diagnosis.boxes):
        _outline(canvas, _corners(box, image), line, dashed=box.source == "activation")
    for box in diagnosis.boxes:
        name = finding_name(box.finding, language)
        others = [_corners(other, image) for other in diagnosis.boxes if other is not box]
        taken.append(_label(canvas, image, _corners(box, image), name, font, line, (taken, others)))
    return image


def grey8(radiograph: Radiograph) -> Image.Image:
    """Full-size 8-bit grey image for a screen, its grey levels stretched as the models see them."""
    pixels = radiograph.pixels
    step = max(1, max(pixels.shape) // SAMPLED_SIDE)
    low, high = grey_range(pixels[::step, ::step].astype(np.float32))
    levels = np.arange(np.iinfo(pixels.dtype).max + 1, dtype=np.float32)
    table = np.round(stretch(levels, low, high) * 255).astype(np.uint8)
    return Image.fromarray(table[pixels])


def save(image: Image.Image, path: Path) -> None:
    """Write a boxed image as JPEG or PNG, by the file name's ending.

    Raises:
        FirstRayError: ``image_format_unknown`` for another ending, ``output_unwritable`` where it cannot be written.
    """
    options: dict[str, dict[str, object]] = {
        ".jpg": {"format": "JPEG", "quality": 90, "subsampling": 0},
        ".jpeg": {"format": "JPEG", "quality": 90, "subsampling": 0},
        ".png": {"format": "PNG", "compress_level": 3},
    }
    chosen = options.get(path.suffix.lower())
    if chosen is None:
        raise FirstRayError("image_format_unknown", f"{path.name} ends in neither .jpg nor .png.", "Rename it.")
    try:
        image.save(path, **chosen)  # type: ignore[arg-type]
    except OSError as error:
        raise FirstRayError(
            "output_unwritable", f"{path} cannot be written: {error.strerror or error}.", "Choose another folder."
        ) from None


@lru_cache(maxsize=4)
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(BOLD), size)


def _corners(box: Box, image: Image.Image) -> Corners:
    width, height = image.width - 1, image.height - 1
    return box.x * width, box.y * height, (box.x + box.w) * width, (box.y + box.h) * height


def _outline(canvas: ImageDraw.ImageDraw, corners: Corners, line: int, dashed: bool) -> None:
    x1, y1, x2, y2 = corners
    if not dashed:
        rim = max(1, line // 4)
        canvas.rectangle((x1 - rim, y1 - rim, x2 + rim, y2 + rim), outline=RIM, width=line + 2 * rim)
        canvas.rectangle(corners, outline=RED, width=line)
        return
    dash = line * 6
    for (ax, ay), (bx, by) in (((x1, y1), (x2, y1)), ((x2, y1), (x2, y2)), ((x2, y2), (x1, y2)), ((x1, y2), (x1, y1))):
        length = max(abs(bx - ax), abs(by - ay), 1.0)
        for start in np.arange(0, length, 2 * dash):
            ends = (start / length, min(start + dash, length) / length)
            part = [(ax + (bx - ax) * t, ay + (by - ay) * t) for t in ends]
            canvas.line(part, fill=RIM, width=line + 2 * max(1, line // 4))
            canvas.line(part, fill=RED, width=line)


def _label(
    canvas: ImageDraw.ImageDraw,
    image: Image.Image,
    corners: Corners,
    text: str,
    font: ImageFont.FreeTypeFont,
    line: int,
    avoid: tuple[list[Corners], list[Corners]],
) -> Corners:
    """Draw a label above its box, or elsewhere where that is outside the image or hides a label or another box."""
    pad = line * 2
    left, top, right, bottom = canvas.textbbox((0, 0), text, font=font)
    width, height = right - left + 2 * pad, bottom - top + 2 * pad
    x = min(max(0.0, corners[0] - line), max(0.0, image.width - width))
    step = height + line
    above, below = corners[1] - height - line, corners[3] + line
    places = [above, below, *(above - step * n for n in range(1, 6)), *(below + step * n for n in range(1, 6))]
    fits = [y for y in places if 0 <= y <= image.height - height]
    labels, boxes = avoid
    free = [y for y in fits if not _hides((x, y, x + width, y + height), labels)]
    clear = [y for y in free if not _hides((x, y, x + width, y + height), boxes)]
    y = (clear or free or fits or [0.0])[0]
    canvas.rectangle((x, y, x + width, y + height), fill=LABEL_GROUND, outline=RIM, width=max(1, line // 2))
    canvas.text((x + pad - left, y + pad - top), text, font=font, fill=LABEL_TEXT)
    return x, y, x + width, y + height


def _note(
    canvas: ImageDraw.ImageDraw, image: Image.Image, text: str, font: ImageFont.FreeTypeFont, line: int
) -> Corners:
    """Draw a note in the lower left corner, smaller where the image is narrow."""
    pad = line * 2
    room = image.width - 2 * pad
    if canvas.textlength(text, font=font) > room:
        font = _font(max(8, int(font.size * room / canvas.textlength(text, font=font))))
    left, top, right, bottom = canvas.textbbox((0, 0), text, font=font)
    place = (0.0, image.height - (bottom - top) - 2.0 * pad, right - left + 2.0 * pad, float(image.height))
    canvas.rectangle(place, fill=NOTE_GROUND)
    canvas.text((pad - left, place[1] + pad - top), text, font=font, fill=NOTE_TEXT)
    return place


def _hides(label: Corners, places: list[Corners]) -> bool:
    return any(label[0] < p[2] and p[0] < label[2] and label[1] < p[3] and p[1] < label[3] for p in places)
