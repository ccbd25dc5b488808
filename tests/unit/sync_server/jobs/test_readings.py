"""Diagnosis and reading in either order: one agreement record, one word to the crew, one history that shows it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from sqlmodel import col, select

from shared.correction import Correction
from shared.hospital import ImageKind
from shared.records import RecordType
from sync_server.db.tables import (
    AgreementRow,
    DiagnosisRow,
    HistoryRow,
    ImageRow,
    InboxRow,
    ReleaseRow,
    RingRow,
    ServerReadingRow,
)
from sync_server.domain import readings
from sync_server.domain.readings import Manner
from sync_server.hospital import Hospital
from sync_server.jobs import queue
from sync_server.jobs.queue import Answer
from tests.hospital import TestDevice, enrolled_device
from tests.hospital.devices import SHA, reading

RELEASE = "fp-1"


@pytest.fixture(autouse=True)
def release(hospital: Hospital) -> None:
    """The hospital reads with a release."""
    now = datetime.now(UTC)
    with hospital.database.writing() as session:
        session.add(ReleaseRow(id=RELEASE, sha256="f" * 64, size=1, manifest={}, uploaded_at=now, uploaded_by="t"))
        session.add(RingRow(ring="server", release=RELEASE, at=now, by="t"))


@pytest.fixture(autouse=True)
def no_thresholds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync_server.domain.releases.thresholds", lambda *_: None)


def hold(hospital: Hospital, sha256: str = SHA) -> None:
    """The original is there."""

    def act(session: Any) -> None:
        session.add(ImageRow(sha256=sha256, kind=ImageKind.ORIGINAL, size=1000, stored_at=datetime.now(UTC)))
        session.flush()
        for hook in hospital.images.on_original:
            hook(session, sha256)

    hospital.database.write(act)


def next_due(hospital: Hospital) -> queue.Due | None:
    with hospital.database.reading() as session:
        return queue.next_due(session)


def read(hospital: Hospital, likely: tuple[str, ...] = (), error: str | None = None) -> int:
    """A worker reads all that waits; gives how many readings it made."""
    count = 0
    while (due := next_due(hospital)) is not None:
        jobs = hospital.database.write(partial(queue.take, worker="w", most=5, release=due.release))
        for job in jobs:
            result = None if error else reading(likely) | {"precision": "fp32", "runtime": "onnx", "release": RELEASE}
            assert hospital.database.write(partial(queue.finish, job=job, answer=Answer(result, error, 0.1)))
            count += 1
    return count


def agreements(hospital: Hospital) -> list[AgreementRow]:
    with hospital.database.reading() as session:
        return list(session.exec(select(AgreementRow)))


def told(hospital: Hospital) -> list[dict[str, Any]]:
    with hospital.database.reading() as session:
        return [row.content for row in session.exec(select(InboxRow)) if row.content["kind"] == "server_diagnosis"]


def history(hospital: Hospital, run: UUID) -> HistoryRow:
    with hospital.database.reading() as session:
        return session.exec(select(HistoryRow).where(HistoryRow.encounter == run)).one()


ORDERS: dict[str, tuple[int, ...]] = {
    "diagnosis, image, reading": (0, 1, 2),
    "image, diagnosis, reading": (1, 0, 2),
    "image, reading, diagnosis": (1, 2, 0),
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_whatever_comes_last_makes_the_record(hospital: Hospital, device: TestDevice, order: tuple[int, ...]) -> None:
    _, run = device.run()
    film = device.film(run)
    device.send()
    steps: tuple[Callable[[], Any], ...] = (
        lambda: (device.diagnosis(film, ["Mass"]), device.send()),
        lambda: hold(hospital),
        lambda: read(hospital, ("Effusion",)),
    )
    for number in order:
        assert agreements(hospital) == []
        steps[number]()
    (record,) = agreements(hospital)
    assert record.significant
    assert record.radiograph == film
    assert set(record.changes["reasons"]) >= {"state:Mass", "state:Effusion"}
    (content,) = told(hospital)
    assert (content["radiograph"], content["encounter"]) == (str(film), str(run))
    assert content["result"]["precision"] == "fp32"
    assert history(hospital, run).differs
    device.send()  # all of it once more
    assert len(agreements(hospital)) == len(told(hospital)) == 1
    assert read(hospital) == 0


def test_agreement_is_recorded_and_the_crew_left_alone(hospital: Hospital, device: TestDevice) -> None:
    _, run = device.run()
    device.diagnosis(device.film(run), ["Mass"])
    device.send()
    hold(hospital)
    read(hospital, ("Mass",))
    (record,) = agreements(hospital)
    assert not record.significant
    assert record.changes["precision"] == {"device": "int8", "hospital": "fp32"}
    assert told(hospital) == []
    assert not history(hospital, run).differs


def test_films_are_read_as_the_crew_had_them_read(hospital: Hospital, device: TestDevice) -> None:
    _, run = device.run()
    film = device.film(run)
    device.diagnosis(film, overridden=True)
    device.send()
    hold(hospital)
    turned = reading(["Mass"]) | {"correction": {"quarter_turns": 2, "invert": True}}
    device.diagnosis(film, result=turned)
    device.send()
    assert read(hospital) == 2
    with hospital.database.reading() as session:
        found = {row.id: row.manner for row in session.exec(select(ServerReadingRow))}
    assert set(found.values()) == {"force", "turn2+invert"}
    assert {found[record.reading] for record in agreements(hospital)} == {"force", "turn2+invert"}


def test_manners_are_text_and_back() -> None:
    for manner in (
        Manner(),
        Manner(True),
        Manner(False, Correction(quarter_turns=3)),
        Manner(True, Correction(invert=True)),
    ):
        assert Manner.parse(str(manner)) == manner
    assert str(Manner(True, Correction(quarter_turns=1, invert=True))) == "force+turn1+invert"


def test_an_image_two_ambulances_have_is_read_once_and_compared_with_both(hospital: Hospital) -> None:
    first, second = enrolled_device(hospital, "1"), enrolled_device(hospital, "2")
    for device in (first, second):
        _, run = device.run()
        device.diagnosis(device.film(run), ["Mass"])
        device.send()
    hold(hospital)
    assert read(hospital) == 1
    assert len(agreements(hospital)) == 2
    with hospital.database.reading() as session:
        assert {row.device for row in session.exec(select(InboxRow))} == {first.id, second.id}


def test_an_old_diagnosis_is_compared_but_its_crew_not_told(hospital: Hospital, device: TestDevice) -> None:
    _, run = device.run()
    device.diagnosis(device.film(run), ["Mass"])
    device.send()
    with hospital.database.writing() as session:
        for row in session.exec(select(DiagnosisRow)):
            row.first_at -= timedelta(days=2)
            session.add(row)
    hold(hospital)
    read(hospital)
    assert [record.significant for record in agreements(hospital)] == [True]
    assert told(hospital) == []


def test_a_broken_file_is_an_answer_and_differs_from_a_reading(hospital: Hospital, device: TestDevice) -> None:
    _, run = device.run()
    device.diagnosis(device.film(run), ["Mass"])
    device.send()
    hold(hospital)
    read(hospital, error="dicom_truncated")
    (record,) = agreements(hospital)
    assert record.changes["refusal"] == {"device": None, "hospital": "dicom_truncated"}
    assert record.significant
    assert told(hospital) == []  # there is no reading to show


def test_another_release_reads_the_archive_again_once(hospital: Hospital, device: TestDevice) -> None:
    _, run = device.run()
    device.diagnosis(device.film(run), ["Mass"])
    device.send()
    hold(hospital)
    read(hospital, ("Mass",))
    hour = timedelta(hours=1)
    with hospital.database.reading() as session:
        assert readings.archived(session, datetime.now(UTC) - hour) == [SHA]
        assert readings.archived(session, datetime.now(UTC) + hour) == []
    again = partial(readings.read_again, release="fp-2", images=[SHA])
    assert hospital.database.write(again) == 1
    assert hospital.database.write(again) == 0
    assert read(hospital, ("Mass", "Effusion")) == 1
    assert len(agreements(hospital)) == 2


def test_what_is_deleted_meanwhile_is_not_read_again(hospital: Hospital, device: TestDevice) -> None:
    run = device.run()[1]
    device.film(run)
    device.send()
    hold(hospital)
    device.delete(RecordType.ENCOUNTER, run)
    device.send()
    assert hospital.database.write(partial(readings.read_again, release="fp-2", images=[SHA])) == 0


def fail(hospital: Hospital, code: str) -> None:
    """All tries of what waits fail."""
    for attempt in range(1, queue.MOST_TRIES + 1):
        with hospital.database.writing() as session:
            for row in session.exec(select(ServerReadingRow).where(ServerReadingRow.state == "waiting")):
                row.due_at = row.asked_at
                session.add(row)
        (job,) = hospital.database.write(partial(queue.take, worker="w", most=5, release=RELEASE))
        assert job.attempt == attempt
        hospital.database.write(partial(queue.fail, job=job, code=code))


@pytest.mark.parametrize("code", ["image_not_held", "image_damaged"])
def test_bytes_that_were_lost_and_come_again_are_read(hospital: Hospital, device: TestDevice, code: str) -> None:
    _, run = device.run()
    device.diagnosis(device.film(run), ["Mass"])
    device.send()
    hold(hospital)
    fail(hospital, code)
    assert read(hospital) == 0
    hospital.database.write(partial(readings.original_held, sha256=SHA))
    assert read(hospital, ("Mass",)) == 1
    assert len(agreements(hospital)) == 1


def test_bytes_that_come_again_during_the_last_try_for_them_are_read(hospital: Hospital) -> None:
    hold(hospital)
    with hospital.database.writing() as session:
        row = session.exec(select(ServerReadingRow)).one()
        row.tries, row.error = queue.MOST_TRIES - 1, "image_not_held"
        session.add(row)
    (job,) = hospital.database.write(partial(queue.take, worker="w", most=5, release=RELEASE))
    hospital.database.write(partial(readings.original_held, sha256=SHA))
    assert not hospital.database.write(partial(queue.fail, job=job, code="image_not_held"))
    assert read(hospital) == 1


def test_what_ends_readers_stays_set_aside_when_it_is_delivered_again(hospital: Hospital) -> None:
    hold(hospital)
    fail(hospital, "reader_died")
    hospital.database.write(partial(readings.original_held, sha256=SHA))
    assert read(hospital) == 0


def test_what_came_before_there_was_a_release_is_found(hospital: Hospital, device: TestDevice) -> None:
    with hospital.database.writing() as session:
        for row in session.exec(select(RingRow)):
            session.delete(row)
    hold(hospital)
    with hospital.database.reading() as session:
        assert readings.unread(session) == [SHA]
        assert session.exec(select(ServerReadingRow).where(col(ServerReadingRow.id).is_not(None))).all() == []
