"""Which files a command reads: the files named, and the radiographs inside the folders named."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from shared.errors import RadiographError

SUFFIXES = {".dcm", ".dicom", ".dic", ".ima", ".jpg", ".jpeg", ".png", ".tif", ".tiff", ""}


class Input(NamedTuple):
    """A file to read, or a folder in which there is none (``error`` says so)."""

    path: Path
    error: RadiographError | None = None


def radiograph_files(paths: list[Path]) -> Iterator[Input]:
    """The files to read, in the order given; folders are walked by name.

    A named file is always read. In a folder, files are read whose ending is a radiograph's (or that have none, as DICOM
    files often do); hidden ones and ``DICOMDIR`` are passed over. A folder without any gives an error in its place.
    """
    for path in paths:
        if not path.is_dir():
            yield Input(path)
            continue
        found = list(_walk(path))
        yield from map(Input, found)
        if not found:
            message = f"{printable(path)} holds no DICOM, JPEG, PNG or TIFF file."
            yield Input(path, RadiographError("folder_empty", message, "Check the path."))


def printable(path: Path) -> str:
    """A path as text that every terminal can show: bytes that are not UTF-8 become escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _walk(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and name != "DICOMDIR" and Path(name).suffix.lower() in SUFFIXES:
                yield Path(root) / name
