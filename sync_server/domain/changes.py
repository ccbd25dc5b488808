"""Who waits for something hears of it as soon as it is committed, in whichever process that happened.

Topics: :data:`BOARD`, ``inbox:DEVICE`` (:func:`inbox_of`), ``run:ENCOUNTER`` (:func:`run_of`). A change says only that
something is new; who hears of it looks into the database. Between processes PostgreSQL carries topics by NOTIFY;
on SQLite they are rows, looked for whenever the file has changed.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final, Self
from uuid import UUID

import psycopg
from sqlalchemy import delete, event, func, insert, select, text
from sqlalchemy.orm import SessionTransaction
from sqlmodel import Session, col

from sync_server.db.engine import Database, dialect
from sync_server.db.tables import ChangeRow

BOARD: Final = "board"
POLL_S: Final = 0.1
_CHANNEL: Final = "firstray"
_KEPT: Final = 10_000
"""Rows of topics kept on SQLite: far more than come within one poll."""
_NOTIFY: Final = text("SELECT pg_notify(:channel, topic) FROM unnest(CAST(:topics AS text[])) AS topic")
_RETRY_S: Final = 1.0
_ASK_S: Final = 15.0
"""How often PostgreSQL must answer on the connection of its notices."""
_ANSWER_S: Final = 10.0
_TOPICS: Final = "topics"
_CARRIER: Final = "changes"
_log = logging.getLogger(__name__)


def inbox_of(device: UUID) -> str:
    """Topic of a device's inbox."""
    return f"inbox:{device}"


def run_of(encounter: UUID) -> str:
    """Topic of one run."""
    return f"run:{encounter}"


def publish(session: Session, *topics: str) -> None:
    """Have topics told once the session's transaction is committed; the session is one of a database with a carrier."""
    carrier: Changes | None = session.info.get(_CARRIER)
    if carrier is not None:
        carrier.publish(session, *topics)


class Subscription:
    """Hears of some topics while it is entered. For one event loop.

    Several changes may come as one.
    """

    def __init__(self, changes: Changes, topics: Iterable[str]) -> None:
        self._changes = changes
        self._topics = frozenset(topics)
        self._heard: set[str] = set()
        self._bell = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> Self:
        self._changes._add(self, self._topics)
        return self

    def __exit__(self, *_: object) -> None:
        self._changes._remove(self, self._topics)

    async def wait(self, timeout: float | None = None) -> frozenset[str]:
        """Topics that changed since the last call; empty after ``timeout`` seconds, or when the server stops."""
        if not self._heard and not self._changes.closed:
            try:
                async with asyncio.timeout(timeout):
                    await self._bell.wait()
            except TimeoutError:
                return frozenset()
        self._bell.clear()
        heard, self._heard = frozenset(self._heard), set()
        return heard

    def ring(self, topic: str | None) -> None:
        """From any thread: a topic changed; None only wakes who waits."""
        try:
            self._loop.call_soon_threadsafe(self._ring, topic)
        except RuntimeError:  # the loop has ended, and with it who waited
            _log.debug("nobody waits any more")

    def _ring(self, topic: str | None) -> None:
        if topic is not None:
            self._heard.add(topic)
        self._bell.set()


class Changes:
    """Carries topics from transactions to subscriptions, within and between processes.

    Args:
        database: whose transactions tell of changes.
        listen: hear of other processes too, by a thread of its own.
    """

    def __init__(self, database: Database, listen: bool = True) -> None:
        self._database = database
        database.info[_CARRIER] = self
        self._process = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._subscriptions: dict[str, set[Subscription]] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._last: int | None = None
        self._lost = False
        if listen:
            others = self._poll if database.sqlite else self._listen
            self._thread = threading.Thread(target=self._hear, args=(others,), name="changes", daemon=True)
            self._thread.start()

    @property
    def closed(self) -> bool:
        """The server stops."""
        return self._stop.is_set()

    def publish(self, session: Session, *topics: str) -> None:
        """Have topics told once the session's transaction is committed, and not if it is undone."""
        told: dict[str, SessionTransaction | None] = session.info.setdefault(_TOPICS, {})
        if not told:
            event.listen(session, "after_commit", self._committed)
            event.listen(session, "after_soft_rollback", _undone)
        fresh = [topic for topic in topics if topic not in told]
        if not fresh:
            return
        if dialect(session) == "sqlite":
            session.execute(insert(ChangeRow), [{"process": self._process, "topic": topic} for topic in fresh])
        else:
            told_to = [f"{self._process} {topic}" for topic in fresh]
            session.execute(_NOTIFY, {"channel": _CHANNEL, "topics": told_to})
        told.update(dict.fromkeys(fresh, session.get_nested_transaction() or session.get_transaction()))

    def subscribe(self, *topics: str) -> Subscription:
        """A subscription, to be entered: ``with changes.subscribe(BOARD) as heard: ... await heard.wait(20)``."""
        return Subscription(self, topics)

    @property
    def waiting(self) -> int:
        """Subscriptions there are."""
        with self._lock:
            return len(set().union(*self._subscriptions.values()))

    def stop_waiting(self) -> None:
        """Everybody who waits goes on: the server is about to stop."""
        self._stop.set()
        with self._lock:
            everybody = set().union(*self._subscriptions.values())
        for subscription in everybody:
            subscription.ring(None)

    def close(self) -> None:
        """Stop listening to other processes."""
        self.stop_waiting()
        if self._thread is not None:
            self._thread.join(5)

    def _add(self, subscription: Subscription, topics: Iterable[str]) -> None:
        with self._lock:
            for topic in topics:
                self._subscriptions.setdefault(topic, set()).add(subscription)

    def _remove(self, subscription: Subscription, topics: Iterable[str]) -> None:
        with self._lock:
            for topic in topics:
                others = self._subscriptions.get(topic, set())
                others.discard(subscription)
                if not others:
                    self._subscriptions.pop(topic, None)

    def _committed(self, session: Session) -> None:
        if not session.in_nested_transaction():  # a savepoint is no commit
            self._tell(session.info.pop(_TOPICS, ()))

    def _tell(self, topics: Iterable[str]) -> None:
        with self._lock:
            found = [(one, topic) for topic in topics for one in self._subscriptions.get(topic, ())]
        for subscription, topic in found:
            subscription.ring(topic)

    # --- other processes -----------------------------------------------------------------------------------------

    def _hear(self, others: Callable[[], None]) -> None:
        """Hear of others until the server stops, whatever happens.

        After an error everybody looks again: something may have been missed.
        """
        while not self._stop.is_set():
            try:
                others()
            except Exception as problem:  # noqa: BLE001  (without this thread open pages would be out of date unnoticed)
                self._lost = True
                _log.warning(
                    "other processes are not heard, trying again: %s", type(problem).__name__, exc_info=problem
                )
                self._stop.wait(_RETRY_S)

    def _hearing(self) -> None:
        """From now on others are heard."""
        if self._lost:
            self._lost = False
            with self._lock:
                topics = tuple(self._subscriptions)
            self._tell(topics)

    def _poll(self) -> None:
        """SQLite: whenever the file has changed, the rows of others that are new."""
        watch = self._database.engine.raw_connection()
        try:
            if self._last is None:
                with self._database.reading() as session:
                    self._last = session.execute(select(func.max(ChangeRow.id))).scalar() or 0
            self._hearing()
            seen: Any = None
            while not self._stop.wait(POLL_S):
                version = watch.cursor().execute("PRAGMA data_version").fetchone()[0]
                if version != seen:
                    self._last = self._new_rows(self._last)
                    seen = version
        finally:
            watch.invalidate()  # it may be what failed: the next one is new

    def _new_rows(self, last: int) -> int:
        with self._database.reading() as session:
            rows = session.execute(
                select(col(ChangeRow.id), col(ChangeRow.process), col(ChangeRow.topic)).where(col(ChangeRow.id) > last)
            ).all()
        self._tell(dict.fromkeys(topic for _, process, topic in rows if process != self._process))
        newest = max((id for id, _, _ in rows if id is not None), default=last)
        if newest // _KEPT > last // _KEPT:
            with self._database.writing() as session:
                session.execute(delete(ChangeRow).where(col(ChangeRow.id) <= newest - _KEPT))
        return newest

    def _listen(self) -> None:
        """PostgreSQL: LISTEN on a connection of its own."""
        url = self._database.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(url, autocommit=True) as connection:
            _ask(connection)
            self._hearing()
            asked = time.monotonic()
            while not self._stop.is_set():
                for notice in connection.notifies(timeout=POLL_S):
                    process, _, topic = notice.payload.partition(" ")
                    if process != self._process:
                        self._tell([topic])
                if time.monotonic() - asked >= _ASK_S:
                    _ask(connection)
                    asked = time.monotonic()


def _undone(session: Session, undone: SessionTransaction) -> None:
    """Forget topics with the savepoint or transaction that published them.

    The database has forgotten them too: published again, they must be told to it again.
    """
    told: dict[str, SessionTransaction | None] = session.info.get(_TOPICS, {})
    for topic in [topic for topic, within in told.items() if _is_within(within, undone)]:
        del told[topic]


def _is_within(transaction: SessionTransaction | None, outer: SessionTransaction) -> bool:
    while transaction is not None and transaction is not outer:
        transaction = transaction.parent
    return transaction is outer


def _ask(connection: psycopg.Connection) -> None:
    """Have notices sent, again and again: nothing but a missing answer tells that a silent connection is dead.

    Raises:
        psycopg.Error: also where no answer comes in time.
    """
    late = threading.Timer(_ANSWER_S, _cut, (connection,))
    late.daemon = True
    late.start()
    try:
        connection.execute(f"LISTEN {_CHANNEL}")
    finally:
        late.cancel()
        late.join()


def _cut(connection: psycopg.Connection) -> None:
    with suppress(OSError, psycopg.Error):  # it is cut already
        line = socket.socket(fileno=connection.fileno())
        try:
            line.shutdown(socket.SHUT_RDWR)
        finally:
            line.detach()  # it stays the connection's
