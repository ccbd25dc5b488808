"""Code systems and small values that all FHIR resources of an export share."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

Resource = dict[str, Any]
"""A FHIR resource or element as JSON values."""

LOINC: Final = "http://loinc.org"
SNOMED: Final = "http://snomed.info/sct"
UCUM: Final = "http://unitsofmeasure.org"
CATEGORY: Final = "http://terminology.hl7.org/CodeSystem/observation-category"
INCIDENT: Final = "urn:firstray:incident-number"
FINDING: Final = "urn:firstray:finding"
IMAGE: Final = "urn:firstray:image-sha256"
DCM: Final = "http://dicom.nema.org/resources/ontology/DCM"
BOX: Final = "urn:firstray:box"
"""Extension: where a finding was marked: ``x``, ``y`` of the top left corner, ``width``, ``height`` as fractions (0..1)
of columns and rows of the image as it was sent, before any correction; ``source``: ``detector`` or ``activation``."""


def instant(at: datetime) -> str:
    """FHIR ``instant`` and ``dateTime`` of a moment in UTC."""
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
