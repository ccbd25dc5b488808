"""The process is killed before each step in turn that touches a file: every step is the last one once.

Random instants (test_store_kill) seldom meet the windows between two renames; these meet each of them.
"""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from edge_app.store.errors import StoreError
from edge_app.store.keys import MasterKey
from edge_app.store.store import Store
from tests.unit.edge_app.store.samples import SECRET, check_chains, diagnosis, open_store, receive

KEY = MasterKey(SECRET)
STEPS = ("open", "os.rename", "os.remove", "os.mkdir")
"""Audit events (PEP 578) of what is done to files from Python; SQLite's own are its own matter."""


def killed_before(step: int, work: Callable[[], object]) -> bool:
    """Do the work in a process that is killed before its step of that number; False where it has fewer."""
    pid = os.fork()
    if pid == 0:
        left = [step]

        def hook(event: str, _: tuple[object, ...]) -> None:
            if event in STEPS:
                if not left[0]:
                    os.kill(os.getpid(), signal.SIGKILL)
                left[0] -= 1

        sys.addaudithook(hook)
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)


def every_step(origin: Path, work: Callable[[Path], object], check: Callable[[Path], None]) -> int:
    """Kill the work at each of its steps, on a fresh copy of the store each time; returns how many there were."""
    step = 0
    while True:
        folder = origin.parent / f"step-{step}"
        shutil.copytree(origin, folder)
        alive = not killed_before(step, lambda folder=folder: work(folder))
        check(folder)
        shutil.rmtree(folder)
        if alive:
            return step
        step += 1


@pytest.fixture
def origin(tmp_path: Path) -> tuple[Path, UUID, UUID]:
    """A store with a run and a read film of the time of its backup, and a film that came later."""
    folder = tmp_path / "origin"
    store = open_store(folder)
    run = store.start_run(who={"name": "Kim"})
    film = receive(store, b"before the backup")
    store.add_reading(
        film, diagnosis=diagnosis(), error=None, radiograph={"encounter": run}, picture=b"picture", preview=b"preview"
    )
    store.back_up()
    receive(store, b"after the backup")
    store.close()
    return folder, run, film


def images(store: Store) -> set[bytes]:
    films = [*store.waiting_films(), *(film for row in store.runs() for film in store.run(row.id).films)]
    return {store.original(film.id) for film in films}


def opened(folder: Path) -> Store:
    """As a crew would: where the database is missing, its latest backup is restored."""
    if not (folder / "records.db").exists():
        with pytest.raises(StoreError) as missing:
            open_store(folder)
        assert missing.value.code == "store_missing"
        Store.restore(folder, KEY, missing.value.backups[0])
    return open_store(folder)


def test_restoring_a_backup(origin: tuple[Path, UUID, UUID]) -> None:
    folder, run, film = origin

    def check(folder: Path) -> None:
        store = opened(folder)
        assert images(store) == {b"before the backup", b"after the backup"}
        assert store.run(run).row.who.name == "Kim"
        assert store.picture(film) == b"picture"
        check_chains(store)
        store.close()
        assert not list(folder.rglob("*.part*"))

    steps = every_step(folder, lambda folder: Store.restore(folder, KEY, Store.backups(folder)[0]), check)
    assert steps > 12


def test_deleting_for_good(origin: tuple[Path, UUID, UUID]) -> None:
    folder, run, film = origin

    def delete(folder: Path) -> None:
        store = open_store(folder)
        store.delete_run(run, undo_seconds=0)
        store.settle()

    def check(folder: Path) -> None:
        store = open_store(folder)
        here = [row.id for row in store.runs()] == [run]
        assert images(store) == ({b"before the backup", b"after the backup"} if here else {b"after the backup"})
        files = [path for path in (folder / "images").rglob("*") if path.is_file()]
        assert len(files) == (4 if here else 1)  # original, picture and preview went with the run
        check_chains(store)
        store.close()
        restored = Store.backups(folder)[0]
        Store.restore(folder, KEY, restored)
        again = open_store(folder)
        with pytest.raises(StoreError) if not here else open(os.devnull):
            again.film(film)
        again.close()

    assert every_step(folder, delete, check) > 8


def test_receiving_and_reading(origin: tuple[Path, UUID, UUID]) -> None:
    folder, _, film = origin

    def work(folder: Path) -> None:
        store = open_store(folder)
        receive(store, b"just now")
        store.add_reading(
            film, diagnosis=diagnosis("Edema"), error=None, picture=b"new picture", preview=b"new preview"
        )

    def check(folder: Path) -> None:
        store = open_store(folder)
        assert {b"before the backup", b"after the backup"} <= images(store)
        shown = store.film(film)
        assert shown.diagnosis is not None
        new = shown.diagnosis.top3[0].finding == "Edema"
        assert store.picture(film) == (b"new picture" if new else b"picture")
        kept = {len(images(store)), 3 if b"just now" in images(store) else 2}
        assert len(kept) == 1
        check_chains(store)
        store.close()

    assert every_step(folder, work, check) > 12
