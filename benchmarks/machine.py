"""What a reader of the figures must know about the machine; nothing that names it or its user."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from pathlib import Path
from typing import Any

PACKAGES = (
    "numpy",
    "pillow",
    "pydicom",
    "ai-edge-litert",
    "onnxruntime",
    "torch",
    "timm",
    "ultralytics-opencv-headless",
    "tensorflow-cpu",
)


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def busy(seconds: float = 2.0) -> float | None:
    """Share of all cores, 0..1, that others take while this process waits; None where there is no ``/proc``."""
    try:
        before = _processor_times()
        time.sleep(seconds)
        after = _processor_times()
    except OSError:
        return None
    spent = [new - old for new, old in zip(after, before, strict=True)]
    idle = spent[3] + spent[4]
    return round(1 - idle / sum(spent), 2)


def _processor_times() -> list[int]:
    """User, nice, system, idle, waiting for a device, interrupts, ..., stolen; all cores together (proc_stat(5))."""
    return [int(value) for value in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]


def facts() -> dict[str, Any]:
    """Processor, cores, memory, system, Python and the versions of :data:`PACKAGES` (None: not installed)."""
    return {
        "cpu": _cpu(),
        "cores": cores(),
        "memory_gb": _memory_gb(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def _memory_gb() -> float | None:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
