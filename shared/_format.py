"""Tells by its first bytes what kind of image a file holds. Imports nothing, so that any process can afford it."""

from __future__ import annotations

from typing import Final

PREAMBLE_BYTES: Final = 132
"""A DICOM file's preamble and prefix (PS3.10 7.1), and how much of a file :func:`sniff` wants to see."""

MAGIC: Final = {
    b"\xff\xd8\xff": "jpeg",
    b"\x89PNG\r\n\x1a\n": "png",
    b"II*\x00": "tiff",
    b"MM\x00*": "tiff",
    b"II+\x00": "tiff",
    b"MM\x00+": "tiff",
}


def sniff(data: bytes) -> str | None:
    """The format by its first bytes; DICOM first, whose preamble may look like a TIFF (PS3.10 7.1)."""
    if data[PREAMBLE_BYTES - 4 : PREAMBLE_BYTES] == b"DICM":
        return "dicom"
    return next((kind for magic, kind in MAGIC.items() if data.startswith(magic)), None)
