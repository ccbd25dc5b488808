"""The models a reader process works with: full precision, loaded once, the two releases used last."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import numpy as np

from shared.diagnosis import Diagnoser
from shared.radiograph import Radiograph, View
from sync_server.domain import releases
from sync_server.hospital import Hospital

KEPT: Final = 2
_SIDE: Final = 512


class Models:
    """Opens releases by their id.

    Args:
        hospital: whose.
        threads: of each model.
    """

    def __init__(self, hospital: Hospital, threads: int) -> None:
        self._hospital = hospital
        self._threads = threads
        self._opened: OrderedDict[str, Diagnoser] = OrderedDict()

    def open(self, release: str) -> Diagnoser:
        """The release's fp32 models: on CUDA with TF32 off where there is one, else on the CPU.

        Raises:
            FirstRayError: the release is unknown, altered or cannot be run here.
        """
        if release not in self._opened:
            found = releases.fetched(self._hospital, release)
            self._opened[release] = Diagnoser(found, precision="fp32", runtime="onnx", threads=self._threads)
            while len(self._opened) > KEPT:
                self._opened.popitem(last=False)
        self._opened.move_to_end(release)
        return self._opened[release]


def check_up(diagnoser: Diagnoser) -> None:
    """Read a made-up picture: raises whatever keeps the models from working on any."""
    rows, columns = np.mgrid[0:_SIDE, 0:_SIDE].astype(np.float32) / _SIDE
    grey = (255 * (0.5 + 0.5 * np.sin(12 * rows) * np.cos(9 * columns))).astype(np.uint8)
    picture = Radiograph(
        pixels=grey,
        bits=8,
        source_format="png",
        sha256="0" * 64,
        pixel_spacing_mm=None,
        view=View.UNKNOWN,
        laterality=None,
        modality=None,
        body_part=None,
        photometric="MONOCHROME2",
    )
    diagnoser.diagnose(picture, force=True)
