"""Drawn and computed pictures for the gate to refuse: noise, documents, screens, line art, patterns, phantoms, limbs.

The limbs stand in for the radiographs of other body parts that no package ships.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from training.gate_material import Grey

Rng = np.random.Generator
Floats = npt.NDArray[np.float32]


def drawing(rng: Rng) -> Grey:
    """One drawing of a random kind, uint8 ``[H, W]``, sides 80 to 192."""
    makers = (_noise, _noise, _gradient, _document, _screen, _line_art, _pattern, _phantom, _limb, _limb, _limb)
    return makers[rng.integers(len(makers))](rng)


def font(rng: Rng, low: int, high: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font at a random size between ``low`` and ``high`` - 1."""
    return ImageFont.load_default(int(rng.integers(low, high)))


def text(rng: Rng, letters: int) -> str:
    """Random letters, figures and blanks."""
    return "".join(rng.choice(list("abcdefghij klmnopqrstuvwxyz ABCDEFGHI 0123456789.,:-"), letters))


def to_grey(values: npt.NDArray[np.floating]) -> Grey:
    """Any values as uint8, their 0.3 to 99.7 percentiles stretched to 0..255."""
    low, high = np.percentile(values, (0.3, 99.7))
    return (np.clip((values - low) / max(high - low, 1e-6), 0, 1) * 255).astype(np.uint8)


def _shape(rng: Rng) -> tuple[int, int]:
    return int(rng.integers(80, 193)), int(rng.integers(80, 193))


def _noise(rng: Rng) -> Grey:
    """Noise of a 1/f^a spectrum, a from 0 (white) to 3 (clouds), or of single bright points."""
    height, width = _shape(rng)
    white = (
        rng.normal(size=(height, width)) if rng.random() < 0.8 else (rng.random((height, width)) < 0.05).astype(float)
    )
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    spectrum = np.fft.rfft2(white) / np.maximum(frequency, 1 / max(height, width)) ** rng.choice([0, rng.uniform(0, 3)])
    return to_grey(np.fft.irfft2(spectrum, (height, width)))


def _gradient(rng: Rng) -> Grey:
    """A linear or radial gradient, or a blank page with faint noise."""
    height, width = _shape(rng)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    angle, kind = rng.uniform(0, 2 * math.pi), rng.random()
    values = (
        x * math.cos(angle) + y * math.sin(angle)
        if kind < 0.4
        else np.hypot(x - rng.uniform(-1, 1), y - rng.uniform(-1, 1))
    )
    if kind > 0.75:
        values = values * 0
    return to_grey(values + rng.normal(0, rng.choice([0.005, 0.05]), values.shape))


def _canvas(rng: Rng, light: bool) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    height, width = _shape(rng)
    picture = Image.new("L", (width, height), int(rng.integers(215, 256) if light else rng.integers(0, 60)))
    return picture, ImageDraw.Draw(picture)


def _document(rng: Rng) -> Grey:
    """A page of text with headings, rules, tables or a trace."""
    picture, draw = _canvas(rng, light=True)
    y, margin, size = rng.uniform(4, 20), rng.uniform(3, 20), int(rng.integers(5, 12))
    while y < picture.height - size:
        kind = rng.random()
        if kind < 0.75:
            letters = int(rng.uniform(0.3, 1) * (picture.width - 2 * margin) / (size * 0.5)) + 1
            draw.text((margin, y), text(rng, letters), fill=int(rng.integers(0, 90)), font=font(rng, size, size + 2))
        elif kind < 0.85:
            draw.line((margin, y, picture.width - margin, y), fill=60)
        elif kind < 0.95:
            for x in np.arange(margin, picture.width - margin, 22):
                draw.rectangle((x, y, x + 22, y + size + 3), outline=90)
        else:
            trace = [(x, y + size + float(rng.normal(0, size / 2))) for x in range(int(margin), picture.width, 3)]
            draw.line(trace, fill=30)
        y += size * rng.uniform(1.2, 2.2)
    return np.asarray(picture)


def _screen(rng: Rng) -> Grey:
    """Windows, panels, buttons and labels of a user interface."""
    picture, draw = _canvas(rng, light=rng.random() < 0.5)
    for _ in range(rng.integers(4, 30)):
        x, y = rng.uniform(0, 1, 2) * picture.size
        x2, y2 = x + rng.uniform(5, picture.width * 0.7), y + rng.uniform(4, picture.height * 0.5)
        draw.rounded_rectangle(
            (x, y, x2, y2),
            radius=float(rng.choice([0, 3])),
            fill=int(rng.integers(256)),
            outline=int(rng.integers(256)),
        )
        if rng.random() < 0.6:
            draw.text(
                (x + 3, y + 2),
                text(rng, int(rng.integers(3, 18))),
                fill=int(rng.choice([0, 255])),
                font=font(rng, 6, 14),
            )
    return np.asarray(picture)


def _line_art(rng: Rng) -> Grey:
    """Lines, curves and outlines on plain ground."""
    picture, draw = _canvas(rng, light=rng.random() < 0.6)
    for _ in range(rng.integers(2, 25)):
        points = [tuple(point) for point in (rng.uniform(0, 1, (int(rng.integers(2, 6)), 2)) * picture.size).tolist()]
        ink, width = int(rng.integers(256)), int(rng.integers(1, 5))
        if rng.random() < 0.5:
            draw.line(points, fill=ink, width=width)
        else:
            (x1, y1), (x2, y2) = points[0], points[1]
            draw.arc(
                (min(x1, x2), min(y1, y2), max(x1, x2) + 1, max(y1, y2) + 1),
                0,
                float(rng.choice([180, 360])),
                fill=ink,
                width=width,
            )
    return np.asarray(picture)


def _pattern(rng: Rng) -> Grey:
    """Stripes, waves, checkerboards."""
    height, width = _shape(rng)
    y, x = np.mgrid[:height, :width].astype(float)
    angle, period = rng.uniform(0, math.pi), rng.uniform(4, 60)
    u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    values = np.sin(2 * math.pi * u / period) * (np.sin(2 * math.pi * v / period) if rng.random() < 0.5 else 1)
    return to_grey(np.sign(values) if rng.random() < 0.5 else values)


def _phantom(rng: Rng) -> Grey:
    """Overlapping soft or hard ellipses, some in mirrored pairs as lungs would be."""
    height, width = _shape(rng)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    values = np.zeros((height, width))
    for _ in range(rng.integers(1, 9)):
        (cx, cy), (rx, ry) = rng.uniform(-0.8, 0.8, 2), rng.uniform(0.05, 0.7, 2)
        level, soft = rng.uniform(-1, 1), rng.choice([0.02, 0.3])
        for sign in (1, -1) if rng.random() < 0.3 else (1,):
            inside = 1 - np.hypot((x - sign * cx) / rx, (y - cy) / ry)
            values += level / (1 + np.exp(-np.clip(inside / soft, -30, 30)))
    return to_grey(values + rng.normal(0, 0.01, values.shape))


def _limb(rng: Rng) -> Grey:
    """A limb-like radiograph: soft tissue round one or more long bones with dense walls, wider at their ends."""
    height, width = _shape(rng)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    middle, thick = rng.uniform(0.3, 0.7) * width, rng.uniform(0.12, 0.42) * width
    lean = rng.uniform(-0.25, 0.25)
    axis = middle + lean * (y - height / 2) + rng.uniform(-6, 6) * np.sin(y / height * math.pi * rng.uniform(0.5, 2))
    flesh = thick * (
        1 + rng.uniform(-0.4, 0.4) * (y / height - 0.5) + rng.uniform(-0.15, 0.15) * np.sin(y / height * 6)
    )
    values = rng.uniform(0.25, 0.8) * _depth(x - axis, flesh)
    joint = rng.uniform(-0.2, 1.2) * height
    bones = int(rng.choice([1, 1, 2, 2, 3, 4]))
    for bone in range(bones):
        at = axis + thick * (0 if bones == 1 else (bone - (bones - 1) / 2) / bones * 1.5)
        wide = thick / bones * rng.uniform(0.25, 0.5)
        radius = wide * (1 + rng.uniform(0.3, 1.4) * np.exp(-(((y - joint) / (0.12 * height)) ** 2)))
        gap = 1 - rng.uniform(0.5, 1) * np.exp(-(((y - joint) / (0.015 * height)) ** 2))
        wall = _depth(x - at, radius) - rng.uniform(0.5, 0.9) * _depth(x - at, radius * rng.uniform(0.5, 0.8))
        values += rng.uniform(0.4, 1.2) * gap * wall
    texture = cv2.GaussianBlur(rng.normal(0, 1, (height, width)).astype(np.float32), (0, 0), rng.uniform(1, 4))
    values = values * (1 + rng.uniform(0.02, 0.25) * texture) + rng.uniform(0, 0.02) * texture
    if rng.random() < 0.4:
        values[np.abs(x - width / 2) > width * rng.uniform(0.3, 0.48)] = float(rng.choice([0, values.max()]))
    return to_grey(values)


def _depth(distance: Floats, radius: Floats) -> Floats:
    """Path length of a beam through a cylinder, at ``distance`` from its axis, relative to its radius."""
    return np.sqrt(np.clip(1 - (distance / np.maximum(radius, 1)) ** 2, 0, 1)).astype(np.float32)
