"""The plug is pulled at random instants: what was acknowledged is there, nothing is half there, the store opens.

``FIRSTRAY_KILLS=300`` for the long run.
"""

import json
import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlmodel import select

from edge_app.store import migrations
from edge_app.store.errors import StoreError
from edge_app.store.store import Store
from edge_app.store.tables import DiagnosisRow, EncounterRow, ImageRow, PatientRow, RadiographRow
from tests.fault import store_writer
from tests.unit.edge_app.store.samples import check_chains, open_store
from tests.unit.edge_app.store.test_backups import newer_scripts

KILLS = int(os.environ.get("FIRSTRAY_KILLS", "24"))
ONE_STORE = 8
"""Kills that one store has to live through."""


def killed(work: Callable[..., None], folder: Path, *more: Any, after: str, seconds: float) -> list[dict[str, Any]]:
    """Run ``work`` in a process that is killed so many seconds after it told something; returns all that it told."""
    diary = folder.parent / "diary"
    diary.unlink(missing_ok=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.fault.store_writer"])
    process = context.Process(target=work, args=(folder, diary, *more), daemon=True)
    process.start()
    try:
        deadline = time.monotonic() + 60
        while not (diary.exists() and f'"{after}"' in diary.read_text()):
            assert process.is_alive(), "the writer ended by itself"
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(seconds)
        assert process.is_alive(), "the writer ended by itself"
    finally:
        process.kill()
        process.join()
    assert process.exitcode == -signal.SIGKILL
    return [json.loads(line) for line in diary.read_bytes().splitlines()]


def instant(chance: random.Random) -> dict[str, Any]:
    """When to kill: a quarter while it opens, the rest while it works."""
    if chance.random() < 0.25:
        return {"after": "began", "seconds": chance.uniform(0, 0.06)}
    return {"after": "opened", "seconds": chance.uniform(0, 0.5)}


def missing(store: Store, told: list[dict[str, Any]]) -> list[str]:
    """What was acknowledged and is not there."""
    going = {line["id"] for line in told if line["did"] == "deleting"}
    gone = {line["id"] for line in told if line["did"] == "deleted"}
    lost = []
    for line in told:
        try:
            match line:
                case {"did": "run", "id": id, "name": name} if store.run(UUID(id)).row.who.name != name:
                    lost.append(f"run {id}")
                case {"did": "note", "id": id, "notes": notes} if store.run(UUID(id)).row.encounter.notes != notes:
                    lost.append(f"note {id}")
                case {"did": "film", "id": id, "sha256": sha256} if id not in going:
                    store.original(UUID(id))  # verifies the bytes
                    assert store.film(UUID(id)).sha256 == sha256
                case {"did": "reading", "id": id, "film": film} if film not in going:
                    store.picture(UUID(film), UUID(id))
                    assert store.film(UUID(film)).diagnosis_id == UUID(id)
                case {"did": "held", "number": number} if store.standing().events_held < number:
                    lost.append(f"{number} receipts")
        except StoreError as problem:
            lost.append(f"{line}: {problem.code}")
    for id in gone:
        with pytest.raises(StoreError):
            store.film(UUID(id))
    return lost


def check_whole(store: Store, folder: Path) -> None:
    """Nothing is half there: every file has its owner, every owner its file, every record what it refers to."""
    check_chains(store)
    with store._database.reading() as session:
        images = session.exec(select(ImageRow)).all()
        films = {row.id: row for row in session.exec(select(RadiographRow))}
        readings = {row.id for row in session.exec(select(DiagnosisRow))}
        patients = set(session.exec(select(PatientRow.id)))
        assert {row.patient for row in session.exec(select(EncounterRow))} == patients
    for image in images:
        assert len(store._images.read(image.name, image.sha256)) == image.size
        assert image.radiograph in films
    originals = [image.radiograph for image in images if image.kind == "original"]
    assert sorted(originals) == sorted(films)
    for film in films.values():
        assert film.diagnosis is None or film.diagnosis in readings
        kinds = {image.kind for image in images if image.radiograph == film.id}
        assert kinds == ({"original", "picture", "preview"} if film.diagnosis else {"original"})
    files = {path.name for path in (folder / "images").rglob("*") if path.is_file()}
    assert files == {image.name for image in images}


@pytest.mark.timeout(1800)
def test_nothing_acknowledged_is_lost_and_nothing_is_half_written(tmp_path: Path) -> None:
    seed = int(os.environ.get("FIRSTRAY_SEED", str(time.time_ns() % 1_000_000)))
    chance, told, acknowledged = random.Random(seed), [], 0
    for kill in range(KILLS):
        folder = tmp_path / f"{kill // ONE_STORE}" / "store"
        if kill % ONE_STORE == 0:
            folder.parent.mkdir()
            told = []
        told += killed(store_writer.write_for_ever, folder, seed + kill, **instant(chance))
        store = open_store(folder)
        try:
            assert missing(store, told) == [], f"seed {seed}, kill {kill}"
            check_whole(store, folder)
        finally:
            store.close()
        if (kill + 1) % ONE_STORE == 0 or kill == KILLS - 1:
            acknowledged += sum(line["did"] in ("run", "film", "note", "reading", "held") for line in told)
    print(f"{KILLS} kills, {acknowledged} acknowledged records and images, seed {seed}")
    assert acknowledged >= KILLS


@pytest.mark.timeout(600)
def test_killed_while_it_migrates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    origin = tmp_path / "origin" / "store"
    store = open_store(origin)
    runs = [store.start_run(who={"name": f"patient {number}"}) for number in range(150)]
    store.close()
    newer_scripts(tmp_path, monkeypatch)
    chance = random.Random(7)
    for kill in range(max(4, KILLS // 6)):
        folder = tmp_path / f"{kill}" / "store"
        shutil.copytree(origin, folder)
        killed(store_writer.migrate, folder, migrations.SCRIPTS, after="began", seconds=chance.uniform(0, 0.4))
        store = open_store(folder)
        assert [row.id for row in store.runs(limit=200)] == runs[::-1]
        check_chains(store)
        with store._database.reading() as session:
            assert len(session.exec(select(EncounterRow)).all()) == 150
        store.close()
