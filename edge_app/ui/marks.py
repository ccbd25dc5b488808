"""Boxes and their labels as rectangles on the screen. Without Kivy; coordinates as in :mod:`edge_app.ui.camera`.

Lines are as thick at any zoom, so a box never hides more than it must. Detector boxes are solid, regions from an
activation map are dashed, as in :mod:`shared.overlay`.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_app.ui.camera import Rect


@dataclass(frozen=True, slots=True)
class BoxShape:
    """One box to draw.

    Attributes:
        finding: key of the vocabulary, by which boxes are hidden.
        label: the finding's name in the language shown.
        x, y, w, h: top left corner and size in fractions of the image.
        dashed: an approximate area, not a detection.
    """

    finding: str
    label: str
    x: float
    y: float
    w: float
    h: float
    dashed: bool = False


def outline(box: Rect, frame: Rect, line: float, dash: float = 0.0) -> list[Rect]:
    """Strokes of a box's edge, as filled rectangles; what lies outside ``frame`` is left out.

    Args:
        box: on the screen.
        frame: the part of the screen that is seen.
        line: thickness, half of it on either side of the edge.
        dash: length of a dash and of the gap after it; 0 draws a solid line. Dashes start at the corners of the box,
            so they move with it.
    """
    left, bottom, right, top = box
    half = line / 2
    strokes: list[Rect] = []
    for y in (bottom, top):
        for start, end in _dashes(left, right, frame[0], frame[2], dash, half):
            strokes.append((start, y - half, end, y + half))
    for x in (left, right):
        for start, end in _dashes(bottom, top, frame[1], frame[3], dash, half):
            strokes.append((x - half, start, x + half, end))
    return [stroke for stroke in strokes if overlap(stroke, frame)]


def grown(strokes: list[Rect], by: float) -> list[Rect]:
    """Strokes thicker and longer by ``by`` on every side: their rim."""
    return [(a - by, b - by, c + by, d + by) for a, b, c, d in strokes]


def place_label(
    box: Rect, size: tuple[float, float], frame: Rect, labels: list[Rect], boxes: list[Rect], gap: float
) -> Rect | None:
    """Where a label goes: above its box, or elsewhere near it where that is outside or hides a label or another box.

    Args:
        box: the label's own box.
        size: width and height of the label.
        frame: the label stays inside it.
        labels: places taken by other labels; never covered.
        boxes: the other boxes; covered only where there is no other place.
        gap: free space between a box and its label.

    Returns:
        Its place; None where the box is out of sight, or every place is taken.
    """
    if not overlap(box, frame):
        return None
    width, height = size
    step = height + gap
    above, below, inside = box[3] + gap, box[1] - step, min(box[3], frame[3]) - step
    sides = [(box[0], above), (box[2] - width, above), (box[0], below), (box[2] - width, below)]
    sides += [
        (box[2] + gap, inside),
        (box[0] - width - gap, inside),
        (box[2] + gap, box[1]),
        (box[0] - width - gap, box[1]),
    ]
    further = [(box[0], y) for n in (1, 2) for y in (above + step * n, below - step * n)]
    within = [(box[0], inside - step * n) for n in range(12)]
    most = max(frame[2] - width, frame[0])
    corners = [(min(max(x, frame[0]), most), y) for x, y in sides + further + within]
    places = [(x, y, x + width, y + height) for x, y in corners if frame[1] <= y <= frame[3] - height]
    free = [place for place in places if not any(overlap(place, taken) for taken in labels)]
    clear = [place for place in free if not any(overlap(place, other) for other in [box, *boxes])]
    return next(iter(clear or free), None)


def overlap(one: Rect, other: Rect) -> bool:
    """Whether two rectangles share some area."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _dashes(start: float, end: float, low: float, high: float, dash: float, half: float) -> list[tuple[float, float]]:
    """Pieces of a side from ``start`` to ``end`` that reach into ``low..high``."""
    if dash <= 0:
        return [(max(start - half, low - half), min(end + half, high + half))]
    first = max(0, int((low - start) / (2 * dash)))
    pieces = []
    at = start + first * 2 * dash
    while at < min(end, high):
        pieces.append((at, min(at + dash, end)))
        at += 2 * dash
    return pieces
