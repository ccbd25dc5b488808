"""The database: SQLite by default, PostgreSQL in production; the same code on both.

SQLite: one writer at a time (``BEGIN IMMEDIATE``), readers that never wait for it (WAL). PostgreSQL: read committed for
writers, who lock what they change (:func:`locked`), and one consistent view for readers.

Writers take locks in this order, so that none waits for another for ever: device, chain, records, encounter (by
``histories.refresh``), audit.
"""

from __future__ import annotations

import json
import logging
import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from sqlalchemy import URL, Connection, Engine, Select, Table, bindparam, create_engine, event, inspect, make_url, text
from sqlalchemy import select as sql_select
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlmodel import Session, SQLModel

from shared.errors import FirstRayError
from sync_server.db import migrations

T = TypeVar("T")

BUSY_MS: Final = 15_000
TRIES: Final = 6
_PRAGMAS: Final = (
    "synchronous = FULL",
    "foreign_keys = ON",
    "temp_store = MEMORY",
    "secure_delete = ON",
    "cache_size = -16000",
)
_AGAIN: Final = frozenset({"40001", "40P01", "23505"})
"""SQLSTATE of what another transaction may have caused: serialisation failure, deadlock, unique violation."""
UNFINISHED: Final = "unfinished_restore"
"""A table that is there while a database is being restored: what it holds may not be true yet."""
_GIVEN_UP: Final = {
    "connect_timeout": "10",
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
"""libpq's parameters: when a PostgreSQL that is gone without a word is given up (by default after hours)."""
_BEGIN: Final = "firstray_begin"
_MIGRATION_LOCK: Final = 5_201_001
_JSON: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_log = logging.getLogger(__name__)


def open_engine(url: str | URL) -> Engine:
    """An engine on SQLite or PostgreSQL, set up to lose nothing that was committed.

    PostgreSQL that is gone without a word costs half a minute; what the URL says of that holds.
    """
    url = make_url(url)
    if url.get_backend_name() == "postgresql":
        url = url.update_query_dict({name: value for name, value in _GIVEN_UP.items() if name not in url.query})
    engine = create_engine(
        url,
        pool_size=10,
        max_overflow=30,
        pool_timeout=30,
        pool_pre_ping=True,
        hide_parameters=True,  # patient data stays out of exception texts
        json_serializer=_JSON.encode,
    )
    if engine.dialect.name == "sqlite":
        if engine.url.database:
            _make_file(Path(engine.url.database))
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def refuse_unfinished(engine: Engine) -> None:
    """Raises FirstRayError ``restore_unfinished`` where a restore did not come to its end."""
    if inspect(engine).has_table(UNFINISHED):
        raise FirstRayError(
            "restore_unfinished",
            "A restore into this database did not come to its end.",
            "Restore the backup again, into an empty database.",
        )


def migrate(engine: Engine) -> None:
    """Bring the tables up to date, in one transaction; several processes may start at once.

    Raises:
        FirstRayError: ``database_newer`` where a later version of FirstRay has changed them.
    """
    with engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"}).begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        revision = migrations.revision_of(connection)
        if revision == migrations.LATEST:
            return
        if revision is not None and not migrations.known(revision):
            raise FirstRayError(
                "database_newer",
                "The database was changed by a later version of FirstRay.",
                "Install that version, or restore the backup made before.",
            )
        migrations.upgrade(connection)


class Database:
    """Transactions. Safe to use from several threads.

    Attributes:
        info: what every writing session carries in its ``info``.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.info: dict[Any, Any] = {}
        self.sqlite: bool = engine.dialect.name == "sqlite"
        if self.sqlite:
            self._readers: Engine = engine.execution_options(**{_BEGIN: "BEGIN"})
            self._writers: Engine = engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"})
        else:
            self._readers = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            self._writers = engine
        self._turn = threading.RLock() if self.sqlite else None

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """One consistent view of the database."""
        with Session(self._readers) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """One transaction: durable on leaving, undone on an exception.

        On PostgreSQL the database may refuse it for the sake of another one (a deadlock, the same new row): what must
        not fail for that goes through :meth:`write`.
        """
        # SQLite's own queue of writers polls and is not fair: wait here.
        turn = self._turn or nullcontext()
        with turn, self._session() as session, session.begin():
            yield session

    def _session(self) -> Session:
        return Session(self._writers, expire_on_commit=False, info=self.info)

    def write(self, act: Callable[[Session], T]) -> T:
        """Run ``act`` in a transaction, again where another was in its way; it has no other effect."""
        for attempt in range(TRIES):
            try:
                with self.writing() as session:
                    return act(session)
            except DBAPIError as problem:
                if attempt == TRIES - 1 or not may_succeed_again(problem):
                    raise
                _log.info("a transaction is run again: %s", type(problem.orig).__name__)
                time.sleep(random.uniform(0.005, 0.02) * 2**attempt)  # noqa: S311
        raise AssertionError("unreachable")

    @contextmanager
    def alone(self, number: int) -> Iterator[None]:
        """Nobody else of the same database, on whichever machine, is inside with the same number (64 bits, signed).

        On SQLite, where all are on one machine, this does nothing: locks of files do. Takes a connection of its own.
        """
        if self.sqlite:
            yield
            return
        # A transaction's lock, not a session's: it ends with its connection's turn, however that ends.
        with self.engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": number})
            yield

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def may_succeed_again(problem: DBAPIError) -> bool:
    """Whether the same transaction may succeed when it is run once more."""
    if (state := getattr(problem.orig, "sqlstate", None)) is not None:
        return state in _AGAIN
    return not isinstance(problem, IntegrityError) and "locked" in str(problem.orig)


def locked(session: Session, statement: Any, *, share: bool = False) -> Any:
    """The select with its rows locked until the end of the transaction; SQLite has one writer anyway."""
    return statement.with_for_update(read=share) if session.get_bind().dialect.name == "postgresql" else statement


def table_of(row: type[SQLModel]) -> Table:
    """The table of a row's class, for many rows at once: without objects, several times faster."""
    table: Table = row.__table__  # type: ignore[attr-defined]
    return table


@cache
def among(row: type[SQLModel], by: str, *names: str, lock: Literal["update", "share"] | None = None) -> Select[Any]:
    """A select of plain rows: those whose column ``by`` is one of the parameter ``ids``. It does not flush the session.

    Made once and kept, for where statements come by the thousand: making one takes longer than having it answered.

    Args:
        row: class of the rows.
        by: the column that chooses them.
        names: the columns that are read; all where none is named.
        lock: until the end of the transaction, in the order of their ids (SQLite has one writer anyway).
    """
    table = table_of(row)
    columns: list[Any] = [table.c[name] for name in names] or [table]
    statement = sql_select(*columns).where(table.c[by].in_(bindparam("ids", expanding=True)))
    return statement.order_by(table.c.id).with_for_update(read=lock == "share") if lock else statement


def dialect(session: Session) -> str:
    """``sqlite`` or ``postgresql``."""
    return session.get_bind().dialect.name


def _make_file(file: Path) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):  # a file that is there is not touched: closing it would drop this process's locks
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def _set_up_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions are begun by _begin_sqlite
    connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
    _write_ahead(connection)
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def _write_ahead(connection: Any) -> None:
    """Switch the file to WAL. Where another process makes the same new file ready, SQLite itself does not wait."""
    until = time.monotonic() + BUSY_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as problem:
            if problem.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(random.uniform(0.005, 0.02))  # noqa: S311
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN IMMEDIATE"))
