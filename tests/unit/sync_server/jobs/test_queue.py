"""The queue of readings: nothing lost, nothing applied twice, what harms a worker set aside."""

import threading
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from sqlmodel import select

from sync_server.db.tables import AgreementRow, ServerReadingRow
from sync_server.domain import fleet, readings
from sync_server.hospital import Hospital
from sync_server.jobs import queue
from sync_server.jobs.queue import LEASE, MOST_TRIES, Answer, Job

ERROR = Answer(None, "dicom_truncated", 0.1)


def sha(number: int) -> str:
    return f"{number:064x}"


def ask(hospital: Hospital, *numbers: int, release: str = "1", **more: Any) -> None:
    for number in numbers:
        hospital.database.write(partial(readings.ask, sha256=sha(number), release=release, manners=[""], **more))


def take(hospital: Hospital, worker: str = "a", most: int = 10, leave: tuple[str, ...] = ()) -> list[Job]:
    with hospital.database.reading() as session:
        due = queue.next_due(session, leave)
    return hospital.database.write(partial(queue.take, worker=worker, most=most, release=due.release)) if due else []


def rows(hospital: Hospital) -> dict[str, ServerReadingRow]:
    with hospital.database.reading() as session:
        return {row.sha256: row for row in session.exec(select(ServerReadingRow))}


def time_passes(hospital: Hospital, span: timedelta) -> None:
    """All waiting rows come due earlier by that span."""

    def act(session: Any) -> None:
        for row in session.exec(select(ServerReadingRow).where(ServerReadingRow.state == "waiting")):
            row.due_at -= span
            session.add(row)

    hospital.database.write(act)


def test_asking_twice_is_asking_once(hospital: Hospital) -> None:
    ask(hospital, 1, 1)
    again = partial(readings.ask, sha256=sha(1), release="1", manners=["", "force"])
    assert hospital.database.write(again) == 1
    assert len(take(hospital)) == 2


def test_what_is_taken_is_taken_once_until_its_lease_ends(hospital: Hospital) -> None:
    ask(hospital, 1, 2, 3)
    assert [job.sha256 for job in take(hospital, "a", 2)] == [sha(1), sha(2)]
    assert [job.sha256 for job in take(hospital, "b")] == [sha(3)]
    assert take(hospital, "c") == []
    time_passes(hospital, LEASE)
    (again,) = take(hospital, "c")
    assert again.attempt == 2


def test_many_workers_at_once_never_take_the_same(hospital: Hospital) -> None:
    ask(hospital, *range(40))
    taken: list[Job] = []

    def work(name: str) -> None:
        while jobs := take(hospital, name, 3):
            taken.extend(jobs)

    threads = [threading.Thread(target=work, args=(f"w{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(job.sha256 for job in taken) == [sha(number) for number in range(40)]


def test_an_answer_counts_only_for_the_try_it_belongs_to(hospital: Hospital) -> None:
    ask(hospital, 1)
    (late,) = take(hospital, "a")
    time_passes(hospital, LEASE)
    (now,) = take(hospital, "b")
    assert not hospital.database.write(partial(queue.finish, job=late, answer=ERROR))
    assert not hospital.database.write(partial(queue.fail, job=late, code="x"))
    assert rows(hospital)[sha(1)].state == "waiting"
    assert hospital.database.write(partial(queue.finish, job=now, answer=ERROR))
    assert not hospital.database.write(partial(queue.finish, job=now, answer=ERROR))
    row = rows(hospital)[sha(1)]
    assert (row.state, row.error, row.worker) == ("failed", "dicom_truncated", "b")


def test_a_failure_is_tried_again_later_and_alone_then_set_aside(hospital: Hospital) -> None:
    ask(hospital, 1, 2)
    first, other = take(hospital)
    hospital.database.write(partial(queue.fail, job=first, code="reader_died"))
    hospital.database.write(partial(queue.fail, job=other, code="reader_died"))
    assert take(hospital) == []
    for attempt in range(2, MOST_TRIES + 1):
        time_passes(hospital, timedelta(minutes=1))
        for _ in range(2):
            (job,) = take(hospital)
            assert job.attempt == attempt
            hospital.database.write(partial(queue.fail, job=job, code="reader_died"))
    assert {row.state for row in rows(hospital).values()} == {"poison"}
    with hospital.database.reading() as session:
        assert {row.error for row in fleet.set_aside(session)} == {"reader_died"}


def test_what_no_worker_survives_to_tell_of_is_set_aside_too(hospital: Hospital) -> None:
    ask(hospital, 1)
    for _ in range(MOST_TRIES):
        assert len(take(hospital)) == 1
        time_passes(hospital, LEASE)
    assert take(hospital) == []
    assert rows(hospital)[sha(1)].state == "poison"
    assert rows(hospital)[sha(1)].error == "worker_lost"


def test_what_was_set_aside_is_tried_again_when_asked(hospital: Hospital) -> None:
    test_what_no_worker_survives_to_tell_of_is_set_aside_too(hospital)
    reading = rows(hospital)[sha(1)].id
    assert hospital.database.write(partial(readings.try_again, reading=reading))
    assert not hospital.database.write(partial(readings.try_again, reading=reading))
    (job,) = take(hospital)
    assert job.attempt == 1


def test_what_could_not_be_begun_counts_as_no_try(hospital: Hospital) -> None:
    ask(hospital, 1)
    for _ in range(MOST_TRIES + 2):
        (job,) = take(hospital)
        assert hospital.database.write(partial(queue.put_back, job=job, code="image_store_failing"))
        assert take(hospital) == []  # it rests
        time_passes(hospital, timedelta(minutes=1))
    assert (rows(hospital)[sha(1)].tries, rows(hospital)[sha(1)].error) == (0, "image_store_failing")


def test_fresh_images_go_before_the_archive_and_each_batch_is_of_one_release(hospital: Hospital) -> None:
    ask(hospital, 1, 2, release="new", priority=readings.ARCHIVE)
    ask(hospital, 3)
    assert [job.sha256 for job in take(hospital, leave=("1",))] == [sha(1), sha(2)]
    time_passes(hospital, LEASE)
    assert [(job.sha256, job.release) for job in take(hospital)] == [(sha(3), "1")]


def test_a_worker_that_ended_leaves_word_of_what_it_held(hospital: Hospital) -> None:
    ask(hospital, 1, 2)
    jobs = take(hospital, "a")
    hospital.database.write(partial(queue.finish, job=jobs[0], answer=ERROR))
    with hospital.database.reading() as session:
        assert queue.held_by(session, "a") == [jobs[1]]
        assert queue.held_by(session, "b") == []


def test_nothing_of_an_answer_is_kept_where_what_follows_from_it_fails(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(hospital, 1)
    (job,) = take(hospital)

    def broken(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(queue, "record_agreements", broken)
    with pytest.raises(RuntimeError):
        hospital.database.write(partial(queue.finish, job=job, answer=ERROR))
    assert rows(hospital)[sha(1)].state == "waiting"
    with hospital.database.reading() as session:
        assert session.exec(select(AgreementRow)).all() == []
    assert datetime.now(UTC) < rows(hospital)[sha(1)].due_at
