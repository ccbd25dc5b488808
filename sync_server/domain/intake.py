"""Taking what devices send: events into their chains, what they say into the records, receipts back.

One batch is one transaction. Everything is checked before the database is asked to write; what it refuses in spite of
that costs the one event its effect, not the batch. The device's row is locked, so its batches come one after another.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from sqlalchemy import Row, bindparam, insert, update
from sqlalchemy import select as sql_select
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session, col, select

from shared.errors import FirstRayError
from shared.events import Delete, Position, Put
from shared.hospital import BatchAnswer, Outcome, OutcomeStatus
from shared.hybrid_clock import Stamp
from shared.receipts import HeldEvent
from shared.records import RecordType
from sync_server.db.engine import among, may_succeed_again, table_of
from sync_server.db.tables import ChainRow, DeviceRow, EventRow
from sync_server.domain import histories
from sync_server.domain.batches import Came
from sync_server.domain.changes import BOARD, publish, run_of
from sync_server.domain.devices import refuse_revoked
from sync_server.domain.effects import INVALID, NOT_ALLOWED, Held, IntakeResult, apply

if TYPE_CHECKING:
    from sync_server.hospital import Hospital

FORK: Final = "fork"
_BREAKS: Final = {
    "altered": "Its hash is not that of its content, or it cannot be read: it was damaged on the way. Send it again.",
    "gap": "Events before it are missing here. Send from the one after `expected`.",
    FORK: "Another event has its place here, or it does not follow the one before. Begin a new chain.",
    "other_chain": "A batch holds events of one chain.",
}
_SENDER: Final = select(DeviceRow).where(col(DeviceRow.id) == bindparam("its_id")).with_for_update()
_CHAIN: Final = table_of(ChainRow)
_GROWN: Final = update(_CHAIN).where(_CHAIN.c.id == bindparam("its_id"))
_EVENT: Final = table_of(EventRow)
_HELD: Final = sql_select(_EVENT.c.number, _EVENT.c.hash, _EVENT.c.stored_at, _EVENT.c.refused, _EVENT.c.message).where(
    _EVENT.c.chain == bindparam("its_id"), _EVENT.c.number.in_(bindparam("numbers", expanding=True))
)
_log = logging.getLogger(__name__)


@dataclass
class _Sorted:
    """A batch against its chain: what becomes of each event, and where the chain ends after it."""

    end: Position
    outcomes: list[Held | Outcome] = field(default_factory=list)
    taken: list[tuple[Held, Came]] = field(default_factory=list)
    forked: bool = False


def take(hospital: Hospital, device: UUID, batch: Sequence[Came]) -> BatchAnswer:
    """Store a batch that ``device`` sent; the same batch again gives the same answer.

    Raises:
        FirstRayError: ``device_unknown``.
        DeviceRevoked: also where that happened this very moment.
    """
    chain = next(came.place.chain for came in batch if came.place is not None)
    done = hospital.database.write(lambda session: _take(hospital, session, device, chain, batch))
    outcomes = tuple(
        held if isinstance(held, Outcome) else _outcome(hospital, device, chain, held) for held in done.outcomes
    )
    return BatchAnswer(outcomes=outcomes, expected=done.end)


def _outcome(hospital: Hospital, device: UUID, chain: UUID, held: Held) -> Outcome:
    if held.code is not None:
        return Outcome(number=held.number, status=OutcomeStatus.REFUSED, code=held.code, message=held.message)
    holds = HeldEvent(chain=chain, number=held.number, hash=held.hash)
    receipt = hospital.receipts.sign(device, holds, held.stored_at)
    return Outcome(number=held.number, status=OutcomeStatus.STORED, receipt=receipt)


def _take(hospital: Hospital, session: Session, device: UUID, id: UUID, batch: Sequence[Came]) -> _Sorted:
    now = datetime.now(UTC)
    sender = session.exec(_SENDER, params={"its_id": device}).one_or_none()
    if sender is None:
        raise FirstRayError("device_unknown", "This device is not enrolled here.", "Enrol it.")
    refuse_revoked(sender)
    chain = session.execute(among(ChainRow, "id", lock="update"), {"ids": [id]}).one_or_none()
    if chain is not None and chain.device != device:
        return _of_another(id, batch)
    done = _sort(session, chain, id, batch, now)
    if done.forked and sender.flagged is None:
        sender.flagged = FORK
        _log.warning("device %s sent another past than it sent before: it is flagged", device)
    if not done.taken:
        return done
    for held, came in done.taken:
        held.code, held.message = _refusal(hospital, device, came)
    end = {"number": done.end.number, "hash": done.end.hash}
    if chain is None:
        session.execute(insert(_CHAIN), {"id": id, "device": device, "opened_at": now, **end})
    else:
        session.execute(_GROWN, {"its_id": id, **end})
    result = IntakeResult(device)
    _apply_all(session, result, done.taken, now)
    session.execute(insert(_EVENT), [_event_row(held, came, device, now) for held, came in done.taken])
    # Of the other types it is known already: each says itself which run it belongs to.
    indirect = {type: result.touched.get(type, ()) for type in (RecordType.PATIENT, RecordType.DIAGNOSIS)}
    result.encounters |= histories.touched_by(session, indirect)
    histories.refresh(session, result.encounters)
    _go_on(hospital, session, result)
    if result.encounters or result.touched.keys() & {RecordType.RADIOGRAPH, RecordType.DIAGNOSIS}:
        publish(session, BOARD, *(run_of(encounter) for encounter in sorted(result.encounters)))
    return done


def _of_another(chain: UUID, batch: Sequence[Came]) -> _Sorted:
    """The chain belongs to another device: nothing is taken, nothing told of it."""
    message = "This chain belongs to another device."
    return _Sorted(
        Position(chain=chain, number=0),
        [
            Outcome(number=number, status=OutcomeStatus.REFUSED, code=NOT_ALLOWED, message=message)
            for number in _numbers(batch)
        ],
    )


def _numbers(batch: Iterable[Came]) -> list[int]:
    """The number of each event; of one that has none to read, the one it should have in its batch."""
    numbers: list[int] = []
    for came in batch:
        numbers.append(came.place.number if came.place else numbers[-1] + 1 if numbers else 0)
    return numbers


def _sort(session: Session, chain: Row[Any] | None, id: UUID, batch: Sequence[Came], now: datetime) -> _Sorted:
    """Go along the batch, from where the chain ends: held before, taken now, or the chain breaks."""
    end = Position(chain=id, number=chain.number, hash=chain.hash) if chain else Position(chain=id, number=0)
    done = _Sorted(end)
    known = _known(session, id, [number for number in _numbers(batch) if number <= end.number])
    broken: str | None = None
    for came, number in zip(batch, _numbers(batch), strict=True):
        before = known.get(number)
        if broken is None and before is not None and came.place and came.intact and before.hash == came.place.hash:
            done.outcomes.append(before)
            continue
        broken = broken or _break(done.end, came)
        if broken is not None:
            message = _BREAKS[broken]
            done.outcomes.append(Outcome(number=number, status=OutcomeStatus.NOT_TAKEN, code=broken, message=message))
            done.forked |= broken == FORK
            continue
        done.end = came.position
        known[number] = held = Held(number, done.end.hash, now)
        done.taken.append((held, came))
        done.outcomes.append(held)
    return done


def _known(session: Session, chain: UUID, numbers: list[int]) -> dict[int, Held]:
    if not numbers:
        return {}
    return {row.number: Held(*row) for row in session.execute(_HELD, {"its_id": chain, "numbers": numbers})}


def _break(end: Position, came: Came) -> str | None:
    """Why an event cannot follow, as :func:`shared.events.first_break` has it."""
    place = came.place
    if place is None or not came.intact:
        return "altered"
    if place.chain != end.chain:
        return "other_chain"
    if place.number > end.number + 1:
        return "gap"
    if place.number <= end.number or place.previous != end.hash:
        return FORK
    return None


def _refusal(hospital: Hospital, device: UUID, came: Came) -> tuple[str | None, str | None]:
    """Why an event has no effect, as far as can be told without the records."""
    if came.fault is not None or came.event is None:
        return INVALID, came.fault
    if came.event.device != device:
        return NOT_ALLOWED, "It was written by another device."
    try:
        hospital.clock.observe(Stamp.parse(came.event.clock))
    except FirstRayError as problem:
        return problem.code, str(problem)
    return None, None


# --- the records -----------------------------------------------------------------------------------------------------


def _apply_all(session: Session, result: IntakeResult, taken: list[tuple[Held, Came]], now: datetime) -> None:
    """Give every event that is not refused its effect; what the database refuses is done one by one."""
    effective = [(held, came) for held, came in taken if held.code is None]
    try:
        with session.begin_nested():
            apply(session, result, effective, now)
        return
    except DBAPIError as problem:
        if may_succeed_again(problem) or problem.connection_invalidated:
            raise
    for held, came in effective:
        held.code = held.message = None
        try:
            with session.begin_nested():
                apply(session, result, [(held, came)], now)
        except DBAPIError as problem:
            if may_succeed_again(problem) or problem.connection_invalidated:
                raise
            held.code, held.message = INVALID, "The hospital's database does not take it."
            _log.error("the database refused event %d: %s", held.number, type(problem.orig).__name__)


def _event_row(held: Held, came: Came, device: UUID, now: datetime) -> dict[str, Any]:
    assert came.place is not None  # noqa: S101  (only events with a place are taken)
    action = came.event.action if came.event else None
    return {
        "chain": came.place.chain,
        "number": held.number,
        "hash": held.hash,
        "device": device,
        "subject": action.id if isinstance(action, Put | Delete) else None,
        "stored_at": now,
        "body": came.body,
        "refused": held.code,
        "message": held.message,
    }


def _go_on(hospital: Hospital, session: Session, result: IntakeResult) -> None:
    """Call those who go on; one that fails is logged and undone, for the events must be kept."""
    for callback in hospital.after_events:
        try:
            with session.begin_nested():
                callback(session, result)
        except Exception as problem:
            if isinstance(problem, DBAPIError) and (may_succeed_again(problem) or problem.connection_invalidated):
                raise
            _log.error("what follows events failed: %s", type(problem).__name__)
