"""Runs a command in a fresh process."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence

SECONDS = 300.0
"""What a command may take unless more is said."""
MOST_TEXT = 120


class Problem(Exception):
    """Something could not be measured; the text says why, short enough for a cell of a table."""

    def __init__(self, text: str) -> None:
        super().__init__(text if len(text) <= MOST_TEXT else text[: MOST_TEXT - 3] + "...")


def run(command: Sequence[str], environment: Mapping[str, str], most: float = SECONDS) -> tuple[float, str]:
    """Seconds from exec to exit, and what the command printed.

    Args:
        command: program and arguments.
        environment: variables added to this process's own.
        most: seconds until it is stopped.

    Raises:
        Problem: it ended with another exit code than 0, or not within ``most`` seconds.
    """
    began = time.perf_counter()
    try:
        done = subprocess.run(
            command, env={**os.environ, **environment}, capture_output=True, timeout=most, check=False
        )
    except subprocess.TimeoutExpired:
        raise Problem(f"failed: not finished in {most:.0f} s") from None
    seconds = time.perf_counter() - began
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise Problem(": ".join([f"failed: exit {done.returncode}", *last]))
    return seconds, done.stdout.decode(errors="replace")
