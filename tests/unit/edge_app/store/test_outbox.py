"""The outbox: nothing counts as delivered without its own, verified receipt; nothing is lost, whatever is answered."""

import io
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from edge_app.store.errors import StoreError
from edge_app.store.store import Store
from edge_app.store.views import Delivery
from shared.errors import FirstRayError
from shared.events import Event, OpenChain, Position, Put, first_break
from shared.hospital import (
    CLOCK_AHEAD,
    Acknowledgement,
    ConfirmedReading,
    ErMessage,
    ImageKind,
    Inbox,
    InboxItem,
    Outcome,
    OutcomeStatus,
    Presence,
    ReleaseOffer,
    ServerDiagnosis,
)
from shared.hybrid_clock import MAX_AHEAD_MS, Stamp
from shared.identity import new_id
from shared.receipts import HeldEvent, HeldImage
from shared.records import RecordType
from tests.unit.edge_app.store.samples import Hospital, answer, check_chains, diagnosis, events, open_store, receive

NOW = datetime.now(UTC)


def waiting(store: Store) -> int:
    return store.standing().events_waiting


def test_batches_are_consecutive_and_fit(store: Store) -> None:
    for _ in range(4):
        store.start_run(who={"name": "N" * 100})
    everything = store.outbox.next_events()
    assert [event.number for event in everything] == list(range(1, 10))
    assert first_break(Position(chain=everything[0].chain, number=0), everything) is None
    assert [event.number for event in store.outbox.next_events(limit=3)] == [1, 2, 3]
    assert len(store.outbox.next_events(most_bytes=1)) == 1
    small = store.outbox.next_events(most_bytes=2_000)
    assert 1 < len(small) < 9


def test_held_only_with_its_own_receipt(store: Store, hospital: Hospital) -> None:
    store.start_run()
    batch = store.outbox.next_events()
    stranger = Hospital()
    forged = hospital.stored(batch[1])
    assert forged.receipt is not None
    forged = forged.model_copy(update={"receipt": forged.receipt.model_copy(update={"stored_at": NOW})})
    for bad, code in (
        (stranger.stored(batch[1]), "receipt_key_unknown"),
        (forged, "receipt_forged"),
        (hospital.stored(batch[1], device=uuid4()), "receipt_wrong"),
        (hospital.stored(batch[1], hash="0" * 64), "receipt_wrong"),
        (Outcome(number=2, status=OutcomeStatus.STORED), "receipt_wrong"),
        (hospital.stored(batch[2]).model_copy(update={"number": 2}), "receipt_wrong"),
    ):
        with pytest.raises(FirstRayError) as error:
            store.outbox.record_answer(
                answer((hospital.stored(batch[0]), bad, hospital.stored(batch[2])), batch),
                batch[0].chain,
                hospital.keys,
            )
        assert error.value.code == code
        assert [event.number for event in store.outbox.next_events()] == [2]
    assert store.standing().events_held == 2
    store.outbox.record_answer(answer([hospital.stored(batch[1])], batch), batch[0].chain, hospital.keys)
    assert (waiting(store), store.standing().events_held) == (0, 3)


def test_what_is_refused_is_shown_and_stops_nothing(store: Store, hospital: Hospital) -> None:
    run = store.start_run()
    batch = store.outbox.next_events()
    refused = Outcome(number=3, status=OutcomeStatus.REFUSED, code="not_allowed", message="no such station")
    outcomes = (hospital.stored(batch[0]), hospital.stored(batch[1]), refused)
    store.outbox.record_answer(answer(outcomes, batch), batch[0].chain, hospital.keys)
    assert waiting(store) == 0
    assert [(each.what, each.code, each.message) for each in store.standing().refusals] == [
        ("encounter 3", "not_allowed", "no such station")
    ]
    assert store.run(run).row.delivery is Delivery.REFUSED
    store.end_run(run)
    assert hospital.take(store) == 1


def test_not_taken_stays_queued_and_unknown_numbers_are_nothing(store: Store, hospital: Hospital) -> None:
    store.start_run()
    batch = store.outbox.next_events()
    outcomes = (Outcome(number=1, status=OutcomeStatus.NOT_TAKEN, code="gap"),)
    store.outbox.record_answer(answer(outcomes, batch), batch[0].chain, hospital.keys)
    refused = (Outcome(number=77, status=OutcomeStatus.REFUSED),)
    store.outbox.record_answer(answer(refused, batch), uuid4(), hospital.keys)
    assert waiting(store) == 3


def test_delivery_of_a_run_and_its_film_in_steps(store: Store, hospital: Hospital) -> None:
    run = store.start_run()
    film = receive(store)
    store.assign(film, run)
    store.add_reading(film, diagnosis=diagnosis(), error=None, preview=b"jpeg")
    assert store.run(run).row.delivery is Delivery.WAITING
    assert store.outbox.next_uploads() == []  # the radiograph's events come first
    batch = store.outbox.next_events()
    store.outbox.record_answer(
        answer([hospital.stored(event) for event in batch[:2]], batch), batch[0].chain, hospital.keys
    )
    assert store.run(run).row.delivery is Delivery.PARTLY
    hospital.take(store)
    assert store.run(run).row.delivery is Delivery.PARTLY
    held, wait = Delivery.HELD, Delivery.WAITING
    assert store.film(film).delivery == {"record": held, "preview": wait, "original": wait}
    standing = store.standing()
    assert (standing.previews_waiting, standing.originals_waiting, standing.bytes_waiting) == (1, 1, 1004)
    assert standing.oldest_waiting_at is None
    assert hospital.take_uploads(store) == ["preview", "original"]
    assert store.film(film).delivery == dict.fromkeys(("record", "preview", "original"), held)
    assert store.run(run).row.delivery is Delivery.HELD
    assert store.standing().last_receipt_at is not None
    store.end_run(run)
    assert store.run(run).row.delivery is Delivery.PARTLY


def test_an_image_that_nothing_here_has_read_goes_to_the_hospital_too(store: Store, hospital: Hospital) -> None:
    """Which may read it: there is no need to wait for models or room on this device."""
    run = store.start_run()
    film = receive(store)
    store.assign(film, run)
    hospital.take(store)
    assert store.standing().originals_waiting == 1
    assert store.run(run).row.delivery is Delivery.PARTLY, "the hospital has no image of it"
    assert hospital.take_uploads(store) == ["original"]
    assert store.run(run).row.delivery is Delivery.HELD
    assert store.film(film).delivery == {
        "record": Delivery.HELD,
        "preview": Delivery.WAITING,
        "original": Delivery.HELD,
    }
    store.add_reading(film, diagnosis=diagnosis(), error=None, preview=b"jpeg")
    assert store.run(run).row.delivery is Delivery.PARTLY
    hospital.take(store)
    assert hospital.take_uploads(store) == ["preview"], "the original is there already"
    assert store.run(run).row.delivery is Delivery.HELD


def test_an_image_without_a_preview_is_delivered_once_its_original_is(store: Store, hospital: Hospital) -> None:
    run = store.start_run()
    film = receive(store)
    store.add_reading(film, diagnosis=None, error="decode_crashed", radiograph={"encounter": run})
    hospital.take(store)
    assert store.run(run).row.delivery is Delivery.PARTLY
    hospital.take_uploads(store)
    assert store.run(run).row.delivery is Delivery.HELD
    assert store.film(film).delivery == {"record": Delivery.HELD, "original": Delivery.HELD}


def test_a_preview_goes_before_the_original_of_an_image_that_came_earlier(store: Store, hospital: Hospital) -> None:
    unread, read = receive(store), receive(store)
    store.add_reading(read, diagnosis=diagnosis(), error=None, preview=b"jpeg")
    hospital.take(store)
    order = [(upload.radiograph, upload.kind) for upload in store.outbox.next_uploads()]
    assert order == [(read, ImageKind.PREVIEW), (unread, ImageKind.ORIGINAL), (read, ImageKind.ORIGINAL)]


def test_the_most_urgent_bytes_go_first(store: Store, hospital: Hospital) -> None:
    calm, urgent = receive(store, b"calm"), receive(store, b"urgent")
    store.add_reading(calm, diagnosis=diagnosis(), error=None, preview=b"calm preview")
    store.add_reading(urgent, diagnosis=diagnosis("Effusion", urgent=("Effusion",)), error=None, preview=b"urgent pre")
    hospital.take(store)
    uploads = store.outbox.next_uploads()
    order = [(upload.radiograph, upload.kind) for upload in uploads]
    preview, original = ImageKind.PREVIEW, ImageKind.ORIGINAL
    assert order == [(urgent, preview), (calm, preview), (urgent, original), (calm, original)]
    assert [upload.kind for upload in store.outbox.next_uploads(ImageKind.ORIGINAL, 1)] == [original]
    assert uploads[0].urgent
    assert not uploads[1].urgent


def test_an_upload_moves_fails_is_refused_and_is_held(store: Store, hospital: Hospital) -> None:
    data = os.urandom(200_000)
    film = receive(store, data)
    store.add_reading(film, diagnosis=None, error="unreadable")
    hospital.take(store)
    (upload,) = store.outbox.next_uploads()
    store.outbox.upload_failed(upload.sha256)
    store.outbox.upload_failed(upload.sha256)
    assert store.outbox.next_uploads()[0].tries == 2
    store.outbox.upload_moved(upload.sha256, "https://h/1", 70_000)
    moved = store.outbox.next_uploads()[0]
    assert (moved.url, moved.offset, moved.tries) == ("https://h/1", 70_000, 0)
    assert store.standing().bytes_waiting == 130_000
    with store.outbox.open_blob(upload.sha256) as blob:
        assert blob.seek(65_530) == 65_530
        assert blob.read(20) == data[65_530:65_550]
        assert blob.seek(-5, io.SEEK_END) == 199_995
        assert blob.read() == data[-5:]
        assert blob.read() == b""
        assert blob.seek(0) == 0
        assert blob.read() == data
    for wrong, code in (
        (hospital.receipt(uuid4(), HeldImage(sha256=upload.sha256, size=200_000)), "receipt_wrong"),
        (hospital.receipt(store.device, HeldImage(sha256=upload.sha256, size=1)), "receipt_wrong"),
        (hospital.receipt(store.device, HeldEvent(chain=uuid4(), number=1, hash="0" * 64)), "receipt_wrong"),
        (Hospital().receipt(store.device, HeldImage(sha256=upload.sha256, size=200_000)), "receipt_key_unknown"),
    ):
        with pytest.raises(FirstRayError) as error:
            store.outbox.upload_held(wrong, hospital.keys)
        assert error.value.code == code
    assert len(store.outbox.next_uploads()) == 1
    store.outbox.upload_refused(upload.sha256, "too_large", "over 100 MB")
    assert store.outbox.next_uploads() == []
    assert store.film(film).delivery["original"] is Delivery.REFUSED
    assert store.standing().refusals[0].what == "original"
    store.outbox.upload_held(
        hospital.receipt(store.device, HeldImage(sha256=upload.sha256, size=200_000)), hospital.keys
    )
    assert store.film(film).delivery["original"] is Delivery.HELD
    store.outbox.upload_held(hospital.receipt(store.device, HeldImage(sha256="0" * 64, size=1)), hospital.keys)
    with pytest.raises(StoreError) as missing:
        store.outbox.open_blob("0" * 64)
    assert missing.value.code == "record_unknown"


def test_what_the_hospital_lost_waits_again_with_all_images(store: Store, hospital: Hospital) -> None:
    run = store.start_run()
    film = receive(store)
    store.add_reading(film, diagnosis=diagnosis(), error=None, preview=b"jpeg", radiograph={"encounter": run})
    hospital.take(store)
    hospital.take_uploads(store)
    everything = events(store)
    third = everything[2]
    store.outbox.lost_after(Position(chain=third.chain, number=3, hash=third.hash))
    assert [event.number for event in store.outbox.next_events()] == list(range(4, len(everything) + 1))
    assert store.run(run).row.delivery is Delivery.PARTLY
    assert set(store.film(film).delivery.values()) == {Delivery.WAITING}
    assert (store.standing().previews_waiting, store.standing().originals_waiting) == (1, 1)
    hospital.take(store)
    newer = receive(store, b"newer")
    store.add_reading(newer, diagnosis=diagnosis(), error=None, preview=b"newer jpeg")
    hospital.take(store)
    uploads = store.outbox.next_uploads()
    assert [(upload.radiograph, upload.doubted) for upload in uploads] == [
        (newer, False),
        (newer, False),
        (film, True),
        (film, True),
    ]
    assert [upload.radiograph for upload in store.outbox.next_uploads(limit=3)] == [newer, newer, film]
    hospital.take_uploads(store)
    assert store.run(run).row.delivery is Delivery.HELD


def test_what_cannot_be_sent_again_or_is_not_ours_changes_nothing(store: Store, hospital: Hospital) -> None:
    run = store.start_run()
    hospital.take(store)
    first = events(store)[0]
    store.delete_run(run, undo_seconds=0)
    store.settle()
    hospital.take(store)
    for position, code in (
        (Position(chain=first.chain, number=1, hash=first.hash), "events_wiped"),
        (Position(chain=first.chain, number=1, hash="f" * 64), "chain_forked"),
        (Position(chain=uuid4(), number=1, hash=first.hash), "chain_forked"),
        (Position(chain=first.chain, number=99, hash=first.hash), "chain_forked"),
    ):
        with pytest.raises(StoreError) as error:
            store.outbox.lost_after(position)
        assert error.value.code == code
        assert store.outbox.next_events() == []


def test_the_last_held_event_can_be_shown_to_the_hospital_again(store: Store, hospital: Hospital) -> None:
    assert store.outbox.last_held() is None
    run = store.start_run()
    hospital.take(store)
    held = store.outbox.last_held()
    assert held is not None
    assert (held.number, held.intact()) == (3, True)
    store.end_run(run)
    assert store.outbox.last_held() == held
    store.outbox.record_answer(answer([hospital.stored(held)], [held]), held.chain, hospital.keys)
    assert store.standing().events_held == 3


def test_a_clock_that_was_ahead_spoils_only_what_was_stamped_by_it(
    hospital: Hospital, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(folder)
    before = store.start_run(who={"name": "before"})
    hospital.take(store)
    years = 9 * 365 * 86_400_000
    monkeypatch.setattr(store._journal.clock, "_wall_ms", lambda: time.time_ns() // 1_000_000 + years)
    during = store.start_run(who={"name": "during"})
    store.change(RecordType.ENCOUNTER, before, {"notes": "during"})
    batch = store.outbox.next_events()
    refused = [Outcome(number=event.number, status=OutcomeStatus.REFUSED, code=CLOCK_AHEAD) for event in batch]
    store.outbox.record_answer(answer(refused, batch), batch[0].chain, hospital.keys)
    monkeypatch.undo()
    assert store.outbox.refused_for_clock()
    assert ahead(batch)
    store.outbox.restate(CLOCK_AHEAD, clock_was_ahead=True)
    assert not store.outbox.refused_for_clock()
    again = store.outbox.next_events()
    assert not ahead(again)
    names = {event.action.fields.get("name") for event in again if isinstance(event.action, Put)}
    assert {"before", "during"} <= names
    store.end_run(during)
    assert not ahead(store.outbox.next_events())
    store.close()
    reopened = open_store(folder)  # its clock goes on from the present chain, not from the years ahead
    reopened.end_run(before)
    assert not ahead(reopened.outbox.next_events())
    reopened.outbox.restate("again")
    assert not ahead(reopened.outbox.next_events())
    check_chains(reopened)
    reopened.close()


def ahead(sent: list[Event]) -> bool:
    """Whether a hospital would refuse the stamp of one of these."""
    now = time.time_ns() // 1_000_000
    return any(Stamp.parse(event.clock).wall_ms > now + MAX_AHEAD_MS for event in sent)


def test_a_forked_chain_goes_on_in_a_new_one(store: Store, hospital: Hospital) -> None:
    run = store.start_run()
    hospital.take(store)
    store.end_run(run)
    store.add_vital_signs(run, {"spo2": 90})
    unsent = store.outbox.next_events()
    store.outbox.fork(unsent[0].chain, "the hospital has another event 4")
    batch = store.outbox.next_events()
    assert batch[0].chain != unsent[0].chain
    assert isinstance(batch[0].action, OpenChain)
    assert batch[0].action.after == unsent[-1].position
    assert [(event.action, event.clock, event.at) for event in batch[1:]] == [
        (event.action, event.clock, event.at) for event in unsent
    ]
    standing = store.standing()
    assert (standing.chains, standing.chain_detail) == (2, "the hospital has another event 4")
    assert standing.events_waiting == 3
    hospital.take(store)
    assert store.run(run).row.delivery is Delivery.HELD
    with pytest.raises(StoreError):
        store.outbox.fork(uuid4(), "")


def test_everything_is_said_again_to_a_hospital_that_lost_it(store: Store, hospital: Hospital) -> None:
    run, gone = store.start_run(who={"name": "Kim"}), store.start_run()
    film = receive(store)
    store.add_reading(film, diagnosis=diagnosis(), error=None, preview=b"p", radiograph={"encounter": run})
    store.delete_run(gone, undo_seconds=0)
    store.settle()
    hospital.take(store)
    hospital.take_uploads(store)
    store.outbox.restate("the hospital lost its disk")
    batch = store.outbox.next_events()
    puts = [event.action for event in batch if isinstance(event.action, Put)]
    assert [action.type for action in puts] == [
        RecordType.PATIENT,
        RecordType.ENCOUNTER,
        RecordType.RADIOGRAPH,
        RecordType.DIAGNOSIS,
    ]
    assert puts[0].fields["name"] == "Kim"
    assert sum(event.action.kind == "delete" for event in batch) == 2
    assert store.run(run).row.delivery is Delivery.WAITING  # old receipts prove nothing any more
    assert store.standing().events_held == 0
    hospital.take(store)
    assert hospital.take_uploads(store) == ["preview", "original"]
    assert store.run(run).row.delivery is Delivery.HELD


def test_the_inbox_is_taken_once_and_shown_until_seen(store: Store) -> None:
    run = store.start_run()
    film = receive(store)
    store.assign(film, run)
    gone = store.start_run()
    store.delete_run(gone, undo_seconds=0)
    store.settle()
    contents = (
        Acknowledgement(encounter=run, by="Dr Han", at=NOW),
        ErMessage(encounter=run, text="go to bay 2", by="Dr Han", at=NOW),
        ConfirmedReading(encounter=run, radiograph=film, findings={"Mass": Presence.PRESENT}, by="Dr Han", at=NOW),
        ServerDiagnosis(encounter=None, radiograph=film, result=diagnosis("Edema"), at=NOW),
        ErMessage(encounter=gone, text="who?", by="Dr Han", at=NOW),
        ErMessage(encounter=new_id(), text="of a run not known here", by="Dr Han", at=NOW),
        ReleaseOffer(release="r9", sha256="0" * 64, size=1),
    )
    inbox = Inbox(items=tuple(InboxItem(id=3 + n, content=each) for n, each in enumerate(contents)), after=12)
    for _ in range(2):
        store.outbox.take_inbox(inbox)
        assert store.outbox.inbox_position() == 12
        whole = store.run(run)
        assert whole.row.news == 3
        assert [message.text for message in whole.messages] == ["go to bay 2"]
        assert [each.by for each in whole.acknowledgements] == ["Dr Han"]
    shown = store.film(film)
    assert shown.reading == contents[2]
    assert shown.server == contents[3]
    store.outbox.take_inbox(Inbox(items=(), after=5))
    assert store.outbox.inbox_position() == 12
    store.run_seen(run, store.heard())
    assert store.runs()[0].news == 0
    assert store.run(run).messages == whole.messages


def test_events_survive_as_they_were_signed(store: Store) -> None:
    film = receive(store)
    store.add_reading(film, diagnosis=diagnosis(), error=None)
    for event in store.outbox.next_events():
        assert event.intact()
        assert Event.model_validate_json(event.model_dump_json()).intact()


def test_all_that_a_record_says_fits_into_one_event(store: Store) -> None:
    """Else it could not be said again to a hospital that lost it, and nothing else either."""
    numbers = [{"system": "s" * 120, "value": f"{number:03}" + "v" * 117} for number in range(230)]
    patient = store.run(store.start_run(who={"name": "n" * 120, "identifiers": numbers})).patient.id
    refused = ""
    while not refused:
        numbers.append(numbers[0])
        try:
            store.change(RecordType.PATIENT, patient, {"identifiers": numbers})
        except StoreError as problem:
            refused = problem.code
    assert refused == "value_not_allowed"
    store.outbox.restate("hospital_lost_all")
    assert len(store.outbox.next_events(most_bytes=200_000)) == 3
