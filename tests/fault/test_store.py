"""Disk full, disk write-protected, another process, a cut-off log, another key: a clear error, and nothing lost."""

import math
import multiprocessing
import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from edge_app.store.errors import StoreError
from edge_app.store.keys import KeyRing, MasterKey
from edge_app.store.store import Store
from shared.records import RecordType
from tests.fault import store_writer
from tests.fault.test_store_kill import killed
from tests.unit.edge_app.store.samples import (
    SECRET,
    all_bytes,
    arrival,
    check_chains,
    diagnosis,
    events,
    open_store,
    receive,
)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 6 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def until_full(action: Callable[[int], object]) -> None:
    """Do it again and again until the disk is full."""
    for number in range(5000):
        try:
            action(number)
        except StoreError as problem:
            if problem.code == "disk_full":
                return
            raise
    pytest.fail("the disk never was full")


def code_of(error: pytest.ExceptionInfo[StoreError]) -> str:
    return error.value.code


def test_a_full_disk_loses_nothing_and_everything_goes_on_when_there_is_room(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(1_500_000))
    store = open_store(small_disk / "store")
    run = store.start_run(who={"name": "before"})
    films, notes = [], ""
    until_full(lambda number: films.append(receive(store, os.urandom(100_000))))

    def change(number: int) -> None:
        nonlocal notes
        store.change(RecordType.ENCOUNTER, run, {"notes": str(number) + "x" * 3900})
        notes = str(number)

    until_full(change)
    with pytest.raises(StoreError) as full:
        store.add_reading(films[0], diagnosis=diagnosis(), error=None, picture=os.urandom(300_000))
    assert code_of(full) == "disk_full"
    assert (store.run(run).row.encounter.notes or "x").split("x")[0] == notes
    for film in films:
        assert len(store.original(film)) == 100_000
    assert not list(small_disk.rglob("*.part"))
    ballast.unlink()
    store.add_reading(films[0], diagnosis=diagnosis(), error=None, picture=b"now there is room")
    films.append(receive(store))
    check_chains(store)
    store.close()
    again = open_store(small_disk / "store")
    assert {film.id for film in again.waiting_films()} == set(films)
    assert again.picture(films[0]) == b"now there is room"
    check_chains(again)
    again.close()


def test_a_disk_too_full_to_open_says_so(small_disk: Path) -> None:
    store = open_store(small_disk / "store")
    store.start_run()
    store.close()
    with suppress(OSError), (small_disk / "ballast").open("wb", buffering=0) as ballast:
        while True:
            ballast.write(bytes(4096))

    def open_and_write(number: int) -> None:
        with closing(open_store(small_disk / "store")) as again:
            again.start_run()

    until_full(open_and_write)
    (small_disk / "ballast").unlink()
    last = open_store(small_disk / "store")
    assert len(last.runs()) >= 1
    check_chains(last)
    last.close()


def test_a_write_protected_disk(small_disk: Path) -> None:
    store = open_store(small_disk / "store")
    run = store.start_run()
    store.close()
    KeyRing(small_disk / "store").create("483902")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StoreError) as error:
        open_store(small_disk / "store")
    assert code_of(error) == "disk_read_only"
    with pytest.raises(StoreError) as error:
        KeyRing(small_disk / "store").unlock("483902")
    assert code_of(error) == "disk_read_only"
    with pytest.raises(StoreError) as error:
        open_store(small_disk / "other")
    assert code_of(error) == "disk_read_only"
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    again = open_store(small_disk / "store")
    assert [row.id for row in again.runs()] == [run]
    again.close()


def test_only_one_process_at_a_time(tmp_path: Path) -> None:
    folder, diary = tmp_path / "store", tmp_path / "diary"
    other = multiprocessing.get_context("forkserver").Process(
        target=store_writer.write_for_ever, args=(folder, diary, 1), daemon=True
    )
    other.start()
    while not (diary.exists() and b"opened" in diary.read_bytes()):
        assert other.is_alive()
        time.sleep(0.01)
    with pytest.raises(StoreError) as error:
        open_store(folder)
    assert code_of(error) == "store_locked"
    with pytest.raises(StoreError) as error:
        Store.restore(folder, MasterKey(SECRET), None)
    assert code_of(error) == "store_locked"
    other.kill()
    other.join()
    store = open_store(folder)
    with pytest.raises(StoreError) as error:
        open_store(folder)
    assert code_of(error) == "store_locked"
    store.close()


def test_another_key_opens_nothing_and_changes_nothing(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    run = store.start_run()
    film = receive(store)
    store.close()
    before = dict(all_bytes(tmp_path / "store"))
    with pytest.raises(StoreError) as error:
        Store.open(tmp_path / "store", MasterKey(b"x" * 32), reserve=0, check=False)
    assert code_of(error) == "store_damaged"
    assert dict(all_bytes(tmp_path / "store")) == before
    again = open_store(tmp_path / "store")
    assert again.run(run).row.id == run
    assert again.original(film)
    again.close()


@pytest.mark.parametrize("harm", ["cut", "zeros", "gone"])
def test_a_log_that_lost_its_end_leaves_a_whole_store(tmp_path: Path, harm: str) -> None:
    folder = tmp_path / "store"
    store = open_store(folder)
    first = store.start_run(who={"name": "first"})
    store.close()  # folds the log into the database
    store = open_store(folder)
    for number in range(5):
        store.start_run(who={"name": f"in the log {number}"})
    film = receive(store)
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)  # as a pulled plug leaves it
    store.close()
    log = copy / "records.db-wal"
    data = log.read_bytes()
    assert len(data) > 20_000
    if harm == "gone":
        log.unlink()
    else:
        log.write_bytes(data[:-9_000] + (bytes(9_000) if harm == "zeros" else b""))
    again = open_store(copy)
    assert first in {row.id for row in again.runs()}
    assert again.runs("first")[0].id == first
    assert again.original(film)  # its file was there: the record was made again where the log had lost it
    check_chains(again)
    again.start_run()
    check_chains(again)
    again.close()


SECRETS = ("Hong Gil-dong", "홍길동", "MRN-8837465", "900101-1234567", "I-2026-0042", "stabbing pain in the chest")


def fill(folder: Path, diary: Path, chest: Path) -> None:
    """Fill a store with what must not be found, and stay in the middle of receiving an image."""
    tell = store_writer.Diary(diary)
    store = open_store(folder, check=True)
    name, korean, number, insurance, incident, complaint = SECRETS
    for who in (name, korean):
        run = store.start_run(
            who={"name": who, "identifiers": [{"system": "x", "value": number}, {"system": "y", "value": insurance}]},
            encounter={"incident_number": incident, "chief_complaint": complaint},
        )
    film = receive(store, chest.read_bytes())
    store.add_reading(
        film,
        diagnosis=diagnosis("Pleural_Thickening", urgent=("Pneumothorax",)),
        error=None,
        radiograph={"encounter": run, "device_patient": {"name": name, "patient_id": number}},
        picture=chest.read_bytes()[200_000:400_000],
        preview=chest.read_bytes()[400_000:450_000],
    )
    store.back_up()
    store.runs(complaint.upper())
    with store.spool() as spool:
        for start in range(0, 3_000_000, 10_000):
            spool.write(chest.read_bytes()[start : start + 10_000])
        tell(did="spooled")
        while store.runs():
            spool.write(b"the rest never comes")
        spool.commit(arrival())


def test_a_stolen_disk_tells_nothing(tmp_path: Path, chest: Path) -> None:
    folder = tmp_path / "store"
    ring = KeyRing(folder)
    ring.create("483902").close()
    killed(fill, folder, chest, after="spooled", seconds=0.2)
    assert (folder / "records.db-wal").stat().st_size > 0
    key = MasterKey(SECRET)
    texts = [*SECRETS, "Pleural_Thickening", "Pneumothorax", "estimated_age", "encounterrow", "XRAY1"]
    sought = [text.encode(coding) for text in texts for coding in ("utf-8", "utf-16-le", "utf-16-be")]
    for secret in (SECRET, key.blob_key, key.name_key, key.grave_key, bytes.fromhex(key.database_key)):
        sought += [secret, secret.hex().encode(), secret.hex().upper().encode()]
    radiograph = chest.read_bytes()
    sought += [radiograph[at : at + 24] for at in range(128, len(radiograph) - 24, 250_000)]
    # With what follows it: four bytes alone are in one of some hundred stores by chance.
    sought += [radiograph[128:144], b"SQLite format 3", b"CREATE TABLE", b"1.2.840.10008"]
    sought = [piece for piece in sought if len(set(piece)) > 3]
    files = [(path, data) for path, data in all_bytes(folder)]
    assert {"records.db", "records.db-wal", "records.db-shm", "keys.json"} <= {path.name for path, _ in files}
    assert any(path.suffix == ".part" for path, _ in files)
    assert any(path.parent.name == "backups" for path, _ in files)
    for path, data in files:
        assert [piece for piece in sought if piece in data] == [], path.name
        assert not any(text in path.name for text in texts)
        if path.suffix != ".db-shm" and path.name not in ("keys.json", "device", "lock", "records.db-shm"):
            assert entropy(data) > 7.9, path.name
    again = open_store(folder)
    assert len(again.runs("홍길동")) == 1
    assert len(events(again)) > 5
    again.close()


def entropy(data: bytes) -> float:
    """Bits a byte; random bytes have nearly 8."""
    counts = Counter(data).values()
    return -sum(count / len(data) * math.log2(count / len(data)) for count in counts)
