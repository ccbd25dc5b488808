"""Which DICOM objects are radiographs."""

from __future__ import annotations

from typing import Final

RADIOGRAPH_CLASSES: Final = (
    "1.2.840.10008.5.1.4.1.1.1",  # Computed Radiography Image Storage
    "1.2.840.10008.5.1.4.1.1.1.1",  # Digital X-Ray Image Storage - For Presentation
    "1.2.840.10008.5.1.4.1.1.1.1.1",  # Digital X-Ray Image Storage - For Processing
    "1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture Image Storage (the single-frame one)
)
"""SOP classes taken (PS3.4 B.5). The multi-frame secondary captures are not: one radiograph is one frame."""

START_BYTES: Final = 2048
"""The file meta information, with the SOP class, lies within this much of a DICOM file (PS3.10 7.1)."""


def sop_class(start: bytes) -> str | None:
    """Media Storage SOP Class UID (0002,0002), always in explicit VR little endian (PS3.10 7.1).

    Args:
        start: the first :data:`START_BYTES` of a DICOM file.

    Returns:
        The UID, or None where there is none.
    """
    at = start.find(b"\x02\x00\x02\x00UI")
    if at < 0:
        return None
    length = int.from_bytes(start[at + 6 : at + 8], "little")
    return start[at + 8 : at + 8 + length].rstrip(b"\0 ").decode("ascii", "replace")
