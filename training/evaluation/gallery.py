"""Thumbnails of the films a release was most wrong about: readers' boxes green, drawn boxes red."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from shared.boxes import Box
from shared.findings import BY_KEY, KEYS
from shared.preprocess import Letterbox, grey_range, resampling_source, shrink, stretch
from shared.radiograph import load_radiograph
from training.evaluation.evaluate import Evaluation, Failure

SIDE = 300
RED, GREEN = (255, 48, 48), (40, 200, 110)
DASH = 6


@dataclass(frozen=True)
class Picture:
    """One failure as the report shows it: the thumbnail as a data URI and what to write under it."""

    uri: str
    kind: str
    image: str
    finding: str
    probability: float
    threshold: float
    truth: str
    shown: str


def pictures(evaluation: Evaluation) -> list[Picture]:
    """A picture of each failure of the evaluation, decoded anew."""
    return [_picture(evaluation, failure) for failure in evaluation.failures]


def _picture(evaluation: Evaluation, failure: Failure) -> Picture:
    films, diagnosis = evaluation.films, evaluation.answers.diagnoses[failure.row]
    labels = films.table.labels[failure.row]
    there = [BY_KEY[key].english for n, key in enumerate(KEYS) if labels[n] == 1]
    return Picture(
        uri=thumbnail(evaluation, failure),
        kind=failure.kind,
        image=films.table.rows.at[failure.row, "image"],
        finding=BY_KEY[failure.finding].english,
        probability=failure.probability,
        threshold=failure.threshold,
        truth=", ".join(there) or "none of the 13",
        shown=", ".join(BY_KEY[ranked.finding].english for ranked in diagnosis.top3),
    )


def thumbnail(evaluation: Evaluation, failure: Failure) -> str:
    """The film with the boxes of the failure's finding, as a JPEG data URI."""
    radiograph = load_radiograph(evaluation.films.path(failure.row))
    source = resampling_source(radiograph.pixels)
    small = shrink(source, Letterbox.fit(source.width, source.height, SIDE))
    grey = np.round(stretch(small, *grey_range(small)) * 255).astype(np.uint8)
    image = Image.fromarray(grey).convert("RGB")
    pen = ImageDraw.Draw(image)
    drawn = evaluation.films.truth.boxes[failure.row]
    for corners in drawn.corners[drawn.finding == KEYS.index(failure.finding)]:
        pen.rectangle(_pixels(corners.tolist(), image), outline=GREEN, width=2)
    boxes = evaluation.answers.diagnoses[failure.row].boxes
    for box in boxes:
        if box.finding == failure.finding:
            _outline(pen, image, box)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _pixels(corners: list[float], image: Image.Image) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = corners
    width, height = image.width - 1, image.height - 1
    return x1 * width, y1 * height, x2 * width, y2 * height


def _outline(pen: ImageDraw.ImageDraw, image: Image.Image, box: Box) -> None:
    x1, y1, x2, y2 = _pixels([box.x, box.y, box.x + box.w, box.y + box.h], image)
    if box.source == "detector":
        pen.rectangle((x1, y1, x2, y2), outline=RED, width=2)
        return
    for start in np.arange(x1, x2, 2 * DASH):
        end = min(start + DASH, x2)
        pen.line((start, y1, end, y1), fill=RED, width=2)
        pen.line((start, y2, end, y2), fill=RED, width=2)
    for start in np.arange(y1, y2, 2 * DASH):
        end = min(start + DASH, y2)
        pen.line((x1, start, x1, end), fill=RED, width=2)
        pen.line((x2, start, x2, end), fill=RED, width=2)
