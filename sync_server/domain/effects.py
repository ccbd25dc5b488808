"""Giving events their effect on the records, many at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import bindparam, insert, literal, select, union_all, update
from sqlmodel import Session

from shared.events import Delete, Put
from shared.records import RecordType
from sync_server.db.engine import among, table_of
from sync_server.db.tables import ROWS, SupersededRow
from sync_server.domain.batches import Came
from sync_server.domain.merge import Lost, Record

NOT_ALLOWED: Final = "not_allowed"
INVALID: Final = "invalid"
_COLUMNS: Final = (
    "id",
    "device",
    "first_at",
    "changed_at",
    "content",
    "stamps",
    "deleted",
    "deleted_at",
    "delete_reason",
    "purged_at",
)

_NAMED: Final = {
    "patient": RecordType.PATIENT,
    "encounter": RecordType.ENCOUNTER,
    "radiograph": RecordType.RADIOGRAPH,
}
"""Fields that name another record, and which type that is of."""

_OWNERS: Final = union_all(
    *(
        select(literal(type.value).label("type"), table.c.id, table.c.device).where(
            table.c.id.in_(bindparam(type.value, expanding=True))
        )
        for type, table in ((type, table_of(row)) for type, row in ROWS.items())
    )
)
"""Whose records are: of those with ids in the parameters, one a type."""

Key = tuple[RecordType, UUID]
"""A record's type and id."""


@dataclass
class Held:
    """An event that has its place in a chain: without effect where there is a ``code``."""

    number: int
    hash: str
    stored_at: datetime
    code: str | None = None
    message: str | None = None


@dataclass
class IntakeResult:
    """What a batch has changed, for those who go on with it in the same transaction.

    Attributes:
        device: whose batch it was.
        touched: ids of records that were made, changed or deleted, by type.
        encounters: runs whose histories were rebuilt.
    """

    device: UUID
    touched: dict[RecordType, set[UUID]] = field(default_factory=dict)
    encounters: set[UUID] = field(default_factory=set)

    def touch(self, record: Record) -> None:
        """Note a record and its run; before and after it is changed, for it may move to another."""
        self.touched.setdefault(record.type, set()).add(record.id)
        if record.encounter is not None:
            self.encounters.add(record.encounter)


def apply(session: Session, result: IntakeResult, events: Iterable[tuple[Held, Came]], now: datetime) -> None:
    """Give each event its effect, in their order; one that may have none gets its ``code``."""
    effective = [
        (held, came, came.event.action, tuple(_named(came)))
        for held, came in events
        if came.event is not None and isinstance(came.event.action, Put | Delete)
    ]
    keys = {(action.type, action.id) for _, _, action, _ in effective}
    owners = _owners(session, keys.union(*(named for *_, named in effective)))
    records = _load(session, [key for key in keys if owners.get(key) == result.device])
    foreign = {key for key, device in owners.items() if device != result.device}
    superseded: list[dict[str, Any]] = []
    for held, came, action, named in effective:
        key = action.type, action.id
        if not foreign.isdisjoint(named):
            held.code, held.message = NOT_ALLOWED, "It belongs to a record that was made by another device."
            continue
        if key in foreign:
            held.code, held.message = NOT_ALLOWED, "The record was made by another device."
            continue
        if (record := records.get(key)) is None:
            if isinstance(action, Put) and not came.has_required:
                held.code, held.message = INVALID, "A record's first event must give the fields that are required."
                continue
            record = records[key] = Record(*key, result.device, first_at=now, changed_at=now, fresh=True)
        result.touch(record)
        superseded += [_superseded(record, lost, now) for lost in _change(record, came, action, now)]
        result.touch(record)
    _save(session, records.values())
    if superseded:
        session.execute(insert(table_of(SupersededRow)), superseded)


def _change(record: Record, came: Came, action: Put | Delete, now: datetime) -> list[Lost]:
    assert came.event is not None  # noqa: S101  (the action is the event's)
    if isinstance(action, Put):
        return record.put(came.fields or {}, came.event.clock, now)
    record.delete(came.event.clock, action.reason, now)
    return []


def _by_type(keys: Iterable[Key]) -> dict[RecordType, list[UUID]]:
    ids: dict[RecordType, list[UUID]] = {type: [] for type in sorted(RecordType)}
    for type, id in sorted(keys):
        ids[type].append(id)
    return ids


def _owners(session: Session, keys: Iterable[Key]) -> dict[Key, UUID]:
    """Which device made these records, as far as they exist: one adds nothing to what another made."""
    ids = {type.value: some for type, some in _by_type(keys).items()}
    return {(RecordType(type), id): device for type, id, device in session.execute(_OWNERS, ids)}


def _load(session: Session, keys: Iterable[Key]) -> dict[Key, Record]:
    """These records, locked."""
    found: dict[Key, Record] = {}
    for type, ids in _by_type(keys).items():
        if ids:
            rows = session.execute(among(ROWS[type], "id", *_COLUMNS, lock="update"), {"ids": ids})
            found |= {(type, row.id): Record(type, **row._mapping) for row in rows}
    return found


def _named(came: Came) -> Iterator[Key]:
    """The records that an event's record is to belong to."""
    for name, type in _NAMED.items():
        if (id := (came.fields or {}).get(name)) is not None:
            yield type, UUID(id)


def _save(session: Session, records: Iterable[Record]) -> None:
    made: dict[RecordType, list[dict[str, Any]]] = {}
    changed: dict[RecordType, list[dict[str, Any]]] = {}
    for record in records:
        if record.fresh:
            row = {"id": record.id, "device": record.device, "first_at": record.first_at, **record.columns()}
            made.setdefault(record.type, []).append(row)
        elif record.changed:
            changed.setdefault(record.type, []).append({"its_id": record.id, **record.columns()})
    for type, rows in made.items():
        session.execute(insert(table_of(ROWS[type])), rows)
    for type, rows in changed.items():
        table = table_of(ROWS[type])
        session.connection().execute(
            update(table)
            .where(table.c.id == bindparam("its_id"))
            .values({name: bindparam(name) for name in rows[0] if name != "its_id"}),
            rows,
        )


def _superseded(record: Record, lost: Lost, now: datetime) -> dict[str, Any]:
    return {
        "type": record.type.value,
        "record": record.id,
        "field": lost.field,
        "value": lost.value,
        "stamp": lost.stamp,
        "by_stamp": lost.by_stamp,
        "at": now,
    }
