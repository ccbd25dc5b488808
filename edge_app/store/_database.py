"""The SQLCipher database: one writer at a time, readers that never wait for it (WAL)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import sqlcipher3.dbapi2 as sqlcipher
from sqlalchemy import Connection, Engine, QueuePool, create_engine, event
from sqlmodel import Session

from edge_app.store.errors import StoreError, coded

BUSY_MS: Final = 10_000
_PRAGMAS: Final = (
    "cipher_log_level = NONE",  # its messages go to standard error and name files
    "cipher_memory_security = OFF",  # locks each small allocation: grouping ten thousand rows took 360 ms instead of 6
    "journal_mode = WAL",
    "synchronous = FULL",
    "foreign_keys = ON",
    "temp_store = MEMORY",
    "secure_delete = ON",
    f"busy_timeout = {BUSY_MS}",
    "cache_size = -16000",
)


def connect(file: Path, key: str) -> Any:
    """A connection in autocommit mode; ``key`` is raw, 64 hexadecimal digits."""
    connection = sqlcipher.connect(str(file), check_same_thread=False, isolation_level=None)
    try:
        connection.execute(f"PRAGMA key = \"x'{key}'\"")
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection


class Database:
    """Sessions on the database file. Safe to use from several threads.

    Args:
        file: of the database; made if missing.
        key: raw key, 64 hexadecimal digits.
    """

    def __init__(self, file: Path, key: str) -> None:
        self.file = file
        self._key = key
        self._write = threading.RLock()
        self._maintenance: set[Any] = set()
        self._closed = False
        self._writer = self._engine("BEGIN IMMEDIATE", 1, 0)
        self._readers = self._engine("BEGIN", 4, 28)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """One consistent view of the database. Raises ``store_closed`` after :meth:`close`."""
        self._check_open()
        with coded(self.file.parent), Session(self._readers) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """One transaction: durable on leaving, undone on an exception. Waits for the other writers."""
        with (
            coded(self.file.parent),
            self._writers_turn(),
            Session(self._writer, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    @contextmanager
    def _writers_turn(self) -> Iterator[None]:
        with self._write:
            self._check_open()
            yield

    @contextmanager
    def writing_connection(self) -> Iterator[Connection]:
        """As :meth:`writing`, for changing the tables themselves."""
        with coded(self.file.parent), self._write, self._writer.begin() as connection:
            yield connection

    def check(self) -> None:
        """Read every page and every index: seconds for a large store.

        Raises:
            StoreError: ``store_damaged``.
        """
        with coded(self.file.parent), self._maintaining() as connection:
            if connection.execute("PRAGMA cipher_integrity_check").fetchone() is not None:
                raise StoreError("store_damaged")
            if connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                raise StoreError("store_damaged")

    def copy_to(self, file: Path) -> None:
        """A consistent, compact copy under the same key; writers go on meanwhile."""
        with coded(self.file.parent), self._maintaining() as connection:
            connection.execute("VACUUM INTO ?", (str(file),))

    @contextmanager
    def _maintaining(self) -> Iterator[Any]:
        connection = connect(self.file, self._key)
        self._maintenance.add(connection)
        try:
            yield connection
        finally:
            self._maintenance.discard(connection)
            connection.close()

    def interrupt(self) -> None:
        """Stop a running :meth:`check` or :meth:`copy_to`: it raises ``sqlcipher3.OperationalError``."""
        for connection in tuple(self._maintenance):
            connection.interrupt()

    def close(self) -> None:
        """Close all connections; the last one folds the WAL into the database."""
        with self._write:
            self._closed = True
            self._readers.dispose()
            self._writer.dispose()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("store_closed")

    def _engine(self, begin: str, size: int, more: int) -> Engine:
        engine = create_engine(
            "sqlite+pysqlite://",
            module=sqlcipher,
            creator=lambda: connect(self.file, self._key),
            poolclass=QueuePool,
            pool_size=size,
            max_overflow=more,
            hide_parameters=True,  # patient data stays out of exception texts
        )
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
        return engine
