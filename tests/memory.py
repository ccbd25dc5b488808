"""Temporary folders of a test run lie in memory where there is room.

Databases wait for the disk at every commit; in memory that costs nothing, and nothing is lost by it: the tests kill
processes, which both survive, and never the machine. Whoever sets ``TMPDIR`` decides otherwise.
"""

import os
import tempfile
from pathlib import Path
from typing import Final

FOLDER: Final = Path("/dev/shm")
ROOM: Final = 4 << 30
"""Bytes that must be free both in the file system and in memory; a run takes less than a tenth."""


def use_for_temporary_folders() -> None:
    """For this process and all that it starts."""
    if "TMPDIR" not in os.environ and _has_room():
        os.environ["TMPDIR"] = str(FOLDER)
        tempfile.tempdir = None


def _has_room() -> bool:
    try:
        found = os.statvfs(FOLDER)
        memory = Path("/proc/meminfo").read_text()
    except OSError:  # not Linux
        return False
    available = next(int(line.split()[1]) * 1024 for line in memory.splitlines() if line.startswith("MemAvailable:"))
    usable = os.access(FOLDER, os.W_OK) and not found.f_flag & os.ST_NOEXEC
    return usable and min(found.f_bavail * found.f_frsize, available) >= ROOM
