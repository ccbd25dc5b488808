"""What the hospital says to devices."""

import threading
import time
from datetime import UTC, datetime
from uuid import UUID

import pytest
from sqlmodel import select

from shared.errors import FirstRayError
from shared.hospital import Content, ErMessage, Inbox, Revocation
from shared.identity import new_id
from sync_server.db.tables import DeviceRow, InboxRow
from sync_server.domain import inbox
from sync_server.hospital import Hospital
from tests.hospital import TestDevice, enrolled_device

ENCOUNTER = new_id()


def message(text: str = "침상 3") -> ErMessage:
    return ErMessage(encounter=ENCOUNTER, text=text, by="Dr Kim", at=datetime.now(UTC))


def say(hospital: Hospital, device: UUID, content: Content) -> int:
    return hospital.database.write(lambda session: inbox.say(session, device, content))


def test_what_was_said_is_fetched_in_order_as_often_as_asked(hospital: Hospital, device: TestDevice) -> None:
    contents: list[Content] = [message("a"), Revocation(wipe=True), message("b")]
    ids = [say(hospital, device.id, content) for content in contents]
    assert ids == sorted(set(ids))
    for _ in range(2):
        found = inbox.fetch(hospital.database, device.id, 0)
        assert [item.content for item in found.items] == contents
        assert [item.id for item in found.items] == ids
        assert found.after == ids[-1]
    assert [item.id for item in inbox.fetch(hospital.database, device.id, ids[0]).items] == ids[1:]
    assert inbox.fetch(hospital.database, device.id, ids[-1]) == Inbox(items=(), after=ids[-1])


def test_ids_go_on_from_the_clock_so_that_a_restored_hospital_gives_none_twice(
    hospital: Hospital, device: TestDevice
) -> None:
    before = time.time_ns() // 1_000_000
    first = say(hospital, device.id, message())
    assert first >= before
    with hospital.database.writing() as session:  # as after a restore from a backup without the item
        session.delete(session.get_one(InboxRow, (device.id, first)))
        session.get_one(DeviceRow, device.id).last_inbox = 0
    time.sleep(0.002)
    assert say(hospital, device.id, message()) > first


def test_ids_grow_where_the_clock_was_set_back(hospital: Hospital, device: TestDevice) -> None:
    ahead = time.time_ns() // 1_000_000 + 10_000_000
    with hospital.database.writing() as session:
        session.get_one(DeviceRow, device.id).last_inbox = ahead
    assert say(hospital, device.id, message()) == ahead + 1


def test_each_has_an_inbox_of_its_own(hospital: Hospital, device: TestDevice) -> None:
    other = enrolled_device(hospital)
    say(hospital, device.id, message("yours"))
    assert inbox.fetch(hospital.database, other.id, 0).items == ()


def test_it_is_noted_when_an_item_was_first_handed_out(hospital: Hospital, device: TestDevice) -> None:
    say(hospital, device.id, message())
    with hospital.database.reading() as session:
        assert inbox.waiting(session) == {device.id: 1}
    inbox.fetch(hospital.database, device.id, 0)
    with hospital.database.reading() as session:
        first = session.exec(select(InboxRow.fetched_at)).one()
    inbox.fetch(hospital.database, device.id, 0)
    with hospital.database.reading() as session:
        assert first is not None
        assert session.exec(select(InboxRow.fetched_at)).one() == first
        assert inbox.waiting(session) == {}


def test_a_full_inbox_comes_in_pages(hospital: Hospital, device: TestDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "PAGE", 3)
    ids = [say(hospital, device.id, message(str(number))) for number in range(7)]
    found, after = [], 0
    while (page := inbox.fetch(hospital.database, device.id, after)).items:
        assert len(page.items) <= 3
        found += [item.id for item in page.items]
        after = page.after
    assert found == ids


def test_many_who_speak_at_once_get_ids_in_the_order_of_their_commits(hospital: Hospital, device: TestDevice) -> None:
    """A reader that has seen an id will never see a smaller one appear later."""
    stop, seen, skipped = threading.Event(), [0], []

    def read() -> None:
        while not stop.is_set():
            items = inbox.fetch(hospital.database, device.id, seen[-1]).items
            seen.extend(item.id for item in items)
        every = [item.id for item in inbox.fetch(hospital.database, device.id, 0).items]
        skipped.extend(id for id in every if id not in seen)

    reader = threading.Thread(target=read)
    reader.start()
    writers = [
        threading.Thread(target=lambda: [say(hospital, device.id, message()) for _ in range(8)]) for _ in range(6)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    end = time.monotonic() + 60
    while len(seen) < 49 and time.monotonic() < end:
        time.sleep(0.01)
    stop.set()
    reader.join(60)
    assert len(seen) == 49
    assert skipped == []
    assert seen == sorted(set(seen))


def test_nobody_speaks_to_an_unknown_device(hospital: Hospital) -> None:
    with pytest.raises(FirstRayError) as caught:
        say(hospital, new_id(), message())
    assert caught.value.code == "device_unknown"
