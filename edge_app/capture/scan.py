"""Finds files in a folder or on a medium without touching more than their names and times."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

MEDIA: Final = (Path("/media"), Path("/run/media"), Path("/mnt"))
"""Where Linux mounts USB sticks and discs, directly or one folder a user below."""

DEPTH: Final = 12
ENTRIES: Final = 20_000
"""How deep one folder is searched, and how many entries of it are looked at."""

Signature = tuple[int, int, int, int]
"""Device, inode, size and modification time (ns) of a file: while these stand still, so do its bytes."""


def mounted_media(roots: tuple[Path, ...] = MEDIA) -> list[Path]:
    """Every medium that is plugged in now."""
    return sorted(path for root in roots for pattern in ("*", "*/*") for path in root.glob(pattern) if _is_mount(path))


def _is_mount(path: Path) -> bool:
    """Whether something is mounted there that can be looked at; a medium pulled out unasked answers with errors."""
    try:
        return path.is_mount()
    except OSError:
        return False


def signature_of(status: os.stat_result) -> Signature:
    """What changes when a file is written or replaced."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def regular_files(root: Path) -> Iterator[tuple[Path, Signature]]:
    """The regular files below a folder, without hidden and empty ones. Links are not followed.

    Raises:
        OSError: the folder itself cannot be read; one below it that cannot is left out.
    """
    waiting, left = [(root, 0)], ENTRIES
    while waiting:
        folder, depth = waiting.pop()
        try:
            entries = os.scandir(folder)
        except OSError:
            if folder == root:
                raise
            continue
        with entries:
            for entry in entries:
                left -= 1
                if left < 0:
                    return
                if entry.name.startswith("."):
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:  # gone since
                    continue
                if stat.S_ISDIR(status.st_mode) and depth < DEPTH:
                    waiting.append((Path(entry.path), depth + 1))
                elif stat.S_ISREG(status.st_mode) and status.st_size:
                    yield Path(entry.path), signature_of(status)
