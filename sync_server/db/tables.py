"""The hospital's tables, for SQLite and PostgreSQL alike.

Synced records lie in one table a type: what a record says is ``content`` (JSON), beside it columns that are joined or
searched. ``stamps`` holds the hybrid clock's stamp of each field's last change and decides conflicts; the value that
lost goes to :class:`SupersededRow`. Records refer to each other without foreign keys: an event may arrive before the
record it names. :class:`HistoryRow` is derived: one row a run, rebuilt in the transaction that changes anything of it;
the board, the search and the lists read it alone.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import JSON, BigInteger, DateTime, Dialect, Index, Integer, MetaData, Text, UniqueConstraint
from sqlalchemy.orm import registry
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, SQLModel

from shared.records import RecordType


class Utc(TypeDecorator[datetime]):
    """A moment in UTC; always with its zone in Python, also where the database keeps none."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To the database; raises ValueError for a moment without zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment needs its zone")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        """From the database."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


SERIAL: Final = BigInteger().with_variant(Integer(), "sqlite")
"""Numbers that the database gives: SQLite counts up only what is called INTEGER."""


class _Table(SQLModel, registry=registry()):
    """Base of every table of the hospital, which the ambulance's tables know nothing of."""

    metadata = MetaData()


# --- devices -----------------------------------------------------------------------------------------------------


class DeviceRow(_Table, table=True):
    """An enrolled device.

    Attributes:
        jwk: public half of its ES384 key (RFC 7517), with its ``kid``.
        ring: decides which model release it is offered.
        last_inbox: greatest inbox id ever given to it; ids grow in the order of commits (rows locked).
        wipe: a revoked device is asked to destroy its records.
        flagged: code of what is wrong with it, such as ``fork``; None while all is well.
        facts: what it last said of itself (app version, release): device health.
    """

    __tablename__ = "device"

    id: UUID = Field(primary_key=True)
    name: str
    jwk: dict[str, Any] = Field(sa_type=JSON)
    ring: str = "general"
    enrolled_at: datetime = Field(sa_type=Utc)
    enrolled_by: str
    seen_at: datetime | None = Field(default=None, sa_type=Utc)
    revoked_at: datetime | None = Field(default=None, sa_type=Utc)
    revoked_by: str | None = None
    wipe: bool = False
    flagged: str | None = None
    facts: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    last_inbox: int = Field(default=0, sa_type=BigInteger)


class EnrolmentCodeRow(_Table, table=True):
    """A one-time code; only its SHA-256 is kept."""

    __tablename__ = "enrolment_code"

    code_sha256: str = Field(primary_key=True)
    device_name: str
    ring: str = "general"
    made_by: str
    made_at: datetime = Field(sa_type=Utc)
    expires_at: datetime = Field(sa_type=Utc)
    used_at: datetime | None = Field(default=None, sa_type=Utc)
    device: UUID | None = None


class AssertionRow(_Table, table=True):
    """A client assertion that was used: its ``jti`` is refused until it expires by itself."""

    __tablename__ = "assertion"

    device: UUID = Field(primary_key=True)
    jti: str = Field(primary_key=True)
    expires_at: datetime = Field(sa_type=Utc, index=True)


# --- events ------------------------------------------------------------------------------------------------------


class ChainRow(_Table, table=True):
    """A chain of events and where it ends. Locked while events are added to it."""

    __tablename__ = "chain"

    id: UUID = Field(primary_key=True)
    device: UUID = Field(index=True)
    number: int = Field(default=0, sa_type=BigInteger)
    hash: str
    opened_at: datetime = Field(sa_type=Utc)


class EventRow(_Table, table=True):
    """An event as it came; ``refused`` is the code where it has its place but no effect."""

    __tablename__ = "event"
    __table_args__ = (Index("ix_event_subject", "subject"),)

    chain: UUID = Field(primary_key=True)
    number: int = Field(primary_key=True, sa_type=BigInteger)
    hash: str
    device: UUID = Field(index=True)
    subject: UUID | None = None
    stored_at: datetime = Field(sa_type=Utc)
    body: str = Field(sa_type=Text)
    refused: str | None = None
    message: str | None = None


# --- synced records ----------------------------------------------------------------------------------------------


class _Record(_Table):
    """What all synced records have.

    Attributes:
        device: who made it; only this device and the hospital may change it.
        content: the fields as JSON values (``shared.records``).
        stamps: field -> stamp of its last change.
        deleted: stamp of its deletion; a deleted record never comes back. Its content is kept until it is purged.
        hidden_at, hidden_by, hidden_reason: the hospital deleted it; purged after a set time.
        purged_at: its content is gone for good; only a patient may come back (:mod:`sync_server.domain.merge`).
    """

    id: UUID = Field(primary_key=True)
    device: UUID
    content: dict[str, Any] = Field(sa_type=JSON)
    stamps: dict[str, Any] = Field(sa_type=JSON)
    deleted: str | None = None
    deleted_at: datetime | None = Field(default=None, sa_type=Utc)
    delete_reason: str | None = None
    hidden_at: datetime | None = Field(default=None, sa_type=Utc)
    hidden_by: str | None = None
    hidden_reason: str | None = None
    purged_at: datetime | None = Field(default=None, sa_type=Utc)
    first_at: datetime = Field(sa_type=Utc)
    changed_at: datetime = Field(sa_type=Utc)


class PatientRow(_Record, table=True):
    """A patient; ``merged_into`` is the patient it was found to be."""

    __tablename__ = "patient"

    merged_into: UUID | None = Field(default=None, index=True)


class EncounterRow(_Record, table=True):
    """A run."""

    __tablename__ = "encounter"

    patient: UUID | None = Field(default=None, index=True)


class VitalSignsRow(_Record, table=True):
    """One set of vital signs."""

    __tablename__ = "vital_signs"

    encounter: UUID | None = Field(default=None, index=True)


class RadiographRow(_Record, table=True):
    """A radiograph; its bytes are :class:`ImageRow` by ``sha256`` and ``preview_sha256``."""

    __tablename__ = "radiograph"

    encounter: UUID | None = Field(default=None, index=True)
    sha256: str | None = Field(default=None, index=True)
    preview_sha256: str | None = Field(default=None, index=True)


class DiagnosisRow(_Record, table=True):
    """One reading by the device."""

    __tablename__ = "diagnosis"

    radiograph: UUID | None = Field(default=None, index=True)


class SupersededRow(_Table, table=True):
    """A field's value that lost against another: kept and shown."""

    __tablename__ = "superseded"

    id: int | None = Field(default=None, primary_key=True, sa_type=SERIAL)
    type: str
    record: UUID = Field(index=True)
    field: str
    value: Any = Field(default=None, sa_type=JSON, nullable=True)
    stamp: str
    by_stamp: str
    at: datetime = Field(sa_type=Utc)


# --- images ------------------------------------------------------------------------------------------------------


class ImageRow(_Table, table=True):
    """Bytes that are held, by their SHA-256; several radiographs and devices may share them."""

    __tablename__ = "image"

    sha256: str = Field(primary_key=True)
    kind: str
    size: int = Field(sa_type=BigInteger)
    stored_at: datetime = Field(sa_type=Utc)


class ImageDeliveryRow(_Table, table=True):
    """A device delivered these bytes and may ask for the receipt."""

    __tablename__ = "image_delivery"

    sha256: str = Field(primary_key=True)
    device: UUID = Field(primary_key=True)
    at: datetime = Field(sa_type=Utc)


class UploadRow(_Table, table=True):
    """An upload under way (tus 1.0); its bytes so far lie in the spool under its id."""

    __tablename__ = "upload"
    __table_args__ = (Index("ix_upload_device", "device", "sha256"),)

    id: str = Field(primary_key=True)
    device: UUID
    radiograph: UUID
    kind: str
    sha256: str
    size: int = Field(sa_type=BigInteger)
    made_at: datetime = Field(sa_type=Utc)
    expires_at: datetime = Field(sa_type=Utc, index=True)


# --- what the hospital says --------------------------------------------------------------------------------------


class InboxRow(_Table, table=True):
    """Something for a device, by its own growing ids; ``content`` as ``shared.hospital.Content``."""

    __tablename__ = "inbox"

    device: UUID = Field(primary_key=True)
    id: int = Field(primary_key=True, sa_type=BigInteger)
    content: dict[str, Any] = Field(sa_type=JSON)
    at: datetime = Field(sa_type=Utc)
    fetched_at: datetime | None = Field(default=None, sa_type=Utc)


class AcknowledgementRow(_Table, table=True):
    """Someone in the ER has looked at the run."""

    __tablename__ = "acknowledgement"

    id: UUID = Field(primary_key=True)
    encounter: UUID = Field(index=True)
    by: UUID
    by_name: str
    at: datetime = Field(sa_type=Utc)


class ConfirmedReadingRow(_Table, table=True):
    """A physician's reading; never changed nor overwritten, a later one stands beside it."""

    __tablename__ = "confirmed_reading"

    id: UUID = Field(primary_key=True)
    encounter: UUID = Field(index=True)
    radiograph: UUID = Field(index=True)
    findings: dict[str, str] = Field(sa_type=JSON)
    text: str = ""
    by: UUID
    by_name: str
    at: datetime = Field(sa_type=Utc)


class MessageRow(_Table, table=True):
    """A message from the ER to the crew."""

    __tablename__ = "message"

    id: UUID = Field(primary_key=True)
    encounter: UUID = Field(index=True)
    text: str
    by: UUID
    by_name: str
    at: datetime = Field(sa_type=Utc)


class MergeRow(_Table, table=True):
    """An admin found ``patient`` to be ``into``; undone where ``undone_at`` is set."""

    __tablename__ = "merge"

    id: UUID = Field(primary_key=True)
    patient: UUID = Field(index=True)
    into: UUID = Field(index=True)
    reason: str
    by: UUID
    at: datetime = Field(sa_type=Utc)
    undone_at: datetime | None = Field(default=None, sa_type=Utc)
    undone_by: UUID | None = None


# --- re-inference ------------------------------------------------------------------------------------------------


class ServerReadingRow(_Table, table=True):
    """The full-precision models' reading of one image by one release: made once, whoever asks how often.

    The rows that wait are the queue: a worker takes one by moving ``due_at`` into the future; if it ends without an
    answer, the row is due again then (:mod:`sync_server.domain.readings`).

    Attributes:
        manner: how it is read, as the crew had it read: "" as it came, or corrected, or in spite of the gate
            (:func:`sync_server.domain.readings.manner_of`).
        priority: 0 for what arrives, 1 for what is read again from the archive.
        due_at: from when on it may be taken by a worker.
        tries: how often it was taken; the limit makes it ``poison``.
        result: ``shared.diagnosis.Diagnosis`` as JSON; None where there is an ``error`` (its code).
        state: ``waiting``, ``done``, ``failed`` (an error of the image), ``poison`` (set aside after it failed us).
    """

    __tablename__ = "server_reading"
    __table_args__ = (
        UniqueConstraint("sha256", "release", "manner"),
        Index("ix_server_reading_due", "state", "priority", "due_at"),
    )

    id: UUID = Field(primary_key=True)
    sha256: str = Field(index=True)
    release: str
    manner: str = ""
    precision: str = "fp32"
    state: str = "waiting"
    priority: int = 0
    tries: int = 0
    asked_at: datetime = Field(sa_type=Utc)
    due_at: datetime = Field(sa_type=Utc)
    done_at: datetime | None = Field(default=None, sa_type=Utc)
    result: dict[str, Any] | None = Field(default=None, sa_type=JSON)
    error: str | None = None
    worker: str | None = None
    seconds: float | None = None


class AgreementRow(_Table, table=True):
    """What differs between the device's diagnosis and the hospital's reading, and whether it matters."""

    __tablename__ = "agreement"

    diagnosis: UUID = Field(primary_key=True)
    reading: UUID = Field(primary_key=True)
    radiograph: UUID = Field(index=True)
    changes: dict[str, Any] = Field(sa_type=JSON)
    significant: bool
    at: datetime = Field(sa_type=Utc)


class ReleaseRow(_Table, table=True):
    """A model release that was uploaded and whose signature holds."""

    __tablename__ = "release"

    id: str = Field(primary_key=True)
    sha256: str
    size: int = Field(sa_type=BigInteger)
    manifest: dict[str, Any] = Field(sa_type=JSON)
    uploaded_at: datetime = Field(sa_type=Utc)
    uploaded_by: str


class RingRow(_Table, table=True):
    """What release the devices of a ring, and for ``server`` the hospital itself, are to run; the latest row counts."""

    __tablename__ = "ring"

    id: int | None = Field(default=None, primary_key=True, sa_type=SERIAL)
    ring: str = Field(index=True)
    release: str
    at: datetime = Field(sa_type=Utc)
    by: str


# --- derived -----------------------------------------------------------------------------------------------------


class HistoryRow(_Table, table=True):
    """One run as lists and boards show it; derived from the records, rebuilt whenever one of them changes.

    Attributes:
        patient: after merges.
        rank: how urgent, 0 (most) to 9: what the board sorts by.
        urgent: keys of urgent findings, most urgent first; top: the likeliest finding and its probability, 0..1.
        found: likely findings of all its films, each between commas (``,Effusion,Mass,``): what a filter looks in.
        vital_signs: the latest set, fields of ``VitalSignsFields``.
        search: folded text of name, identifiers, incident number and complaint, 400 letters at most: PostgreSQL refuses
            index entries above 2,704 bytes.
        differs: a film's hospital reading differs significantly. confirmed: a physician has read all its films.
        visible: neither deleted nor hidden. under_way: it has not ended.
    """

    __tablename__ = "history"
    __table_args__ = (
        # Holds all that a search, filter or sort of the archive looks at: the table itself is read for one page only.
        Index(
            "ix_history_listed",
            "visible",
            "started_at",
            "encounter",
            "changed_at",
            "rank",
            "device",
            "differs",
            "confirmed",
            "name",
            "found",
            "search",
        ),
        Index("ix_history_under_way", "visible", "under_way", "rank", "started_at"),
        Index("ix_history_patient", "patient", "started_at"),
    )

    encounter: UUID = Field(primary_key=True)
    patient: UUID | None = None
    device: UUID = Field(index=True)
    started_at: datetime = Field(sa_type=Utc)
    ended_at: datetime | None = Field(default=None, sa_type=Utc)
    expected_arrival: datetime | None = Field(default=None, sa_type=Utc)
    under_way: bool
    visible: bool
    name: str | None = None
    sex: str | None = None
    age: int | None = None
    age_estimated: bool = False
    complaint: str | None = None
    incident_number: str | None = None
    vital_signs: dict[str, Any] | None = Field(default=None, sa_type=JSON)
    films: int = 0
    rank: int = 9
    urgent: list[str] = Field(default_factory=list, sa_type=JSON)
    top: str | None = None
    top_probability: float | None = None
    found: str = ""
    differs: bool = False
    confirmed: bool = False
    acknowledged_at: datetime | None = Field(default=None, sa_type=Utc)
    news_at: datetime | None = Field(default=None, sa_type=Utc)
    search: str = ""
    changed_at: datetime = Field(sa_type=Utc)

    def seen(self, at: datetime | None) -> bool:
        """Whether who acknowledged the run then had its latest film and reading before them."""
        return at is not None and (self.news_at is None or at >= self.news_at)


# --- people ------------------------------------------------------------------------------------------------------


class AccountRow(_Table, table=True):
    """Someone who logs in; ``role`` is ``er`` or ``admin``.

    Attributes:
        password: Argon2id; None where there is none, and the account is entered through the log-in service only.
        oidc: who they are there: issuer, a space, subject (OpenID Connect Core 1.0, 5.7).
        oidc_name: user name or e-mail of whom the account waits for; taken away when they have come.
    """

    __tablename__ = "account"

    id: UUID = Field(primary_key=True)
    login: str = Field(unique=True)
    name: str
    role: str
    password: str | None = None
    oidc: str | None = Field(default=None, unique=True)
    oidc_name: str | None = Field(default=None, unique=True)
    language: str = "ko"
    made_at: datetime = Field(sa_type=Utc)
    disabled_at: datetime | None = Field(default=None, sa_type=Utc)


class WebSessionRow(_Table, table=True):
    """A log-in that is open; only the SHA-256 of its cookie is kept."""

    __tablename__ = "web_session"

    token_sha256: str = Field(primary_key=True)
    user: UUID = Field(index=True)
    csrf: str
    made_at: datetime = Field(sa_type=Utc)
    seen_at: datetime = Field(sa_type=Utc)
    expires_at: datetime = Field(sa_type=Utc, index=True)


class AttemptRow(_Table, table=True):
    """Something that was tried in vain lately, by ``subject`` (a login, an address): slows the next try."""

    __tablename__ = "attempt"

    id: int | None = Field(default=None, primary_key=True, sa_type=SERIAL)
    subject: str = Field(index=True)
    at: datetime = Field(sa_type=Utc, index=True)


class AuditRow(_Table, table=True):
    """Who saw, changed, exported or deleted what; each row holds the hash of the one before."""

    __tablename__ = "audit"

    number: int = Field(primary_key=True, sa_type=BigInteger)
    at: datetime = Field(sa_type=Utc, index=True)
    actor: str = Field(index=True)
    action: str = Field(index=True)
    subject: str = Field(default="", index=True)
    details: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    previous: str
    hash: str


class ChangeRow(_Table, table=True):
    """A topic that changed, for the other processes on the same SQLite file (PostgreSQL tells them by NOTIFY)."""

    __tablename__ = "change"

    id: int | None = Field(default=None, primary_key=True, sa_type=SERIAL)
    process: str
    topic: str


class SettingRow(_Table, table=True):
    """A small value the hospital keeps for itself."""

    __tablename__ = "setting"

    key: str = Field(primary_key=True)
    value: Any = Field(default=None, sa_type=JSON, nullable=True)


METADATA: Final = _Table.metadata
"""All tables, for migrations."""

RecordRow = PatientRow | EncounterRow | VitalSignsRow | RadiographRow | DiagnosisRow

ROWS: Final[dict[RecordType, Any]] = {
    RecordType.PATIENT: PatientRow,
    RecordType.ENCOUNTER: EncounterRow,
    RecordType.VITAL_SIGNS: VitalSignsRow,
    RecordType.RADIOGRAPH: RadiographRow,
    RecordType.DIAGNOSIS: DiagnosisRow,
}
"""Where a record lies."""
