"""How devices and the queue of readings are told to an admin."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from sqlmodel import Session

from shared.hospital import ErMessage
from shared.identity import new_id
from sync_server.db.tables import DeviceRow, ImageRow, ServerReadingRow
from sync_server.domain import fleet, inbox
from sync_server.domain.fleet import Standing
from sync_server.hospital import Hospital
from tests.hospital import enrolled_device, new_hospital
from tests.hospital.devices import reading

NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = new_hospital(tmp_path, listen=False)
    yield made
    made.close()


def device(session: Session, name: str, seen: timedelta | None = timedelta(0), **more: object) -> UUID:
    at = None if seen is None else NOW - seen
    row = DeviceRow(id=new_id(), name=name, jwk={}, enrolled_at=NOW, enrolled_by="test", seen_at=at, **more)
    session.add(row)
    return row.id


def test_devices_in_need_come_first(hospital: Hospital) -> None:
    with hospital.database.writing() as session:
        device(session, "revoked", revoked_at=NOW, flagged="fork")
        device(session, "well")
        device(session, "another that is well", timedelta(days=2))
        device(session, "new", None)
        device(session, "silent", timedelta(days=4))
        device(session, "forked", flagged="fork")
    with hospital.database.reading() as session:
        found = [(one.row.name, one.standing) for one in fleet.devices(session, NOW)]
    assert found == [
        ("forked", Standing.FLAGGED),
        ("silent", Standing.SILENT),
        ("new", Standing.UNSEEN),
        ("another that is well", Standing.WELL),
        ("well", Standing.WELL),
        ("revoked", Standing.REVOKED),
    ]


def test_what_is_under_way_is_counted_for_each_device(hospital: Hospital) -> None:
    one, other = enrolled_device(hospital, "one"), enrolled_device(hospital, "other")
    _, run = one.run()
    held, missing, deleted = "aa" * 32, "bb" * 32, "cc" * 32
    one.film(run, held)
    one.film(run, missing)
    one.delete("radiograph", one.film(run, deleted))
    one.send()
    other.send()
    with hospital.database.writing() as session:
        session.add(ImageRow(sha256=held, kind="original", size=1, stored_at=NOW))
        inbox.say(session, other.id, ErMessage(encounter=run, text="bed 3", by="Dr", at=NOW))
        inbox.say(session, other.id, ErMessage(encounter=run, text="bed 4", by="Dr", at=NOW))
    with hospital.database.reading() as session:
        counted = {found.row.id: (found.unread, found.missing) for found in fleet.devices(session, NOW)}
    assert counted == {one.id: (0, 1), other.id: (2, 0)}
    inbox.fetch(hospital.database, other.id, 0)
    with hospital.database.reading() as session:
        assert all(found.unread == 0 for found in fleet.devices(session, NOW))


def test_the_queue_is_told_and_called_slow_in_time(hospital: Hospital) -> None:
    def reading(
        state: str, minutes: int, done: int | None = None, priority: int = 0, error: str | None = None
    ) -> ServerReadingRow:
        return ServerReadingRow(
            id=new_id(),
            sha256=f"{minutes:064x}",
            release="r",
            state=state,
            priority=priority,
            error=error,
            asked_at=NOW - timedelta(minutes=minutes),
            due_at=NOW,
            done_at=None if done is None else NOW - timedelta(minutes=done),
        )

    with hospital.database.reading() as session:
        idle = fleet.queue(session, NOW)
    assert (idle.waiting, idle.oldest, idle.slow, idle.held_up) == (0, None, False, [])
    with hospital.database.writing() as session:
        session.add_all([reading("waiting", 2), reading("waiting", 9, error="disk_full"), reading("done", 100, 90)])
        session.add(reading("waiting", 600, priority=1))
        session.add_all([reading("done", 101, 59), reading("poison", 5, error="reader_died"), reading("failed", 4)])
    with hospital.database.reading() as session:
        found = fleet.queue(session, NOW)
        assert [row.state for row in fleet.set_aside(session)] == ["failed", "poison"]
        assert fleet.queue(session, NOW + timedelta(minutes=2)).slow
    assert (found.waiting, found.again, found.failed, found.poison, found.done_lately) == (3, 1, 1, 1, 1)
    assert found.oldest == NOW - timedelta(minutes=9)
    assert not found.slow
    assert found.held_up == ["disk_full"]


def test_a_device_runs_the_release_of_its_latest_diagnosis(hospital: Hospital) -> None:
    sender = enrolled_device(hospital)
    _, run = sender.run()
    film = sender.film(run)

    def release() -> object:
        with hospital.database.reading() as session:
            (one,) = fleet.devices(session, NOW)
            return one.row.facts.get("release")

    sender.send()
    assert release() is None
    for made_at, named in ((NOW, "2026-11-25"), (NOW + timedelta(days=1), "2026-12-01"), (NOW, "2026-11-25")):
        sender.diagnosis(film, made_at=made_at, result={**reading(), "release": named})
    sender.send()
    assert release() == "2026-12-01"
    sender.diagnosis(film, made_at=NOW, result={**reading(), "release": "2026-11-25"})
    sender.send()
    assert release() == "2026-12-01", "what is said once more is not news"
