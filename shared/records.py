"""The records of a run, as both sides know them: patient, encounter, vital signs, radiograph, diagnosis.

A record is an id and a set of fields that change one by one; what changed travels in an event (:mod:`shared.events`).
All fields may be unknown (None) except those in :data:`REQUIRED`. Times are UTC. Codes follow HL7 FHIR R4 where it has
them: administrative gender, encounter, observation.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from shared.diagnosis import Diagnosis


class RecordType(StrEnum):
    """What a record is about."""

    PATIENT = "patient"
    ENCOUNTER = "encounter"
    VITAL_SIGNS = "vital_signs"
    RADIOGRAPH = "radiograph"
    DIAGNOSIS = "diagnosis"


class Sex(StrEnum):
    """FHIR R4 administrative-gender."""

    MALE = "male"
    FEMALE = "female"
    OTHER = "other"
    UNKNOWN = "unknown"


def _utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("a time needs a time zone")
    return moment.astimezone(UTC)


def _clean(text: str) -> str:
    if not text.replace("\n", "").isprintable():
        raise ValueError("control characters are not allowed")
    return text


Moment = Annotated[datetime, AfterValidator(_utc)]
"""A moment with its time zone, kept in UTC."""
Line = Annotated[str, StringConstraints(strip_whitespace=True, max_length=120), AfterValidator(_clean)]
"""A short text."""
Prose = Annotated[str, StringConstraints(strip_whitespace=True, max_length=4000), AfterValidator(_clean)]
"""A text of several lines."""
Sha256 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
"""SHA-256 of a file's bytes, hexadecimal."""


class _Fields(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Identifier(_Fields):
    """A number a patient is known by: ``system`` says whose (hospital, national health insurance, passport ...)."""

    system: Line
    value: Annotated[Line, Field(min_length=1)]


class PatientFields(_Fields):
    """Who the patient is; everything may be unknown.

    Attributes:
        name: as spoken; None for an unknown patient.
        birth_date: exact; None if unknown.
        estimated_age: in whole years, 0..130, where the birth date is unknown.
        sex: administrative.
        identifiers: numbers the patient is known by.
    """

    name: Line | None = None
    birth_date: Annotated[date, Field(ge=date(1880, 1, 1))] | None = None
    estimated_age: Annotated[int, Field(ge=0, le=130)] | None = None
    sex: Sex | None = None
    identifiers: tuple[Identifier, ...] = ()


class EncounterFields(_Fields):
    """One run of the ambulance with one patient.

    Attributes:
        patient: id of the patient.
        started_at, ended_at: when it began and ended; a run without an end is under way.
        expected_arrival: at the hospital.
        incident_number: of the dispatch centre.
        chief_complaint: why the ambulance was called.
        notes: anything else.
    """

    patient: UUID | None = None
    started_at: Moment | None = None
    ended_at: Moment | None = None
    expected_arrival: Moment | None = None
    incident_number: Line | None = None
    chief_complaint: Prose | None = None
    notes: Prose | None = None


class VitalSignsFields(_Fields):
    """Vital signs taken at one time; each may be missing. Ranges are what the instruments can show, not what is normal.

    Attributes:
        encounter: id of the run.
        taken_at: when.
        spo2: oxygen saturation, per cent (LOINC 59408-5).
        respiratory_rate: breaths a minute (9279-1).
        heart_rate: beats a minute (8867-4).
        systolic, diastolic: blood pressure, mmHg (8480-6, 8462-4).
        gcs: Glasgow coma score, 3..15 (9269-2).
    """

    encounter: UUID | None = None
    taken_at: Moment | None = None
    spo2: Annotated[int, Field(ge=0, le=100)] | None = None
    respiratory_rate: Annotated[int, Field(ge=0, le=150)] | None = None
    heart_rate: Annotated[int, Field(ge=0, le=350)] | None = None
    systolic: Annotated[int, Field(ge=0, le=350)] | None = None
    diastolic: Annotated[int, Field(ge=0, le=250)] | None = None
    gcs: Annotated[int, Field(ge=3, le=15)] | None = None


class DevicePatient(_Fields):
    """What the X-ray device calls the patient (PS3.3 C.7.1.1): shown so that a person can match it, never matched."""

    name: Line | None = None
    patient_id: Line | None = None
    birth_date: Line | None = None
    sex: Line | None = None


class RadiographFields(_Fields):
    """One image as it arrived.

    Attributes:
        encounter: id of the run it belongs to; None while nobody has said so.
        sha256, size: of the file's bytes.
        received_at: when it was safely stored.
        acquired_at: when the device says it was taken (its local time, as text of DICOM DA and TM), or None.
        source: how it arrived.
        station: calling AE title of the X-ray device, or None.
        device_patient: what the device calls the patient, or None.
        preview_sha256, preview_size: of the small boxed picture sent ahead; None until there is one.
    """

    encounter: UUID | None = None
    sha256: Sha256 | None = None
    size: Annotated[int, Field(ge=1)] | None = None
    received_at: Moment | None = None
    acquired_at: Line | None = None
    source: Literal["dicom", "file", "folder"] | None = None
    station: Line | None = None
    device_patient: DevicePatient | None = None
    preview_sha256: Sha256 | None = None
    preview_size: Annotated[int, Field(ge=1)] | None = None


class DiagnosisFields(_Fields):
    """One reading of one radiograph, or why there is none. Never changed: another reading is another record.

    Attributes:
        radiograph: id of the radiograph.
        made_at: when.
        result: what was read, refusals of the quality gate included; None where the file could not be read.
        error: code of the error where there is no result.
        overridden: the operator had it read in spite of the gate's refusal.
    """

    radiograph: UUID | None = None
    made_at: Moment | None = None
    result: Diagnosis | None = None
    error: Line | None = None
    overridden: bool = False


Fields = PatientFields | EncounterFields | VitalSignsFields | RadiographFields | DiagnosisFields

FIELDS: Final[dict[RecordType, type[Fields]]] = {
    RecordType.PATIENT: PatientFields,
    RecordType.ENCOUNTER: EncounterFields,
    RecordType.VITAL_SIGNS: VitalSignsFields,
    RecordType.RADIOGRAPH: RadiographFields,
    RecordType.DIAGNOSIS: DiagnosisFields,
}
"""What fields a record has."""

REQUIRED: Final[dict[RecordType, frozenset[str]]] = {
    RecordType.PATIENT: frozenset(),
    RecordType.ENCOUNTER: frozenset({"patient", "started_at"}),
    RecordType.VITAL_SIGNS: frozenset({"encounter", "taken_at"}),
    RecordType.RADIOGRAPH: frozenset({"sha256", "size", "received_at", "source"}),
    RecordType.DIAGNOSIS: frozenset({"radiograph", "made_at"}),
}
"""Fields that a record has from its first event on and that never become unknown."""


def changed_fields(kind: RecordType, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Check the changed fields of a record, and give them as JSON values.

    Args:
        kind: which record.
        fields: field -> new value (Python or JSON); None makes it unknown.

    Raises:
        pydantic.ValidationError: a field does not exist or its value is not allowed; it names each.
        ValueError: a required field would become unknown.
    """
    checked = FIELDS[kind].model_validate(dict(fields))
    if lost := [name for name in REQUIRED[kind] & fields.keys() if getattr(checked, name) is None]:
        raise ValueError(f"{', '.join(sorted(lost))} cannot become unknown")
    return checked.model_dump(mode="json", include=set(fields))
