"""What the ER does with a run, in the database, in the ambulance's inbox, on boards and in the audit log."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from sqlmodel import select

from shared.errors import FirstRayError
from shared.hospital import Acknowledgement, ConfirmedReading, ErMessage, Presence
from shared.identity import new_id
from shared.records import RecordType
from sync_server.db.tables import AcknowledgementRow, AuditRow, ConfirmedReadingRow, HistoryRow, MessageRow
from sync_server.domain import accounts, acts, inbox
from sync_server.domain.accounts import Person, Role
from sync_server.domain.changes import BOARD, run_of
from sync_server.hospital import Hospital
from tests.hospital import TestDevice


@pytest.fixture
def doctor(hospital: Hospital) -> Person:
    with hospital.database.writing() as session:
        accounts.create_user(session, "doctor", "이서연", Role.ER, "fifteen quiet ambulances", "test")
    token = accounts.log_in(hospital.database, "doctor", "fifteen quiet ambulances", "10.0.0.1")
    person = accounts.person(hospital.database, token)
    assert person is not None
    return person


def run_with_film(device: TestDevice) -> tuple[UUID, UUID]:
    _, encounter = device.run()
    film = device.film(encounter)
    device.diagnosis(film, ["Pneumothorax"])
    device.send()
    return encounter, film


def told(hospital: Hospital, device: TestDevice) -> list[Any]:
    return [item.content for item in inbox.fetch(hospital.database, device.id, 0).items]


def history(hospital: Hospital, encounter: UUID) -> HistoryRow:
    with hospital.database.reading() as session:
        row = session.get(HistoryRow, encounter)
        assert row is not None
        return row


def test_an_acknowledgement_reaches_crew_board_and_log_once(
    hospital: Hospital, doctor: Person, device: TestDevice
) -> None:
    encounter, _ = run_with_film(device)
    first = acts.acknowledge(hospital, doctor, encounter)
    again = acts.acknowledge(hospital, doctor, encounter)
    assert again.id == first.id
    (content,) = told(hospital, device)
    assert content == Acknowledgement(encounter=encounter, by="이서연", at=first.at)
    assert history(hospital, encounter).acknowledged_at == first.at
    with hospital.database.reading() as session:
        assert len(session.exec(select(AcknowledgementRow)).all()) == 1
        log = session.exec(select(AuditRow).where(AuditRow.action == "run.acknowledged")).all()
    assert [(row.actor, row.subject) for row in log] == [("user:doctor", str(encounter))]


def test_what_came_after_an_acknowledgement_is_acknowledged_anew(
    hospital: Hospital, doctor: Person, device: TestDevice
) -> None:
    encounter, film = run_with_film(device)
    first = acts.acknowledge(hospital, doctor, encounter)
    device.put(RecordType.ENCOUNTER, {"notes": "on the way"}, encounter)
    device.send()
    assert history(hospital, encounter).seen(first.at), "no image and no reading"
    device.diagnosis(film)
    device.send()
    assert not history(hospital, encounter).seen(first.at)
    again = acts.acknowledge(hospital, doctor, encounter)
    assert again.id != first.id
    assert history(hospital, encounter).seen(again.at)
    assert [item.at for item in told(hospital, device)] == [first.at, again.at]


def test_a_reading_is_kept_beside_the_earlier_one(hospital: Hospital, doctor: Person, device: TestDevice) -> None:
    encounter, film = run_with_film(device)
    said = {"Pneumothorax": Presence.PRESENT, "Effusion": Presence.UNSURE}
    acts.confirm(hospital, doctor, encounter, film, said, "오른쪽\r\n긴장성")
    acts.confirm(hospital, doctor, encounter, film, {"Pneumothorax": Presence.ABSENT})
    with hospital.database.reading() as session:
        rows = session.exec(select(ConfirmedReadingRow).order_by(ConfirmedReadingRow.at)).all()  # type: ignore[arg-type]
    assert [row.findings for row in rows] == [
        {"Effusion": "unsure", "Pneumothorax": "present"},
        {"Pneumothorax": "absent"},
    ]
    first, second = told(hospital, device)
    assert isinstance(first, ConfirmedReading)
    assert (first.findings, first.text, first.radiograph) == (said, "오른쪽\n긴장성", film)
    assert second.findings == {"Pneumothorax": Presence.ABSENT}
    after = history(hospital, encounter)
    assert after.confirmed
    assert after.urgent == []


def test_a_message_reaches_the_crew(hospital: Hospital, doctor: Person, device: TestDevice) -> None:
    encounter, _ = run_with_film(device)
    acts.send_message(hospital, doctor, encounter, "  Chest drain is ready. ")
    (content,) = told(hospital, device)
    assert isinstance(content, ErMessage)
    assert (content.encounter, content.text, content.by) == (encounter, "Chest drain is ready.", "이서연")
    with hospital.database.reading() as session:
        assert session.exec(select(MessageRow)).one().text == "Chest drain is ready."


Act = Callable[[Hospital, Person, UUID, UUID], object]


@pytest.mark.parametrize(
    ("act", "code"),
    [
        (lambda h, p, run, film: acts.acknowledge(h, p, new_id()), "run_unknown"),
        (lambda h, p, run, film: acts.send_message(h, p, new_id(), "x"), "run_unknown"),
        (lambda h, p, run, film: acts.send_message(h, p, run, " \n "), "message_empty"),
        (lambda h, p, run, film: acts.send_message(h, p, run, "x" * 4001), "text_invalid"),
        (lambda h, p, run, film: acts.send_message(h, p, run, "x\x00"), "text_invalid"),
        (lambda h, p, run, film: acts.confirm(h, p, run, film, {}), "reading_empty"),
        (lambda h, p, run, film: acts.confirm(h, p, run, new_id(), {}, "x"), "film_unknown"),
        (lambda h, p, run, film: acts.confirm(h, p, run, film, {"Hernia": Presence.ABSENT}), "finding_unknown"),
    ],
)
def test_what_is_refused_changes_nothing(
    hospital: Hospital, doctor: Person, device: TestDevice, act: Act, code: str
) -> None:
    encounter, film = run_with_film(device)
    before = history(hospital, encounter).changed_at
    with pytest.raises(FirstRayError) as error:
        act(hospital, doctor, encounter, film)
    assert error.value.code == code
    assert told(hospital, device) == []
    assert history(hospital, encounter).changed_at == before


def test_a_film_of_another_run_is_refused(hospital: Hospital, doctor: Person, device: TestDevice) -> None:
    _, film = run_with_film(device)
    _, other = device.run()
    device.send()
    with pytest.raises(FirstRayError, match="no such radiograph"):
        acts.confirm(hospital, doctor, other, film, {}, "x")


def test_a_run_that_its_crew_deleted_is_gone(hospital: Hospital, doctor: Person, device: TestDevice) -> None:
    encounter, _ = run_with_film(device)
    device.delete(RecordType.ENCOUNTER, encounter)
    device.send()
    with pytest.raises(FirstRayError) as error:
        acts.acknowledge(hospital, doctor, encounter)
    assert error.value.code == "run_unknown"


def test_boards_and_the_runs_pages_hear_of_it(hospital: Hospital, doctor: Person, device: TestDevice) -> None:
    encounter, _ = run_with_film(device)

    async def heard() -> frozenset[str]:
        with hospital.changes.subscribe(BOARD, run_of(encounter)) as subscription:
            await asyncio.to_thread(acts.acknowledge, hospital, doctor, encounter)
            topics: frozenset[str] = frozenset()
            while len(topics) < 2:
                news = await subscription.wait(60)
                assert news
                topics |= news
            return topics

    assert asyncio.run(heard()) == {BOARD, run_of(encounter)}
