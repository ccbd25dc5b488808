"""Batches of events: places, effects, receipts, and everything that can be wrong with them."""

import asyncio
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlmodel import Session, col, select

from shared.errors import FirstRayError
from shared.events import FIRST_PREVIOUS, Delete, Event, Position, Put, next_event
from shared.hospital import BatchAnswer, OutcomeStatus
from shared.hybrid_clock import MAX_AHEAD_MS, Stamp
from shared.identity import new_id
from shared.receipts import HeldEvent
from shared.records import RecordType
from sync_server.db.tables import ChainRow, DeviceRow, EncounterRow, EventRow, HistoryRow, PatientRow, SupersededRow
from sync_server.domain import intake
from sync_server.domain.batches import hashed, parse
from sync_server.domain.changes import BOARD, publish, run_of
from sync_server.domain.effects import IntakeResult
from sync_server.hospital import Hospital
from tests.hospital import TestDevice, enrolled_device, new_hospital
from tests.hospital.devices import batch


def results(answer: BatchAnswer) -> list[str]:
    """Status of each outcome, or its code."""
    return [outcome.code or outcome.status.value for outcome in answer.outcomes]


def send_raw(hospital: Hospital, device: TestDevice, *events: Any) -> BatchAnswer:
    body = json.dumps({"events": [e.model_dump(mode="json") if isinstance(e, Event) else e for e in events]})
    return intake.take(hospital, device.id, parse(body.encode()))


def rehashed(event: Event, **changes: Any) -> dict[str, Any]:
    """The event as JSON with changes, and the hash that then fits."""
    raw = event.model_dump(mode="json") | changes
    return raw | {"hash": hashed({name: value for name, value in raw.items() if name != "hash"})}


def row(hospital: Hospital, table: Any, id: UUID) -> Any:
    with hospital.database.reading() as session:
        return session.get(table, id)


# --- what goes well --------------------------------------------------------------------------------------------------


def test_every_event_is_stored_with_a_receipt_that_verifies(hospital: Hospital, device: TestDevice) -> None:
    device.run()
    answer = device.send()
    keys = {name: hospital.settings.receipt_key.public_key() for name in hospital.receipts.public_keys}
    for event, outcome in zip(device.events, answer.outcomes, strict=True):
        assert outcome.receipt is not None
        outcome.receipt.verify(keys)
        assert outcome.receipt.holds == HeldEvent(chain=event.chain, number=event.number, hash=event.hash)
        assert outcome.receipt.device == device.id
    assert answer.expected == device.end


def test_the_records_say_what_the_events_said(hospital: Hospital, device: TestDevice) -> None:
    patient, encounter = device.run("이지은", incident_number="119-7")
    device.put(RecordType.PATIENT, {"name": "이지은 (수정)"}, patient)
    device.send()
    held = row(hospital, PatientRow, patient)
    assert (held.content["name"], held.content["estimated_age"], held.device) == ("이지은 (수정)", 60, device.id)
    assert held.content["identifiers"] == []
    assert row(hospital, EncounterRow, encounter).patient == patient


def test_the_same_batch_again_gives_the_same_answer_and_changes_nothing(hospital: Hospital, device: TestDevice) -> None:
    patient, _ = device.run()
    device.put(RecordType.PATIENT, {"name": "B"}, patient)
    first = device.send()
    before = row(hospital, PatientRow, patient)
    assert device.send() == first
    assert device.send(device.events[2:]) == first.model_copy(update={"outcomes": first.outcomes[2:]})
    assert row(hospital, PatientRow, patient) == before
    with hospital.database.reading() as session:
        assert len(session.exec(select(SupersededRow)).all()) == 1


def test_a_batch_that_overlaps_is_half_known(hospital: Hospital, device: TestDevice) -> None:
    device.run()
    device.send(device.events[:2])
    answer = device.send(device.events[1:])
    assert results(answer) == ["stored"] * 2
    assert answer.expected == device.end


def test_the_body_is_kept_as_it_came(hospital: Hospital, device: TestDevice) -> None:
    device.run()
    device.send()
    with hospital.database.reading() as session:
        rows = session.exec(select(EventRow).order_by(col(EventRow.number))).all()
    assert [Event.model_validate_json(one.body) for one in rows] == device.events
    assert all(Event.model_validate_json(one.body).intact() for one in rows)


# --- breaks of the chain ---------------------------------------------------------------------------------------------


def test_a_gap_tells_where_to_go_on(hospital: Hospital, device: TestDevice) -> None:
    device.run()
    device.send(device.events[:1])
    answer = device.send(device.events[2:])
    assert results(answer) == ["gap"]
    assert answer.outcomes[0].status is OutcomeStatus.NOT_TAKEN
    assert answer.expected == device.events[0].position


def test_a_chain_that_the_hospital_never_saw_is_asked_for_from_its_start(
    hospital: Hospital, device: TestDevice
) -> None:
    device.run()
    answer = device.send(device.events[1:])
    assert results(answer) == ["gap", "gap"]
    assert answer.expected == Position(chain=device.end.chain, number=0)
    assert row(hospital, ChainRow, device.end.chain) is None


def test_a_fork_flags_the_device_and_loses_nothing(hospital: Hospital, device: TestDevice) -> None:
    device.run()
    device.send()
    end = device.end
    device.end = device.events[0].position
    other = device.put(RecordType.PATIENT, {"name": "other past"})
    answer = device.send([other])
    assert results(answer) == ["fork"]
    assert answer.expected == end
    assert row(hospital, DeviceRow, device.id).flagged == "fork"


def test_an_event_that_does_not_follow_is_a_fork(hospital: Hospital, device: TestDevice) -> None:
    device.send()
    event = next_event(
        device.id, Position(chain=device.end.chain, number=1, hash="5" * 64), datetime.now(UTC), device.clock.now(),
        Put(type=RecordType.PATIENT, id=new_id(), fields={}),
    )  # fmt: skip
    assert results(device.send([event])) == ["fork"]


@pytest.mark.parametrize("change", [{"at": "2020-01-01T00:00:00Z"}, {"hash": "0" * 64}, {"clock": "x"}, {"extra": 1}])
def test_an_altered_event_stops_those_after_it(hospital: Hospital, device: TestDevice, change: dict[str, Any]) -> None:
    device.run()
    raw = device.events[1].model_dump(mode="json") | change
    answer = send_raw(hospital, device, device.events[0], raw, device.events[2])
    assert results(answer) == ["stored", "altered", "altered"]
    assert answer.expected == device.events[0].position


@pytest.mark.parametrize("raw", [None, 7, "x", [], {}, {"number": 2}, {"chain": "no"}])
def test_an_unreadable_event_stops_those_after_it(hospital: Hospital, device: TestDevice, raw: object) -> None:
    device.run()
    answer = send_raw(hospital, device, device.events[0], raw, device.events[1])
    assert results(answer) == ["stored", "altered", "altered"]
    assert [outcome.number for outcome in answer.outcomes] == [1, 2, 2]


def test_a_batch_of_two_chains_is_taken_up_to_the_second(hospital: Hospital, device: TestDevice) -> None:
    device.open_chain(device.end)
    assert results(device.send(device.events)) == ["stored", "other_chain"]


def test_numbers_far_apart_cost_nothing(hospital: Hospital, device: TestDevice) -> None:
    device.send()
    far = rehashed(device.events[0], number=2**53 - 1)
    assert results(send_raw(hospital, device, device.events[0], far)) == ["stored", "gap"]


# --- events that are refused -----------------------------------------------------------------------------------------


def test_refused_events_have_their_place_but_no_effect_and_leave_the_others_unharmed(
    hospital: Hospital, device: TestDevice
) -> None:
    other = enrolled_device(hospital, "Ambulance 8")
    theirs, _ = other.run()
    other.send()
    ahead = Stamp(int(datetime.now(UTC).timestamp() * 1000) + MAX_AHEAD_MS + 60_000, 0, device.id.hex)
    mine = device.put(RecordType.PATIENT, {"name": "first"})
    device.put(RecordType.PATIENT, {"name": "stolen"}, theirs)
    device.delete(RecordType.PATIENT, theirs)
    device.put(RecordType.PATIENT, {"name": "future"}, stamp=ahead)
    device.say(Put(type=RecordType.PATIENT, id=new_id(), fields={"shoe_size": 43}))
    device.say(Put(type=RecordType.PATIENT, id=new_id(), fields={"estimated_age": 900}))
    device.say(Put(type=RecordType.ENCOUNTER, id=new_id(), fields={"notes": "without a patient"}))
    device.say(Put(type=RecordType.ENCOUNTER, id=new_id(), fields={"patient": None, "started_at": None}))
    last = device.put(RecordType.PATIENT, {"name": "last"})
    answer = device.send()
    assert results(answer) == [
        "stored", "stored", "not_allowed", "not_allowed", "clock_ahead", "invalid", "invalid", "invalid", "invalid",
        "stored",
    ]  # fmt: skip
    assert answer.expected == device.end
    assert device.send() == answer
    with hospital.database.reading() as session:
        names = {one.content["name"] for one in session.exec(select(PatientRow))}
    assert names == {"first", "last", "김하늘"}
    assert isinstance(mine.action, Put)
    assert isinstance(last.action, Put)
    assert row(hospital, PatientRow, theirs).deleted is None


def test_an_event_of_another_device_is_refused(hospital: Hospital, device: TestDevice) -> None:
    other = enrolled_device(hospital, "Ambulance 8")
    other.end = Position(chain=device.end.chain, number=1, hash=device.end.hash)
    forged = other.put(RecordType.PATIENT, {"name": "forged"})
    device.end = forged.position
    after = device.put(RecordType.PATIENT, {"name": "mine"})
    assert results(device.send([device.events[0], forged, after])) == ["stored", "not_allowed", "stored"]


def test_nobody_writes_into_the_chain_of_another(hospital: Hospital, device: TestDevice) -> None:
    device.send()
    other = enrolled_device(hospital, "Ambulance 8")
    other.end = device.end
    event = other.put(RecordType.PATIENT, {"name": "in between"})
    answer = other.send([event])
    assert results(answer) == ["not_allowed"]
    assert answer.expected == Position(chain=device.end.chain, number=0)
    device.run()
    assert set(results(device.send())) == {"stored"}
    assert row(hospital, DeviceRow, device.id).flagged is None


@pytest.mark.parametrize(
    "change",
    [{"version": 2}, {"extra": "field"}, {"at": "yesterday"}, {"at": "0001-01-01T00:00:00+14:00"}, {"clock": "7"},
     {"action": {"kind": "put", "type": "spaceship", "id": str(UUID(int=7)), "fields": {}}}, {"action": None}],
)  # fmt: skip
def test_what_this_version_does_not_understand_is_refused_alone(
    hospital: Hospital, device: TestDevice, change: dict[str, Any]
) -> None:
    device.run()
    strange = rehashed(device.events[1], **change)
    device.end = Position(chain=device.end.chain, number=2, hash=strange["hash"])
    after = device.put(RecordType.PATIENT, {"name": "after"})
    answer = send_raw(hospital, device, device.events[0], strange, after)
    assert results(answer) == ["stored", "invalid", "stored"]
    assert answer.outcomes[1].message
    assert send_raw(hospital, device, device.events[0], strange, after) == answer


def test_an_event_that_is_too_long_is_refused_and_not_kept(hospital: Hospital, device: TestDevice) -> None:
    long = {f"field{number}": "x" * 1000 for number in range(70)}
    event = device.say(Put(type=RecordType.PATIENT, id=new_id(), fields=long))  # type: ignore[arg-type]
    after = device.put(RecordType.PATIENT, {"name": "after"})
    assert results(device.send([device.events[0], event, after])) == ["stored", "invalid", "stored"]
    with hospital.database.reading() as session:
        assert session.get_one(EventRow, (event.chain, 2)).body == ""


def test_no_message_repeats_a_value(hospital: Hospital, device: TestDevice) -> None:
    device.say(
        Put(type=RecordType.PATIENT, id=new_id(), fields={"name": 7, "sex": "김하늘", "estimated_age": "김하늘"})
    )
    answer = device.send()
    assert results(answer)[1] == "invalid"
    assert "김하늘" not in answer.model_dump_json()


def test_what_only_the_database_refuses_costs_one_event(hospital: Hospital, device: TestDevice) -> None:
    """A trigger stands for whatever the checks did not foresee."""
    bad = new_id()
    with hospital.database.writing() as session:
        for statement in _REFUSE[hospital.database.sqlite](bad):
            session.execute(text(statement))
    first, _ = device.run()
    device.put(RecordType.PATIENT, {"name": "bad"}, bad)
    last, _ = device.run("last")
    answer = device.send()
    assert results(answer) == ["stored", "stored", "stored", "invalid", "stored", "stored"]
    assert row(hospital, PatientRow, bad) is None
    assert row(hospital, PatientRow, first) is not None
    assert row(hospital, PatientRow, last).content["name"] == "last"
    assert device.send() == answer


_REFUSE = {
    True: lambda id: [
        f"CREATE TRIGGER refuse BEFORE INSERT ON patient WHEN NEW.id = '{id.hex}' "
        "BEGIN SELECT RAISE(ABORT, 'refused'); END"
    ],
    False: lambda id: [f"ALTER TABLE patient ADD CONSTRAINT refuse CHECK (id <> '{id}')"],
}


def test_an_unknown_device_is_refused(hospital: Hospital) -> None:
    stranger = TestDevice(hospital)
    stranger.open_chain()
    with pytest.raises(FirstRayError) as caught:
        stranger.send()
    assert caught.value.code == "device_unknown"


def test_a_device_that_was_revoked_this_moment_is_refused(hospital: Hospital, device: TestDevice) -> None:
    with hospital.database.writing() as session:
        session.get_one(DeviceRow, device.id).revoked_at = datetime.now(UTC)
    with pytest.raises(FirstRayError) as caught:
        device.send()
    assert caught.value.code == "device_revoked"
    assert row(hospital, ChainRow, device.end.chain) is None


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"7", b"{}", b'{"events": []}', b'{"events": {}}', b'{"events": [1]}',
     b'{"events": [{}], "x": 1}', b'{"events": [NaN]}', b"[" * 100_000, b'{"events": ["\\ud800"]}', b"\xff\xfe"],
)  # fmt: skip
def test_what_is_no_batch_is_malformed(body: bytes) -> None:
    with pytest.raises(FirstRayError) as caught:
        parse(body)
    assert caught.value.code == "malformed"


def test_a_batch_has_at_most_500_events(device: TestDevice) -> None:
    with pytest.raises(FirstRayError) as caught:
        parse(batch(device.events * 501))
    assert caught.value.code == "too_many_events"


# --- deletions, conflicts, new chains --------------------------------------------------------------------------------


def test_a_deleted_run_disappears_and_never_comes_back(hospital: Hospital, device: TestDevice) -> None:
    _, encounter = device.run()
    device.delete(RecordType.ENCOUNTER, encounter, "wrong patient")
    device.put(RecordType.ENCOUNTER, {"notes": "back again"}, encounter)
    assert set(results(device.send())) == {"stored"}
    held = row(hospital, EncounterRow, encounter)
    assert (held.delete_reason, held.content["notes"]) == ("wrong patient", None)
    assert row(hospital, HistoryRow, encounter).visible is False


def test_a_deletion_that_comes_first_wins_too(hospital: Hospital, device: TestDevice) -> None:
    encounter = new_id()
    device.delete(RecordType.ENCOUNTER, encounter)
    fields = {"patient": str(new_id()), "started_at": datetime.now(UTC)}
    device.put(RecordType.ENCOUNTER, fields, encounter)
    assert set(results(device.send())) == {"stored"}
    assert row(hospital, EncounterRow, encounter).content == {}
    assert row(hospital, HistoryRow, encounter) is None


def test_the_later_stamp_wins_whichever_comes_first_and_the_loser_is_kept(
    hospital: Hospital, device: TestDevice
) -> None:
    early, late = device.clock.now(), device.clock.now()
    one, two = new_id(), new_id()
    for id, order in ((one, ((early, "early"), (late, "late"))), (two, ((late, "late"), (early, "early")))):
        for stamp, name in order:
            device.put(RecordType.PATIENT, {"name": name}, id, stamp)
    device.send()
    assert {row(hospital, PatientRow, id).content["name"] for id in (one, two)} == {"late"}
    with hospital.database.reading() as session:
        lost = session.exec(select(SupersededRow)).all()
    assert [(one.field, one.value, one.stamp, one.by_stamp) for one in lost] == [
        ("name", "early", str(early), str(late))
    ] * 2


def test_a_device_that_says_everything_again_changes_nothing(hospital: Hospital, device: TestDevice) -> None:
    patient, encounter = device.run()
    device.film(encounter)
    device.send()
    said = [event.action for event in device.events if isinstance(event.action, Put)]
    before = row(hospital, HistoryRow, encounter)
    device.open_chain(device.end)
    for action in said:
        device.say(action)
    device.say(Delete(type=RecordType.VITAL_SIGNS, id=new_id()))
    again = [event for event in device.events if event.chain == device.end.chain]
    assert again[0].previous == FIRST_PREVIOUS
    assert set(results(device.send(again))) == {"stored"}
    after = row(hospital, HistoryRow, encounter)
    assert before.model_dump(exclude={"changed_at"}) == after.model_dump(exclude={"changed_at"})
    with hospital.database.reading() as session:
        assert session.exec(select(SupersededRow)).all() == []
        assert {one.id for one in session.exec(select(PatientRow))} == {patient}


def test_a_purged_record_is_not_filled_again(hospital: Hospital, device: TestDevice) -> None:
    _, encounter = device.run()
    device.send()
    with hospital.database.writing() as session:
        purged = session.get_one(EncounterRow, encounter)
        purged.content, purged.stamps, purged.purged_at = {}, {}, datetime.now(UTC)
    device.put(RecordType.ENCOUNTER, {"notes": "again"}, encounter)
    device.send()
    assert row(hospital, EncounterRow, encounter).content == {}


# --- those who go on -------------------------------------------------------------------------------------------------


def test_callbacks_hear_of_what_changed_in_the_same_transaction(hospital: Hospital, device: TestDevice) -> None:
    heard = []

    def listen(session: Session, result: IntakeResult) -> None:
        heard.append((result.device, result.touched, result.encounters, session.get(HistoryRow, encounter) is not None))

    hospital.after_events.append(listen)
    patient, encounter = device.run()
    film = device.film(encounter)
    device.send()
    touched = {RecordType.PATIENT: {patient}, RecordType.ENCOUNTER: {encounter}, RecordType.RADIOGRAPH: {film}}
    assert heard == [(device.id, touched, {encounter}, True)]
    device.send()
    assert len(heard) == 1


def test_a_callback_that_fails_costs_no_event(
    hospital: Hospital, device: TestDevice, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(session: Session, result: IntakeResult) -> None:
        session.execute(text("DELETE FROM patient"))
        raise ValueError("김하늘")

    hospital.after_events.append(fail)
    patient, _ = device.run()
    assert set(results(device.send())) == {"stored"}
    assert row(hospital, PatientRow, patient) is not None
    assert "ValueError" in caplog.text
    assert "김하늘" not in caplog.text


def test_a_callback_that_fails_leaves_no_board_untold(
    hospital: Hospital, device: TestDevice, database: str | None, tmp_path: Path
) -> None:
    """It told the board itself, which is undone with the rest of it; other processes hear of the batch all the same."""

    def fail(session: Session, result: IntakeResult) -> None:
        publish(session, BOARD)
        raise ValueError

    hospital.after_events.append(fail)
    other = new_hospital(tmp_path, database)
    _, encounter = device.run()

    async def hear() -> set[str]:
        found: set[str] = set()
        with other.changes.subscribe(BOARD, run_of(encounter), "run:first") as heard:
            while not await heard.wait(0.1):  # until it listens
                await asyncio.to_thread(hospital.database.write, lambda session: publish(session, "run:first"))
            await asyncio.to_thread(device.send)
            while run_of(encounter) not in found and (news := await heard.wait(20)):
                found |= news
        return found - {"run:first"}

    try:
        assert asyncio.run(asyncio.wait_for(hear(), 60)) == {BOARD, run_of(encounter)}
    finally:
        other.close()


@pytest.mark.parametrize("age", [60, 60.0, "60"])
def test_the_quick_check_of_a_hash_agrees_with_the_slow_one(device: TestDevice, age: Any) -> None:
    """Also where a number is written as a fraction or as text, which the record's fields take for the same."""
    event = device.say(
        Put(type=RecordType.PATIENT, id=new_id(), fields={"estimated_age": age, "name": "김 \x7f\u2028 é"})
    )
    raw = json.loads(event.model_dump_json())
    assert event.intact()
    assert parse(json.dumps({"events": [raw]}).encode())[0].intact
    raw["action"]["fields"]["name"] += "."
    assert not parse(json.dumps({"events": [raw]}).encode())[0].intact


def test_a_number_that_has_no_canonical_form_is_altered(hospital: Hospital, device: TestDevice) -> None:
    raw = device.put(RecordType.PATIENT, {"name": "x"}).model_dump(mode="json")
    raw["action"]["type"] = "radiograph"
    raw["action"]["fields"] = {
        "size": 2**60,
        "sha256": "ab" * 32,
        "received_at": "2026-11-27T08:00:00Z",
        "source": "file",
    }
    text = json.dumps({k: v for k, v in raw.items() if k != "hash"}, sort_keys=True, separators=(",", ":"))
    raw["hash"] = hashlib.sha256(text.encode()).hexdigest()
    assert results(send_raw(hospital, device, device.events[0], raw)) == ["stored", "altered"]
