"""What an event does to a record: per field the latest stamp wins, deletions win over everything.

Whatever the order in which events arrive, the record ends the same: a field has the value with the greatest stamp (of
two with the same stamp, the one whose JSON sorts last), and a deleted record stays deleted.

What the hospital has purged stays empty, but for a patient whom the crew has not deleted: the crew may meet a patient
again whose earlier runs are purged, and the ER must know who comes. A change with a later stamp than any the patient
had brings it back, with the fields of that change alone; so nothing that was said before the purge returns by being
sent again. The device says all of a patient's fields whenever it begins another run of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from shared.records import FIELDS, RecordType

LINKS: Final[dict[RecordType, tuple[str, ...]]] = {
    RecordType.PATIENT: (),
    RecordType.ENCOUNTER: ("patient",),
    RecordType.VITAL_SIGNS: ("encounter",),
    RecordType.RADIOGRAPH: ("encounter",),
    RecordType.DIAGNOSIS: ("radiograph",),
}
"""Fields that name another record and have a column of their own."""
_HASHES: Final = ("sha256", "preview_sha256")
"""Fields of a radiograph that have a column of their own."""
_EMPTY: Final = {type: fields().model_dump(mode="json") for type, fields in FIELDS.items()}


@dataclass(frozen=True, slots=True)
class Lost:
    """A value that lost against another."""

    field: str
    value: Any
    stamp: str
    by_stamp: str


@dataclass(slots=True)
class Record:
    """A record as it lies in its table (:class:`sync_server.db.tables._Record`), free of the database.

    Attributes:
        fresh: it has no row yet.
        changed: it differs from its row.
    """

    type: RecordType
    id: UUID
    device: UUID
    first_at: datetime
    changed_at: datetime
    content: dict[str, Any] = field(default_factory=dict)
    stamps: dict[str, str] = field(default_factory=dict)
    deleted: str | None = None
    deleted_at: datetime | None = None
    delete_reason: str | None = None
    purged_at: datetime | None = None
    fresh: bool = False
    changed: bool = False

    def put(self, fields: Mapping[str, Any], stamp: str, now: datetime) -> list[Lost]:
        """Change fields; gives what lost. A record that was deleted or purged stays as it is (see above)."""
        if self.deleted is not None:
            return []
        if self.purged_at is not None:
            if self.type is not RecordType.PATIENT or stamp <= max(self.stamps.values(), default=""):
                return []
            self.purged_at = None
        content = {**_EMPTY[self.type], **self.content}
        stamps = dict(self.stamps)
        lost = []
        for name, value in fields.items():
            before, at = content[name], stamps.get(name, "")
            wins = stamp > at or (stamp == at and _text(value) > _text(before))
            if at and before != value:
                loser = Lost(name, before, at, stamp) if wins else Lost(name, value, stamp, at)
                if loser.value not in (None, []):
                    lost.append(loser)
            if wins:
                content[name], stamps[name] = value, stamp
        if self.fresh or stamps != self.stamps or content != self.content:
            self.content, self.stamps, self.changed_at, self.changed = content, stamps, now, True
        return lost

    def delete(self, stamp: str, reason: str | None, now: datetime) -> None:
        """Delete it for good; of several deletions the first by stamp is told."""
        if self.deleted is None:
            self.deleted_at = self.changed_at = now
        elif stamp >= self.deleted:
            return
        self.deleted, self.delete_reason, self.changed = stamp, reason, True

    @property
    def encounter(self) -> UUID | None:
        """The run it says it belongs to, or is."""
        if self.type is RecordType.ENCOUNTER:
            return self.id
        named = self.content.get("encounter")
        return UUID(named) if named else None

    def columns(self) -> dict[str, Any]:
        """What may change of its row; a ``fresh`` one needs id, device and ``first_at`` besides."""
        columns: dict[str, Any] = {
            "content": self.content,
            "stamps": self.stamps,
            "deleted": self.deleted,
            "deleted_at": self.deleted_at,
            "delete_reason": self.delete_reason,
            "purged_at": self.purged_at,
            "changed_at": self.changed_at,
        }
        for name in LINKS[self.type]:
            named = self.content.get(name)
            columns[name] = UUID(named) if named else None
        if self.type is RecordType.RADIOGRAPH:
            columns |= {name: self.content.get(name) for name in _HASHES}
        return columns


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
