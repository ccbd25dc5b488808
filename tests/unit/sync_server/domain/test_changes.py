"""Who waits hears of what was committed, from this process and others, and of nothing else."""

import asyncio
import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from sqlmodel import Session, select

from shared.identity import new_id
from sync_server.db.tables import ChangeRow, SettingRow
from sync_server.domain import changes as module
from sync_server.domain.changes import BOARD, Changes, inbox_of, run_of
from sync_server.hospital import Hospital

OTHER = """
import sys
from pathlib import Path
from tests.hospital import new_hospital
from sync_server.domain.changes import publish
hospital = new_hospital(Path(sys.argv[1]), sys.argv[2] or None, listen=False)
hospital.database.write(lambda session: publish(session, *sys.argv[3:]))
hospital.close()
"""
"""Another process that publishes topics."""


def publish(hospital: Hospital, *topics: str) -> None:
    with hospital.database.writing() as session:
        hospital.changes.publish(session, *topics)


def later(act: Callable[[], object], seconds: float = 0.1) -> None:
    threading.Timer(seconds, act).start()


def test_a_change_is_heard_after_the_commit(hospital: Hospital) -> None:
    async def hear() -> frozenset[str]:
        with hospital.changes.subscribe(BOARD) as heard:
            later(lambda: publish(hospital, BOARD))
            return await heard.wait(30)

    assert asyncio.run(hear()) == {BOARD}


def test_nothing_is_heard_of_what_is_undone(hospital: Hospital) -> None:
    def fail() -> None:
        with contextlib.suppress(ZeroDivisionError), hospital.database.writing() as session:
            hospital.changes.publish(session, BOARD)
            raise ZeroDivisionError

    async def hear() -> bool:
        later(fail, 0.05)
        return await hospital.changes.wait(BOARD, 0.6)

    assert asyncio.run(hear()) is False


def test_nothing_is_heard_before_the_commit_not_even_at_a_savepoint(hospital: Hospital) -> None:
    async def hear() -> tuple[frozenset[str], frozenset[str]]:
        with hospital.changes.subscribe(BOARD) as heard:
            with hospital.database.writing() as session:
                with session.begin_nested():
                    hospital.changes.publish(session, BOARD)
                    session.add(SettingRow(key="x", value=1))
                before = await heard.wait(0.3)
            return before, await heard.wait(30)

    assert asyncio.run(hear()) == (frozenset(), {BOARD})


def test_only_what_was_subscribed_is_heard(hospital: Hospital) -> None:
    mine, other = new_id(), new_id()

    async def hear() -> list[frozenset[str]]:
        with hospital.changes.subscribe(inbox_of(mine), run_of(mine)) as heard:
            publish(hospital, inbox_of(other), run_of(mine), BOARD)
            first = await heard.wait(30)
            return [first, await heard.wait(0.5)]

    assert asyncio.run(hear()) == [{run_of(mine)}, frozenset()]


def test_a_change_between_two_waits_is_not_missed(hospital: Hospital) -> None:
    async def hear() -> frozenset[str]:
        with hospital.changes.subscribe(BOARD) as heard:
            publish(hospital, BOARD)
            await asyncio.sleep(0.2)
            return await heard.wait(0.01)

    assert asyncio.run(hear()) == {BOARD}


def test_iterating_gives_topics_until_the_server_stops(hospital: Hospital) -> None:
    async def hear() -> list[str]:
        found = []
        with hospital.changes.subscribe(BOARD, "run:1") as heard:
            later(lambda: publish(hospital, BOARD, "run:1"))
            async for topic in heard:
                found.append(topic)
                if len(found) == 2:
                    later(hospital.changes.stop_waiting)
        return found

    assert asyncio.run(asyncio.wait_for(hear(), 20)) == [BOARD, "run:1"]


def test_two_hundred_wait_and_all_hear(hospital: Hospital) -> None:
    async def hear() -> tuple[list[bool], int]:
        waiters = [asyncio.create_task(hospital.changes.wait(BOARD, 60)) for _ in range(200)]
        await asyncio.sleep(0.2)
        waiting = hospital.changes.waiting
        await asyncio.to_thread(publish, hospital, BOARD)
        return await asyncio.gather(*waiters), waiting

    assert asyncio.run(hear()) == ([True] * 200, 200)
    assert hospital.changes.waiting == 0


def test_another_process_is_heard(hospital: Hospital, database: str | None, tmp_path: Path) -> None:
    topic = inbox_of(new_id())

    async def hear() -> frozenset[str]:
        with hospital.changes.subscribe(topic, BOARD) as heard:
            command = [sys.executable, "-c", OTHER, str(tmp_path), database or "", topic]
            await asyncio.to_thread(subprocess.run, command, check=True, timeout=60, cwd=Path(__file__).parents[4])
            return await heard.wait(30)

    assert asyncio.run(hear()) == {topic}


def test_after_lost_notices_everybody_looks_again(
    hospital: Hospital, database: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if database is None:
        pytest.skip("SQLite has no notices")
    monkeypatch.setattr(module, "_RETRY_S", 0.05)

    def cut() -> None:
        """Once it listens."""
        with psycopg.connect(database.replace("+psycopg", ""), autocommit=True) as connection:
            for _ in range(300):
                cut = connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' "
                    "AND datname = current_database()"
                ).fetchall()
                if cut:
                    return
                time.sleep(0.1)

    async def hear() -> frozenset[str]:
        with hospital.changes.subscribe(BOARD) as heard:
            later(cut)
            return await heard.wait(60)

    assert asyncio.run(hear()) == {BOARD}


def test_old_rows_go(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    if not hospital.database.sqlite:
        pytest.skip("PostgreSQL has notices")
    monkeypatch.setattr(module, "_KEPT", 10)

    def rows(session: Session) -> int:
        return len(session.exec(select(ChangeRow.id)).all())

    for number in range(45):
        publish(hospital, f"run:{number}")
    until = time.monotonic() + 20
    while hospital.database.write(rows) > 25 and time.monotonic() < until:
        time.sleep(0.1)
        publish(hospital, BOARD)
    assert hospital.database.write(rows) <= 25


def test_closing_ends_all_waiting(hospital: Hospital) -> None:
    async def hear() -> bool:
        later(hospital.changes.close)
        return await hospital.changes.wait(BOARD, 30)

    assert asyncio.run(asyncio.wait_for(hear(), 10)) is False


def test_sessions_of_other_databases_publish_to_nobody(hospital: Hospital) -> None:
    with Session(hospital.database.engine) as session:
        module.publish(session, BOARD)
    assert isinstance(hospital.changes, Changes)
