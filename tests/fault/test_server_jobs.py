"""SIGKILL of server, worker and readers: no reading is lost, none is applied twice; what harms is set aside."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlmodel import select

from sync_server.db.tables import AgreementRow, InboxRow, ServerReadingRow
from sync_server.domain import fleet, releases
from sync_server.hospital import Hospital
from tests.fault.job_worker import hold, study
from tests.hospital import DATABASES, Cluster, cluster_or_skip, enrolled_device, new_hospital

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Cluster]:
    yield from cluster_or_skip()


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest) -> str:
    """URL of a new database; empty for SQLite in the test's folder."""
    return request.getfixturevalue("postgres").with_tables() if request.param == "postgresql" else ""


@pytest.fixture
def hospital(tmp_path: Path, database: str) -> Iterator[Hospital]:
    made = new_hospital(tmp_path, database or None, listen=False)
    releases.ensure_server_release(made)
    yield made
    made.close()


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path, database: str) -> Iterator[Start]:
    """Starts ``tests.fault.job_worker``; ends, with all children, what a test left running."""
    started: list[subprocess.Popen[str]] = []

    def begin(*what: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.fault.job_worker", what[0], str(tmp_path), database, *what[1:]],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        for one in [*family(process), process]:
            one.kill()
        process.wait(60)


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """All processes below one."""
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def rows(hospital: Hospital) -> dict[str, ServerReadingRow]:
    with hospital.database.reading() as session:
        return {row.sha256: row for row in session.exec(select(ServerReadingRow))}


def until(done: Callable[[], Any], seconds: float = 240.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.1)


def shorten_leases(hospital: Hospital) -> None:
    """As if three minutes had passed: what killed workers held comes due again."""

    def act(session: Any) -> None:
        for row in session.exec(select(ServerReadingRow).where(ServerReadingRow.state == "waiting")):
            row.due_at = row.asked_at
            session.add(row)

    hospital.database.write(act)


def test_no_reading_is_lost_or_made_twice_whoever_is_killed(hospital: Hospital, start: Start, chest: Path) -> None:
    count = 16
    sample = chest.read_bytes()
    names = [hashlib.sha256(study(sample, number)).hexdigest() for number in range(count)]
    device = enrolled_device(hospital)
    for name in names:
        _, run = device.run()
        device.diagnosis(device.film(run, name), ["Pneumothorax", "Edema", "Fibrosis"])
    device.send()
    chance = random.Random(5)

    committed: set[str] = set()
    for kill_after in (7, count):  # the server is killed after some images, and starts again
        server = start("hold", str(chest), str(count))
        assert server.stdout is not None
        while len(committed) < kill_after:
            committed.add(server.stdout.readline().strip())
        server.kill()
        server.wait(60)

    def done() -> int:
        return sum(row.state == "done" for row in rows(hospital).values())

    process = start("work")  # a reader is killed, then the worker; a third time might set an image aside
    until(lambda: done() >= 4)
    time.sleep(chance.random() * 0.2)
    victims = [one for one in family(process) if "spawn_main" in " ".join(one.cmdline())]
    assert victims
    victims[0].kill()
    until(lambda: done() >= 7)
    process.kill()
    process.wait(60)
    shorten_leases(hospital)
    process = start("work")
    until(lambda: done() == count)
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 0

    assert sorted(rows(hospital)) == sorted(committed) == sorted(names)
    with hospital.database.reading() as session:
        agreed = Counter(session.exec(select(AgreementRow.diagnosis)))
        told = Counter(
            row.content["radiograph"]
            for row in session.exec(select(InboxRow))
            if row.content["kind"] == "server_diagnosis"
        )
    assert len(agreed) == len(told) == count
    assert set(agreed.values()) == set(told.values()) == {1}


HARMS = [("sqlite", "KILLS"), ("postgresql", "KILLS"), ("sqlite", "HANGS")]
"""What ends a reader that hangs knows no database."""


@pytest.mark.parametrize(("database", "harm"), HARMS, indirect=["database"])
def test_an_image_that_brings_readers_down_is_set_aside_and_the_others_are_read(
    hospital: Hospital, start: Start, chest: Path, harm: str
) -> None:
    sample = chest.read_bytes()
    names = [hold(hospital, study(sample, number)) for number in range(5)]
    process = start("work", **{harm: names[1]})
    until(lambda: all(row.state in ("done", "poison") for row in rows(hospital).values()))
    found = rows(hospital)
    assert (found[names[1]].state, found[names[1]].error, found[names[1]].tries) == ("poison", "reader_died", 3)
    assert {found[name].state for name in names if name != names[1]} == {"done"}
    with hospital.database.reading() as session:
        assert [row.sha256 for row in fleet.set_aside(session)] == [names[1]]
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 0


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_readers_end_when_their_worker_is_killed(hospital: Hospital, start: Start, chest: Path) -> None:
    process = start("work")
    hold(hospital, chest.read_bytes())
    until(lambda: all(row.state == "done" for row in rows(hospital).values()))
    children = [one for one in family(process) if one.is_running()]
    assert children
    process.kill()
    process.wait(60)
    psutil.wait_procs(children, timeout=60)
    assert not [one for one in children if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
