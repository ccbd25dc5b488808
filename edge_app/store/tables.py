"""The tables. What a record says lies in ``content`` as JSON; beside it, columns that are listed, searched or joined.

``stamps`` holds, for each field that was ever set, the hybrid clock's stamp of its last change: what decides between
this device's and the hospital's value of one field.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Dialect, Index, String, UniqueConstraint
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, SQLModel

from shared.records import RecordType


def moment_text(moment: datetime) -> str:
    """UTC, to the microsecond, always of one length: texts sort as the moments do."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


class Utc(TypeDecorator[datetime]):
    """A moment as :func:`moment_text`."""

    impl = String(32)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:
        """To the database."""
        return None if value is None else moment_text(value)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        """From the database."""
        return None if value is None else datetime.fromisoformat(value)


class _Record(SQLModel):
    id: UUID = Field(primary_key=True)
    content: str
    stamps: str


class PatientRow(_Record, table=True):
    """A patient; ``search`` is the folded text that a search looks in."""

    search: str = ""


class EncounterRow(_Record, table=True):
    """A run; ``hidden`` names the deletion it waits for. ``search`` holds the patient's text too."""

    __table_args__ = (
        Index("ix_run_listed", "started_at", "id", "ended_at", "hidden", "search"),
        Index("ix_run_of_patient", "patient", "hidden", "started_at"),
    )

    patient: UUID = Field(foreign_key="patientrow.id")
    started_at: datetime = Field(sa_type=Utc)
    ended_at: datetime | None = Field(default=None, sa_type=Utc)
    hidden: UUID | None = None
    search: str = ""


class VitalSignsRow(_Record, table=True):
    """One set of vital signs."""

    encounter: UUID = Field(foreign_key="encounterrow.id", index=True)
    taken_at: datetime = Field(sa_type=Utc)


class RadiographRow(_Record, table=True):
    """A radiograph; ``diagnosis`` is its latest, None while it is to be read."""

    __table_args__ = (
        Index("ix_film_of_run", "encounter", "received_at"),
        Index("ix_film_read", "diagnosis", "received_at"),
    )

    encounter: UUID | None = Field(default=None, foreign_key="encounterrow.id")
    sha256: str = Field(index=True)
    received_at: datetime = Field(sa_type=Utc)
    diagnosis: UUID | None = None
    hidden: UUID | None = None


class DiagnosisRow(_Record, table=True):
    """One reading."""

    radiograph: UUID = Field(foreign_key="radiographrow.id", index=True)
    made_at: datetime = Field(sa_type=Utc)


class FindingRow(SQLModel, table=True):
    """A likely finding of a radiograph's latest reading, ``urgent`` or not."""

    __table_args__ = (Index("ix_finding_of_run", "encounter"), Index("ix_run_of_finding", "finding", "encounter"))

    radiograph: UUID = Field(primary_key=True, foreign_key="radiographrow.id")
    finding: str = Field(primary_key=True)
    encounter: UUID | None = None
    urgent: bool = False


class ImageRow(SQLModel, table=True):
    """A stored file of a radiograph (``original``, ``preview``) or of one diagnosis (``picture``), and its ``name``."""

    id: int | None = Field(default=None, primary_key=True)
    radiograph: UUID = Field(foreign_key="radiographrow.id", index=True)
    kind: str
    diagnosis: UUID | None = None
    sha256: str
    size: int
    name: str = Field(index=True)


class UploadRow(SQLModel, table=True):
    """An image that the hospital is to hold: ``state`` is waiting, held, doubted (held once) or refused."""

    __table_args__ = (Index("ix_upload_next", "state", "kind", "urgent", "queued_at"),)

    sha256: str = Field(primary_key=True)
    kind: str
    radiograph: UUID = Field(foreign_key="radiographrow.id", index=True)
    size: int
    urgent: bool = False
    queued_at: datetime = Field(sa_type=Utc)
    state: str = "waiting"
    url: str | None = None
    offset: int = 0
    tries: int = 0
    receipt: str | None = None
    code: str | None = None
    message: str | None = None


class ChainRow(SQLModel, table=True):
    """A chain of events and where it ends; the one with the greatest ``place`` is written to."""

    place: int | None = Field(default=None, primary_key=True)
    chain: UUID = Field(unique=True)
    number: int
    hash: str
    clock: str
    detail: str | None = None


class EventRow(SQLModel, table=True):
    """An event: ``state`` is waiting, held, refused, or moved (said in a newer chain); ``body`` None once wiped."""

    __table_args__ = (
        UniqueConstraint("chain", "number"),
        Index("ix_event_of_record", "subject", "state"),
        Index("ix_event_state", "state", "id"),
    )

    id: int | None = Field(default=None, primary_key=True)
    chain: UUID
    number: int
    hash: str
    subject: UUID | None = None
    type: str | None = None
    kind: str
    at: datetime = Field(sa_type=Utc)
    body: str | None
    state: str = "waiting"
    receipt: str | None = None
    code: str | None = None
    message: str | None = None


class InboxRow(SQLModel, table=True):
    """Something the hospital said; ``id`` is the hospital's. ``encounter`` is the run that its radiograph is of now."""

    __table_args__ = (Index("ix_inbox_of_run", "encounter", "kind", "seen"),)

    id: int = Field(primary_key=True)
    kind: str
    encounter: UUID | None = None
    radiograph: UUID | None = Field(default=None, index=True)
    body: str
    seen: bool = False


class DeletionRow(SQLModel, table=True):
    """A deletion that can still be undone; ``kind`` is run or film."""

    id: UUID = Field(primary_key=True)
    kind: str
    subject: UUID
    reason: str | None = None
    due_at: datetime = Field(sa_type=Utc, index=True)


class GraveRow(SQLModel, table=True):
    """A record that was deleted: it never comes back."""

    id: UUID = Field(primary_key=True)
    type: str


class SettingRow(SQLModel, table=True):
    """A small value as JSON; keys with a leading underscore are the store's own."""

    key: str = Field(primary_key=True)
    value: str


RecordRow = PatientRow | EncounterRow | VitalSignsRow | RadiographRow | DiagnosisRow

ROWS: Final[dict[RecordType, Any]] = {
    RecordType.PATIENT: PatientRow,
    RecordType.ENCOUNTER: EncounterRow,
    RecordType.VITAL_SIGNS: VitalSignsRow,
    RecordType.RADIOGRAPH: RadiographRow,
    RecordType.DIAGNOSIS: DiagnosisRow,
}
"""Where a record lies."""
