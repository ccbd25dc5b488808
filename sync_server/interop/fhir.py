"""A run as FHIR R4 resources (4.0.1; valid under 4.3.0 as well), as plain JSON values.

``Patient``, ``Encounter`` (class ``EMER``), an ``Observation`` a vital sign (profile *vital signs*: LOINC, UCUM), an
``ImagingStudy`` a film, and its readings (:mod:`sync_server.interop.fhir_readings`). Ids are those of the records, or
made from them: exporting twice gives the same resources.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final
from uuid import UUID, uuid5

from shared.records import PatientFields, VitalSignsFields
from sync_server.domain.whole_runs import Film, Run
from sync_server.interop.fhir_readings import readings
from sync_server.interop.fhir_terms import CATEGORY, IMAGE, INCIDENT, LOINC, UCUM, Resource, instant

_VITAL_SIGNS: Final = {
    "spo2": (("2708-6", "59408-5"), "Oxygen saturation", "%", "%"),
    "respiratory_rate": (("9279-1",), "Respiratory rate", "breaths/minute", "/min"),
    "heart_rate": (("8867-4",), "Heart rate", "beats/minute", "/min"),
    "gcs": (("9269-2",), "Glasgow coma score total", "score", "{score}"),
}
_PRESSURES: Final = {
    "systolic": ("8480-6", "Systolic blood pressure"),
    "diastolic": ("8462-4", "Diastolic blood pressure"),
}


def head(now: datetime) -> Resource:
    """A bundle without its entries."""
    return {"resourceType": "Bundle", "type": "collection", "timestamp": instant(now)}


def bundle(runs: Iterable[Run], now: datetime) -> Iterator[bytes]:
    """One FHIR R4 bundle of type ``collection``, entry by entry; a patient of several runs is in it once."""
    yield json.dumps(head(now)).removesuffix("}").encode() + b', "entry": ['
    seen: set[UUID] = set()
    comma = b"\n"
    for run in runs:
        for entry in entries(run, with_patient=run.patient_id not in seen):
            yield comma + json.dumps(entry, ensure_ascii=False).encode()
            comma = b",\n"
        if run.patient_id is not None:
            seen.add(run.patient_id)
    yield b"\n]}\n"


def entries(run: Run, with_patient: bool = True) -> Iterator[Resource]:
    """The run's resources as entries of a bundle."""
    for resource in resources(run, with_patient):
        yield {"fullUrl": f"urn:uuid:{resource['id']}", "resource": resource}


def resources(run: Run, with_patient: bool = True) -> Iterator[Resource]:
    """The run's resources; those referred to come first."""
    patient = run.patient_id or uuid5(run.id, "patient")
    subject = {"reference": f"urn:uuid:{patient}"}
    if with_patient:
        yield _patient(patient, run.patient)
    yield _encounter(run, subject)
    shared = {"subject": subject, "encounter": {"reference": f"urn:uuid:{run.id}"}}
    for number, signs in enumerate(run.vital_signs):
        yield from _vital_signs(run.id, number, signs, shared)
    for film in run.films:
        yield _study(film, shared)
        yield from readings(film, shared)


def _patient(patient: UUID, fields: PatientFields) -> Resource:
    found: Resource = {"resourceType": "Patient", "id": str(patient)}
    if fields.identifiers:
        found["identifier"] = [
            {"value": one.value} | ({"type": {"text": one.system}} if one.system else {}) for one in fields.identifiers
        ]
    if fields.name:
        found["name"] = [{"text": fields.name}]
    found["gender"] = fields.sex.value if fields.sex else "unknown"
    if fields.birth_date:
        found["birthDate"] = fields.birth_date.isoformat()
    elif fields.estimated_age is not None:
        # There is no element for an estimated age: FHIR R4 has it as an extension of the birth date.
        reason = {"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}
        age = {"value": fields.estimated_age, "unit": "years", "system": UCUM, "code": "a"}
        estimated = {"url": "urn:firstray:estimated-age", "valueAge": age}
        found["_birthDate"] = {"extension": [reason]}
        found["extension"] = [estimated]
    return found


def _encounter(run: Run, subject: Resource) -> Resource:
    fields = run.encounter
    found: Resource = {
        "resourceType": "Encounter",
        "id": str(run.id),
        "status": "finished" if fields.ended_at else "in-progress",
        "class": {
            "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode",
            "code": "EMER",
            "display": "emergency",
        },
        "subject": subject,
    }
    if fields.incident_number:
        found["identifier"] = [{"system": INCIDENT, "value": fields.incident_number}]
    period = {"start": fields.started_at, "end": fields.ended_at}
    found["period"] = {name: instant(at) for name, at in period.items() if at is not None}
    if fields.chief_complaint:
        found["reasonCode"] = [{"text": fields.chief_complaint}]
    return found


def _vital_signs(run: UUID, number: int, signs: VitalSignsFields, shared: Resource) -> Iterator[Resource]:
    for name, (codes, text, unit, ucum) in _VITAL_SIGNS.items():
        if (value := getattr(signs, name)) is not None:
            code = {"coding": [{"system": LOINC, "code": one} for one in codes], "text": text}
            yield _vital_sign(run, number, name, signs, shared) | {
                "code": code,
                "valueQuantity": {"value": value, "unit": unit, "system": UCUM, "code": ucum},
            }
    pressures = [
        {
            "code": {"coding": [{"system": LOINC, "code": code}], "text": text},
            "valueQuantity": {"value": value, "unit": "mmHg", "system": UCUM, "code": "mm[Hg]"},
        }
        for name, (code, text) in _PRESSURES.items()
        if (value := getattr(signs, name)) is not None
    ]
    if pressures:
        code = {"coding": [{"system": LOINC, "code": "85354-9"}], "text": "Blood pressure"}
        yield _vital_sign(run, number, "pressure", signs, shared) | {"code": code, "component": pressures}


def _vital_sign(run: UUID, number: int, name: str, signs: VitalSignsFields, shared: Resource) -> Resource:
    return {
        "resourceType": "Observation",
        "id": str(uuid5(run, f"vital-signs/{number}/{name}")),
        "status": "final",
        "category": [{"coding": [{"system": CATEGORY, "code": "vital-signs"}]}],
        **shared,
        **({"effectiveDateTime": instant(signs.taken_at)} if signs.taken_at else {}),
    }


def _study(film: Film, shared: Resource) -> Resource:
    found: Resource = {
        "resourceType": "ImagingStudy",
        "id": str(film.id),
        "status": "available" if film.held else "registered",
        "description": "Chest radiograph of the ambulance",
        "numberOfSeries": 1,
        "numberOfInstances": 1,
        **shared,
    }
    if film.fields.sha256:
        found["identifier"] = [{"system": IMAGE, "value": film.fields.sha256}]
    if film.fields.received_at:
        found["started"] = instant(film.fields.received_at)
    return found
