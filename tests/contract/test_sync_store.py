"""The sync client on the real store: from a run on the device to the hospital and back."""

import contextlib
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge_app.store.store import Store
from edge_app.store.views import Delivery
from edge_app.sync import Hospital, StaticCredentials, SyncClient, events_lane
from shared.events import Event
from shared.hospital import CLOCK_AHEAD, Acknowledgement, ErMessage, ImageKind
from shared.hybrid_clock import MAX_AHEAD_MS, Stamp
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
    run, film = a_run(store)  # before there is a link: else the original may be there before there is a preview
    with syncing(store, hospital) as client:
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
    a_run(store, size=150_000)
    with Shaper(hospital.port, bits_per_second=300_000) as link, syncing(store, hospital, link.url):
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


def test_a_hospital_restored_from_its_backup_gets_records_and_images_again(
    store: Store, hospital: FakeHospital
) -> None:
    with syncing(store, hospital):
        a_run(store)
        until(lambda: all_held(store))
        backup = hospital.held.snapshot()
        kept = set(hospital.held.images)
        _, lost = a_run(store)
        until(lambda: all_held(store))
        hospital.held.put_back(backup)
        hospital.requests.clear()
        a_run(store)
        until(lambda: all_held(store) and len(hospital.held.images) == 6)
        assert lost in hospital.held.records()
    asked = {seen.what for seen in hospital.requests if seen.what.startswith("GET /v1/images")}
    assert {f"GET /v1/images/{name}/receipt" for name in kept} <= asked
    sent = [seen for seen in hospital.requests if seen.what == "POST /v1/images"]
    assert len(sent) == 4  # what the backup had is not sent again
    assert store.standing().chains == 1
    assert hospital.held.sound()


@pytest.mark.parametrize("all_of_it", [False, True])
def test_a_loss_is_noticed_when_the_link_comes_up_with_nothing_new_to_send(
    store: Store, hospital: FakeHospital, all_of_it: bool
) -> None:
    with syncing(store, hospital):
        a_run(store)
        until(lambda: all_held(store))
        backup = hospital.held.snapshot()
        a_run(store)
        until(lambda: all_held(store))
    before = hospital.held.records()
    if all_of_it:
        hospital.held.lose_disk()
    else:
        hospital.held.put_back(backup)
    with syncing(store, hospital):
        until(lambda: hospital.held.records().keys() == before.keys() and len(hospital.held.images) == 4)
        until(lambda: all_held(store))
    assert hospital.held.sound()


def test_a_loss_is_noticed_on_a_link_that_lasts(
    store: Store, hospital: FakeHospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_lane, "COMPARE_S", 0.2)
    with syncing(store, hospital):
        a_run(store)
        until(lambda: all_held(store))
        before = hospital.held.records()
        hospital.held.lose_disk()
        until(lambda: hospital.held.records().keys() == before.keys() and len(hospital.held.images) == 2)


def test_a_clock_years_ahead_delays_records_and_spoils_none(
    store: Store, hospital: FakeHospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    hospital.held.refuse = too_far_ahead
    years = [9 * 365 * 86_400_000]
    monkeypatch.setattr(store._journal.clock, "_wall_ms", lambda: time.time_ns() // 1_000_000 + years[0])
    monkeypatch.setattr(events_lane, "CLOCK_RIGHT_S", -1e9)
    with syncing(store, hospital):
        run, _ = a_run(store)
        until(lambda: store.standing().refusals)
        until(lambda: not store.standing().events_waiting)
        assert store.standing().chains == 1  # said again only once the clock is right
        years[0] = 0
        monkeypatch.setattr(events_lane, "CLOCK_RIGHT_S", 240.0)
        store.start_run()
        until(lambda: store.standing().chains == 2 and all_held(store))
        assert store.run(run).row.delivery is Delivery.HELD  # type: ignore[arg-type]
        assert not store.standing().refusals
        store.end_run(run)  # type: ignore[arg-type]
        until(lambda: all_held(store))
        assert not store.standing().refusals


def too_far_ahead(event: Event) -> str | None:
    """As ``HybridClock.observe`` at a hospital."""
    ahead = Stamp.parse(event.clock).wall_ms - time.time_ns() // 1_000_000
    return CLOCK_AHEAD if ahead > MAX_AHEAD_MS else None
