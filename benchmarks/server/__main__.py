"""``python -m benchmarks.server``: measure the hospital's side, print the tables, write ``results/bench-server.*``.

Exit code 0 if every limit is kept or could not be measured for want of a program, 1 if one is not. ``--quick`` only
shows that everything runs; its figures mean nothing. PostgreSQL is a private cluster, gone afterwards, unless empty
databases are named.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks import machine
from benchmarks.fresh import Problem, run
from benchmarks.report import replace_section
from benchmarks.server import crowd, intake, link, search
from benchmarks.server.tables import INTAKE_RATES, NAMES, figures_of, judged, keys_of, markdown
from tests.hospital.clusters import private_cluster

ROOT: Final = Path(__file__).parents[2]
RESULTS: Final = ROOT / "results"
README: Final = ROOT / "README.md"
MARKS: Final = ("<!-- bench-server:begin -->", "<!-- bench-server:end -->")
KINDS: Final = ("intake", "crowd", "link", "board", "search", "reinference")

Part = Callable[[Path], dict[str, Any]]
NewDatabase = Callable[[], str]


def main() -> int:
    """Measure, report, and judge."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="firstray-bench-server-") as work, postgresql(arguments.postgres) as new:
        measured = measure(Path(work), parts(arguments.only, arguments.quick, new))
    verdicts = judged(measured["figures"], measured["problems"])
    measured["limits"] = [
        {**asdict(one.limit), "measured": one.measured, "problem": one.problem, "verdict": one.verdict}
        for one in verdicts
    ]
    text = markdown(measured, verdicts)
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "bench-server.json").write_text(json.dumps(measured, indent=1) + "\n")
    (RESULTS / "bench-server.md").write_text(text)
    if arguments.write_readme:
        README.write_text(replace_section(README.read_text(), text, *MARKS))
    return int(any(one.verdict == "fail" for one in verdicts))


def parts(kinds: list[str], quick: bool, new_database: NewDatabase | None) -> dict[str, Part]:
    """What is measured, by name; ``intake`` and ``search`` once on each database."""
    found: dict[str, Part] = {}
    for kind in kinds:
        if kind == "intake":
            for name, rate in INTAKE_RATES.items():
                found[f"intake {name}"] = partial(_intake, name, rate, quick, new_database)
        elif kind == "search":
            for name in NAMES:
                found[f"search {name}"] = partial(_search, name, 2_000 if quick else 100_000, new_database)
        else:
            found[kind] = partial(_OTHERS[kind], quick)
    return found


def measure(work: Path, parts: dict[str, Part]) -> dict[str, Any]:
    """All parts, one after the other; what breaks is a problem of its own limits only."""
    measured: dict[str, Any] = {"machine": machine.facts(), "busy": machine.busy(), "parts": {}}
    figures: dict[str, float] = {}
    problems: dict[str, str] = {}
    for name, part in parts.items():
        _progress(name)
        try:
            found = part(work / name.replace(" ", "-"))
        except Exception as error:  # noqa: BLE001  whatever broke, the other parts are measured all the same
            if not isinstance(error, Problem):
                traceback.print_exception(error)
            said = str(error) if isinstance(error, Problem) else f"failed: {type(error).__name__}"
            problems |= dict.fromkeys(keys_of(name), said)
        else:
            measured["parts"][name] = found
            figures |= figures_of(name, found)
    _progress("")
    return {**measured, "figures": figures, "problems": problems}


def _intake(name: str, rate: float, quick: bool, new: NewDatabase | None, folder: Path) -> dict[str, Any]:
    return intake.measure(folder, _database(name, new), rate, quick)


def _search(name: str, histories: int, new: NewDatabase | None, folder: Path) -> dict[str, Any]:
    with search.filled(folder, _database(name, new), histories) as (hospital, devices):
        return {"histories": histories, "questions": search.measure(hospital, devices)}


def _crowd(quick: bool, folder: Path) -> dict[str, Any]:
    return crowd.measure(folder, ambulances=8 if quick else crowd.AMBULANCES)


def _link(quick: bool, folder: Path) -> dict[str, Any]:
    return link.measure(folder, 1 if quick else 3)


def _board(quick: bool, _: Path) -> dict[str, Any]:
    found = _printed("board", "--boards", "10" if quick else "100", "--changes", "4" if quick else "40")
    return {name: one for name, one in found.items() if name != "machine"}


def _reinference(quick: bool, _: Path) -> dict[str, Any]:
    return _printed("reinference", "--studies", "10" if quick else "150")


_OTHERS: Final[dict[str, Callable[[bool, Path], dict[str, Any]]]] = {
    "crowd": _crowd,
    "link": _link,
    "board": _board,
    "reinference": _reinference,
}


def _printed(module: str, *options: str) -> dict[str, Any]:
    """The JSON that one of the other benchmarks prints."""
    _, printed = run([sys.executable, "-m", f"benchmarks.server.{module}", *options], {})
    found: dict[str, Any] = json.loads(printed)
    return found


def _database(name: str, new: NewDatabase | None) -> str | None:
    """URL of an empty database; None for SQLite in the part's own folder."""
    if name == "sqlite":
        return None
    if new is None:
        raise Problem("not installed: PostgreSQL")
    return new()


@contextmanager
def postgresql(given: str) -> Iterator[NewDatabase | None]:
    """Gives empty databases: of a private cluster for ``auto``; None where PostgreSQL is not installed."""
    if given != "auto":
        urls = iter(given.split(","))
        yield lambda: next(urls)
        return
    with private_cluster() as cluster:
        yield cluster.new_database if cluster else None


def _progress(what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{what}", end="", file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.server", description="What the hospital's side bears.")
    parser.add_argument(
        "--postgres",
        default="auto",
        metavar="URL,URL",
        help="two empty databases (intake, search); or auto: a private cluster",
    )
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS), help="some parts only")
    parser.add_argument("--quick", action="store_true", help="only show that it runs; the figures mean nothing")
    parser.add_argument("--write-readme", action="store_true", help="put the tables into README.md")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
