"""Deleting: hidden at once, undone for a while, then gone from every table and file, and told the hospital."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text

from edge_app.store.errors import StoreError
from edge_app.store.store import Store
from shared.events import Delete, Event, Put
from shared.hospital import ErMessage, Inbox, InboxItem
from shared.records import RecordType
from tests.unit.edge_app.store.samples import Hospital, check_chains, diagnosis, events, open_store, receive

LATER = datetime.now(UTC) + timedelta(days=2)


def filled(store: Store, name: str = "Kim Secret", data: bytes | None = None) -> tuple[UUID, UUID]:
    run = store.start_run(who={"name": name}, encounter={"notes": "private"})
    store.add_vital_signs(run, {"spo2": 91})
    film = receive(store, data)
    store.add_reading(
        film,
        diagnosis=diagnosis(),
        error=None,
        radiograph={"encounter": run},
        picture=b"pic" + film.bytes,
        preview=b"pre" + film.bytes,
    )
    return run, film


def files(folder: Path) -> int:
    return sum(path.is_file() for path in (folder / "images").rglob("*"))


def deletes(store: Store) -> list[Delete]:
    actions = [Event.model_validate_json(row.body).action for row in events(store) if row.body]
    return [action for action in actions if isinstance(action, Delete)]


def everything(store: Store) -> str:
    """All that the database says, as one text."""
    with store._database.reading() as session:
        tables = session.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'")).scalars().all()
        return repr([session.execute(text(f"SELECT * FROM {table}")).all() for table in tables])


def test_hidden_at_once_and_brought_back(store: Store) -> None:
    run, film = filled(store)
    patient = store.run(run).patient.id
    deletion = store.delete_run(run, "wrong patient")
    assert store.runs() == []
    assert store.patients() == []
    assert store.runs(finding="Mass") == []
    assert store.films_of_patient(patient) == []
    for read in (
        lambda: store.run(run),
        lambda: store.film(film),
        lambda: store.original(film),
        lambda: store.end_run(run),
    ):
        with pytest.raises(StoreError) as error:
            read()
        assert error.value.code == "record_unknown"
    assert [each.id for each in store.deletions()] == [deletion.id]
    store.settle()
    store.undo(deletion.id)
    assert [row.id for row in store.runs()] == [run]
    assert store.film(film).run == run
    assert store.deletions() == []
    assert deletes(store) == []


def test_when_due_all_of_a_run_goes(store: Store, folder: Path, hospital: Hospital) -> None:
    run, film = filled(store)
    other, _ = filled(store, "Lee Stays")
    hospital.take(store)
    hospital.take_uploads(store)
    item = InboxItem(id=1, content=ErMessage(encounter=run, text="bed 4", by="Dr", at=datetime.now(UTC)))
    store.outbox.take_inbox(Inbox(items=(item,), after=1))
    deletion = store.delete_run(run, "asked for")
    store.settle(LATER)
    with pytest.raises(StoreError) as error:
        store.undo(deletion.id)
    assert error.value.code == "deletion_past"
    assert [row.id for row in store.runs()] == [other]
    assert files(folder) == 3
    gone = deletes(store)
    assert [action.type for action in gone] == [
        RecordType.DIAGNOSIS,
        RecordType.RADIOGRAPH,
        RecordType.VITAL_SIGNS,
        RecordType.ENCOUNTER,
        RecordType.PATIENT,
    ]
    assert {action.reason for action in gone} == {"asked for"}
    left = everything(store)
    for secret in ("Kim Secret", "private", "bed 4"):
        assert (secret in left) is (secret == "private")  # of the other run
    assert "Lee Stays" in left
    assert left.count("private") == 2  # its record and its event
    assert film not in {each.id for each in store.waiting_films()}


def test_what_was_never_sent_is_sent_and_then_forgotten(store: Store, hospital: Hospital) -> None:
    run, _ = filled(store)
    store.delete_run(run)
    store.settle(LATER)
    assert any(isinstance(event.action, Put) for event in store.outbox.next_events())
    assert "Kim Secret" in everything(store)
    hospital.take(store)
    assert "Kim Secret" not in everything(store)
    assert store.outbox.next_events() == []


def test_a_patient_stays_while_another_run_does(store: Store) -> None:
    first = store.start_run(who={"name": "Han"})
    patient = store.run(first).patient.id
    second = store.start_run(patient)
    store.delete_run(first)
    store.settle(LATER)
    assert store.patient(patient).runs == 1
    store.delete_run(second)
    store.settle(LATER)
    with pytest.raises(StoreError):
        store.patient(patient)


def test_one_film_goes_and_its_run_stays(store: Store, folder: Path) -> None:
    run, film = filled(store)
    store.delete_film(film, undo_seconds=0)
    assert store.run(run).row.radiographs == 0
    assert store.run(run).row.latest is None
    store.settle()
    assert [action.type for action in deletes(store)] == [RecordType.DIAGNOSIS, RecordType.RADIOGRAPH]
    assert files(folder) == 0


def test_bytes_shared_with_another_record_stay(store: Store, hospital: Hospital) -> None:
    run, film = filled(store, data=b"the same film")
    deletion = store.delete_run(run)
    again = receive(store, b"the same film")
    assert again != film
    store.add_reading(again, diagnosis=diagnosis(), error=None, picture=b"pic" + film.bytes)
    store.settle(LATER)
    assert store.original(again) == b"the same film"
    assert store.picture(again) == b"pic" + film.bytes
    hospital.take(store)
    assert hospital.take_uploads(store) == ["original"]
    assert store.deletions() == []
    assert deletion.subject == run


def test_what_was_deleted_and_comes_again_is_a_new_record(store: Store) -> None:
    film = receive(store, b"film")
    store.delete_film(film, undo_seconds=0)
    store.settle()
    again = receive(store, b"film")
    assert again != film
    assert store.original(again) == b"film"


def test_deleting_twice_and_deletions_within_deletions(store: Store) -> None:
    run, film = filled(store)
    first = store.delete_film(film)
    second = store.delete_run(run)
    with pytest.raises(StoreError):
        store.delete_run(run)
    store.undo(second.id)
    assert store.run(run).row.radiographs == 0
    store.undo(first.id)
    assert store.run(run).row.radiographs == 1
    store.delete_film(film)
    store.delete_run(run)
    store.settle(LATER)
    assert store.deletions() == []
    assert len([action for action in deletes(store) if action.type is RecordType.RADIOGRAPH]) == 1


def test_a_file_left_by_a_stop_in_the_middle_is_not_taken_up_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(folder)
    film = receive(store, b"gone")
    monkeypatch.setattr(store._images, "destroy", lambda names: None)
    store.delete_film(film, undo_seconds=0)
    store.settle()
    assert files(folder) == 1
    store.close()
    again = open_store(folder)
    assert again.waiting_films() == []
    assert files(folder) == 0
    check_chains(again)
    again.close()


def test_a_clock_set_back_does_not_put_a_deletion_off_for_years(store: Store) -> None:
    run, _ = filled(store)
    deletion = store.delete_run(run, undo_seconds=10**9)
    now = datetime.now(UTC)
    assert deletion.due_at <= now + timedelta(days=1)
    store.settle(now)
    assert store.deletions() == [deletion]
    store.settle(now - timedelta(days=365))
    assert store.deletions() == []
    assert len(deletes(store)) > 0


def test_a_reason_that_cannot_be_sent_is_refused_at_once(store: Store) -> None:
    run = store.start_run()
    with pytest.raises(StoreError) as error:
        store.delete_run(run, "x" * 5000)
    assert error.value.code == "value_not_allowed"
    assert error.value.fields == ("reason",)
    assert len(store.runs()) == 1
