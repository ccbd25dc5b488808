"""Samples that teach the gate: transformed radiographs with labels, and things that are not chest radiographs.

Every sample passes through :func:`shared.preprocess.model_image` after its transformation, as a real image would. All
randomness comes from the generator given.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image, ImageDraw
from tqdm import tqdm

from shared.preprocess import model_image
from training.gate_drawings import drawing, font, text, to_grey
from training.gate_material import Grey, Part, Picture, kept_size, part_of
from training.images import ImageReader
from training.tables import Table

Rng = np.random.Generator
Item = TypeVar("Item")

EXCEPTIONS = Path(__file__).parent / "gate_exceptions.csv"
"""Images of the development data found by eye not to be upright frontal chest radiographs: ``set``, ``image``, ``what``
(lateral, abdomen, inverted, rotated_90, rotated_180, rotated_270)."""
OTHER_VIEWS = frozenset({"lateral", "abdomen"})
UNKNOWN = -1
LABELS = ("chest", "turn", "inverted", "cut_off")
"""Labels of a sample, int8 ``[4]``: 1, 0 or -1 for unknown; ``turn`` counts quarter turns clockwise, 0..3."""
NOT_CHEST = np.array([0, UNKNOWN, UNKNOWN, UNKNOWN], np.int8)


@dataclass(frozen=True)
class Counts:
    """How many samples of each kind to make at which side, and the medical share of the pictures."""

    side: int
    radiographs: int
    other_views: int
    broken: int
    pictures: int
    made_up: int
    medical_share: float


@dataclass(frozen=True)
class Samples:
    """Squares uint8 ``[N, side, side]`` and labels int8 ``[N, 4]`` (:data:`LABELS`)."""

    pixels: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int8]


class Material:
    """Radiographs and pictures of one part (training, validation or test), in memory, to draw samples from.

    Attributes:
        radiographs: image set -> its frontal chest radiographs, longer side at most 256.
        other_views: radiographs of other views or body parts found among them (:data:`EXCEPTIONS`).
        pictures: medical or not -> identity -> its pictures.
    """

    def __init__(self, data: Path, table: Table, pictures: list[Picture], part: Part) -> None:
        reader = ImageReader(data, table.rows["set"])
        rows = table.rows[["set", "image"]].itertuples(index=False)
        exceptions = load_exceptions()
        self.radiographs: dict[str, list[Grey]] = defaultdict(list)
        self.other_views: list[Grey] = []
        for image_set, name in tqdm(rows, total=len(table), desc=f"read {part}", unit="img", mininterval=5):
            grey = kept_size(reader.grey(image_set, name))
            what = exceptions.get((image_set, name))
            if what is None:
                self.radiographs[image_set].append(grey)
            elif what in OTHER_VIEWS:
                self.other_views.append(grey)
        self.pictures: dict[bool, dict[str, list[Grey]]] = {True: defaultdict(list), False: defaultdict(list)}
        for picture in pictures:
            if part_of(picture.identity) == part:
                self.pictures[picture.medical][picture.identity].append(picture.grey)

    def radiograph(self, rng: Rng) -> Grey:
        """One frontal chest radiograph, every set equally likely."""
        return pick(pick(list(self.radiographs.values()), rng), rng)

    def picture(self, rng: Rng, medical_share: float) -> Grey:
        """One picture, every identity equally likely within its kind."""
        return pick(pick(list(self.pictures[bool(rng.random() < medical_share)].values()), rng), rng)

    def samples(self, counts: Counts, share: float, seed: int) -> Samples:
        """``share`` of the counts of every kind."""
        rng, side = np.random.default_rng(seed), counts.side
        kinds: tuple[tuple[str, int, Callable[[], Grey]], ...] = (
            ("other views", counts.other_views, lambda: other_view_sample(pick(self.other_views, rng), rng, side)),
            ("broken", counts.broken, lambda: broken_radiograph_sample(self.radiograph(rng), rng, side)),
            ("pictures", counts.pictures, lambda: picture_sample(self.picture(rng, counts.medical_share), rng, side)),
            ("made up", counts.made_up, lambda: made_up_sample(rng, side)),
        )
        drawn = [
            radiograph_sample(self.radiograph(rng), rng, side)
            for _ in tqdm(range(round(counts.radiographs * share)), desc="radiographs", mininterval=5)
        ]
        for name, number, make in kinds:
            if name == "other views" and not self.other_views:
                continue
            drawn += [(make(), NOT_CHEST) for _ in tqdm(range(round(number * share)), desc=name, mininterval=5)]
        return Samples(np.stack([pixels for pixels, _ in drawn]), np.stack([label for _, label in drawn]))


def load_exceptions() -> dict[tuple[str, str], str]:
    """(set, image) -> what it is, of :data:`EXCEPTIONS`."""
    rows = pd.read_csv(EXCEPTIONS)
    return {(row.set, row.image): row.what for row in rows.itertuples(index=False)}


def pick(items: list[Item], rng: Rng) -> Item:
    """One of ``items``."""
    return items[rng.integers(len(items))]


def square(pixels: Grey, side: int) -> Grey:
    """``pixels`` as the gate sees them, uint8 ``[side, side]``."""
    return np.round(model_image(np.ascontiguousarray(pixels), side)[0] * 255).astype(np.uint8)


def radiograph_sample(grey: Grey, rng: Rng, side: int) -> tuple[Grey, npt.NDArray[np.int8]]:
    """A frontal chest radiograph, perhaps cut, inverted or turned, always a little disturbed, with its labels."""
    cropped, chest, cut_off = _cropped(grey, rng)
    angle = rng.choice([0.0, rng.normal(0, 4), rng.uniform(-30, 30)], p=[0.35, 0.5, 0.15])
    if abs(angle) > 12 and cut_off == 0:
        cut_off = UNKNOWN
    image = _tilted(cropped, angle, rng)
    if rng.random() < 0.1:
        image = _sharpened(image, rng)
    image = _disturbed(image, rng)
    if rng.random() < 0.12:
        image, cut_off = _badly_exposed(image, rng), UNKNOWN
    if rng.random() < 0.35:
        image = _annotated(image, rng)
    inverted, early = rng.random() < 0.25, rng.random() < 0.5
    if inverted and early:
        image = 255 - image
    if rng.random() < 0.35:
        image = _bordered(image, rng)
    if inverted and not early:
        image = 255 - image
    turn = int(rng.integers(1, 4)) if rng.random() < 0.45 else 0
    image = np.rot90(image, -turn)
    return square(image, side), np.array([chest, turn, inverted, cut_off], np.int8)


def broken_radiograph_sample(grey: Grey, rng: Rng, side: int) -> Grey:
    """Something made of a radiograph that no longer shows a chest: a small tile, shuffled blocks, noise..."""
    breaks: tuple[Callable[[Grey, Rng], Grey], ...] = (
        _tile,
        _tile,
        _tile,
        _shuffled,
        _scrambled,
        _doubled,
        _swirled,
        _squeezed,
    )
    image = _disturbed(breaks[rng.integers(len(breaks))](grey, rng), rng)
    return square(_any_way_up(image, rng), side)


def other_view_sample(grey: Grey, rng: Rng, side: int) -> Grey:
    """A radiograph of another view or body part, any way up."""
    height, width = grey.shape
    left, right, top, bottom = rng.uniform(0, 0.12, 4) * (width, width, height, height)
    image = grey[round(top) : height - round(bottom), round(left) : width - round(right)]
    image = _disturbed(_tilted(image, rng.normal(0, 5), rng), rng)
    return square(_any_way_up(image, rng), side)


def picture_sample(grey: Grey, rng: Rng, side: int) -> Grey:
    """A picture, whole or a crop of it, any way up, positive or negative, perhaps framed."""
    image = grey
    if rng.random() < 0.7:
        height, width = (max(32, int(length * rng.uniform(0.35, 1))) for length in grey.shape)
        height, width = min(height, grey.shape[0]), min(width, grey.shape[1])
        top, left = rng.integers(grey.shape[0] - height + 1), rng.integers(grey.shape[1] - width + 1)
        image = grey[top : top + height, left : left + width]
    image = _disturbed(image, rng)
    return square(_any_way_up(image, rng), side)


def made_up_sample(rng: Rng, side: int) -> Grey:
    """A drawn or computed image (:mod:`training.gate_drawings`), any way up, perhaps framed."""
    return square(_any_way_up(_disturbed(drawing(rng), rng), rng), side)


def _any_way_up(image: Grey, rng: Rng) -> Grey:
    if rng.random() < 0.25:
        image = 255 - image
    if rng.random() < 0.25:
        image = _bordered(image, rng)
    image = np.rot90(image, int(rng.integers(4)))
    return image[:, ::-1] if rng.random() < 0.5 else image


def _cropped(grey: Grey, rng: Rng) -> tuple[Grey, int, int]:
    """A window of the radiograph, and whether it still is a chest and is cut off (1, 0 or unknown)."""
    draw = rng.random()
    if draw < 0.6:
        lost, chest, cut_off = rng.uniform(0, 0.06, 4), 1, 0
    elif draw < 0.75:
        lost, chest, cut_off = rng.uniform(0, 0.14, 4), 1, UNKNOWN
    elif draw < 0.87:
        lost, edge, most = rng.uniform(0, 0.1, 4), int(rng.integers(4)), rng.uniform(0.28, 0.5)
        lost[edge] = most
        chest, cut_off = (UNKNOWN if edge < 2 and most > 0.4 else 1), 1
    else:
        kept = rng.uniform(0.4, 0.7)
        across, down = rng.uniform(0.1, 0.9, 2) * (1 - kept)
        lost = np.array([across, 1 - kept - across, down, 1 - kept - down])
        chest, cut_off = (1 if kept > 0.52 else UNKNOWN), 1
    height, width = grey.shape
    left, right = round(lost[0] * width), width - round(lost[1] * width)
    top, bottom = round(lost[2] * height), height - round(lost[3] * height)
    return grey[top:bottom, left:right], chest, cut_off


def _tilted(image: Grey, angle: float, rng: Rng) -> Grey:
    """Mirrored or not, turned by ``angle`` degrees, aspect changed by up to 12 %, seen slightly from the side."""
    if rng.random() < 0.5:
        image = image[:, ::-1]
    height, width = image.shape
    out_width = round(width * math.exp(rng.uniform(-0.12, 0.12)))
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0)
    matrix = np.vstack([turn, [0, 0, 1]])
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    if rng.random() < 0.3:
        seen = corners + rng.uniform(-0.04, 0.04, (4, 2)).astype(np.float32) * [width, height]
        matrix = cv2.getPerspectiveTransform(corners, seen.astype(np.float32)) @ matrix
    matrix = np.diag([out_width / width, 1, 1]) @ matrix
    fill = cv2.BORDER_CONSTANT if rng.random() < 0.7 else cv2.BORDER_REPLICATE
    return cv2.warpPerspective(np.ascontiguousarray(image), matrix, (out_width, height), borderMode=fill).astype(
        np.uint8
    )


def _disturbed(image: Grey, rng: Rng) -> Grey:
    """Other exposure and display window, blur, noise."""
    grey = np.arange(256, dtype=np.float32) / 255
    grey = grey ** math.exp(rng.normal(0, 0.25))
    if rng.random() < 0.3:
        low, high = rng.uniform(-0.05, 0.2), rng.uniform(0.8, 1.05)
        grey = (grey - low) / (high - low)
    image = (np.clip(grey, 0, 1) * 255).astype(np.uint8)[image]
    if rng.random() < 0.25:
        image = cv2.GaussianBlur(np.ascontiguousarray(image), (0, 0), rng.uniform(0.4, 1.6)).astype(np.uint8)
    if rng.random() < 0.3:
        noisy = image + rng.normal(0, rng.uniform(1, 12), image.shape)
        image = np.clip(noisy, 0, 255).astype(np.uint8)
    return image


def _badly_exposed(image: Grey, rng: Rng) -> Grey:
    """Far too dark or too white, with detail lost at one end; as it was where too little would be left to see."""
    grey = (np.arange(256, dtype=np.float32) / 255) ** math.exp(rng.uniform(-1.4, 1.4))
    grey = (grey + rng.uniform(-0.45, 0.35)) * math.exp(rng.uniform(-0.2, 0.9))
    spoilt = (np.clip(grey, 0, 1) * 255).astype(np.uint8)[image]
    return spoilt if ((spoilt > 0) & (spoilt < 255)).mean() > 0.4 else image


def _sharpened(image: Grey, rng: Rng) -> Grey:
    """Edges enhanced by unsharp masking, up to the relief-like look of some makers' processing."""
    smooth = cv2.GaussianBlur(image, (0, 0), rng.uniform(2, 14)).astype(np.float32)
    amount = rng.uniform(0.5, 4)
    sharpened = (image - smooth) * amount + smooth * rng.uniform(0.2, 1) + rng.uniform(0, 60)
    return np.clip(sharpened, 0, 255).astype(np.uint8)


def _annotated(image: Grey, rng: Rng) -> Grey:
    """Side markers, text, blacked-out or white boxes near the borders, as on real radiographs."""
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    for _ in range(rng.integers(1, 5)):
        x, y = (
            rng.uniform(0, 0.9) * picture.width,
            float(rng.choice([rng.uniform(0, 0.15), rng.uniform(0.85, 0.97)])) * picture.height,
        )
        ink = int(rng.choice([0, 200, 255]))
        if rng.random() < 0.3:
            draw.rectangle((x, y, x + rng.uniform(5, 50), y + rng.uniform(3, 20)), fill=ink)
        else:
            draw.text((x, y), text(rng, int(rng.choice([1, 1, 6, 14]))), fill=ink, font=font(rng, 6, 26))
    return np.asarray(picture)


def _bordered(image: Grey, rng: Rng) -> Grey:
    """A frame of one grey, wider on some sides: collimation, a film's edge, a viewer's letterbox."""
    height, width = image.shape
    amount = rng.uniform(0, 0.18, 4) * (rng.random(4) < 0.6)
    if rng.random() < 0.2:
        amount[:2] = rng.uniform(0.1, 0.45)
    top, bottom = round(amount[2] * height), round(amount[3] * height)
    left, right = round(amount[0] * width), round(amount[1] * width)
    ink = int(rng.choice([0, 0, 0, 255, int(rng.integers(256))]))
    return np.pad(image, ((top, bottom), (left, right)), constant_values=ink)


def _tile(grey: Grey, rng: Rng) -> Grey:
    """A part of at most 30 % of each side: a shoulder, a few ribs, a flank."""
    height, width = (max(12, int(length * rng.uniform(0.15, 0.3))) for length in grey.shape)
    top, left = rng.integers(grey.shape[0] - height + 1), rng.integers(grey.shape[1] - width + 1)
    tile = grey[top : top + height, left : left + width]
    return cv2.resize(np.ascontiguousarray(tile), None, fx=2.5, fy=2.5, interpolation=cv2.INTER_CUBIC).astype(np.uint8)


def _shuffled(grey: Grey, rng: Rng) -> Grey:
    """Blocks of a 2 x 2 to 6 x 6 grid in another order."""
    number = int(rng.integers(2, 7))
    whole = cv2.resize(np.ascontiguousarray(grey), (192 // number * number,) * 2)
    block = whole.shape[0] // number
    blocks = whole.reshape(number, block, number, block).swapaxes(1, 2).reshape(-1, block, block)
    order = rng.permutation(len(blocks))
    while (order == np.arange(len(order))).mean() > 0.3:
        order = rng.permutation(len(blocks))
    mixed = blocks[order].reshape(number, number, block, block).swapaxes(1, 2)
    return mixed.reshape(whole.shape).astype(np.uint8)


def _scrambled(grey: Grey, rng: Rng) -> Grey:
    """The same amplitude spectrum with the phase of noise."""
    spectrum = np.abs(np.fft.rfft2(grey.astype(np.float32)))
    phase = np.angle(np.fft.rfft2(rng.normal(size=grey.shape)))
    return to_grey(np.fft.irfft2(spectrum * np.exp(1j * phase), grey.shape))


def _doubled(grey: Grey, rng: Rng) -> Grey:
    """One half of the radiograph twice: mirrored at the middle or repeated, one above the other."""
    half = grey[: grey.shape[0] // 2] if rng.random() < 0.5 else grey[grey.shape[0] // 2 :]
    return np.vstack([half, half[::-1] if rng.random() < 0.6 else half])


def _swirled(grey: Grey, rng: Rng) -> Grey:
    """Turned about its centre by more than half a turn in the middle and not at all at the border."""
    height, width = grey.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    dx, dy = (x - width / 2) / width, (y - height / 2) / height
    angle = rng.choice([-1, 1]) * rng.uniform(3.5, 8) * np.exp(-(dx**2 + dy**2) * 8)
    new_x = (dx * np.cos(angle) - dy * np.sin(angle)) * width + width / 2
    new_y = (dx * np.sin(angle) + dy * np.cos(angle)) * height + height / 2
    return cv2.remap(grey, new_x.astype(np.float32), new_y.astype(np.float32), cv2.INTER_LINEAR).astype(np.uint8)


def _squeezed(grey: Grey, rng: Rng) -> Grey:
    """Squeezed to a third or less of its width or height."""
    long, short = 200, int(rng.uniform(24, 66))
    return cv2.resize(np.ascontiguousarray(grey), (long, short) if rng.random() < 0.5 else (short, long)).astype(
        np.uint8
    )
