"""``firstray diagnose``: read many files, one result each, in order; a bad file never stops the others."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firstray.inputs import Input, printable, radiograph_files
from shared.calibration import State
from shared.diagnosis import Diagnoser, Diagnosis
from shared.errors import FirstRayError
from shared.findings import BY_KEY
from shared.overlay import Language, draw, save
from shared.prevalence import SitePrevalence
from shared.radiograph import Radiograph, load_radiograph, warm_up
from shared.release import Precision, default_release, load_release
from shared.variants import RuntimeChoice

STATE_WORDS = {State.LIKELY: "suspected", State.UNCERTAIN: "uncertain", State.UNLIKELY: "unlikely"}
"""States in the table: a rare finding is flagged at a few per cent, which nobody would call likely."""


@dataclass(frozen=True)
class Options:
    """The options of ``firstray diagnose``."""

    release: Path | None = None
    precision: Precision | None = None
    runtime: RuntimeChoice = "auto"
    min_score: float | None = None
    out: Path | None = None
    image_format: str = "jpg"
    json_lines: bool = False
    force: bool = False
    correct: bool = False
    threads: int | None = None
    prevalence: SitePrevalence | None = None
    language: Language = "en"


@dataclass(frozen=True)
class Outcome:
    """What became of one file: a diagnosis (read or refused) or an error, and where its boxed image is."""

    file: Path
    diagnosis: Diagnosis | None = None
    error: FirstRayError | None = None
    image: Path | None = None
    timing_ms: dict[str, float] | None = None

    @property
    def status(self) -> str:
        """``ok``, ``refused`` or ``error``."""
        if self.diagnosis is None:
            return "error"
        return "refused" if self.diagnosis.refused else "ok"

    def record(self) -> dict[str, Any]:
        """The JSON object of the file, as the README describes it; every key is always there."""
        diagnosis, problem = self.diagnosis, self.error
        record: dict[str, Any] = {
            "file": str(self.file),
            "status": self.status,
            "code": problem.code if problem else None,
            "message": str(problem) if problem else None,
            "probabilities": {},
            "states": {},
            "top3": [],
            "boxes": [],
            "urgent": [],
            "cannot_exclude": [],
            "prevalence": None,
            "correction": None,
            "correction_offered": None,
            "release": None,
            "precision": None,
            "runtime": None,
            "image": str(self.image) if self.image else None,
            "timing_ms": self.timing_ms or {},
        }
        if diagnosis is None:
            return record
        reason = diagnosis.verdict.reason or next(iter(diagnosis.verdict.problems), None)
        if reason is not None:
            record |= {"code": reason.code, "message": f"{reason.message} {reason.action}{_offer(diagnosis)}"}
        if offered := diagnosis.verdict.correction:
            record["correction_offered"] = offered.model_dump()
        record["cannot_exclude"] = list(diagnosis.cannot_exclude)
        fields = {"probabilities", "states", "top3", "boxes", "urgent", "prevalence", "correction"}
        fields |= {"release", "precision", "runtime"}
        return record | diagnosis.model_dump(mode="json", include=fields)


def run(paths: list[Path], options: Options) -> int:
    """Read all files and print their results; 0 if every file could be read or was refused, 1 otherwise."""
    inputs = list(radiograph_files(paths))
    failed = False
    for outcome in _with_progress(outcomes(inputs, options), len(inputs), options):
        failed |= outcome.status == "error"
        if options.json_lines:
            print(json.dumps(outcome.record()), flush=True)
        else:
            print_readable(outcome)
    return 1 if failed else 0


def outcomes(inputs: list[Input], options: Options) -> Iterator[Outcome]:
    """The outcome of each input, in order. The next file is decoded while the models read the present one."""
    warm_up()
    try:
        diagnoser = open_diagnoser(options)
        if options.out is not None:
            _make_folder(options.out)
    except FirstRayError as error:
        yield from (Outcome(item.path, error=error) for item in inputs)
        return
    with ThreadPoolExecutor(1) as pool:
        pending = [pool.submit(_decode, item) for item in inputs[:1]]
        for number, item in enumerate(inputs):
            decoded = pending.pop().result()
            if number + 1 < len(inputs):
                pending.append(pool.submit(_decode, inputs[number + 1]))
            yield _outcome(item.path, decoded, diagnoser, options)


def open_diagnoser(options: Options) -> Diagnoser:
    """Verify and open the release the options name."""
    release = load_release(options.release or default_release())
    return Diagnoser(
        release, options.precision, options.runtime, options.threads, options.min_score, options.prevalence
    )


def _decode(item: Input) -> tuple[Radiograph | FirstRayError, float]:
    """The radiograph, or why it cannot be read; and the milliseconds it took."""
    if item.error is not None:
        return item.error, 0.0
    started = time.perf_counter()
    try:
        result: Radiograph | FirstRayError = load_radiograph(item.path)
    except FirstRayError as error:
        result = error
    return result, (time.perf_counter() - started) * 1000


def _outcome(
    file: Path, decoded: tuple[Radiograph | FirstRayError, float], diagnoser: Diagnoser, options: Options
) -> Outcome:
    radiograph, decode_ms = decoded
    timing = {"decode": round(decode_ms, 2)}
    if isinstance(radiograph, FirstRayError):
        return Outcome(file, error=radiograph, timing_ms=timing)
    diagnosis = diagnoser.diagnose(radiograph, options.force)
    if options.correct and (correction := diagnosis.verdict.correction):
        started = time.perf_counter()
        radiograph = radiograph.corrected(correction)
        timing["correct"] = round(diagnosis.timing_ms["total"] + (time.perf_counter() - started) * 1000, 2)
        diagnosis = diagnoser.diagnose(radiograph, options.force)
    timing |= diagnosis.timing_ms
    image = None
    if options.out is not None and not diagnosis.refused:
        started = time.perf_counter()
        image = options.out / f"{file.stem}-{radiograph.sha256[:8]}.{options.image_format}"
        try:
            save(draw(radiograph, diagnosis, options.language), image)
        except FirstRayError as error:
            return Outcome(file, error=error, timing_ms=timing)
        timing["draw"] = round((time.perf_counter() - started) * 1000, 2)
    timing["total"] = round(sum(value for name, value in timing.items() if name != "total"), 2)
    return Outcome(file, diagnosis, image=image, timing_ms=timing)


def _offer(diagnosis: Diagnosis) -> str:
    """How a refused radiograph could be read after all, to follow the refusal; empty where there is no such way."""
    offered = diagnosis.verdict.correction
    if not diagnosis.refused or offered is None or diagnosis.correction is not None:
        return ""
    return f" With --correct it is read {offered.describe()}."


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FirstRayError(
            "output_unwritable", f"{printable(folder)} cannot be made: {error.strerror}.", "Choose another folder."
        ) from None


def _with_progress(found: Iterator[Outcome], number: int, options: Options) -> Iterator[Outcome]:
    """A progress bar on standard error while many files are read, where a person is watching."""
    if number < 4 or not sys.stderr.isatty():
        yield from found
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading", total=number)
        for outcome in found:
            yield outcome
            progress.advance(task)


def print_readable(outcome: Outcome) -> None:
    """Print one file's result as a table for a person."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    name = escape(printable(outcome.file))
    if outcome.error is not None:
        console.print(f"[bold]{name}[/]: [red]not read[/] ({outcome.error.code}). {escape(str(outcome.error))}")
        return
    diagnosis = outcome.diagnosis
    if diagnosis is None:
        return
    if diagnosis.correction is not None:
        console.print(f"[bold]{name}[/]: [yellow]not as received[/], {diagnosis.correction.describe()}.")
    for problem in diagnosis.verdict.problems:
        word = "[red]refused[/]" if diagnosis.refused else "[yellow]warning[/]"
        console.print(f"[bold]{name}[/]: {word} ({problem.code}). {escape(problem.message)} {escape(problem.action)}")
    if diagnosis.refused:
        if offer := _offer(diagnosis):
            console.print(offer.strip())
        return
    table = Table(title=name, title_justify="left", title_style="bold")
    for heading in ("", "finding", "probability", "state", "boxes", "what it means"):
        table.add_column(heading, justify="right" if heading in ("probability", "boxes") else "left")
    for place, ranked in enumerate(diagnosis.top3, 1):
        finding = BY_KEY[ranked.finding]
        boxes = sum(box.finding == ranked.finding for box in diagnosis.boxes)
        flag = f"[red]{finding.urgency.value}[/] " if ranked.finding in diagnosis.urgent else ""
        table.add_row(
            str(place),
            finding.english,
            f"{ranked.probability:.1%}",
            STATE_WORDS[diagnosis.states[ranked.finding]],
            str(boxes or "-"),
            f"{flag}{finding.explanation}",
        )
    console.print(table)
    shown = {ranked.finding for ranked in diagnosis.top3}
    suspected = {key for key, state in diagnosis.states.items() if state is State.LIKELY}
    others = {box.finding for box in diagnosis.boxes} - shown - suspected
    if others:
        console.print(f"Also marked: {_names(sorted(others))}")
    for line in state_lines(diagnosis):
        console.print(line)
    total = (outcome.timing_ms or {}).get("total", 0.0)
    console.print(
        f"{len(diagnosis.boxes)} boxes; release {diagnosis.release}, {diagnosis.precision} on {diagnosis.runtime}; "
        f"{total:.0f} ms; probabilities for the population of {escape(diagnosis.prevalence)}. "
        "Research use only; not a medical device."
    )
    if outcome.image is not None:
        console.print(f"Boxed image: {escape(printable(outcome.image))}")


def state_lines(diagnosis: Diagnosis) -> list[str]:
    """What the table of three does not say: what else is suspected, what is uncertain, what was not assessed."""
    shown = {ranked.finding for ranked in diagnosis.top3}

    def those(state: State) -> list[str]:
        return [key for key, value in diagnosis.states.items() if value is state]

    lines = {
        "Also suspected: {}": [key for key in those(State.LIKELY) if key not in shown],
        "[yellow]Cannot be excluded: {}[/]": diagnosis.cannot_exclude,
        "Uncertain: {} (neither suspected nor unlikely)": those(State.UNCERTAIN),
        "Not assessed: {} (cannot be told reliably)": those(State.NOT_ASSESSED),
    }
    return [line.format(_names(keys)) for line, keys in lines.items() if keys]


def _names(keys: Iterable[str]) -> str:
    return ", ".join(BY_KEY[key].english for key in keys)
