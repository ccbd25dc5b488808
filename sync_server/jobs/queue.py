"""The queue of readings: rows of ``server_reading`` that are due. Taking one moves ``due_at`` to when its lease ends.

Nothing else is needed to lose no job: a worker that dies, hangs or is cut off has its rows come due again by
themselves, on any machine. Nothing is applied twice: an answer counts only while the row still waits for exactly this
try of exactly this worker. The clocks of the machines must agree to some seconds (NTP), as everywhere in a hospital.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import CursorResult, update
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from sync_server.db.engine import dialect
from sync_server.db.tables import ServerReadingRow
from sync_server.domain.readings import Manner, lock_devices, record_agreements

LEASE: Final = timedelta(seconds=180)
"""A worker ends itself before this (:mod:`sync_server.jobs.reader`), so that no two ever work on one row."""
MOST_TRIES: Final = 3
BACKOFF: Final = (timedelta(seconds=5), timedelta(seconds=30))
"""Rest after the first and the second failed try."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """One reading to make: which image, by which release, in which manner; and which try of which worker it is."""

    id: UUID
    sha256: str
    release: str
    manner: Manner
    worker: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a job: a result (JSON of a ``Diagnosis``), or the code of what is wrong with the image."""

    result: dict[str, Any] | None
    error: str | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Due:
    """The reading to be made next, and by which release."""

    id: UUID
    release: str


def next_due(session: Session, leave: Collection[str] = ()) -> Due | None:
    """What is to be read next by another release than those in ``leave``; nothing is taken yet."""
    due = _due(datetime.now(UTC)).where(col(ServerReadingRow.release).not_in(leave)).limit(1)
    row = session.exec(due).first()
    return Due(row.id, row.release) if row is not None else None


def take(session: Session, worker: str, most: int, release: str) -> list[Job]:
    """Take what is due to be read by a release, most urgent first.

    What failed before is taken alone: if it brings the worker down, it brings down nothing else.
    """
    now = datetime.now(UTC)
    due = _due(now).where(ServerReadingRow.release == release).limit(most)
    if dialect(session) == "postgresql":
        due = due.with_for_update(skip_locked=True)
    jobs: list[Job] = []
    for row in session.exec(due).all():
        if row.tries >= MOST_TRIES:
            _set_aside(row, row.error or "worker_lost")
            continue
        if jobs and row.tries:
            break
        row.tries += 1
        row.worker = worker
        row.due_at = now + LEASE
        jobs.append(Job(row.id, row.sha256, row.release, Manner.parse(row.manner), worker, row.tries))
        if row.tries > 1:
            break
    return jobs


def finish(session: Session, job: Job, answer: Answer) -> bool:
    """Store an answer and all that follows from it; False, and nothing stored, where the job is another try's now."""
    lock_devices(session, job.sha256)
    values = {
        "state": "failed" if answer.result is None else "done",
        "result": answer.result,
        "error": answer.error,
        "seconds": answer.seconds,
        "done_at": datetime.now(UTC),
    }
    if not _change(session, job, values):
        return False
    reading = session.get(ServerReadingRow, job.id, populate_existing=True)
    if reading is None:
        raise AssertionError("the row was just changed")
    record_agreements(session, reading)
    return True


def fail(session: Session, job: Job, code: str) -> bool:
    """A try failed: another follows later, or the image is set aside; False where the job is no longer this try's."""
    if job.attempt >= MOST_TRIES:
        log.error("image %s is set aside after %d tries: %s", job.sha256[:12], job.attempt, code)
        return _change(session, job, {"state": "poison", "error": code, "done_at": datetime.now(UTC)})
    return _change(
        session, job, {"error": code, "worker": None, "due_at": datetime.now(UTC) + BACKOFF[job.attempt - 1]}
    )


def put_back(session: Session, job: Job, code: str) -> bool:
    """The job could not be done, through no fault of the image: it is due again after a rest, and counts as no try."""
    due = datetime.now(UTC) + BACKOFF[0]
    return _change(session, job, {"tries": job.attempt - 1, "error": code, "worker": None, "due_at": due})


def hold_up(session: Session, due: Due, code: str) -> None:
    """Note why a reading cannot be made here now, for who looks after the hospital; it stays due for others."""
    waiting = col(ServerReadingRow.id) == due.id, col(ServerReadingRow.state) == "waiting"
    session.execute(update(ServerReadingRow).where(*waiting).values(error=code))


def held_by(session: Session, worker: str) -> list[Job]:
    """What a worker has taken and not answered."""
    mine = select(ServerReadingRow).where(ServerReadingRow.state == "waiting", ServerReadingRow.worker == worker)
    return [
        Job(row.id, row.sha256, row.release, Manner.parse(row.manner), worker, row.tries) for row in session.exec(mine)
    ]


def _due(now: datetime) -> SelectOfScalar[ServerReadingRow]:
    due = select(ServerReadingRow).where(ServerReadingRow.state == "waiting", col(ServerReadingRow.due_at) <= now)
    return due.order_by(col(ServerReadingRow.priority), col(ServerReadingRow.due_at))


def _set_aside(row: ServerReadingRow, code: str) -> None:
    row.state, row.error, row.done_at = "poison", code, datetime.now(UTC)
    log.error("image %s is set aside after %d tries: %s", row.sha256[:12], row.tries, code)


def _change(session: Session, job: Job, values: dict[str, Any]) -> bool:
    statement = update(ServerReadingRow).where(
        col(ServerReadingRow.id) == job.id,
        col(ServerReadingRow.state) == "waiting",
        col(ServerReadingRow.worker) == job.worker,
        col(ServerReadingRow.tries) == job.attempt,
    )
    result = session.execute(statement.values(**values), execution_options={"synchronize_session": False})
    return isinstance(result, CursorResult) and result.rowcount == 1
