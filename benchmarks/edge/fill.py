"""A store with many studies, as after years of runs, and how long it takes to list, search and open them."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from edge_app.capture.intake import Arrival, Source
from edge_app.reading import FilmReader, screened_picture
from edge_app.store.keys import KeyRing
from edge_app.store.store import Store
from shared.calibration import State
from shared.diagnosis import Diagnosis
from shared.findings import KEYS

PIN = "271828"
FAMILY = ("Kim", "Lee", "Park", "Choi", "Jung", "김", "이", "박", "최", "정")
GIVEN = ("Chulsoo", "Younghee", "Jimin", "Minjun", "Seoyeon", "철수", "영희", "지민", "민준", "서연")
COMPLAINTS = ("Dyspnoea", "Chest pain", "Fall", "호흡곤란", "가슴 통증", "교통사고", "Fever", "Unconscious")
REPEATS = 200
"""Timings of each question."""


def fill(folder: Path, studies: int, sample: bytes, progress: Callable[[str], None]) -> None:
    """Make a store of so many runs with one read radiograph each, the latest under way.

    It is filled in memory where there is such a folder, since waiting for the disk after each of 50,000 changes is not
    what is measured, and then moved to ``folder``.
    """
    memory = Path("/dev/shm")
    work = memory / f"firstray-fill-{os.getpid()}" if memory.is_dir() else folder
    store = Store.open(work, KeyRing(work).create(PIN), check=False, reserve=0)
    reading = FilmReader().read(sample)
    assert reading.diagnosis is not None
    chance = random.Random(1)
    now = datetime.now(UTC)
    for number in range(studies):
        if number % 500 == 0:
            progress(f"filling the store: {number} of {studies}")
        began = now - timedelta(hours=3 * (studies - number))
        who = {
            "name": f"{chance.choice(FAMILY)} {chance.choice(GIVEN)} {number}",
            "birth_date": (now - timedelta(days=chance.randrange(365, 33_000))).date(),
        }
        encounter = {
            "started_at": began,
            "chief_complaint": chance.choice(COMPLAINTS),
            "incident_number": f"2026-{number:06d}",
        }
        run = store.start_run(who=who, encounter=encounter)
        store.add_vital_signs(run, {"spo2": chance.randrange(80, 100), "heart_rate": chance.randrange(50, 140)})
        with store.spool() as spool:
            spool.write(b"study" + number.to_bytes(8, "big") * 100)
            film = spool.commit(Arrival(Source.DICOM, "XRAY1", began + timedelta(minutes=5)))
        store.add_reading(
            film,
            diagnosis=_varied(reading.diagnosis, chance),
            error=None,
            radiograph={"encounter": run},
            picture=reading.picture,
            preview=reading.preview,
        )
        if number < studies - 1:
            store.end_run(run)
    store.close()
    if work != folder:
        shutil.move(work, folder)


def _varied(diagnosis: Diagnosis, chance: random.Random) -> Diagnosis:
    likely = set(chance.sample(KEYS, 2))
    states = {key: State.LIKELY if key in likely else State.UNLIKELY for key in KEYS}
    return diagnosis.model_copy(update={"states": {**diagnosis.states, **states}})


def questions(store: Store, studies: int) -> dict[str, list[float]]:
    """Milliseconds of listing, searching and opening, each :data:`REPEATS` times and anew."""
    chance = random.Random(2)
    rows = [row.id for row in store.runs(limit=500)]

    def page() -> None:
        store.runs(limit=50, before=chance.choice(rows))

    def search() -> None:
        number = chance.randrange(studies)
        found = store.runs(f"2026-{number:06d}", limit=50)
        assert len(found) == 1, "the search finds what is there"

    def search_name() -> None:
        store.runs(f"{chance.choice(FAMILY)} {chance.choice(GIVEN)}", limit=50)

    def by_finding() -> None:
        store.runs(finding=chance.choice(KEYS), limit=50)

    def open_study() -> None:
        run = store.run(chance.choice(rows))
        screened_picture(store.picture(run.films[0].id))

    asked: dict[str, Callable[[], Any]] = {
        "list": page,
        "search by number": search,
        "search by name": search_name,
        "filter by finding": by_finding,
        "open": open_study,
    }
    return {name: [_milliseconds(question) for _ in range(REPEATS)] for name, question in asked.items()}


def _milliseconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000
