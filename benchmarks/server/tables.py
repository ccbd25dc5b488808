"""From the server's figures to the report: the limits with their verdicts, and what lies behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from benchmarks.report import BUSY, Judged, Limit, figure, table

INTAKE_RATES: Final = {"sqlite": 500.0, "postgresql": 1000.0}
"""Events a second that must be reached, and at which batches are timed."""
NAMES: Final = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}

LIMITS: Final = (
    Limit("events_sqlite", "events stored durably with receipts, SQLite", 500, "/s", "least"),
    Limit("batch_sqlite", "a batch of 50 at 500 events/s, SQLite, p95", 150, "ms"),
    Limit("events_postgresql", "events stored durably with receipts, PostgreSQL", 1000, "/s", "least"),
    Limit("batch_postgresql", "a batch of 50 at 1,000 events/s, PostgreSQL, p95", 150, "ms"),
    Limit(
        "crowd_complete", "ambulances complete, of 200 at once (50 events, preview, 7 MB original)", 200, "", "least"
    ),
    Limit("crowd_lost", "events and images of these lost", 0, ""),
    Limit("crowd_duplicate", "events and images of these held twice, or left unfinished", 0, ""),
    Limit("crowd_memory", "memory of the server meanwhile, most", 700, "MB"),
    Limit("link_board", "bad link comes up: run and findings on the board, slowest", 5, "s"),
    Limit("link_preview", "from there until the preview is held, slowest", 20, "s"),
    Limit("board", "board update, commit included, 100 open boards, p95", 300, "ms"),
    Limit("search_sqlite", "admin's search in 100,000 histories, SQLite, p95", 150, "ms"),
    Limit("search_postgresql", "admin's search in 100,000 histories, PostgreSQL, p95", 150, "ms"),
    Limit("reinference", "full-precision readings, from queue to database", 15, "/s", "least"),
)


def judged(figures: Mapping[str, float], problems: Mapping[str, str]) -> list[Judged]:
    """Every limit that was asked for, with its figure or why there is none."""
    return [
        Judged(limit, figures.get(limit.key), problems.get(limit.key))
        for limit in LIMITS
        if limit.key in figures or limit.key in problems
    ]


def figures_of(part: str, found: Mapping[str, Any]) -> dict[str, float]:
    """What a part of the benchmark measured, by the limits' keys."""
    kind, _, database = part.partition(" ")
    if kind == "intake":
        return {f"events_{database}": found["events_per_s"], f"batch_{database}": found["batch_p95_ms"]}
    if kind == "crowd":
        return {f"crowd_{name}": found[key] for name, key in _CROWD.items()}
    if kind == "link":
        return {"link_board": max(found["board_s"]), "link_preview": max(found["preview_s"])}
    if kind == "board":
        return {"board": max(one["p95_ms"] for one in found.values())}
    if kind == "search":
        return {f"search_{database}": quantile(_all(found["questions"]), 0.95)}
    return {"reinference": found["studies_per_second"]}


_CROWD: Final = {"complete": "complete", "lost": "lost", "duplicate": "duplicate", "memory": "memory_mb"}


def keys_of(part: str) -> list[str]:
    """The limits that a part of the benchmark is for."""
    kind, _, database = part.partition(" ")
    keys = {
        "intake": [f"events_{database}", f"batch_{database}"],
        "crowd": [f"crowd_{name}" for name in _CROWD],
        "link": ["link_board", "link_preview"],
        "search": [f"search_{database}"],
    }
    return keys.get(kind, [kind])


def markdown(measured: Mapping[str, Any], verdicts: Sequence[Judged]) -> str:
    """The report as Markdown, without headings."""
    parts = measured["parts"]
    said = [
        _circumstances(measured),
        _limits(verdicts),
        _intake(parts),
        _crowd(parts.get("crowd")),
        _link(parts.get("link")),
        _board(parts.get("board")),
        _search(parts),
        _reinference(parts.get("reinference")),
    ]
    return "\n\n".join(text for text in said if text) + "\n"


def _circumstances(measured: Mapping[str, Any]) -> str:
    facts, busy = measured["machine"], measured["busy"]
    text = (
        f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_gb']} GB: server, clients and database share them,"
        " over loopback. Every commit waits for the disk."
    )
    return text + (f" Other programs took {busy:.0%} of the processor." if busy and busy > BUSY else "")


def _limits(verdicts: Sequence[Judged]) -> str:
    rows = []
    for one in verdicts:
        limit = one.limit
        bound = "<=" if limit.bound == "most" else ">="
        value = one.problem or f"{figure(one.measured or 0.0)} {limit.unit}".strip()
        rows.append([limit.name, f"{bound} {limit.target:g} {limit.unit}".strip(), value, one.verdict])
    return table(["what it must reach", "target", "measured", ""], rows)


def _intake(parts: Mapping[str, Any]) -> str:
    rows = []
    for key, name in NAMES.items():
        if (found := parts.get(f"intake {key}")) is None:
            continue
        for what, values in (
            (f"as fast as answered ({found['events_per_s']:.0f} events/s)", found["saturated_ms"]),
            (f"at {found['rate']:.0f} events/s", found["batch_ms"]),
        ):
            rows.append([f"{name}, {what}", *(figure(quantile(values, share)) for share in (0.5, 0.95, 1.0))])
    if not rows:
        return ""
    spent = ", ".join(
        f"{figure(found['server_processor_ms_a_batch'])} ms with {name}"
        for key, name in NAMES.items()
        if (found := parts.get(f"intake {key}"))
    )
    return (
        table(["a batch of 50 events, 8 ambulances, ms", "p50", "p95", "most"], rows)
        + f"\n\nProcessor time of the server's process for a batch: {spent}."
    )


def _crowd(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    until = ", ".join(f"{name} {figure(seconds)} s" for name, seconds in found["until_p95_s"].items())
    again = ", ".join(f"{count} x {why}" for why, count in found["asked_again"].items())
    return (
        f"{found['ambulances']} ambulances at once: {found['whole_s']:.0f} s for everything"
        f" ({found['megabytes_per_s']:.0f} MB/s); p95 of an ambulance until its receipts: {until}."
        f" The server took {found['memory_at_rest_mb']:.0f} MB at its start."
        + (f" Asked again: {again}." if again else "")
    )


def _link(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    turns = "; ".join(
        f"{figure(board)} s and {figure(preview)} s"
        for board, preview in zip(found["board_s"], found["preview_s"], strict=True)
    )
    return (
        f"Bad link: {found['bits_per_second'] // 1000} kbit/s, {found['round_trip_s'] * 1000:.0f} ms,"
        f" {found['breaks']:.0%} of connections break; TLS, token and hash chain included. Each turn: {turns}."
    )


def _board(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    rows = [[name, *(str(one[key]) for key in ("median_ms", "p95_ms", "slowest_ms"))] for name, one in found.items()]
    return table(["update of 100 boards, ms", "p50", "p95", "most"], rows)


def _search(parts: Mapping[str, Any]) -> str:
    found = {name: parts[f"search {key}"]["questions"] for key, name in NAMES.items() if f"search {key}" in parts}
    if not found:
        return ""
    questions = list(next(iter(found.values())))
    rows = [
        [question, *(figure(quantile(one[question], share)) for one in found.values() for share in (0.5, 1.0))]
        for question in questions
    ]
    headings = [f"{name}, {what}" for name in found for what in ("p50", "most")]
    return table(["admin's search, ms", *headings], rows)


def _reinference(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    return (
        f"Full precision on the processor: {found['studies']} studies of 7 MB by {found['readers']} readers,"
        f" {figure(found['studies_per_second'])} a second; {found['memory_mb']} MB."
    )


def quantile(values: Sequence[float], share: float) -> float:
    """Of all values."""
    return float(np.quantile(values, share))


def _all(questions: Mapping[str, Sequence[float]]) -> list[float]:
    return [value for values in questions.values() for value in values]
