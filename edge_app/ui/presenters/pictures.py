"""Stored picture and original of one radiograph in the same grey units, so that one takes the other's place unseen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from edge_app.store.views import Film as Record
from edge_app.ui.film import Film
from edge_app.ui.i18n import Translator
from edge_app.ui.marks import BoxShape
from shared.correction import Correction
from shared.diagnosis import Diagnosis

if TYPE_CHECKING:
    from edge_app.reading import Screened

LOW: Final = 16_384.0
HIGH: Final = 49_024.0
"""Grey units of what is black and white as the radiograph was read; half that range is kept on either side."""


def film(screened: Screened, subject: str, note: str = "") -> Film:
    """A radiograph for the viewer; takes some tens of milliseconds.

    Args:
        screened: the stored picture or the original; both give the same grey units.
        subject, note: as in :class:`edge_app.ui.film.Film`.
    """
    span = max(screened.high - screened.low, 1e-6)
    if screened.pixels.dtype == np.uint8:
        table = _units(np.arange(256, dtype=np.float32), screened.low, span)
        return Film(table.take(screened.pixels), (LOW, HIGH), subject, note)
    return Film(_units(screened.pixels.astype(np.float32), screened.low, span), (LOW, HIGH), subject, note)


def _units(grey: np.ndarray, low: float, span: float) -> np.ndarray:
    return np.clip(LOW + (grey - low) * ((HIGH - LOW) / span), 0, 65_535).astype(np.uint16)


def subject(record: Record, correction: Correction | None) -> str:
    """What names a radiograph as it was read: the same bytes, corrected the same way."""
    return f"{record.sha256} {correction}"


def shapes(diagnosis: Diagnosis | None, tr: Translator) -> tuple[BoxShape, ...]:
    """The boxes of a diagnosis, labelled in the chosen language."""
    if diagnosis is None:
        return ()
    return tuple(
        BoxShape(box.finding, tr.finding(box.finding), box.x, box.y, box.w, box.h, box.source == "activation")
        for box in diagnosis.boxes
    )
