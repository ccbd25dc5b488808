"""What the file chooser lists: folders, and files that may be radiographs."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shared.errors import FirstRayError

EXTENSIONS: Final = frozenset({"", ".dcm", ".dicom", ".jpg", ".jpeg", ".png", ".tif", ".tiff"})
"""Lower-case endings of files worth offering. DICOM files often have none."""

UID_TAIL: Final = re.compile(r"\.\d+")
"""The 'ending' of a file named by a DICOM UID, such as ``1.2.840.10008``: no ending at all."""

INDEXES: Final = frozenset({"dicomdir", "lockfile", "version"})
"""Names without an ending that DICOM media carry beside the images (PS3.10, clause 8)."""

MEDIA: Final = (Path("/media"), Path("/run/media"), Path("/mnt"))
"""Where Linux mounts USB sticks and discs, directly or one folder a user below."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the chooser.

    Attributes:
        name: as shown, see :func:`readable`.
        modified: seconds since the epoch.
        size: bytes; 0 for a folder.
    """

    path: Path
    name: str
    is_folder: bool
    modified: float
    size: int


def readable(path: Path | str) -> str:
    """A path or name as text that any font or title can take; bytes that are not UTF-8 become question marks."""
    return os.fsencode(path).decode("utf-8", "replace").replace("\ufffd", "?")


def plausible(name: str) -> bool:
    """Whether a file of this name may be a radiograph."""
    if name.startswith(".") or name.lower() in INDEXES:
        return False
    ending = os.path.splitext(name)[1].lower()
    return ending in EXTENSIONS or UID_TAIL.fullmatch(ending) is not None


def entries(folder: Path) -> list[Entry]:
    """Folders by name, then plausible files, newest first; hidden names are left out.

    Raises:
        FirstRayError: ``folder_unreadable``.
    """
    folders, files = [], []
    try:
        with os.scandir(folder) as found:
            for item in found:
                try:
                    is_folder = item.is_dir()
                    status = item.stat()
                except OSError:  # a dangling link, or gone since
                    continue
                path = Path(item.path)
                if is_folder and not item.name.startswith("."):
                    folders.append(Entry(path, readable(item.name), True, status.st_mtime, 0))
                elif item.is_file() and plausible(item.name):
                    files.append(Entry(path, readable(item.name), False, status.st_mtime, status.st_size))
    except OSError:
        raise FirstRayError(
            "folder_unreadable", "This folder cannot be read.", "Choose another one, or plug the stick in again."
        ) from None
    folders.sort(key=lambda entry: entry.name.casefold())
    files.sort(key=lambda entry: (-entry.modified, entry.name.casefold()))
    return folders + files


def places(home: Path, media: tuple[Path, ...] = MEDIA) -> list[Path]:
    """Where looking for a file starts: the home folder, then every medium that is plugged in."""
    mounted = [path for root in media for pattern in ("*", "*/*") for path in root.glob(pattern) if path.is_mount()]
    return [home, *sorted(mounted)]
