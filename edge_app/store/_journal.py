"""Changing records: the change and the event that tells the hospital of it, in one transaction."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final
from uuid import UUID

from pydantic import ValidationError
from sqlalchemy import insert
from sqlmodel import Session, col, select

from edge_app.store._columns import fill, visible
from edge_app.store._database import Database
from edge_app.store.errors import not_allowed, not_allowed_by
from edge_app.store.tables import (
    ROWS,
    ChainRow,
    DiagnosisRow,
    EncounterRow,
    EventRow,
    PatientRow,
    RecordRow,
    VitalSignsRow,
)
from edge_app.store.views import Change
from shared.events import FIRST_PREVIOUS, Delete, Event, OpenChain, Position, Put, next_event
from shared.hospital import MAX_EVENT_BYTES
from shared.hybrid_clock import HybridClock, Stamp
from shared.identity import new_id
from shared.records import FIELDS, REQUIRED, Fields, RecordType, changed_fields

SOME: Final = 500
"""Events written at once where many are."""
MOST_CONTENT: Final = MAX_EVENT_BYTES - 1024
"""Bytes of JSON of all that a record says: one event must be able to say it again."""
FIXED: Final = frozenset({"sha256", "size", "received_at", "source", "station"})
"""Fields of a radiograph that are what they were when it arrived."""

_log = logging.getLogger(__name__)


class Journal:
    """Opens transactions on the records, and tells the listeners what was committed."""

    def __init__(self, database: Database, device: UUID, clock: HybridClock) -> None:
        self.database = database
        self.device = device
        self.clock = clock
        self.listeners: list[Callable[[Change], None]] = []

    @contextmanager
    def change(self) -> Iterator[Transaction]:
        """One transaction; on leaving it is durable, then the listeners are called on this thread."""
        with self.database.writing() as session:
            transaction = Transaction(session, self.device, self.clock)
            yield transaction
        for change in transaction.changes:
            self.tell(change)

    def tell(self, change: Change) -> None:
        """Call the listeners; one that fails is logged, since what was committed stays so."""
        for listener in tuple(self.listeners):
            try:
                listener(change)
            except Exception as problem:  # noqa: BLE001  (any; its text may hold patient data)
                _log.error("a listener to the store failed: %s", type(problem).__name__)


class Transaction:
    """Changes of records that become durable together, each with its event.

    Attributes:
        session: of the database.
        changes: what the listeners are told after the commit.
    """

    def __init__(self, session: Session, device: UUID, clock: HybridClock) -> None:
        self.session = session
        self.changes: dict[Change, None] = {}
        self._device = device
        self._clock = clock
        self._present: ChainRow | None = None

    def stamp(self) -> Stamp:
        """A stamp of the device's clock."""
        return self._clock.now()

    def tell(self, kind: str, subject: UUID | None = None) -> None:
        """Have the listeners told, once."""
        self.changes[Change(kind, subject)] = None

    def get(self, type: RecordType, id: UUID) -> RecordRow:
        """A record that exists and is not hidden; raises ``record_unknown``."""
        row: RecordRow = visible(self.session, ROWS[type], id)
        return row

    def make(self, type: RecordType, fields: Mapping[str, Any], id: UUID | None = None) -> UUID:
        """A new record."""
        id = id or new_id()
        checked = _checked(type, fields)
        if missing := REQUIRED[type] - {name for name, value in checked.items() if value is not None}:
            raise not_allowed(sorted(missing), f"{', '.join(sorted(missing))} must be given")
        stamp = self.stamp()
        content = FIELDS[type].model_validate(checked)
        row: RecordRow = ROWS[type](id=id, content=_fitting(content), stamps=_stamped({}, checked, stamp))
        fill(self.session, row, content)
        self.session.add(row)
        self.session.flush()
        self._append(Put(type=type, id=id, fields=checked), stamp, type, id)
        self._tell_of(row)
        return id

    def put(self, type: RecordType, id: UUID, fields: Mapping[str, Any], *, whole: bool = False) -> bool:
        """Change a record; only fields whose value differs count, or all it has if it is said ``whole``.

        Returns whether there were any.
        """
        row = self.get(type, id)
        content = json.loads(row.content)
        checked = _checked(type, fields)
        changed = content | checked if whole else {name: new for name, new in checked.items() if content[name] != new}
        if not changed:
            return False
        if type is RecordType.DIAGNOSIS or (type is RecordType.RADIOGRAPH and changed.keys() & FIXED):
            raise not_allowed(sorted(changed), f"{', '.join(sorted(changed))} never changes")
        stamp = self.stamp()
        renewed = FIELDS[type].model_validate(content | changed)
        row.content = _fitting(renewed)
        row.stamps = _stamped(json.loads(row.stamps), changed, stamp)
        fill(self.session, row, renewed)
        self.session.add(row)
        self.session.flush()
        self._append(Put(type=type, id=id, fields=changed), stamp, type, id)
        self._tell_of(row)
        return True

    def bury(self, type: RecordType, id: UUID, reason: str | None) -> None:
        """Write the event that deletes a record; its rows are removed by the caller."""
        self._append(Delete(type=type, id=id, reason=reason or None), self.stamp(), type, id)

    def open_chain(self, after: Position | None, detail: str | None = None) -> None:
        """Begin a new chain: later events are written to it."""
        self._present = ChainRow(chain=new_id(), number=0, hash=FIRST_PREVIOUS, clock="", detail=detail)
        self.session.add(self._present)
        self.session.flush()
        self._append(OpenChain(after=after), self.stamp(), None, None)

    def append_again(self, event: Event, type: str | None, subject: UUID | None) -> None:
        """Write what an event of a broken chain said into the present one, with its own time and stamp."""
        self._write(event.action, event.at, Stamp.parse(event.clock), type, subject)

    def say_again(self, said: Iterable[tuple[RecordType, UUID, dict[str, Any], Stamp]]) -> None:
        """Write an event a record with all that it says, stamped as it was: (type, id, content, stamp) each."""
        now = datetime.now(UTC)
        events = (
            self._next(Put(type=type, id=id, fields=content), now, stamp, type, id) for type, id, content, stamp in said
        )
        while some := list(islice(events, SOME)):
            self.session.execute(insert(EventRow), some)
        self.session.flush()
        self.tell("delivery")

    def end_of_chain(self) -> Position | None:
        """Where the present chain ends; None before the first was begun."""
        chain = self._chain()
        return Position(chain=chain.chain, number=chain.number, hash=chain.hash) if chain else None

    def _chain(self) -> ChainRow | None:
        if self._present is None:
            self._present = self.session.exec(select(ChainRow).order_by(col(ChainRow.place).desc()).limit(1)).first()
        return self._present

    def _append(
        self, action: OpenChain | Put | Delete, stamp: Stamp, type: RecordType | None, subject: UUID | None
    ) -> None:
        self._write(action, datetime.now(UTC), stamp, type, subject)

    def _write(
        self, action: OpenChain | Put | Delete, at: datetime, stamp: Stamp, type: str | None, subject: UUID | None
    ) -> None:
        self.session.add(EventRow(**self._next(action, at, stamp, type, subject)))
        self.session.flush()
        self.tell("delivery")

    def _next(
        self, action: OpenChain | Put | Delete, at: datetime, stamp: Stamp, type: str | None, subject: UUID | None
    ) -> dict[str, Any]:
        """Columns of the next event's row; the chain ends with it."""
        chain = self._chain()
        assert chain is not None  # noqa: S101  (a store has a chain from its making on)
        after = Position(chain=chain.chain, number=chain.number, hash=chain.hash)
        try:
            event = next_event(self._device, after, at, stamp, action)
        except (ValueError, OverflowError):
            raise not_allowed((), "a value cannot be written as JSON") from None
        body = event.model_dump_json()
        if len(body.encode()) > MAX_EVENT_BYTES:
            raise not_allowed((), "the record is too long to be sent")
        chain.number, chain.hash, chain.clock = event.number, event.hash, max(chain.clock, event.clock)
        self.session.add(chain)
        return {
            "chain": event.chain,
            "number": event.number,
            "hash": event.hash,
            "subject": subject,
            "type": type,
            "kind": action.kind,
            "at": at,
            "body": body,
        }

    def _tell_of(self, row: RecordRow) -> None:
        if isinstance(row, PatientRow):
            self.tell("patient", row.id)
        elif isinstance(row, EncounterRow):
            self.tell("run", row.id)
        elif isinstance(row, VitalSignsRow):
            self.tell("run", row.encounter)
        else:
            self.tell("film", row.radiograph if isinstance(row, DiagnosisRow) else row.id)


def _fitting(fields: Fields) -> str:
    content = fields.model_dump_json()
    if len(content.encode()) > MOST_CONTENT:
        raise not_allowed((), "the record is too long to be sent")
    return content


def _checked(type: RecordType, fields: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return changed_fields(type, fields)
    except ValidationError as problem:
        raise not_allowed_by(problem) from None
    except ValueError as problem:
        lost = sorted(REQUIRED[type] & fields.keys())
        raise not_allowed(lost, str(problem)) from None


def _stamped(stamps: dict[str, str], changed: Mapping[str, Any], stamp: Stamp) -> str:
    return json.dumps(stamps | dict.fromkeys(changed, str(stamp)))
