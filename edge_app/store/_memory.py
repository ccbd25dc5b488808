"""Keeping this process's memory to itself. What the system swaps out is not in its hands: encrypt the swap."""

from __future__ import annotations

import ctypes
import resource
import sys
from typing import Final

PR_SET_DUMPABLE: Final = 4


def forbid_core_dumps() -> None:
    """Keep this process's memory, with keys and patients in it, out of core dumps and of other users' debuggers.

    prctl(2) PR_SET_DUMPABLE on Linux, since a core dump piped to a program heeds no limit (core(5)); setrlimit(2) too.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
