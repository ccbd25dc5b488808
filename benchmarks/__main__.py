"""``python -m benchmarks``: measure, print the tables, write ``results/bench.json`` and ``results/bench.md``.

Exit code 0 if every limit is kept, 1 if one is not, 2 if nothing could be measured.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks import machine, report
from benchmarks.cold_start import Start, cold_starts, firstray_command, reader_command
from benchmarks.contest import Entry, contest
from benchmarks.memory import peak_memory
from benchmarks.readers import Kind, Setting
from firstray.demo import sample_radiograph
from shared.errors import FirstRayError
from shared.radiograph import load_radiograph
from shared.release import Release, default_release, load_release
from shared.variants import choose_variant

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
README = ROOT / "README.md"

READINGS = 5
"""Counted readings of a warm contender in a turn."""

ANCESTOR_READINGS = 1
"""It loads its models for each reading, so it never warms up."""


def main() -> int:
    """Measure, report, and judge."""
    arguments = _arguments()
    try:
        if arguments.write_readme:
            report.replace_section(README.read_text(), "")  # complain now, not in five minutes
        release = load_release(arguments.release or default_release())
        with tempfile.TemporaryDirectory(prefix="firstray-bench-") as work:
            result = measure(release, sample_radiograph(), Path(work), arguments)
    except FirstRayError as error:
        print(f"Error [{error.code}]: {error}", file=sys.stderr)
        return 2
    text = report.markdown(result)
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "bench.json").write_text(json.dumps(report.as_json(result), indent=1) + "\n")
    (RESULTS / "bench.md").write_text(text)
    if arguments.write_readme:
        README.write_text(report.replace_section(README.read_text(), text))
    return 0 if result.passed else 1


def measure(release: Release, sample: Path, work: Path, arguments: argparse.Namespace) -> report.Report:
    """All measurements, one after the other, so that none disturbs another."""
    inputs = release.manifest.inputs
    setting = Setting(
        dicom=str(sample),
        work=str(work),
        release=str(release.folder.resolve()),
        classifier_side=inputs["classifier"].side,
        detector_side=inputs["detector"].side,
        threads=arguments.threads,
    )
    busy = [machine.busy()]
    _progress("peak memory")
    memory = peak_memory(setting)
    warm = contest(_entries(release, setting), arguments.rounds, _progress)
    missing: dict[Kind, str] = {
        timings.kind: timings.problem for timings in warm if timings.problem and timings.kind != "firstray"
    }
    starts = cold_starts(_starts(setting), arguments.starts, work, _progress, missing)
    busy.append(machine.busy())
    _progress("")
    return report.Report(
        machine=machine.facts(),
        busy=max((share for share in busy if share is not None), default=None),
        sample=_in_words(sample),
        release=release.id,
        threads=setting.threads,
        warm=warm,
        starts=starts,
        memory=memory,
    )


def _entries(release: Release, setting: Setting) -> list[Entry]:
    """The edge variant (int8 on the runtime that is faster here) first, the release's other variants, the peers."""
    edge = choose_variant(release, "int8", "auto", setting.threads)
    others = [variant for variant in release.manifest.variants if variant.id != edge.id]
    variants = [
        Entry(
            f"FirstRay {variant.id}",
            "firstray",
            replace(setting, precision=variant.precision, runtime=variant.runtime),
            READINGS,
        )
        for variant in (edge, *others)
    ]
    return [
        *variants,
        Entry("torch eager fp32 + ultralytics, kept loaded", "torch", setting, READINGS),
        Entry("the ancestor's way, models loaded for each reading", "ancestor", setting, ANCESTOR_READINGS, settle=0),
    ]


def _starts(setting: Setting) -> list[Start]:
    """``firstray diagnose`` first; then as on its first run, from disk, and the peers."""
    ours = firstray_command(setting)
    return [
        Start("`firstray diagnose`, warm file cache", "firstray", ours),
        Start("the same, first run on a machine (it measures the runtimes)", "firstray", ours, fresh_cache=True),
        Start("the same, file cache emptied before", "firstray", ours, dropped=True),
        Start("torch eager fp32 + ultralytics", "torch", reader_command("torch", setting)),
        Start("the ancestor's way", "ancestor", reader_command("ancestor", setting)),
    ]


def _in_words(sample: Path) -> str:
    radiograph = load_radiograph(sample)
    height, width = radiograph.pixels.shape
    return f"{sample.name}, {width} x {height} px, {radiograph.bits} bits"


def _progress(what: str) -> None:
    """One line on a terminal's standard error, overwritten by the next."""
    if sys.stderr.isatty():
        print(f"\r\033[K{what}", end="", file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="How fast FirstRay reads here.")
    parser.add_argument("--release", type=Path, help="folder of the model release; the installed one if not given")
    parser.add_argument("--rounds", type=int, default=12, help=f"rounds of {READINGS} warm readings each")
    parser.add_argument("--starts", type=int, default=7, help="fresh processes of each kind")
    parser.add_argument("--threads", type=int, default=2, help="threads of every model, FirstRay's and the peers'")
    parser.add_argument("--write-readme", action="store_true", help="put the tables into README.md")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
