"""What glibc's allocator does with freed memory: a radiograph takes tens of megabytes for a moment."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from typing import Final

LARGE_BYTES: Final = 2 << 20
_M_MMAP_THRESHOLD: Final = -3  # malloc.h


def return_large_blocks() -> None:
    """Have large blocks given back as soon as they are freed, in this process and those it starts (mallopt(3)).

    Left to itself glibc takes ever larger ones from heaps that each thread has and keeps: some 200 MB more in all.
    """
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(LARGE_BYTES))
    if (mallopt := _glibc("mallopt")) is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)


def give_back() -> None:
    """Return what a reading has freed in small pieces: gaps of tens of megabytes would stay (malloc_trim(3))."""
    if (trim := _glibc("malloc_trim")) is not None:
        trim(0)


def _glibc(name: str) -> Callable[..., int] | None:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
