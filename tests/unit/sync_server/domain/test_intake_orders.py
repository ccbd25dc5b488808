"""Whatever the order, repetition and interleaving of batches, the records end as a simple model says."""

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlmodel import col, select

from shared.events import Delete, Event, OpenChain, Position, Put, next_event
from shared.hybrid_clock import Stamp
from shared.identity import new_id
from shared.records import RecordType, changed_fields
from sync_server.db.tables import EventRow, PatientRow, SupersededRow
from sync_server.hospital import Hospital
from tests.hospital import TestDevice, enrolled_device

NAMES = st.sampled_from(["김", "이", "박", None])
FIELDS = st.fixed_dictionaries({}, optional={"name": NAMES, "estimated_age": st.integers(0, 3)})
ACTS = st.tuples(st.integers(0, 1), st.one_of(*[FIELDS] * 7, st.none()), st.integers(1, 3))
"""(record, fields or None to delete, milliseconds of the stamp): stamps of several events may be the same."""
PLANS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 11), st.integers(1, 6)), max_size=12)
"""(chain, where to begin, how many) of each batch."""
SLOW = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@dataclass
class Script:
    """Two chains of one device, and what they amount to."""

    device: TestDevice
    chains: tuple[list[Event], list[Event]]
    records: list[UUID]

    def slice(self, which: int, start: int, length: int) -> list[Event]:
        chain = self.chains[which]
        start = min(start, len(chain) - 1)
        return chain[start : start + length]

    def model(self) -> dict[UUID, dict[str, Any] | str]:
        """Record -> its fields, or the stamp of its first deletion."""
        found: dict[UUID, dict[str, Any] | str] = {}
        events = [event for chain in self.chains for event in chain]
        for id in self.records:
            about = [event for event in events if not isinstance(event.action, OpenChain) and event.action.id == id]
            deletions = [event.clock for event in about if isinstance(event.action, Delete)]
            if deletions:
                found[id] = min(deletions)
            elif about:
                found[id] = {
                    name: max(
                        (event.clock, json.dumps(event.action.fields[name]))
                        for event in about
                        if isinstance(event.action, Put) and name in event.action.fields
                    )
                    for name in ("name", "estimated_age")
                    if any(isinstance(event.action, Put) and name in event.action.fields for event in about)
                }
        return found


def script(hospital: Hospital, acts: Sequence[Sequence[tuple[int, dict[str, Any] | None, int]]]) -> Script:
    device = enrolled_device(hospital)
    records = [new_id() for _ in range(2)]
    base = int(datetime.now(UTC).timestamp() * 1000) - 1000
    chains: list[list[Event]] = []
    for some in acts:
        end, chain = Position(chain=new_id(), number=0), []
        stamp = Stamp(base, 0, device.id.hex)
        actions: list[tuple[OpenChain | Put | Delete, Stamp]] = [(OpenChain(), stamp)]
        for record, fields, ms in some:
            action = (
                Delete(type=RecordType.PATIENT, id=records[record])
                if fields is None
                else Put(type=RecordType.PATIENT, id=records[record], fields=changed_fields(RecordType.PATIENT, fields))
            )
            actions.append((action, Stamp(base + ms, 0, device.id.hex)))
        for action, stamp in actions:
            chain.append(next_event(device.id, end, datetime.now(UTC), stamp, action))
            end = chain[-1].position
        chains.append(chain)
    return Script(device, (chains[0], chains[1]), records)


def held(hospital: Hospital, told: Script) -> dict[UUID, dict[str, Any] | str]:
    """As :meth:`Script.model`, from the database."""
    found: dict[UUID, dict[str, Any] | str] = {}
    with hospital.database.reading() as session:
        for row in session.exec(select(PatientRow).where(col(PatientRow.id).in_(told.records))):
            found[row.id] = row.deleted or {
                name: (stamp, json.dumps(row.content[name])) for name, stamp in row.stamps.items()
            }
    return found


def check(hospital: Hospital, told: Script) -> None:
    """Everything is held once, the records are the model's, and no value that differs was lost unseen."""
    assert held(hospital, told) == told.model()
    with hospital.database.reading() as session:
        for chain in told.chains:
            rows = session.exec(select(EventRow).where(col(EventRow.chain) == chain[0].chain)).all()
            assert sorted(row.number for row in rows) == [event.number for event in chain]
            assert {row.refused for row in rows} == {None}
        lost = {
            (row.record, row.field, row.stamp, json.dumps(row.value))
            for row in session.exec(select(SupersededRow).where(col(SupersededRow.record).in_(told.records)))
        }
    for id, fields in told.model().items():
        if isinstance(fields, str):
            continue
        for event in [*told.chains[0], *told.chains[1]]:
            if isinstance(event.action, Put) and event.action.id == id:
                for name, value in event.action.fields.items():
                    shown = fields[name][1] == json.dumps(value)
                    # Of an event and a later one with the same value only the later one is lost.
                    noted = {stamp for *what, stamp, text in lost if [*what, text] == [id, name, json.dumps(value)]}
                    assert value is None or shown or max(noted, default="") >= event.clock


@SLOW
@example(([(0, {"name": "김"}, 1), (0, {"name": "김"}, 2), (0, {"name": "이"}, 3)], []), [])
@given(st.tuples(st.lists(ACTS, max_size=10), st.lists(ACTS, max_size=10)), PLANS)
def test_any_order_of_batches_ends_the_same(
    hospital: Hospital, acts: tuple[list[Any], list[Any]], plan: list[tuple[int, int, int]]
) -> None:
    told = script(hospital, acts)
    for which, start, length in plan:
        events = told.slice(which, start, length)
        first, again = told.device.send(events), told.device.send(events)
        assert first == again
    for which in (1, 0):
        answer = told.device.send(told.chains[which])
        assert {outcome.status.value for outcome in answer.outcomes} == {"stored"}
        assert answer.expected == told.chains[which][-1].position
    check(hospital, told)


@settings(SLOW, max_examples=8)
@given(st.tuples(st.lists(ACTS, max_size=10), st.lists(ACTS, max_size=10)), st.lists(PLANS, min_size=4, max_size=4))
def test_batches_at_the_same_time_end_the_same(
    hospital: Hospital, acts: tuple[list[Any], list[Any]], plans: list[list[tuple[int, int, int]]]
) -> None:
    told = script(hospital, acts)
    problems: list[Exception] = []

    def deliver(plan: list[tuple[int, int, int]], last: int) -> None:
        try:
            for which, start, length in plan:
                told.device.send(told.slice(which, start, length))
            told.device.send(told.chains[last])
        except Exception as problem:  # noqa: BLE001  (any, to be told by the test's own thread)
            problems.append(problem)

    threads = [threading.Thread(target=deliver, args=(plan, number % 2)) for number, plan in enumerate(plans)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert problems == []
    check(hospital, told)


def test_two_devices_that_claim_the_same_new_record_at_once(hospital: Hospital) -> None:
    """One of them is first; the other's event is refused, its batch is not lost."""
    for _ in range(5):
        record, barrier, answers = new_id(), threading.Barrier(2), []
        devices = [enrolled_device(hospital) for _ in range(2)]

        def send(device: TestDevice, record: UUID, barrier: threading.Barrier, answers: list[Any]) -> None:
            device.put(RecordType.PATIENT, {"name": "x"}, record)
            device.run()
            barrier.wait(50)
            answers.append([outcome.code for outcome in device.send().outcomes])

        threads = [threading.Thread(target=send, args=(device, record, barrier, answers)) for device in devices]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(answers, key=str) == sorted([[None, "not_allowed", None, None], [None] * 4], key=str)
