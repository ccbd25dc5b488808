"""Transactions on both databases, and the migrations."""

import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, insert, text
from sqlalchemy.exc import OperationalError
from sqlmodel import Session, select

from shared.errors import FirstRayError
from sync_server.db import engine as engine_module
from sync_server.db import migrations
from sync_server.db.engine import migrate, open_engine
from sync_server.db.tables import METADATA, SettingRow
from sync_server.hospital import Hospital, open_hospital
from tests.hospital import DATABASES, Cluster, new_hospital, settings_for
from tests.hospital.lines import Line


@pytest.fixture(params=DATABASES)
def hospital(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hospital]:
    """One that made its tables itself."""
    database = request.getfixturevalue("postgres").new_database() if request.param == "postgresql" else None
    made = open_hospital(settings_for(tmp_path, database))
    yield made
    made.close()


def test_the_migrations_make_the_tables_as_they_are_declared(hospital: Hospital) -> None:
    with hospital.database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []


def test_latest_is_the_head_of_the_scripts() -> None:
    assert ScriptDirectory(str(migrations.SCRIPTS)).get_heads() == [migrations.LATEST]


def test_a_second_start_keeps_everything(hospital: Hospital) -> None:
    with hospital.database.writing() as session:
        session.add(SettingRow(key="kept", value={"a": [1, 2.5, None, "김"]}))
    again = open_hospital(hospital.settings, listen=False)
    with again.database.reading() as session:
        assert session.get_one(SettingRow, "kept").value == {"a": [1, 2.5, None, "김"]}
    again.close()


@pytest.mark.parametrize("kind", DATABASES)
def test_several_processes_may_start_at_once(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    database = request.getfixturevalue("postgres").new_database() if kind == "postgresql" else None
    settings = settings_for(tmp_path, database)
    problems: list[Exception] = []

    def start() -> None:
        try:
            open_hospital(settings, listen=False).close()
        except Exception as problem:  # noqa: BLE001  (any, to be told by the test's own thread)
            problems.append(problem)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert problems == []


def test_a_new_file_may_be_made_ready_by_several_at_once(tmp_path: Path) -> None:
    """SQLite does not wait by itself where two switch one file to WAL: a few of a hundred starts failed."""

    def start(file: Path, together: threading.Barrier) -> None:
        engine = open_engine(f"sqlite:///{file}")
        together.wait()
        migrate(engine)
        engine.dispose()

    for number in range(25):
        together = threading.Barrier(4)
        with ThreadPoolExecutor(4) as pool:
            starts = [pool.submit(start, tmp_path / f"{number}.db", together) for _ in range(4)]
        for each in starts:
            each.result()


def test_a_newer_database_is_refused(hospital: Hospital) -> None:
    with hospital.database.writing() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(FirstRayError) as caught:
        migrate(hospital.database.engine)
    assert caught.value.code == "database_newer"


def test_a_transaction_is_undone_on_an_exception(hospital: Hospital) -> None:
    def act() -> None:
        with hospital.database.writing() as session:
            session.add(SettingRow(key="gone", value=1))
            session.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        act()
    with hospital.database.reading() as session:
        assert session.get(SettingRow, "gone") is None


def test_a_reader_keeps_its_view_and_does_not_stop_the_writer(hospital: Hospital) -> None:
    with hospital.database.reading() as reader:
        assert reader.get(SettingRow, "new") is None
        with hospital.database.writing() as session:
            session.add(SettingRow(key="new", value=1))
        reader.expire_all()
        assert reader.get(SettingRow, "new") is None
    with hospital.database.reading() as reader:
        assert reader.get(SettingRow, "new") is not None


def test_writes_of_the_same_new_row_come_one_after_the_other(hospital: Hospital) -> None:
    """Eight threads count up one row that none of them has made before."""

    def count(session: Session) -> None:
        row = session.exec(select(SettingRow).where(SettingRow.key == "count").with_for_update()).one_or_none()
        if row is None:
            session.execute(insert(SettingRow), [{"key": "count", "value": 1}])
        else:
            row.value += 1
            session.add(row)

    threads = [threading.Thread(target=hospital.database.write, args=(count,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with hospital.database.reading() as session:
        assert session.get_one(SettingRow, "count").value == 8


def test_a_deadlock_is_run_again(hospital: Hospital) -> None:
    """Two transactions lock the same rows in opposite order, both past their first lock before the second."""
    if hospital.database.sqlite:
        pytest.skip("SQLite has one writer at a time")
    with hospital.database.writing() as session:
        session.add_all([SettingRow(key="a", value=0), SettingRow(key="b", value=0)])
    both = threading.Barrier(2)
    runs = []

    def lock(first: str, second: str) -> None:
        met = False

        def act(session: Session) -> None:
            nonlocal met
            runs.append(first)
            for key in (first, second):
                row = session.exec(select(SettingRow).where(SettingRow.key == key).with_for_update()).one()
                row.value += 1
                session.add(row)
                session.flush()
                if not met:
                    met = True
                    both.wait(50)

        hospital.database.write(act)

    threads = [threading.Thread(target=lock, args=order) for order in (("a", "b"), ("b", "a"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with hospital.database.reading() as session:
        assert {row.value for row in session.exec(select(SettingRow).where(SettingRow.key.in_(["a", "b"])))} == {2}  # type: ignore[attr-defined]
    assert len(runs) == 3


def test_sqlite_is_set_up_to_lose_nothing_and_to_be_private(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'new' / 'hospital.db'}")
    with engine.connect() as connection:
        names = "journal_mode", "synchronous"
        modes = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names}
    engine.dispose()
    assert modes == {"journal_mode": "wal", "synchronous": 2}
    assert stat.S_IMODE(os.stat(tmp_path / "new" / "hospital.db").st_mode) == 0o600


def test_sqlite_waits_for_another_process_that_writes(tmp_path: Path) -> None:
    hospital = new_hospital(tmp_path, listen=False)
    other = sqlite3.connect(tmp_path / "hospital" / "hospital.db", check_same_thread=False, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.4, other.rollback).start()
    with hospital.database.writing() as session:
        session.add(SettingRow(key="late", value=1))
    hospital.close()
    other.close()


@pytest.mark.parametrize("under_way", [False, True])
def test_a_database_that_is_gone_without_a_word_holds_nobody_up(
    postgres: Cluster, monkeypatch: pytest.MonkeyPatch, under_way: bool
) -> None:
    """Before it has the statement, or while it works on one; whoever asks afterwards has a new connection."""
    quick = {"keepalives_idle": "1", "keepalives_interval": "1", "tcp_user_timeout": "2000"}
    monkeypatch.setattr(engine_module, "_GIVEN_UP", engine_module._GIVEN_UP | quick)
    mine = "FROM pg_stat_activity WHERE datname = current_database()"
    running = f"SELECT count(*) {mine} AND query LIKE 'SELECT pg_sleep%'"

    def ask(connection: Connection) -> str:
        try:
            connection.execute(text("SELECT pg_sleep(300)" if under_way else "SELECT 1"))
        except OperationalError as problem:
            return type(problem).__name__
        return "answered"

    def until(what: Callable[[], bool]) -> None:
        end = time.monotonic() + 30
        while not what() and time.monotonic() < end:
            time.sleep(0.05)

    with postgres.lent() as url, ThreadPoolExecutor(1) as pool, Line(url) as line:
        engine, direct = open_engine(line.url), open_engine(url)
        connection = engine.connect()
        connection.execute(text("SELECT 1"))
        if under_way:
            asked = pool.submit(ask, connection)
            with direct.connect() as watch:
                until(lambda: watch.execute(text(running)).scalar_one() > 0)
            line.vanish()
        else:
            line.vanish()
            asked = pool.submit(ask, connection)
        assert asked.result(60) == "OperationalError"
        connection.close()
        with engine.connect() as anew:
            assert anew.execute(text("SELECT 1")).scalar_one() == 1
        engine.dispose()
        direct.dispose()


def test_what_the_url_says_of_the_connection_holds() -> None:
    engine = open_engine("postgresql+psycopg://hospital@db.example/firstray?tcp_user_timeout=5000&sslmode=require")
    _, given = engine.dialect.create_connect_args(engine.url)
    assert (given["tcp_user_timeout"], given["sslmode"], given["connect_timeout"]) == ("5000", "require", "10")


def test_exceptions_of_the_database_hold_no_values(hospital: Hospital) -> None:
    with pytest.raises(Exception, match="no_such_table") as caught, hospital.database.writing() as session:
        session.execute(text("SELECT * FROM no_such_table WHERE name = :name"), {"name": "김하늘"})
    assert not isinstance(caught.value, OperationalError) or "김하늘" not in str(caught.value)
    assert "김하늘" not in str(caught.value)
