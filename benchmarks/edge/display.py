"""A virtual screen of a tablet's size."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.fresh import Problem


@contextmanager
def virtual_screen() -> Iterator[dict[str, str]]:
    """The environment of programs that shall appear on it. Raises Problem where Xvfb is not installed."""
    if shutil.which("Xvfb") is None:
        raise Problem("not installed: Xvfb")
    reading, writing = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writing), "-screen", "0", "1280x800x24", "-nolisten", "tcp"],
        pass_fds=[writing],
        stderr=subprocess.DEVNULL,
    )
    os.close(writing)
    try:
        with os.fdopen(reading) as number:
            yield {"DISPLAY": f":{number.readline().strip()}", "LIBGL_ALWAYS_SOFTWARE": "1"}
    finally:
        server.terminate()
        server.wait()
