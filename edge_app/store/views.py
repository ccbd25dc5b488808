"""What the store answers: plain values for screens and for the sync, free of the database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from shared.diagnosis import Diagnosis
from shared.hospital import Acknowledgement, ConfirmedReading, ErMessage, ImageKind, ServerDiagnosis
from shared.records import DevicePatient, DiagnosisFields, EncounterFields, PatientFields, VitalSignsFields


class Delivery(StrEnum):
    """What the hospital provably holds: its receipt is verified and stored here."""

    WAITING = "waiting"
    """Nothing yet."""
    PARTLY = "partly"
    """Some of it."""
    HELD = "held"
    """All of it."""
    REFUSED = "refused"
    """The hospital refused something of it; the status says what and why."""


@dataclass(frozen=True, slots=True)
class Change:
    """Something was committed: ``kind`` is run, film, patient, delivery, inbox, reviewed, deletion, setting or health.

    ``inbox`` is what the hospital said about a run, ``reviewed`` what it read itself in a film. ``id`` is of the run,
    film, patient or deletion; None where it is about no single one.
    """

    kind: str
    id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that can be restored: its file's name in the store's folder, when it was made, bytes, and why.

    ``reason`` is ``daily`` (at opening), ``migration`` (before one), or ``replaced`` (a database that a restored
    backup took the place of; kept for support).
    """

    name: str
    made_at: datetime
    size: int
    reason: str


@dataclass(frozen=True, slots=True)
class Patient:
    """A patient and how many runs there are, the latest begun at ``last_run_at``."""

    id: UUID
    fields: PatientFields
    runs: int
    last_run_at: datetime | None


@dataclass(frozen=True, slots=True)
class VitalSigns:
    """One set of vital signs."""

    id: UUID
    fields: VitalSignsFields


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run as a list shows it.

    Attributes:
        id, patient: ids.
        who: the patient's fields.
        encounter: the run's own fields.
        radiographs: how many it has, and of these how many are still to be read (``unread``).
        latest: the diagnosis of its latest radiograph that was read; None where there is none.
        urgent: urgent findings of all its radiographs, most urgent first.
        delivery: of records and previews, and of originals that have no preview; other originals may still be on
            their way.
        acknowledged: the hospital holds it, and someone in the ER has looked since it knows all films and readings.
        news: answers of the hospital (messages, readings, diagnoses) not yet seen by the crew.
    """

    id: UUID
    patient: UUID
    who: PatientFields
    encounter: EncounterFields
    radiographs: int
    unread: int
    latest: Diagnosis | None
    urgent: tuple[str, ...]
    delivery: Delivery
    acknowledged: bool
    news: int


@dataclass(frozen=True, slots=True)
class Film:
    """A radiograph with its latest diagnosis.

    Attributes:
        id: of the radiograph record.
        run: id of its run; None while nobody has said which.
        sha256, size: of the original file's bytes.
        received_at, source, station, acquired_at, device_patient: as in ``RadiographFields``.
        diagnosis_id, made_at, diagnosis, error, overridden: as in ``DiagnosisFields``; None/False before it is read.
        picture: there is a display picture (:meth:`Store.picture`).
        delivery: of the record, the preview (unless there is none) and the original.
        server: the hospital's own diagnosis, where it sent one.
        reading: a physician's confirmed reading, where there is one.
        news: of these, how many the crew has not seen yet.
    """

    id: UUID
    run: UUID | None
    sha256: str
    size: int
    received_at: datetime
    source: str
    station: str | None
    acquired_at: str | None
    device_patient: DevicePatient | None
    diagnosis_id: UUID | None
    made_at: datetime | None
    diagnosis: Diagnosis | None
    error: str | None
    overridden: bool
    picture: bool
    delivery: dict[str, Delivery]
    server: ServerDiagnosis | None
    reading: ConfirmedReading | None
    news: int = 0

    @property
    def waiting_to_be_read(self) -> bool:
        """Nobody has read it, and nothing has failed."""
        return self.diagnosis is None and self.error is None


@dataclass(frozen=True, slots=True)
class PastReading:
    """An earlier reading of a radiograph; ``id`` is that of the diagnosis record, by which its picture is kept."""

    id: UUID
    fields: DiagnosisFields


@dataclass(frozen=True, slots=True)
class Run:
    """Everything about one run; vital signs and radiographs latest first."""

    row: RunRow
    patient: Patient
    vital_signs: tuple[VitalSigns, ...]
    films: tuple[Film, ...]
    messages: tuple[ErMessage, ...]
    acknowledgements: tuple[Acknowledgement, ...]


@dataclass(frozen=True, slots=True)
class Deletion:
    """A run or radiograph (``kind``: run or film) that goes for good at ``due_at``; undone till then."""

    id: UUID
    subject: UUID
    due_at: datetime
    kind: str = "run"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something the hospital refused: the event's number, or the image, with the hospital's code and message."""

    what: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Upload:
    """An image on its way to the hospital.

    Attributes:
        radiograph, kind, sha256, size: what.
        urgent: its radiograph has an urgent finding.
        url: of the upload at the hospital; None before it was created.
        offset: bytes the hospital is known to have.
        tries: failed tries in a row.
        doubted: the hospital held it once, and has lost records since.
    """

    radiograph: UUID
    kind: ImageKind
    sha256: str
    size: int
    urgent: bool
    url: str | None
    offset: int
    tries: int
    doubted: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """What the hospital holds and what waits, in numbers.

    Attributes:
        events_held, events_waiting: with and without a receipt.
        previews_waiting, originals_waiting: images without a receipt, and their ``bytes_waiting``.
        oldest_waiting_at: since when the oldest event waits; None where none does.
        refusals: what was refused.
        last_receipt_at: when the latest receipt was stored.
        chains: chains of events begun; more than one after a restored backup or a fork.
        chain_detail: why the present chain was begun, where it was not the first.
    """

    events_held: int
    events_waiting: int
    previews_waiting: int
    originals_waiting: int
    bytes_waiting: int
    oldest_waiting_at: datetime | None
    refusals: tuple[Refusal, ...]
    last_receipt_at: datetime | None
    chains: int = 1
    chain_detail: str | None = None


@dataclass(frozen=True, slots=True)
class Room:
    """Room on the store's disk in bytes, and what the store takes of it."""

    free: int
    total: int
    images: int
    database: int
