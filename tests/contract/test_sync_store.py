"""The sync client on the real store: from a run on the device to the hospital and back."""

import contextlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge_app.store.store import Store
from edge_app.store.views import Delivery
from edge_app.sync import Hospital, StaticCredentials, SyncClient
from shared.hospital import Acknowledgement, ErMessage, ImageKind
from tests.fake_hospital import FakeHospital, Shaper, until
from tests.unit.edge_app.store.samples import check_chains, diagnosis, open_store, receive


@pytest.fixture
def hospital() -> Iterator[FakeHospital]:
    with FakeHospital() as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path / "store")
    yield opened
    check_chains(opened)
    opened.close()


@contextlib.contextmanager
def syncing(store: Store, hospital: FakeHospital, url: str | None = None) -> Iterator[SyncClient]:
    settings = Hospital(url or hospital.url, None, hospital.receipt_keys)
    client = SyncClient(store.outbox, settings, StaticCredentials())
    store.listen(lambda _: client.wake())
    client.start()
    try:
        yield client
    finally:
        client.stop()


def all_held(store: Store) -> bool:
    standing = store.standing()
    return not (standing.events_waiting or standing.previews_waiting or standing.originals_waiting)


def a_run(store: Store, size: int = 50_000) -> tuple[object, object]:
    """A run with one radiograph that was read."""
    run = store.start_run(who={"name": "Kim Younghee"})
    store.add_vital_signs(run, {"spo2": 91})
    film = receive(store, os.urandom(size))
    store.assign(film, run)
    store.add_reading(film, diagnosis=diagnosis("Pneumothorax"), error=None, preview=os.urandom(20_000))
    return run, film


def test_a_run_reaches_the_hospital_and_its_answers_reach_the_crew(store: Store, hospital: FakeHospital) -> None:
    with syncing(store, hospital) as client:
        run, film = a_run(store)
        until(lambda: all_held(store))
        row = store.run(run).row  # type: ignore[arg-type]
        assert row.delivery is Delivery.HELD
        assert set(store.film(film).delivery.values()) == {Delivery.HELD}  # type: ignore[arg-type]
        records = hospital.held.records()
        assert "Kim Younghee" in {fields.get("name") for fields in records.values()}
        assert records[film]["encounter"] == str(run)  # type: ignore[index]
        kinds = [hospital.held.metadata[name].kind for name in hospital.held.images]
        assert kinds == [ImageKind.PREVIEW, ImageKind.ORIGINAL]
        now = datetime.now(UTC)
        hospital.push(
            Acknowledgement(encounter=run, by="Dr Lee", at=now),  # type: ignore[arg-type]
            ErMessage(encounter=run, text="Door 3", by="Dr Lee", at=now),  # type: ignore[arg-type]
        )
        until(lambda: store.outbox.inbox_position() == 2)
        found = store.run(run)  # type: ignore[arg-type]
        assert found.row.acknowledged
        assert [message.text for message in found.messages] == ["Door 3"]
        assert client.state.last_error is None
    assert hospital.held.sound()


def test_a_deleted_run_is_deleted_at_the_hospital_too(store: Store, hospital: FakeHospital) -> None:
    with syncing(store, hospital):
        run, film = a_run(store)
        until(lambda: all_held(store))
        store.delete_run(run, undo_seconds=0)  # type: ignore[arg-type]
        store.settle()
        until(lambda: all_held(store) and film not in hospital.held.records())
        assert run not in hospital.held.records()
    assert hospital.held.sound()


def test_a_store_that_is_closed_in_the_middle_goes_on_after_it_is_opened(
    tmp_path: Path, hospital: FakeHospital
) -> None:
    store = open_store(tmp_path / "interrupted")
    with Shaper(hospital.port, bits_per_second=600_000) as link, syncing(store, hospital, link.url):
        a_run(store, size=150_000)
        until(lambda: any(upload.offset for upload in store.outbox.next_uploads(ImageKind.ORIGINAL)))
    store.close()
    hospital.requests.clear()
    store = open_store(tmp_path / "interrupted")
    with syncing(store, hospital):
        until(lambda: all_held(store))
    assert not [seen for seen in hospital.requests if seen.what == "POST /v1/images"]
    assert hospital.held.sound()
    check_chains(store)
    store.close()


def test_a_hospital_that_lost_everything_gets_records_and_images_again(store: Store, hospital: FakeHospital) -> None:
    with syncing(store, hospital):
        a_run(store)
        until(lambda: all_held(store))
        before = hospital.held.records()
        hospital.held.lose_disk()
        run, film = a_run(store)
        until(lambda: all_held(store) and len(hospital.held.images) == 4)
        after = hospital.held.records()
    for name, fields in before.items():
        assert after[name] == {**after[name], **fields}
    assert {run, film} <= after.keys()
    assert hospital.held.sound()
