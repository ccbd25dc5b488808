"""Who waits hears of what was committed, from this process and others, and of nothing else."""

import asyncio
import contextlib
import sqlite3
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
from sync_server.db import engine
from sync_server.db.tables import ChangeRow, SettingRow
from sync_server.domain import changes as module
from sync_server.domain.changes import BOARD, Changes, Subscription, inbox_of, run_of
from sync_server.hospital import Hospital
from tests.hospital import Cluster, new_hospital
from tests.hospital.lines import Line

RUN = new_id()
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


async def heard_by(listener: Hospital, teller: Hospital) -> None:
    """Wait until the listener listens to other processes; the two stand for two."""
    with listener.changes.subscribe("run:first") as heard:
        for _ in range(300):
            await asyncio.to_thread(publish, teller, "run:first")
            if await heard.wait(0.1):
                return
    raise AssertionError("other processes are not heard")


async def all_heard(heard: Subscription, *topics: str) -> None:
    missing = set(topics)
    while missing:
        news = await heard.wait(60)
        assert news, f"not heard: {missing}"
        missing -= news


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
        with hospital.changes.subscribe(BOARD) as heard:
            later(fail, 0.05)
            return bool(await heard.wait(0.6))

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


def test_two_hundred_wait_and_all_hear(hospital: Hospital) -> None:
    async def wait() -> bool:
        with hospital.changes.subscribe(BOARD) as heard:
            return bool(await heard.wait(60))

    async def hear() -> tuple[list[bool], int]:
        waiters = [asyncio.create_task(wait()) for _ in range(200)]
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


def test_a_connection_that_is_dead_without_a_word_is_given_up(
    postgres: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end acknowledges whatever comes, as a proxy's does that hangs: only the missing answer tells."""
    monkeypatch.setattr(module, "_ASK_S", 0.2)
    monkeypatch.setattr(module, "_ANSWER_S", 1.0)
    monkeypatch.setattr(module, "_RETRY_S", 0.05)
    with postgres.lent() as database, Line(database) as line:
        hospital = new_hospital(tmp_path / "a", line.url)
        other = new_hospital(tmp_path / "b", database, listen=False)

        async def hear() -> None:
            await heard_by(hospital, other)
            with hospital.changes.subscribe(BOARD, run_of(RUN)) as heard:
                line.stall()
                await all_heard(heard, BOARD, run_of(RUN))
                await asyncio.to_thread(publish, other, run_of(RUN))
                await all_heard(heard, run_of(RUN))

        try:
            asyncio.run(hear())
        finally:
            hospital.close()
            other.close()


def test_no_notice_is_lost_where_the_connection_is_looked_after(
    postgres: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ASK_S", 0.0)
    topics = {f"run:{number}" for number in range(300)}
    with postgres.lent() as database:
        hospital = new_hospital(tmp_path / "a", database)
        other = new_hospital(tmp_path / "b", database, listen=False)

        async def hear() -> None:
            await heard_by(hospital, other)
            with hospital.changes.subscribe(*topics) as heard:
                telling = asyncio.create_task(asyncio.to_thread(lambda: [publish(other, topic) for topic in topics]))
                await all_heard(heard, *topics)
                await telling

        try:
            asyncio.run(hear())
        finally:
            hospital.close()
            other.close()


def test_sqlite_goes_on_after_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Another process holds the lock for writing while old rows are to go."""
    monkeypatch.setattr(module, "_KEPT", 5)
    monkeypatch.setattr(module, "_RETRY_S", 0.05)
    monkeypatch.setattr(engine, "BUSY_MS", 200)
    hospital = new_hospital(tmp_path)
    other = sqlite3.connect(tmp_path / "hospital" / "hospital.db", isolation_level=None, check_same_thread=False)

    def say(topic: str, times: int = 1) -> None:
        other.executemany("INSERT INTO change (process, topic) VALUES ('other', ?)", [(topic,)] * times)

    def obstruct() -> None:
        until = time.monotonic() + 20
        while "trying again" not in caplog.text and time.monotonic() < until:
            say(run_of(new_id()), 6)
            other.execute("BEGIN IMMEDIATE")
            time.sleep(0.5)
            other.execute("ROLLBACK")

    async def hear() -> None:
        with hospital.changes.subscribe(BOARD, run_of(RUN)) as heard:
            await asyncio.to_thread(obstruct)
            await all_heard(heard, BOARD, run_of(RUN))
            while await heard.wait(0.5):  # it may have failed once more
                pass
            say(run_of(RUN))
            await all_heard(heard, run_of(RUN))

    try:
        asyncio.run(hear())
    finally:
        hospital.close()
        other.close()


def test_what_a_savepoint_told_goes_with_it_and_may_be_told_again(
    hospital: Hospital, database: str | None, tmp_path: Path
) -> None:
    """Also where a savepoint within it was kept; what was told before it stays."""
    other = new_hospital(tmp_path, database)
    before, undone, again = (run_of(new_id()) for _ in range(3))

    def tell(session: Session) -> None:
        hospital.changes.publish(session, before)
        savepoint = session.begin_nested()
        with session.begin_nested():
            hospital.changes.publish(session, before, undone, again)
        savepoint.rollback()
        hospital.changes.publish(session, again, BOARD)

    async def hear(changes: Changes) -> frozenset[str]:
        found: frozenset[str] = frozenset()
        with changes.subscribe(before, undone, again, BOARD) as heard:
            await asyncio.to_thread(hospital.database.write, tell)
            while BOARD not in found and (news := await heard.wait(20)):
                found |= news
        return found

    async def both() -> list[frozenset[str]]:
        await heard_by(other, hospital)
        return [await hear(hospital.changes), await hear(other.changes)]

    try:
        assert asyncio.run(both()) == [{before, again, BOARD}] * 2
    finally:
        other.close()


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
        with hospital.changes.subscribe(BOARD) as heard:
            later(hospital.changes.close)
            return bool(await heard.wait(30))

    assert asyncio.run(asyncio.wait_for(hear(), 10)) is False


def test_sessions_of_other_databases_publish_to_nobody(hospital: Hospital) -> None:
    with Session(hospital.database.engine) as session:
        module.publish(session, BOARD)
    assert isinstance(hospital.changes, Changes)
