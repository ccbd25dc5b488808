"""From the bytes of one radiograph to everything that is kept of its reading."""

from __future__ import annotations

import io
import logging
import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from edge_app.releases import ReleaseShelf
from shared.correction import Correction
from shared.diagnosis import Diagnoser, Diagnosis
from shared.errors import FirstRayError, RadiographError
from shared.hospital import PREVIEW_BYTES
from shared.overlay import Language, grey8, mark
from shared.preprocess import grey_range
from shared.prevalence import SitePrevalence
from shared.radiograph import ERRORS as RADIOGRAPH_ERRORS
from shared.radiograph import Radiograph, decode_radiograph, warm_up
from shared.release import default_release, load_release

log = logging.getLogger(__name__)

PICTURE_SIDE: Final = 2048
"""Longest side of the display picture in pixels: more than a tablet shows."""
PREVIEW_SIDES: Final = (1024, 768, 512)
"""Longest sides of the preview, tried in this order until one is small enough."""
PREVIEW_QUALITIES: Final = (70, 40)
THREADS: Final = max(1, min(4, (os.cpu_count() or 1) - 1))
"""Threads of a model: one core is left to the screen."""
SAMPLED_SIDE: Final = 400
"""Grey levels are measured on about this many pixels a side, as :mod:`shared.overlay` does."""


ERRORS: Final[dict[str, tuple[str, str]]] = {
    **RADIOGRAPH_ERRORS,
    "internal_error": (
        "FirstRay met an error of its own and could not read this radiograph.",
        "Open it again. If that does not help, decide without FirstRay and report it.",
    ),
    "reading_crashed": (
        "Reading this radiograph ended FirstRay twice; it is kept, but not read again by itself.",
        "Decide without FirstRay and report it. The image is sent to the hospital all the same.",
    ),
}
"""Every code that a stored reading can have as its error: (what happened, what to do next)."""


@dataclass(frozen=True, slots=True, eq=False)
class Screened:
    """A radiograph as a screen shows it.

    Attributes:
        pixels: [H, W], uint8 or uint16, high is bright.
        low, high: grey values shown black and white unless the viewer is set otherwise.
    """

    pixels: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """The outcome of one reading.

    Attributes:
        radiograph: as decoded and corrected; None where the bytes could not be decoded.
        diagnosis: None exactly where there is an ``error``.
        error: code of what stopped it.
        picture: greyscale JPEG for the screen, at most :data:`PICTURE_SIDE` pixels a side; None without a radiograph.
        preview: JPEG with the boxes drawn, smaller than ``PREVIEW_BYTES``; None without a diagnosis.
    """

    radiograph: Radiograph | None
    diagnosis: Diagnosis | None
    error: str | None
    picture: bytes | None
    preview: bytes | None


class FilmReader:
    """The models of one release, loaded by the first call that needs them. For one thread at a time.

    Args:
        release: folder of the release; None means the installed one.
        prevalence: states probabilities at a site's own prevalences; None means at the release's.
        shelf: what the hospital sent, which goes before the one installed with the program; not before ``release``.
    """

    def __init__(
        self,
        release: Path | None = None,
        prevalence: SitePrevalence | None = None,
        shelf: ReleaseShelf | None = None,
    ) -> None:
        self._folder = release
        self._shelf = shelf
        self._prevalence = prevalence
        self._diagnoser: Diagnoser | None = None

    def load(self) -> Diagnoser:
        """Start the decoder and load the models.

        Raises:
            RadiographError: the decoder cannot be started.
            ReleaseError: the release is missing or not to be trusted.
            RuntimeUnavailable: nothing installed can run it.
        """
        if self._diagnoser is None:
            warm_up()
            self._diagnoser = self._opened()
        return self._diagnoser

    def renew(self) -> Diagnoser:
        """Load the models anew, as after another release was installed; the old ones stay where that fails.

        Raises:
            ReleaseError, RuntimeUnavailable: as :meth:`load`.
        """
        self._diagnoser = self._opened()
        return self._diagnoser

    def _opened(self) -> Diagnoser:
        if self._folder is None and self._shelf is not None:
            return self._shelf.load(self._made)
        return self._made(self._folder or default_release())

    def _made(self, folder: Path) -> Diagnoser:
        return Diagnoser(load_release(folder), threads=THREADS, prevalence=self._prevalence)

    def read(
        self,
        data: bytes,
        *,
        overridden: bool = False,
        correction: Correction | None = None,
        language: Language = "en",
        drawn: Callable[[Screened], None] = lambda _: None,
        found: Callable[[Diagnosis], None] = lambda _: None,
    ) -> Reading:
        """Decode, correct where asked, diagnose and draw; a file that cannot be read is an outcome, not an error.

        Args:
            data: the file's bytes.
            overridden: diagnose in spite of the gate's refusal.
            correction: to apply first.
            language: of the labels on the preview.
            drawn: called with the display picture before the models are asked, so that it can be looked at meanwhile.
            found: called with the diagnosis before pictures are made of it, for nobody should wait for those.

        Raises:
            ReleaseError, RuntimeUnavailable: the models cannot be used; the film was not looked at.
        """
        diagnoser = self.load()
        try:
            radiograph = decode_radiograph(data)
        except RadiographError as error:
            return Reading(None, None, error.code, None, None)
        if correction:
            radiograph = radiograph.corrected(correction)
        try:
            picture = _shrunk(grey8(radiograph), PICTURE_SIDE)
            drawn(Screened(np.asarray(picture), 0.0, 255.0))
            diagnosis = diagnoser.diagnose(radiograph, force=overridden)
            found(diagnosis)
            return Reading(radiograph, diagnosis, None, _jpeg(picture, 95), preview(picture, diagnosis, language))
        except FirstRayError:
            raise
        except Exception as error:  # noqa: BLE001  one film must not stop the others; it is kept with this code
            place = "".join(traceback.format_tb(error.__traceback__))
            log.error("Reading a radiograph failed: %s\n%s", type(error).__name__, place)  # its text may name a patient
            return Reading(radiograph, None, "internal_error", None, None)


def preview(picture: Image.Image, diagnosis: Diagnosis, language: Language) -> bytes:
    """A JPEG below ``PREVIEW_BYTES`` of a grey picture, with the boxes drawn on it."""
    for side in PREVIEW_SIDES:
        drawn = mark(_shrunk(picture, side).convert("RGB"), diagnosis, language)
        for quality in PREVIEW_QUALITIES:
            if len(data := _jpeg(drawn, quality)) < PREVIEW_BYTES:
                return data
    return data


def screened(radiograph: Radiograph) -> Screened:
    """The decoded radiograph with the grey window that the models and the display picture use."""
    step = max(1, max(radiograph.pixels.shape) // SAMPLED_SIDE)
    low, high = grey_range(radiograph.pixels[::step, ::step].astype(np.float32))
    return Screened(radiograph.pixels, float(low), float(high))


def screened_picture(picture: bytes) -> Screened:
    """A stored display picture; its grey levels are those of the screen already."""
    return Screened(np.asarray(Image.open(io.BytesIO(picture)).convert("L")), 0.0, 255.0)


def _shrunk(image: Image.Image, side: int) -> Image.Image:
    shrunk = image.copy()
    shrunk.thumbnail((side, side), Image.Resampling.BILINEAR, reducing_gap=1.0)
    return shrunk


def _jpeg(image: Image.Image, quality: int) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()
