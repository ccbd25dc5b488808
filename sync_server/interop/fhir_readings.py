"""Readings of a film as FHIR R4: a ``DiagnosticReport`` with an ``Observation`` a finding.

What the models read is ``preliminary``; what a physician confirmed is ``final``. Whether a finding is there is SNOMED
CT *Present*, *Absent* or *Indeterminate*; *Absent* only where a physician says so: what scores low is *indeterminate*,
with its probability. Where a finding was marked, each box is a component ``Image Region`` (DICOM PS3.16, 111030) with
the extension :data:`BOX`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final
from uuid import uuid5

from shared.boxes import Box
from shared.calibration import State
from shared.correction import Correction
from shared.diagnosis import Diagnosis
from shared.findings import BY_KEY, FINDINGS
from sync_server.db.tables import ConfirmedReadingRow
from sync_server.domain.whole_runs import Film
from sync_server.interop.fhir_terms import BOX, CATEGORY, DCM, FINDING, LOINC, SNOMED, UCUM, Resource, instant

_PRESENT: Final = {"coding": [{"system": SNOMED, "code": "52101004", "display": "Present"}]}
_ABSENT: Final = {"coding": [{"system": SNOMED, "code": "2667000", "display": "Absent"}]}
_UNSURE: Final = {"coding": [{"system": SNOMED, "code": "82334004", "display": "Indeterminate"}]}
_OF_STATE: Final[Mapping[State, Resource]] = {
    State.LIKELY: _PRESENT | {"text": "likely"},
    State.UNCERTAIN: _UNSURE | {"text": "uncertain"},
    State.UNLIKELY: _UNSURE | {"text": "unlikely, not excluded"},
}
_OF_PHYSICIAN: Final[Mapping[str, Resource]] = {"present": _PRESENT, "absent": _ABSENT, "unsure": _UNSURE}

Place = tuple[float, float, float, float]


def readings(film: Film, shared: Resource) -> Iterator[Resource]:
    """Every reading of a film; ``shared`` names patient and encounter."""
    if film.reading is not None:
        made = film.reading.made_at
        if film.reading.result is not None:
            yield from _machine(film, "device", film.reading.result, made, shared)
        else:
            unread = f"The image could not be read ({film.reading.error})."
            yield _report(film, "device", made, shared, []) | {"status": "cancelled", "conclusion": unread}
    if film.second is not None:
        yield from _machine(film, "hospital", film.second, None, shared)
    for number, confirmed in enumerate(film.confirmed):
        yield from _physician(film, number, confirmed, shared)


def _machine(film: Film, who: str, result: Diagnosis, at: datetime | None, shared: Resource) -> Iterator[Resource]:
    by = {"display": f"FirstRay, release {result.release}, {result.precision} ({who})"}
    observations = []
    for finding in FINDINGS:
        if (state := result.states.get(finding.key)) is None:
            continue
        one = _finding(film, who, finding.key, at, shared) | {"status": "preliminary", "device": by}
        if state is State.NOT_ASSESSED:
            one["dataAbsentReason"] = {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/data-absent-reason",
                        "code": "not-performed",
                    }
                ],
                "text": "not assessed",
            }
        else:
            one["valueCodeableConcept"] = _OF_STATE[state]
            probability = {
                "value": round(result.probabilities[finding.key], 4),
                "unit": "1",
                "system": UCUM,
                "code": "1",
            }
            about = {"text": f"calibrated probability at the prevalences of {result.prevalence}"}
            regions = [_region(box, result.correction) for box in result.boxes if box.finding == finding.key]
            one["component"] = [{"code": about, "valueQuantity": probability}, *regions]
        observations.append(one)
    yield from observations
    report = _report(film, who, at, shared, observations) | {"status": "preliminary"}
    if result.refused:
        report["status"] = "cancelled"
        reasons = ", ".join(problem.code for problem in result.verdict.problems)
        report["conclusion"] = f"Not read: {reasons}."
    yield report


def _region(box: Box, correction: Correction | None) -> Resource:
    """A box in fractions of the image as it was sent: FHIR R4 has no element for it, and records no size in pixels."""
    place = _as_sent((box.x, box.y, box.w, box.h), correction.quarter_turns if correction else 0)
    sizes = zip(("x", "y", "width", "height"), place, strict=True)
    said = [{"url": name, "valueDecimal": round(value, 6)} for name, value in sizes]
    what = "box of the detector" if box.source == "detector" else "approximate region from the activation map"
    return {
        "extension": [{"url": BOX, "extension": [*said, {"url": "source", "valueCode": box.source}]}],
        "code": {"coding": [{"system": DCM, "code": "111030", "display": "Image Region"}], "text": what},
    }


def _as_sent(place: Place, quarter_turns: int) -> Place:
    """Undo turns by 90 degrees anticlockwise: of left, top, width and height, as fractions."""
    for _ in range(quarter_turns):
        x, y, w, h = place
        place = 1 - y - h, x, h, w
    return place


def _physician(film: Film, number: int, row: ConfirmedReadingRow, shared: Resource) -> Iterator[Resource]:
    who = f"physician/{number}"
    observations = [
        _finding(film, who, key, row.at, shared)
        | {
            "status": "final",
            "performer": [{"display": row.by_name}],
            "valueCodeableConcept": _OF_PHYSICIAN[presence],
        }
        for key, presence in row.findings.items()
    ]
    yield from observations
    report = _report(film, who, row.at, shared, observations)
    report |= {"status": "final", "resultsInterpreter": [{"display": row.by_name}]}
    if row.text:
        report["conclusion"] = row.text
    yield report


def _finding(film: Film, who: str, key: str, at: datetime | None, shared: Resource) -> Resource:
    finding = BY_KEY[key]
    coding = [{"system": FINDING, "code": key}]
    if finding.snomed is not None:
        coding.insert(0, {"system": SNOMED, "code": finding.snomed})
    return {
        "resourceType": "Observation",
        "id": str(uuid5(film.id, f"{who}/{key}")),
        "category": [{"coding": [{"system": CATEGORY, "code": "imaging"}]}],
        "code": {"coding": coding, "text": finding.english},
        "derivedFrom": [{"reference": f"urn:uuid:{film.id}"}],
        **shared,
        **({"effectiveDateTime": instant(at)} if at else {}),
    }


def _report(film: Film, who: str, at: datetime | None, shared: Resource, observations: list[Resource]) -> Resource:
    found: Resource = {
        "resourceType": "DiagnosticReport",
        "id": str(uuid5(film.id, f"report/{who}")),
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "RAD"}]}],
        "code": {
            "coding": [{"system": LOINC, "code": "18748-4", "display": "Diagnostic imaging study"}],
            "text": "Chest radiograph",
        },
        "imagingStudy": [{"reference": f"urn:uuid:{film.id}"}],
        **shared,
        **({"issued": instant(at)} if at else {}),
    }
    if observations:
        found["result"] = [{"reference": f"urn:uuid:{one['id']}"} for one in observations]
    return found
