"""From measurements to the report: the limits with their verdicts, the tables, the part of the README."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from benchmarks import intervals
from benchmarks.cold_start import Starts
from benchmarks.contest import Timings
from benchmarks.memory import Memory
from benchmarks.stages import BOTH_MODELS
from shared.errors import FirstRayError

BEGIN = "<!-- bench:begin -->"
END = "<!-- bench:end -->"

BUSY = 0.1
"""Share of the cores taken by others from which figures are marked as taken on a busy machine."""


@dataclass(frozen=True)
class Limit:
    """A figure that must be reached: ``target`` is the most or the least it may be."""

    key: str
    name: str
    target: float
    unit: str
    bound: Literal["most", "least"] = "most"

    def reached(self, measured: float) -> bool:
        """Whether a measured value keeps the limit."""
        return measured <= self.target if self.bound == "most" else measured >= self.target


LIMITS = (
    Limit("reading_ms", "DICOM file to boxed image, warm, p50", 120, "ms"),
    Limit("models_ms", "both models together, warm, p50", 20, "ms"),
    Limit("cold_start_s", "`firstray diagnose FILE --json`, fresh process, exec to exit, p50", 2.5, "s"),
    Limit("memory_mb", "peak memory of the diagnosis process and its decoder together", 450, "MB"),
    Limit("against_torch", "both models, times faster than torch eager + ultralytics, warm", 5, "x", "least"),
)


@dataclass(frozen=True)
class Judged:
    """A limit and what was measured; None where it could not be, for the reason in ``problem``."""

    limit: Limit
    measured: float | None
    problem: str | None = None

    @property
    def verdict(self) -> str:
        """``pass``, ``fail``, or ``not measured`` where a peer is not installed. A measurement that broke fails."""
        if self.measured is None:
            return "not measured" if (self.problem or "").startswith("not installed") else "fail"
        return "pass" if self.limit.reached(self.measured) else "fail"


@dataclass(frozen=True)
class Report:
    """Everything measured in one run.

    Attributes:
        machine: of :func:`benchmarks.machine.facts`.
        busy: share of the cores, 0..1, that other processes took before or after the measurements; None if unknown.
        sample: the radiograph in words.
        release: id of the model release.
        threads: threads each contender's models had.
        warm: the edge variant first, then FirstRay's other variants, then the peers.
        starts: fresh processes, ``firstray diagnose`` first.
        memory: peaks, or why they are unknown.
    """

    machine: dict[str, Any]
    busy: float | None
    sample: str
    release: str
    threads: int
    warm: Sequence[Timings]
    starts: Sequence[Starts]
    memory: Memory | str

    @property
    def edge(self) -> Timings:
        """FirstRay as the ambulance runs it."""
        return self.warm[0]

    @property
    def peers(self) -> list[Timings]:
        """The other ways."""
        return [timings for timings in self.warm if timings.kind != "firstray"]

    def judged(self) -> list[Judged]:
        """Every limit with its measured value."""
        edge, cold, torch = self.edge, self.starts[0], next(t for t in self.warm if t.kind == "torch")
        measured: dict[str, float | str] = {
            "reading_ms": edge.problem or intervals.quantile(edge.stage("total"), 0.5),
            "models_ms": edge.problem or intervals.quantile(edge.stage(*BOTH_MODELS), 0.5),
            "cold_start_s": cold.problem or intervals.quantile(cold.rounds, 0.5),
            "memory_mb": self.memory if isinstance(self.memory, str) else self.memory.total,
            "against_torch": edge.problem
            or torch.problem
            or _ratio(torch.stage(*BOTH_MODELS), edge.stage(*BOTH_MODELS)).value,
        }
        return [
            Judged(limit, None, value) if isinstance(value := measured[limit.key], str) else Judged(limit, value)
            for limit in LIMITS
        ]

    @property
    def passed(self) -> bool:
        """No limit failed."""
        return all(judged.verdict != "fail" for judged in self.judged())


def as_json(report: Report) -> dict[str, Any]:
    """The report with every single timing, for ``bench.json``."""
    judged = [
        {**asdict(item.limit), "measured": item.measured, "problem": item.problem, "verdict": item.verdict}
        for item in report.judged()
    ]
    return {"passed": report.passed, "limits": judged, **asdict(report)}


def markdown(report: Report) -> str:
    """The report as Markdown tables, without headings."""
    parts = [_limits(report), _stages(report), _variants(report), _ways(report), _starts(report), _memory(report)]
    return "\n\n".join([_circumstances(report), *parts]) + "\n"


def replace_section(text: str, section: str, first: str = BEGIN, last: str = END) -> str:
    """``text`` with what stands between the lines ``first`` and ``last`` replaced by ``section``.

    Raises:
        FirstRayError: ``readme_markers_missing`` unless each stands there once, in this order.
    """
    before, begin, rest = text.partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end or first in rest or last in before + after:
        raise FirstRayError(
            "readme_markers_missing",
            f"The file does not hold {first} and {last} once each, in this order.",
            "Put the two lines where the table belongs.",
        )
    return f"{before}{first}\n{section.strip()}\n{last}{after}"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table padded to be read as plain text too; every column but the first is right-aligned."""
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in (headings, *rows)]
    columns = [list(column) for column in zip(*cells, strict=True)]
    for number, column in enumerate(columns):
        width = max(3, *map(len, column))
        rule = "-" * width if number == 0 else "-" * (width - 1) + ":"
        column[:] = [cell.ljust(width) if number == 0 else cell.rjust(width) for cell in column]
        column.insert(1, rule)
    return "\n".join(f"| {' | '.join(line)} |" for line in zip(*columns, strict=True))


def figure(value: float) -> str:
    """Three significant digits, without an exponent."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f}"


def spread(estimate: intervals.Estimate) -> str:
    """A figure with its interval: ``12.3 [11.9, 12.8]``."""
    return f"{figure(estimate.value)} [{figure(estimate.low)}, {figure(estimate.high)}]"


def _ratio(slow: intervals.Rounds, fast: intervals.Rounds) -> intervals.Estimate:
    """Of two contenders of one contest; the rounds both have (one that broke off has fewer)."""
    both = min(len(slow), len(fast))
    return intervals.ratio(slow[:both], fast[:both])


def _circumstances(report: Report) -> str:
    machine = report.machine
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items() if version)
    text = (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, {machine['system']}, "
        f"Python {machine['python']}; {report.threads} threads for every model. Release {report.release}. "
        f"Image: {report.sample}. {packages}. Brackets: 95 % bootstrap intervals of the median over whole rounds."
    )
    if report.busy is not None and report.busy > BUSY:
        text += f"\n\n**Other processes took {report.busy:.0%} of the cores: do not rely on these figures.**"
    if report.edge.facts.get("accepted") is False:
        text += "\n\n**The release's gate refuses the sample; it was read all the same, so that every stage is timed.**"
    return text


def _limits(report: Report) -> str:
    rows = []
    for judged in report.judged():
        limit = judged.limit
        target = f"{'<=' if limit.bound == 'most' else '>='} {limit.target:g} {limit.unit}"
        measured = judged.problem or f"{figure(judged.measured or 0.0)} {limit.unit}"
        rows.append([limit.name, target, measured, judged.verdict])
    return table(["what it must reach", "target", "measured", ""], rows)


def _stages(report: Report) -> str:
    edge = report.edge
    if edge.problem:
        return f"FirstRay: {edge.problem}"
    peers = [peer for peer in report.peers if not peer.problem]
    names = list(dict.fromkeys(name for peer in peers for name in peer.stages if name not in edge.stages))
    parts: dict[str, tuple[str, ...]] = {name: (name,) for name in (*names, *edge.stages) if name != "total"}
    parts |= {"**both models**": BOTH_MODELS, "**file to boxed image**": ("total",)}
    rows = []
    for label, stages in parts.items():
        ours = _p50_p95(edge.stage(*stages)) if set(stages) <= set(edge.stages) else ["-", "-"]
        theirs = [_p50_p95(p.stage(*stages))[0] if set(stages) <= set(p.stages) else "-" for p in peers]
        rows.append([label, *ours, *theirs])
    count, boxes = len(intervals.pool(edge.stage("total"))), edge.facts.get("boxes")
    heading = f"stage, ms ({edge.facts['variant']}, {count} readings, {boxes} boxes drawn)"
    return table([heading, "p50", "p95", *(f"{peer.kind}, p50" for peer in peers)], rows)


def _variants(report: Report) -> str:
    rows = []
    for timings in report.warm:
        if timings.kind != "firstray":
            continue
        if timings.problem:
            rows.append([timings.name, *["-"] * 4, timings.problem])
            continue
        parts = [figure(intervals.quantile(timings.stage(*names), 0.5)) for names in (BOTH_MODELS[:1], BOTH_MODELS[1:])]
        rows.append([timings.name, *parts, *_p50_p95(timings.stage(*BOTH_MODELS)), spread(_total(timings))])
    return table(["variant, ms", "classifier", "detector", "both models", "p95", "file to boxed image"], rows)


def _ways(report: Report) -> str:
    edge = report.edge
    rows = []
    for timings in (edge, *report.peers):
        if timings.problem:
            rows.append([timings.name, "-", "-", "-", timings.problem])
            continue
        parts = (("total",), BOTH_MODELS)
        times = ["1", "1"] if timings is edge else [_times(timings.stage(*part), edge.stage(*part)) for part in parts]
        rows.append([timings.name, *_p50_p95(timings.stage("total")), *times])
    headings = ["the same image, warm process", "p50, ms", "p95, ms", "times FirstRay's", "both models alone, times"]
    notes = [f"{t.name[0].upper()}{t.name[1:]}: {t.facts['what']}." for t in report.peers if "what" in t.facts]
    return "\n\n".join([table(headings, rows), " ".join(notes)]).strip()


def _starts(report: Report) -> str:
    first = report.starts[0]
    rows = []
    for start in report.starts:
        if start.problem:
            rows.append([start.name, "-", "-", start.problem])
            continue
        times = "1" if start is first else _times(start.rounds, first.rounds)
        slowest = max(intervals.pool(start.rounds))
        rows.append([start.name, spread(intervals.median(start.rounds)), figure(slowest), times])
    return table(["fresh process, exec to exit", "p50, s", "slowest, s", "times FirstRay's"], rows)


def _times(slow: intervals.Rounds, fast: intervals.Rounds) -> str:
    return spread(_ratio(slow, fast)) if slow and fast else "-"


def _memory(report: Report) -> str:
    memory = report.memory
    if isinstance(memory, str):
        return f"Peak memory: {memory}"
    rows = [
        ["diagnosis process", _or_dash(memory.main_hwm), figure(memory.main_rusage)],
        ["its decoder process", _or_dash(memory.decoder_hwm), figure(memory.decoder_rusage)],
        ["**sum of the larger ones**", "", figure(memory.total)],
    ]
    return table(["peak resident memory, MB", "VmHWM", "ru_maxrss"], rows)


def _total(timings: Timings) -> intervals.Estimate:
    return intervals.median(timings.stage("total"))


def _p50_p95(rounds: intervals.Rounds) -> list[str]:
    return [figure(intervals.quantile(rounds, 0.5)), figure(intervals.quantile(rounds, 0.95))]


def _or_dash(value: float | None) -> str:
    return "-" if value is None else figure(value)
