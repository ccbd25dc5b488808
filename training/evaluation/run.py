"""``firstray evaluate``: from options to the report and its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shared.errors import FirstRayError
from shared.release import Precision, default_release, load_release
from shared.variants import RuntimeChoice
from training.evaluation.evaluate import Evaluation, evaluate
from training.evaluation.films import SPLIT, Patients, load_films
from training.evaluation.report import html
from training.tables import data_folder

REPORT, FIGURES, PER_IMAGE = "report.html", "figures.json", "per_image.csv"


@dataclass(frozen=True)
class Options:
    """The options of ``firstray evaluate``."""

    data: Path | None = None
    release: Path | None = None
    precision: Precision | None = None
    runtime: RuntimeChoice = "auto"
    patients: Patients = "unseen"
    split: Path | None = None
    fold: int = 0
    compare: bool = True
    threads: int | None = None
    out: Path = Path("evaluation")
    json_object: bool = False


def run(options: Options) -> None:
    """Evaluate, write the three files, and print the figures or their summary.

    Raises:
        FirstRayError: whatever is wrong with the release, the data (:func:`training.evaluation.films.load_films`) or
            the machine; ``output_unwritable``.
    """
    release = load_release(options.release or default_release())
    films = load_films(data_folder(options.data), options.patients, options.split or SPLIT, options.fold)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FirstRayError(
            "output_unwritable", f"{options.out} cannot be made: {error.strerror}.", "Choose another folder."
        ) from None
    done = evaluate(release, films, options.precision, options.runtime, options.threads, options.compare)
    write(done, options.out)
    if options.json_object:
        print(done.as_json())
    else:
        print_summary(done, options.out)


def write(done: Evaluation, folder: Path) -> None:
    """``report.html``, ``figures.json`` and ``per_image.csv``."""
    (folder / FIGURES).write_text(done.as_json() + "\n", encoding="utf-8")
    done.write_per_image(folder / PER_IMAGE)
    (folder / REPORT).write_text(html(done), encoding="utf-8")


def print_summary(done: Evaluation, folder: Path) -> None:
    """The summary as a table for a person, and what was left out."""
    from rich.console import Console
    from rich.table import Table

    console, data = Console(highlight=False), done.figures["data"]
    facts = done.figures["release"]
    table = Table(title=f"Release {facts['id']}, {facts['variant']}", title_justify="left")
    for heading in ("figure", "value [95 %]", "trivial baseline", "its value"):
        table.add_column(heading)
    for row in done.figures["summary"]:
        table.add_row(row["name"], str(row["figure"]), row["baseline_name"], str(row["baseline"]))
    console.print(table)
    cohorts = ", ".join(f"{number} of {name} patients" for name, number in data["cohorts"].items())
    left_out = data["left_out_as_trained_on"]
    console.print(f"{data['films']} films ({cohorts}).")
    if left_out["films"]:
        console.print(
            f"Left out: {left_out['films']} films of {left_out['patients']} patients the release was trained on."
        )
    for entry in data["unreadable"][:5]:
        console.print(f"Not read: {entry['image']} ({entry['code']}).", markup=False)
    if len(data["unreadable"]) > 5:
        console.print(f"Not read: {len(data['unreadable']) - 5} more.")
    console.print(f"Report: {folder / REPORT}", markup=False)
