"""Radiographs as a browser can show them: made once from the original, then kept beside the server's other files.

A display image is an 8-bit grey JPEG of at most :data:`SIDE` pixels a side, its greys stretched as the models see them,
turned and inverted as the diagnosis says, so that boxes lie where they belong.
"""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Final

from PIL import Image
from sqlmodel import col, select

from shared.correction import Correction
from shared.overlay import grey8
from shared.radiograph import decode_radiograph
from sync_server.db.tables import ImageRow

if TYPE_CHECKING:
    from sync_server.hospital import Hospital

SIDE: Final = 2048
QUALITY: Final = 92
DRAFT_S: Final = 3600.0
"""A draft that nobody has finished for so long is left over."""


def display_image(hospital: Hospital, sha256: str, correction: Correction | None = None) -> Path:
    """The file of a held original's display image; drawing one takes some 100 MB, and seconds.

    Raises:
        RadiographError: the original cannot be read.
        FirstRayError: ``image_not_held``, ``image_store_failing``.
    """
    correction = correction or Correction()
    file = _file(hospital.settings.data, sha256, correction)
    if not file.is_file():
        _draw(hospital.images.read(sha256), correction, file)
    return file


def drawn(hospital: Hospital, sha256: str, correction: Correction) -> Path | None:
    """The file of a display image that was drawn before."""
    file = _file(hospital.settings.data, sha256, correction)
    return file if file.is_file() else None


def forget(data: Path, sha256: str) -> None:
    """Remove the display images of an original that is purged."""
    for file in _folder(data, sha256).glob(f"{sha256}-*.jpg"):
        file.unlink(missing_ok=True)


def sweep(hospital: Hospital) -> int:
    """Remove display images of originals that the hospital holds no longer, and drafts that a crash left behind.

    Each server has display images of its own; the one that purges an original knows only these. Gives how many files
    were removed.
    """
    removed = 0
    for folder in (hospital.settings.data / "display").glob("*/"):
        files = [file for file in folder.iterdir() if not file.name.startswith(".")]
        drawn = {file.name.partition("-")[0] for file in files}
        with hospital.database.reading() as session:
            held = set(session.exec(select(ImageRow.sha256).where(col(ImageRow.sha256).in_(drawn))).all())
        gone = [file for file in files if file.name.partition("-")[0] not in held]
        gone += [file for file in folder.glob(".*") if _is_left_over(file)]
        for file in gone:
            file.unlink(missing_ok=True)
        removed += len(gone)
    return removed


def _is_left_over(draft: Path) -> bool:
    try:
        return draft.stat().st_mtime < time.time() - DRAFT_S
    except FileNotFoundError:  # it was finished
        return False


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
