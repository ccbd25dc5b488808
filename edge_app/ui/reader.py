"""What the window's worker runs: decode, diagnose, draw, with the real models."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from shared.diagnosis import Diagnoser, Diagnosis
from shared.overlay import Language, draw
from shared.prevalence import SitePrevalence
from shared.radiograph import Radiograph, load_radiograph, warm_up
from shared.release import default_release, load_release

SCREEN_SIDE = 2048
"""Longest side of the picture in pixels: more than a tablet shows, within what every GPU's texture takes."""


class Reader:
    """The models of one release, loaded by the first call that needs them. For one thread at a time.

    Args:
        release: folder of the release; None means the installed one.
        prevalence: states probabilities at a site's own prevalences; None means at the release's.
    """

    def __init__(self, release: Path | None, prevalence: SitePrevalence | None = None) -> None:
        self._folder = release
        self._prevalence = prevalence
        self._diagnoser: Diagnoser | None = None

    def warm_up(self) -> None:
        """Start the decoder and load the models.

        Raises:
            RadiographError: the decoder cannot be started.
            ReleaseError: the release is missing or not to be trusted.
            RuntimeUnavailable: nothing installed can run it.
        """
        warm_up()
        self._models()

    def load(self, path: Path) -> Radiograph:
        """Decode a file; raises ``RadiographError``."""
        return load_radiograph(path)

    def diagnose(self, radiograph: Radiograph, force: bool) -> Diagnosis:
        """Diagnose a radiograph; raises as :meth:`warm_up`."""
        return self._models().diagnose(radiograph, force)

    def draw(self, radiograph: Radiograph, diagnosis: Diagnosis, language: Language) -> Image.Image:
        """The boxed radiograph as RGB, its longest side at most :data:`SCREEN_SIDE`."""
        picture = draw(radiograph, diagnosis, language)
        picture.thumbnail((SCREEN_SIDE, SCREEN_SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
        return picture

    def _models(self) -> Diagnoser:
        if self._diagnoser is None:
            release = load_release(self._folder or default_release())
            self._diagnoser = Diagnoser(release, prevalence=self._prevalence)
        return self._diagnoser
