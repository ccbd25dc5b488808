"""``python -m benchmarks.edge``: measure the ambulance's app, print the tables, write ``results/bench-edge.*``.

Exit code 0 if every limit is kept, 1 if one is not, 2 if nothing could be measured. ``--kills N`` also runs the kill
tests of the whole device and of the store N times each.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.edge.display import virtual_screen
from benchmarks.edge.fill import PIN, fill, questions
from benchmarks.fresh import SECONDS, Problem, run
from benchmarks.report import Limit, figure, replace_section, table
from edge_app.store.keys import KeyRing
from edge_app.store.store import Store
from firstray.demo import sample_radiograph
from shared.errors import FirstRayError

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"
README = ROOT / "README.md"
MARKS = ("<!-- bench-edge:begin -->", "<!-- bench-edge:end -->")
STARTS = 5
FILM_SECONDS = 10.0
"""What a film may take, from the sender's disk to the screen, before the whole is given up; the usual is one or two."""
KILL_TESTS = ("tests/fault/test_killed_device.py", "tests/fault/test_store_kill.py")

LIMITS = (
    Limit("first_screen_s", "start of the app to the first screen, p50", 3.0, "s"),
    Limit("unlock_s", "tap on unlock to the list of runs, p50", 1.5, "s"),
    Limit("result_ms", "image received by DICOM (success answered) to result on screen, p95", 300, "ms"),
    Limit("list_ms", "list a page, p95", 100, "ms"),
    Limit("search_ms", "search (the slowest kind), p95", 100, "ms"),
    Limit("open_ms", "open a study with its picture, p95", 100, "ms"),
    Limit("memory_mb", "memory after all films, app and decoder together", 700, "MB"),
    Limit("growth_mb", "growth of memory from the 20th film to the last", 50, "MB"),
    Limit("frames", "frames a second while films are read, everything redrawn", 60, "/s", "least"),
)


def main() -> int:
    """Measure, report, and judge."""
    arguments = _arguments()
    try:
        with tempfile.TemporaryDirectory(prefix="firstray-bench-edge-") as work, virtual_screen() as screen:
            measured = measure(Path(work), screen, arguments)
    except (Problem, FirstRayError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    text = markdown(measured)
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "bench-edge.json").write_text(json.dumps(measured, indent=1) + "\n")
    (RESULTS / "bench-edge.md").write_text(text)
    if arguments.write_readme:
        README.write_text(replace_section(README.read_text(), text, *MARKS))
    return 0 if all(limit.reached(measured["limits"][limit.key]) for limit in LIMITS) else 1


def measure(work: Path, screen: Mapping[str, str], arguments: argparse.Namespace) -> dict[str, Any]:
    """All measurements, one after the other."""
    sample = sample_radiograph()
    measured: dict[str, Any] = {
        "machine": machine.facts(),
        "busy": machine.busy(),
        "films": arguments.films,
        "studies": arguments.studies,
    }
    _progress("films")
    films = [str(work / "new"), str(sample), str(arguments.films)]
    measured["arrivals"] = arrivals = _probe(screen, "arrivals", *films, most=SECONDS + FILM_SECONDS * arguments.films)
    filled = work / "filled"
    fill(filled, arguments.studies, sample.read_bytes(), _progress)
    store = Store.open(filled, KeyRing(filled).unlock(PIN), check=False)
    asked = questions(store, arguments.studies)
    store.close()
    _progress("starts")
    measured["questions"] = asked
    measured["starts"] = starts = [_probe(screen, "start", str(filled)) for _ in range(STARTS)]
    memory = list(arrivals["memory_mb"].values())
    searches = [name for name in asked if name.startswith(("search", "filter"))]
    measured["limits"] = {
        "first_screen_s": _quantile([one["first_screen_s"] for one in starts], 0.5),
        "unlock_s": _quantile([one["unlock_s"] for one in starts], 0.5),
        "result_ms": _quantile([film["from_success_ms"] for film in arrivals["films"]], 0.95),
        "list_ms": _quantile(asked["list"], 0.95),
        "search_ms": max(_quantile(asked[name], 0.95) for name in searches),
        "open_ms": _quantile(asked["open"], 0.95),
        "memory_mb": memory[-1],
        "growth_mb": memory[-1] - memory[0],
        "frames": arrivals["frames_reading"]["per_second"],
    }
    if arguments.kills:
        _progress("kills")
        measured["kills"] = {"times": arguments.kills, "passed": _kill(arguments.kills)}
    _progress("")
    return measured


def markdown(measured: Mapping[str, Any]) -> str:
    """The measurements as Markdown tables."""
    facts, arrivals = measured["machine"], measured["arrivals"]
    rows = [
        [
            limit.name,
            f"{'<=' if limit.bound == 'most' else '>='} {limit.target:g} {limit.unit}",
            f"{figure(measured['limits'][limit.key])} {limit.unit}",
            "pass" if limit.reached(measured["limits"][limit.key]) else "fail",
        ]
        for limit in LIMITS
    ]
    if "kills" in measured:
        times, passed = measured["kills"]["times"], measured["kills"]["passed"]
        name = f"SIGKILL at {times} random instants of the device, and as many of the store: acknowledged things lost"
        rows.append([name, "0", "0" if passed else "see the tests' output", "pass" if passed else "fail"])
    details = [
        [name, *(f"{_quantile(values, share):.0f}" for share in (0.5, 0.95, 1.0))]
        for name, values in _timings(measured)
    ]
    busy = measured["busy"]
    text = (
        f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_gb']} GB, no GPU: the window is drawn by the processor"
        f" (llvmpipe) on a virtual screen of 1280 x 800. {measured['films']} films (RG1, 7.2 MB, uncompressed) sent by"
        f" another process; {measured['studies']} stored studies."
        + (f" Other programs took {busy:.0%} of the processor." if busy and busy > 0.1 else "")
    )
    memory = ", ".join(f"{figure(value)} after {films}" for films, value in arrivals["memory_mb"].items())
    frames = ", ".join(f"{name} {arrivals[f'frames_{name}']['per_second']:.0f}" for name in ("quiet", "reading"))
    return (
        "\n\n".join(
            [
                text,
                table(["what it must reach", "target", "measured", ""], rows),
                table(["ms", "p50", "p95", "most"], details),
                f"Memory, MB: {memory} films.",
                f"Frames a second with everything redrawn: {frames} (films read one after the other meanwhile:"
                f" {arrivals['frames_reading']['films']} in 8 s). Models ready"
                f" {_quantile([one['models_s'] for one in measured['starts']], 0.5):.1f} s after the start.",
            ]
        )
        + "\n"
    )


def _timings(measured: Mapping[str, Any]) -> list[tuple[str, list[float]]]:
    films = measured["arrivals"]["films"]
    return [
        ("success answered to result on screen", [film["from_success_ms"] for film in films]),
        ("first byte sent to result on screen", [film["from_first_byte_ms"] for film in films]),
        *((f"{name} ({measured['studies']} studies)", values) for name, values in measured["questions"].items()),
    ]


def _probe(screen: Mapping[str, str], *arguments: str, most: float = SECONDS) -> dict[str, Any]:
    _, printed = run([sys.executable, "-m", "benchmarks.edge.probe", *arguments], screen, most)
    report: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return report


def _kill(times: int) -> bool:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *KILL_TESTS],
        env={**os.environ, "FIRSTRAY_KILLS": str(times)},
        cwd=ROOT,
        stdout=sys.stderr,
        check=False,
    )
    return done.returncode == 0


def _quantile(values: list[float], share: float) -> float:
    return float(np.quantile(values, share))


def _progress(what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{what}", end="", file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.edge", description="How fast the app is here.")
    parser.add_argument("--films", type=int, default=200, help="films sent, one after the other")
    parser.add_argument("--studies", type=int, default=10_000, help="stored studies")
    parser.add_argument("--kills", type=int, default=0, help="SIGKILLs of each kill test")
    parser.add_argument("--write-readme", action="store_true", help="put the tables into README.md")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
