"""Radiographs as a browser can show them: made once from the original, then kept beside the server's other files.

A display image is an 8-bit grey JPEG of at most :data:`SIDE` pixels a side, its greys stretched as the models see them,
turned and inverted as the diagnosis says, so that boxes lie where they belong.
"""

from __future__ import annotations

import os
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Final

from PIL import Image

from shared.correction import Correction
from shared.overlay import grey8
from shared.radiograph import decode_radiograph

if TYPE_CHECKING:
    from sync_server.hospital import Hospital

SIDE: Final = 2048
QUALITY: Final = 92
_AT_ONCE: Final = threading.Semaphore(2)
"""A decoded radiograph takes some 100 MB."""


def display_image(hospital: Hospital, sha256: str, correction: Correction | None = None) -> Path:
    """The file of a held original's display image.

    Raises:
        RadiographError: the original cannot be read.
        FirstRayError: ``image_not_held``, ``image_store_failing``.
    """
    correction = correction or Correction()
    file = _file(hospital.settings.data, sha256, correction)
    if file.is_file():
        return file
    with _AT_ONCE:
        if not file.is_file():
            with hospital.images.open(sha256) as original:
                data = original.read()
            _draw(data, correction, file)
    return file


def forget(data: Path, sha256: str) -> None:
    """Remove the display images of an original that is purged."""
    for file in _folder(data, sha256).glob(f"{sha256}-*.jpg"):
        file.unlink(missing_ok=True)


def _draw(data: bytes, correction: Correction, file: Path) -> None:
    radiograph = decode_radiograph(data)
    image = grey8(radiograph.corrected(correction) if correction else radiograph)
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = file.with_name(f".{uuid.uuid4().hex}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
            image.save(opened, "JPEG", quality=QUALITY)
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


def _folder(data: Path, sha256: str) -> Path:
    return data / "display" / sha256[:2]


def _file(data: Path, sha256: str, correction: Correction) -> Path:
    return _folder(data, sha256) / f"{sha256}-{correction.quarter_turns}{'i' if correction.invert else ''}.jpg"
