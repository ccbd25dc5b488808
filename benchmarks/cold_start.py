"""From exec to exit: fresh processes that read one radiograph and end, taking turns."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.fresh import Problem, run
from benchmarks.readers import Kind, Setting

DROP_CACHES = Path("/proc/sys/vm/drop_caches")


@dataclass(frozen=True)
class Start:
    """A command whose fresh process is timed.

    Attributes:
        name: in the report.
        kind: whose process it is.
        command: what to run.
        fresh_cache: give each run an empty cache folder, so that it measures which runtime is faster, as the first run
            on a machine does.
        dropped: empty the kernel's file cache before each run.
    """

    name: str
    kind: Kind
    command: tuple[str, ...]
    fresh_cache: bool = False
    dropped: bool = False


@dataclass
class Starts:
    """Seconds of each counted run, a list a round; ``problem`` says why there are none."""

    name: str
    rounds: list[list[float]] = field(default_factory=list)
    problem: str | None = None


def firstray_command(setting: Setting) -> tuple[str, ...]:
    """``firstray diagnose FILE --json`` of this installation."""
    options = ("--json", "--release", setting.release, "--threads", str(setting.threads))
    return (sys.executable, "-m", "firstray", "diagnose", setting.dicom, *options)


def reader_command(kind: Kind, setting: Setting) -> tuple[str, ...]:
    """A fresh process that makes a reader, reads once and ends."""
    return (sys.executable, "-m", "benchmarks.readers", kind, json.dumps(asdict(setting)))


def cold_starts(
    starts: Sequence[Start], rounds: int, work: Path, progress: Callable[[str], None], missing: Mapping[Kind, str]
) -> list[Starts]:
    """Run every command once unseen, then once a round; one that fails is noted and the others go on.

    ``missing`` says of which kinds it is known beforehand that they cannot run, and why.
    """
    results = [Starts(start.name, problem=missing.get(start.kind)) for start in starts]
    for start, result in zip(starts, results, strict=True):
        if start.dropped and not os.access(DROP_CACHES, os.W_OK):
            result.problem = "not measured: the file cache cannot be emptied here"
    for number in range(rounds + 1):
        progress(f"fresh processes: round {number} of {rounds}")
        for start, result in zip(starts, results, strict=True):
            if result.problem is not None:
                continue
            try:
                seconds = _seconds(start, work / (f"cache-{number}" if start.fresh_cache else "cache"))
            except Problem as problem:
                result.problem = str(problem)
                continue
            if number > 0:
                result.rounds.append([seconds])
    return results


def _seconds(start: Start, cache: Path) -> float:
    if start.dropped:
        os.sync()
        DROP_CACHES.write_text("1")
    return run(start.command, {"XDG_CACHE_HOME": str(cache)})[0]
