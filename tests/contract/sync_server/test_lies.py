"""Events that lie, over HTTP on both databases: refused with a code, and the rest of the batch is unharmed.

Each lie stands between honest events of one batch, with a hash that is right for it, so that the chain goes on.
"""

import gzip
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import rfc8785
from sqlmodel import SQLModel, select

from shared.hybrid_clock import MAX_AHEAD_MS, HybridClock, Stamp
from shared.identity import new_id
from shared.records import RecordType
from sync_server.db.tables import (
    DeviceRow,
    DiagnosisRow,
    EncounterRow,
    EventRow,
    HistoryRow,
    PatientRow,
    RadiographRow,
    VitalSignsRow,
)
from sync_server.hospital import Hospital
from tests.contract.sync_server.ambulance import Ambulance, served
from tests.hospital import TestDevice, enrolled_device, new_hospital

Raw = dict[str, Any]


@pytest.fixture
def hospital(database: str | None, tmp_path: Path) -> Iterator[Hospital]:
    made = new_hospital(tmp_path, database)
    yield made
    made.close()


@pytest.fixture
def liar(hospital: Hospital) -> Iterator[Ambulance]:
    with served(hospital) as client:
        yield Ambulance(hospital, client, "Ambulance 13")


@pytest.fixture
def victim(hospital: Hospital) -> TestDevice:
    return enrolled_device(hospital, "Ambulance 7")


def raw_events(device: TestDevice) -> list[Raw]:
    return [event.model_dump(mode="json") for event in device.events]


def rehash(events: list[Raw], first: int = 0) -> None:
    """Make the chain right again from ``first`` on, as a liar would."""
    for number in range(first, len(events)):
        if number:
            events[number]["previous"] = events[number - 1]["hash"]
        content = {name: value for name, value in events[number].items() if name != "hash"}
        events[number]["hash"] = hashlib.sha256(rfc8785.dumps(content)).hexdigest()


def said(liar: Ambulance, events: list[Raw]) -> list[tuple[str, str | None]]:
    """Send them; what became of each."""
    answer = liar.ask(
        "POST", "/v1/events", {"Content-Type": "application/json"}, content=json.dumps({"events": events})
    )
    assert answer.status_code == 200, answer.text
    outcomes = answer.json()["outcomes"]
    assert all((one["receipt"] is not None) == (one["status"] == "stored") for one in outcomes)
    assert all(one["message"] for one in outcomes if one["status"] != "stored")
    return [(one["status"], one["code"]) for one in outcomes]


def found(hospital: Hospital, table: type[SQLModel], id: UUID) -> Any:
    with hospital.database.reading() as session:
        return session.get(table, id)


def between(liar: Ambulance, lie: Callable[[Raw], None]) -> tuple[list[Raw], UUID, UUID]:
    """An honest event, the lie, an honest event; with the ids of the records of the last two."""
    device = liar.device
    device.put(RecordType.PATIENT, {"name": "before"})
    of_lie, after = new_id(), new_id()
    device.put(RecordType.PATIENT, {"name": "the lie"}, of_lie)
    device.put(RecordType.PATIENT, {"name": "after"}, after)
    events = raw_events(device)
    lie(events[2])
    rehash(events, 2)
    return events, of_lie, after


def deep() -> Any:
    value: Any = "x"
    for _ in range(60):
        value = [value]
    return value


LIES: dict[str, tuple[Callable[[Raw], object], str]] = {
    "another device's name": (lambda raw: raw.update(device=str(new_id())), "not_allowed"),
    "a stamp of the future": (
        lambda raw: raw.update(clock=str(Stamp(HybridClock(new_id()).now().wall_ms + 2 * MAX_AHEAD_MS, 0, "0" * 32))),
        "clock_ahead",
    ),
    "the last stamp of all": (lambda raw: raw.update(clock=f"{'f' * 12}-ffff-{'f' * 32}"), "clock_ahead"),
    "no stamp": (lambda raw: raw.update(clock="tomorrow"), "invalid"),
    "another version": (lambda raw: raw.update(version=2), "invalid"),
    "an unknown field": (lambda raw: raw.update(admin=True), "invalid"),
    "an unknown field of the record": (lambda raw: raw["action"]["fields"].update(device="x"), "invalid"),
    "the server's own columns": (lambda raw: raw["action"]["fields"].update(hidden_at=None, purged_at=None), "invalid"),
    "an unknown type": (lambda raw: raw["action"].update(type="account"), "invalid"),
    "an unknown act": (lambda raw: raw["action"].update(kind="merge"), "invalid"),
    "control characters": (lambda raw: raw["action"]["fields"].update(name="a\x00b\x1b[31m"), "invalid"),
    "a text that runs backwards": (lambda raw: raw["action"]["fields"].update(name="abc\u202efdp"), "invalid"),
    "a name without end": (lambda raw: raw["action"]["fields"].update(name="n" * 121), "invalid"),
    "an age of minus one": (lambda raw: raw["action"]["fields"].update(estimated_age=-1), "invalid"),
    "an age of 2^53 - 1": (lambda raw: raw["action"]["fields"].update(estimated_age=2**53 - 1), "invalid"),
    "a birth before Christ": (lambda raw: raw["action"]["fields"].update(birth_date="0000-01-01"), "invalid"),
    "a moment without a zone": (lambda raw: raw.update(at="2026-11-27T08:00:00"), "invalid"),
    "the year 1": (lambda raw: raw.update(at="0001-01-01T00:00:00+14:00"), "invalid"),
    "more than 64 kB": (lambda raw: raw["action"]["fields"].update(name="n" * 70_000), "invalid"),
    "9,000 fields": (lambda raw: raw["action"]["fields"].update({f"f{n}": n for n in range(9000)}), "invalid"),
    "deep nesting": (lambda raw: raw["action"]["fields"].update(name=deep()), "invalid"),
    "a list of itself": (lambda raw: raw.update(action=[]), "invalid"),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_has_no_effect_and_harms_no_other_event(hospital: Hospital, liar: Ambulance, lie: str) -> None:
    change, code = LIES[lie]
    events, of_lie, after = between(liar, lambda raw: (change(raw), None)[1])
    expected = [("stored", None), ("stored", None), ("refused", code), ("stored", None)]
    assert said(liar, events) == expected
    assert said(liar, events) == expected, "the same batch again gives the same answer"
    assert found(hospital, PatientRow, of_lie) is None
    assert found(hospital, PatientRow, after).content["name"] == "after"


def test_a_lie_does_not_move_the_hospitals_clock(hospital: Hospital, liar: Ambulance) -> None:
    before = hospital.clock.now()
    events, _, _ = between(liar, lambda raw: raw.update(clock=f"{'f' * 12}-ffff-{'f' * 32}"))
    said(liar, events)
    assert hospital.clock.now().wall_ms - before.wall_ms < MAX_AHEAD_MS


@pytest.mark.parametrize(
    "action",
    [
        {"kind": "put", "type": "patient", "fields": {"name": "stolen"}},
        {"kind": "put", "type": "patient", "fields": {"name": None, "identifiers": []}},
        {"kind": "delete", "type": "patient", "reason": "gone"},
    ],
)
def test_another_devices_record_stays_as_it_is(
    hospital: Hospital, liar: Ambulance, victim: TestDevice, action: Raw
) -> None:
    patient, _ = victim.run("김하늘")
    victim.send()
    events, _, _ = between(liar, lambda raw: raw.update(action={**action, "id": str(patient)}))
    assert said(liar, events)[2:] == [("refused", "not_allowed"), ("stored", None)]
    row = found(hospital, PatientRow, patient)
    assert (row.content["name"], row.deleted, row.device) == ("김하늘", None, victim.id)


def test_nothing_is_hung_on_another_devices_run(hospital: Hospital, liar: Ambulance, victim: TestDevice) -> None:
    """Nobody's vital signs, films and readings come to stand on a patient of another ambulance."""
    patient, encounter = victim.run("김하늘")
    film = victim.film(encounter)
    victim.diagnosis(film)
    victim.send()
    before = found(hospital, HistoryRow, encounter)
    device = liar.device
    device.vital_signs(encounter, spo2=50, heart_rate=190)
    foreign = device.film(encounter, "cd" * 32)
    device.diagnosis(film, ["Pneumothorax"])
    device.put(RecordType.ENCOUNTER, {"patient": str(patient), "started_at": "2026-11-27T08:00:00Z"})
    own = device.film(None, "ef" * 32)
    device.put(RecordType.RADIOGRAPH, {"encounter": encounter}, own)
    assert said(liar, raw_events(device)) == [
        ("stored", None),
        *[("refused", "not_allowed")] * 4,
        ("stored", None),
        ("refused", "not_allowed"),
    ]
    after = found(hospital, HistoryRow, encounter)
    assert before.model_dump() == after.model_dump()
    assert found(hospital, RadiographRow, foreign) is None
    assert found(hospital, RadiographRow, own).encounter is None
    with hospital.database.reading() as session:
        for table in (VitalSignsRow, DiagnosisRow, EncounterRow):
            assert {row.device for row in session.exec(select(table)).all()} <= {victim.id}


def test_another_devices_chain_is_not_gone_on_with(hospital: Hospital, liar: Ambulance, victim: TestDevice) -> None:
    victim.run()
    victim.send()
    with hospital.database.reading() as session:
        before = len(session.exec(select(EventRow)).all())
    assert set(said(liar, raw_events(victim))) == {("refused", "not_allowed")}
    forged = raw_events(victim)[-1]
    forged |= {"number": forged["number"] + 1, "previous": forged["hash"], "device": str(liar.id)}
    rehash([forged])
    assert said(liar, [forged]) == [("refused", "not_allowed")]
    with hospital.database.reading() as session:
        assert len(session.exec(select(EventRow)).all()) == before
        assert session.get_one(DeviceRow, victim.id).flagged is None
    victim.put(RecordType.PATIENT, {"name": "goes on"})
    assert {outcome.status.value for outcome in victim.send().outcomes} == {"stored"}


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda events: events[2].update(hash="0" * 64), "altered"),
        (lambda events: events[2]["action"]["fields"].update(name="altered"), "altered"),
        (lambda events: events[2].update(previous="0" * 64), "altered"),
        (lambda events: events[2].update(number=2**53), "altered"),
        (lambda events: events[2].update(number=-1), "altered"),
        (lambda events: events[2].update(number=1.5), "altered"),
        (lambda events: events[2].update(hash=None), "altered"),
        (lambda events: events.__setitem__(2, "no event"), "altered"),
        (lambda events: events.__setitem__(2, None), "altered"),
        (lambda events: events.pop(2), "gap"),
    ],
)
def test_a_break_stops_the_chain_there_and_says_where_to_go_on(
    hospital: Hospital, liar: Ambulance, spoil: Callable[[list[Any]], None], code: str
) -> None:
    """What came before it is stored; with the right events the chain heals."""
    events, _, _ = between(liar, lambda raw: None)
    right = raw_events(liar.device)
    spoil(events)
    outcomes = said(liar, events)
    assert outcomes[:2] == [("stored", None)] * 2
    assert set(outcomes[2:]) == {("not_taken", code)}
    assert set(said(liar, right)) == {("stored", None)}


NO_BATCHES = (
    b'{"events": [NaN]}',
    b'{"events": [{"number": Infinity}]}',
    b'{"events": [{"a": 1e999}]}',
    b'{"events": ["\\ud800"]}',
    b'{"events": ["\xff\xfe"]}',
    b'{"events": ["\xed\xa0\x80"]}',
    b"\xef\xbb\xbf" + b'{"events": []}',
    b'{"events": [' + b"[" * 5000 + b"]" * 5000 + b"]}",
    b'{"events": ' + b"[" * 90_000,
    b'{"events": [' + b"9" * 100_000 + b"]}",
    b'{"events": [{}], "events": []}',
    b'{"events": [{}]} {}',
    b"null",
    b'"events"',
)


@pytest.mark.parametrize("squeezed", [False, True])
def test_what_no_device_sends_is_a_problem(liar: Ambulance, squeezed: bool) -> None:
    headers = {"Content-Type": "application/json"} | ({"Content-Encoding": "gzip"} if squeezed else {})
    for body in NO_BATCHES:
        answer = liar.ask("POST", "/v1/events", headers, content=gzip.compress(body) if squeezed else body)
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed"), body[:40]


def test_of_a_name_given_twice_the_last_counts_for_the_hash_too(hospital: Hospital, liar: Ambulance) -> None:
    """So that nobody reads one value and signs for the other (RFC 8259, 4)."""
    liar.device.put(RecordType.PATIENT, {"name": "one"})
    events = raw_events(liar.device)
    text = json.dumps({"events": events})
    for twice, status in (
        ('"name": "other", "name": "one"', "stored"),
        ('"name": "one", "name": "other"', "not_taken"),
    ):
        body = text.replace('"name": "one"', twice)
        answer = liar.ask("POST", "/v1/events", {"Content-Type": "application/json"}, content=body)
        assert answer.json()["outcomes"][-1]["status"] == status


def test_the_same_lie_in_the_body_is_kept_as_it_came(hospital: Hospital, liar: Ambulance) -> None:
    """What was refused can be looked at later, and proves what the device said."""
    events, _, _ = between(liar, lambda raw: raw["action"]["fields"].update(name="a\x00\x1b\u202eb"))
    said(liar, events)
    with hospital.database.reading() as session:
        row = session.exec(select(EventRow).where(EventRow.refused == "invalid")).one()
    assert json.loads(row.body) == events[2]
