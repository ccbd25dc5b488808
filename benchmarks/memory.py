"""Peak memory of a fresh process that diagnoses the sample once: ``python -m benchmarks.memory SETTING``.

Two measures. ``VmHWM`` is the kernel's high-water mark of one process image; it exists on Linux only. ``ru_maxrss`` of
getrusage(2) also remembers the process it was started from. Libraries that main process and decoder share count twice
in the sum of both.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.fresh import Problem, run
from benchmarks.readers import Setting

MB = 1e6


@dataclass(frozen=True)
class Memory:
    """Peaks in MB (10^6 bytes); ``VmHWM`` is None where the system has none."""

    main_hwm: float | None
    main_rusage: float
    decoder_hwm: float | None
    decoder_rusage: float

    @property
    def total(self) -> float:
        """The larger measure of each process, added."""
        return max(self.main_hwm or 0.0, self.main_rusage) + max(self.decoder_hwm or 0.0, self.decoder_rusage)


def peak_memory(setting: Setting) -> Memory | str:
    """Peaks of a fresh process on its first run, when it also measures the runtimes; or why there are none."""
    command = (sys.executable, "-m", "benchmarks.memory", json.dumps(asdict(setting)))
    try:
        _, printed = run(command, {"XDG_CACHE_HOME": f"{setting.work}/cache-memory"})
    except Problem as problem:
        return str(problem)
    return Memory(**json.loads(printed.splitlines()[-1]))


def high_water_mark(process: int | str) -> float | None:
    """``VmHWM`` of a process in MB (proc_pid_status(5)); None where there is no such thing."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return None
    kib = next((line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")), None)
    return int(kib) * 1024 / MB if kib else None


def children() -> list[int]:
    """Process ids of this process's children, where there is a ``/proc``."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == os.getpid():
            found.append(int(stat.parent.name))
    return found


def _max_rss(who: int) -> float:
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(who).ru_maxrss * unit / MB


def _diagnose_and_report(setting: Setting) -> None:
    import resource

    marks: dict[str, float | None] = {}

    def report() -> None:
        if not marks:
            return
        peaks = Memory(
            main_hwm=marks["main"],
            main_rusage=_max_rss(resource.RUSAGE_SELF),
            decoder_hwm=marks["decoder"],
            decoder_rusage=_max_rss(resource.RUSAGE_CHILDREN),
        )
        print(json.dumps(asdict(peaks)))

    # Registered before FirstRay is imported, so it runs after FirstRay has ended its decoder: only then does
    # RUSAGE_CHILDREN count it.
    atexit.register(report)
    from firstray.diagnose import Options, outcomes
    from firstray.inputs import Input

    dicom = Path(setting.dicom)
    options = Options(
        release=Path(setting.release), precision="int8", threads=setting.threads, out=Path(setting.work), force=True
    )
    (outcome,) = outcomes([Input(dicom)], options)
    if outcome.error is not None:
        raise outcome.error
    peaks = [mark for child in children() if (mark := high_water_mark(child)) is not None]
    marks |= {"main": high_water_mark("self"), "decoder": max(peaks, default=None)}


if __name__ == "__main__":
    _diagnose_and_report(Setting(**json.loads(sys.argv[1])))
