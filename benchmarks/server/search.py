"""``python -m benchmarks.server.search``: the admin's search in 100,000 histories, on SQLite and PostgreSQL.

Fills a database of its own, then asks what an admin asks: by name, number and complaint (rare, common and unknown
words, Korean too), each filter, each sort, and pages far down. One question is what a page of the list needs: its rows
and the count. Exit code 1 where the 95th percentile over all questions is above the limit.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import insert, text

from shared.findings import BY_KEY, KEYS, Urgency
from shared.identity import new_id
from sync_server.db.tables import HistoryRow
from sync_server.domain import archive
from sync_server.domain.archive import Criteria, Shown, Sort
from sync_server.domain.folding import folded
from sync_server.hospital import Hospital, open_hospital
from sync_server.settings import load_settings

LIMIT_MS = 150.0
ROUNDS = 8
FAMILY = "김이박최정강조윤장임한오서신권황안송류홍"
GIVEN = "민서준도윤하은지우현수영철희경자순호진"
COMPLAINTS = (
    "호흡곤란 및 흉통",
    "교통사고 후 흉부 통증",
    "Dyspnoea since this morning, worse lying down",
    "Fever and cough for three days, known COPD, oxygen at home",
    "의식 저하, 보호자 신고",
)


def histories(count: int, devices: list[UUID], chance: random.Random) -> Iterator[dict[str, Any]]:
    """Rows as ``histories.refresh`` writes them: one run every five minutes, three in a hundred deleted."""
    now = datetime.now(UTC)
    for number in range(count):
        name = chance.choice(FAMILY) + chance.choice(GIVEN) + chance.choice(GIVEN) if chance.random() < 0.8 else None
        likely = sorted(chance.sample(KEYS, chance.choice((0, 0, 1, 1, 2, 3))))
        urgent = [key for key in likely if BY_KEY[key].urgency is not Urgency.ROUTINE]
        complaint, incident = chance.choice(COMPLAINTS), f"119-{number:08d}"
        started = now - timedelta(minutes=5 * number)
        yield {
            "encounter": new_id(),
            "patient": new_id(),
            "device": chance.choice(devices),
            "started_at": started,
            "ended_at": started + timedelta(minutes=40),
            "under_way": number < 20,
            "visible": chance.random() > 0.03,
            "name": name,
            "sex": chance.choice(("male", "female")),
            "age": chance.randrange(1, 99),
            "age_estimated": name is None,
            "complaint": complaint,
            "incident_number": incident,
            "vital_signs": {"spo2": 91, "heart_rate": 104, "systolic": 118, "diastolic": 70, "gcs": 15},
            "films": 1,
            "rank": 2 if urgent else 6,
            "urgent": urgent,
            "top": likely[0] if likely else None,
            "top_probability": 0.71 if likely else None,
            "found": f",{','.join(likely)}," if likely else "",
            "differs": chance.random() < 0.1,
            "confirmed": chance.random() < 0.3,
            "search": folded(f"{name or ''} {chance.randrange(10**8):08d} {incident} {complaint}"),
            "changed_at": started + timedelta(minutes=chance.randrange(60)),
        }


def questions(devices: list[UUID], chance: random.Random) -> dict[str, Criteria]:
    """What is asked, by name."""
    name = chance.choice(FAMILY) + chance.choice(GIVEN) + chance.choice(GIVEN)
    day = datetime.now(UTC) - timedelta(days=chance.randrange(300))
    return {
        "all": Criteria(),
        "a name": Criteria(text=name),
        "a family name": Criteria(text=name[0]),
        "an incident number": Criteria(text=f"119-{chance.randrange(100_000):08d}"),
        "two words": Criteria(text=f"{name[:2]} 호흡"),
        "a word that is nowhere": Criteria(text="appendicitis"),
        "a common word": Criteria(text="cough"),
        "a day": Criteria(since=day, until=day + timedelta(days=1)),
        "a finding": Criteria(finding=chance.choice(KEYS)),
        "a device": Criteria(device=chance.choice(devices)),
        "urgent": Criteria(urgent=True),
        "differs, unconfirmed": Criteria(differs=True, confirmed=False),
        "deleted": Criteria(shown=Shown.HIDDEN),
        "by name": Criteria(sort=Sort.NAME, descending=False),
        "by urgency": Criteria(sort=Sort.URGENCY, descending=False),
        "by change": Criteria(sort=Sort.CHANGED),
        "a word, by name": Criteria(text="흉통", sort=Sort.NAME, descending=False),
    }


def measure(hospital: Hospital, devices: list[UUID]) -> dict[str, list[float]]:
    """Milliseconds of every question, several times each with other words, first pages and far ones."""
    taken: dict[str, list[float]] = {}
    chance = random.Random(7)
    far = _far_mark(hospital)
    for turn in range(ROUNDS + 1):
        asked = [(name, criteria, None) for name, criteria in questions(devices, chance).items()]
        for name, criteria, mark in [*asked, ("a page far down", Criteria(), far)]:
            begun = time.perf_counter()
            with hospital.database.reading() as session:
                archive.find(session, criteria, mark)
            if turn:  # the first turn warms up
                taken.setdefault(name, []).append((time.perf_counter() - begun) * 1000)
    return taken


def _far_mark(hospital: Hospital) -> str | None:
    with hospital.database.reading() as session:
        return archive.find(session, Criteria(), size=60_000).next


@contextmanager
def filled(folder: Path, database: str | None, count: int) -> Iterator[tuple[Hospital, list[UUID]]]:
    """A hospital with so many histories."""
    hospital = open_hospital(load_settings(data=folder, database=database), listen=False)
    devices = [new_id() for _ in range(40)]
    try:
        with hospital.database.writing() as session:
            rows = list(histories(count, devices, random.Random(1)))
            for start in range(0, count, 5000):
                session.execute(insert(HistoryRow), rows[start : start + 5000])
        with hospital.database.writing() as session:
            session.execute(text("ANALYZE"))
        yield hospital, devices
    finally:
        hospital.close()


def main() -> int:
    """Measure and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--histories", type=int, default=100_000)
    parser.add_argument("--database", help="URL of an empty PostgreSQL database; SQLite in a new file if not given")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="firstray-bench-search-") as folder,
        filled(Path(folder), arguments.database, arguments.histories) as (hospital, devices),
    ):
        taken = measure(hospital, devices)
        kind = "SQLite" if hospital.database.sqlite else "PostgreSQL"
    print(f"{kind}, {arguments.histories:,} histories: a page with its count, ms\n")
    print("| question | p50 | worst |\n| --- | --- | --- |")
    for name, values in taken.items():
        print(f"| {name} | {statistics.median(values):.1f} | {max(values):.1f} |")
    p95 = statistics.quantiles([value for values in taken.values() for value in values], n=20)[-1]
    print(f"\np95 over all: {p95:.1f} ms (limit {LIMIT_MS:.0f})")
    return int(p95 > LIMIT_MS)


if __name__ == "__main__":
    sys.exit(main())
