"""Exports: complete, harmless in a spreadsheet, valid FHIR, and never larger in memory than a few runs."""

import csv
import io
import itertools
import json
import tracemalloc
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from sqlmodel import col, select

from shared.boxes import Box
from shared.correction import Correction
from shared.errors import FirstRayError
from shared.findings import BY_KEY, KEYS
from shared.identity import new_id
from shared.records import RecordType
from sync_server.db.tables import AuditRow, ConfirmedReadingRow, ImageRow, ServerReadingRow
from sync_server.domain import exports, hiding
from sync_server.domain.archive import Criteria, Sort
from sync_server.domain.exports import Format, export
from sync_server.hospital import Hospital
from sync_server.interop import fhir_readings
from tests.hospital import TestDevice, enrolled_device, new_hospital
from tests.hospital.devices import reading

NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
JPEG = b"\xff\xd8\xff\xe0" + b"small" * 100
DICOM = b"\0" * 128 + b"DICM" + bytes(range(256)) * 40
LOINC = "http://loinc.org"
SNOMED = "http://snomed.info/sct"


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = new_hospital(tmp_path, listen=False)
    yield made
    made.close()


def hold(hospital: Hospital, data: bytes) -> str:
    name = sha256(data).hexdigest()
    file = hospital.settings.data / "upload"
    file.write_bytes(data)
    hospital.images.put(file, name)
    file.unlink()  # it may be the very bytes that are held now
    with hospital.database.writing() as session:
        session.merge(ImageRow(sha256=name, kind="original", size=len(data), stored_at=NOW))
    return name


@pytest.fixture
def run(hospital: Hospital) -> UUID:
    """A run with two vital signs, a film read by device, hospital and physician, and one that is not here yet."""
    device = enrolled_device(hospital)
    _, run = device.run("=cmd|'/c calc'!A1", incident_number="2026-42", notes="+1 more")
    device.vital_signs(run, spo2=91, systolic=150, diastolic=90, heart_rate=101, respiratory_rate=22, gcs=15)
    device.vital_signs(run, spo2=95)
    original, preview = hold(hospital, DICOM), hold(hospital, JPEG)
    film = device.film(run, original, preview_sha256=preview)
    result = reading(["Pneumothorax"]) | {"sha256": original}
    result["states"]["Mass"] = "not_assessed"
    result["correction"] = {"quarter_turns": 1, "invert": False}
    result["boxes"] = [
        {"finding": "Pneumothorax", "score": 0.7, "x": 0.1, "y": 0.2, "w": 0.3, "h": 0.4, "source": "detector"},
        {"finding": "Effusion", "score": 0.4, "x": 0.5, "y": 0.6, "w": 0.25, "h": 0.125, "source": "activation"},
    ]
    device.diagnosis(film, result=result)
    device.film(run, "ee" * 32)
    device.send()
    with hospital.database.writing() as session:
        second = reading(["Effusion"]) | {"precision": "fp32", "sha256": original}
        session.add(
            ServerReadingRow(
                id=new_id(),
                sha256=original,
                release="r",
                manner="turn1",
                state="done",
                asked_at=NOW,
                due_at=NOW,
                done_at=NOW,
                result=second,
            )
        )
        session.add(
            ConfirmedReadingRow(
                id=new_id(),
                encounter=run,
                radiograph=film,
                findings={"Pneumothorax": "present", "Effusion": "absent", "Mass": "unsure"},
                text="-drain at once",
                by=new_id(),
                by_name="Dr Han",
                at=NOW,
            )
        )
    return run


def exported(hospital: Hospital, form: Format, what: Any = None) -> bytes:
    parts = export(hospital.database, hospital.images, Criteria() if what is None else what, form, "user:admin", NOW)
    return b"".join(parts)


def rows(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))))


def resources(bundle: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == kind]


def test_the_table_has_a_line_a_film_and_no_formula(hospital: Hospital, run: UUID) -> None:
    first, second = sorted(rows(exported(hospital, Format.CSV)), key=lambda row: row["read_at"], reverse=True)
    assert first["run"] == second["run"] == str(run)
    assert first["name"] == "'=cmd|'/c calc'!A1"
    assert first["notes"] == "'+1 more"
    assert first["confirmed_text"] == "'-drain at once"
    assert (first["spo2"], first["gcs"]) == ("95", "")
    assert (first["Pneumothorax:state"], first["Pneumothorax:probability"]) == ("likely", "0.8000")
    assert (first["Mass:state"], first["Mass:probability"]) == ("not_assessed", "")
    assert (first["Mass:confirmed"], first["Effusion:confirmed"]) == ("unsure", "absent")
    assert second["sha256"] == "ee" * 32
    assert second["Pneumothorax:state"] == ""


@pytest.mark.parametrize("start", list("=+-@\t\r\n"))
def test_no_text_is_taken_for_a_formula(hospital: Hospital, start: str) -> None:
    from sync_server.interop.table import line

    [cells] = csv.reader(io.StringIO(line([f"{start}1+1", "a=b", -4, -0.5]).decode(), newline=""))
    assert cells == [f"'{start}1+1", "a=b", "'-4", "-0.5000"]


def test_the_bundle_is_valid_fhir(hospital: Hospital, run: UUID) -> None:
    bundle_type = pytest.importorskip("fhir.resources.R4B.bundle").Bundle
    enrolled = enrolled_device(hospital, "second")
    enrolled.run("김하늘", ended_at=NOW)
    enrolled.send()
    data = exported(hospital, Format.FHIR)
    assert len(bundle_type.model_validate_json(data).entry) == len(json.loads(data)["entry"])


def test_the_bundle_says_what_is_known_and_no_more(hospital: Hospital, run: UUID) -> None:
    bundle = json.loads(exported(hospital, Format.FHIR))
    named = {entry["fullUrl"] for entry in bundle["entry"]}
    assert len(named) == len(bundle["entry"])
    references = set(_references(bundle))
    assert references <= named
    [patient] = resources(bundle, "Patient")
    assert patient["name"] == [{"text": "=cmd|'/c calc'!A1"}]
    [encounter] = resources(bundle, "Encounter")
    assert (encounter["status"], encounter["class"]["code"]) == ("in-progress", "EMER")
    codes = [
        coding["code"]
        for one in resources(bundle, "Observation")
        for coding in one["code"]["coding"]
        if coding["system"] == LOINC
    ]
    assert sorted(codes) == sorted(["2708-6", "59408-5"] * 2 + ["9279-1", "8867-4", "9269-2", "85354-9"])
    studies = {one["identifier"][0]["value"]: one["status"] for one in resources(bundle, "ImagingStudy")}
    assert studies == {sha256(DICOM).hexdigest(): "available", "ee" * 32: "registered"}
    statuses = sorted(report["status"] for report in resources(bundle, "DiagnosticReport"))
    assert statuses == ["final", "preliminary", "preliminary"]
    findings = [one for one in resources(bundle, "Observation") if one["category"][0]["coding"][0]["code"] == "imaging"]
    assert len(findings) == 2 * len(KEYS) + 3
    for one in findings:
        key = next(coding["code"] for coding in one["code"]["coding"] if coding["system"] != SNOMED)
        snomed = [coding["code"] for coding in one["code"]["coding"] if coding["system"] == SNOMED]
        assert snomed == ([BY_KEY[key].snomed] if BY_KEY[key].snomed else [])
        said = one.get("valueCodeableConcept", {}).get("coding", [{}])[0].get("display")
        # No model rules a finding out; only a physician does.
        assert (said == "Absent") == (one["status"] == "final" and key == "Effusion")
        assert ("dataAbsentReason" in one) == (said is None)


def test_the_bundle_says_where_findings_were_marked_on_the_image_as_it_was_sent(hospital: Hospital, run: UUID) -> None:
    bundle = json.loads(exported(hospital, Format.FHIR))
    regions = {}
    for one in resources(bundle, "Observation"):
        for component in one.get("component", []):
            if component["code"].get("coding", [{}])[0].get("code") == "111030":
                [box] = component["extension"]
                assert box["url"] == "urn:firstray:box"
                said = {part["url"]: part.get("valueDecimal", part.get("valueCode")) for part in box["extension"]}
                regions[one["code"]["text"]] = (component["code"]["text"], said)
    # Read after a quarter turn anticlockwise: its top is the right side of the image that was sent.
    detected = {"x": 0.4, "y": 0.1, "width": 0.4, "height": 0.3, "source": "detector"}
    approximate = {"x": 0.275, "y": 0.5, "width": 0.125, "height": 0.25, "source": "activation"}
    assert regions == {
        "Pneumothorax": ("box of the detector", detected),
        "Pleural effusion": ("approximate region from the activation map", approximate),
    }


@pytest.mark.parametrize("turns", range(4))
def test_a_box_is_turned_back_as_pixels_are(turns: int) -> None:
    image = np.zeros((8, 16), np.uint8)
    image[2:4, 4:12] = 1  # x 0.25, y 0.25, 0.5 wide, 0.25 high
    rows, columns = np.nonzero(Correction(quarter_turns=turns).apply(image))
    height, width = Correction(quarter_turns=turns).apply(image).shape
    x, y = columns.min() / width, rows.min() / height
    w, h = (columns.max() + 1) / width - x, (rows.max() + 1) / height - y
    box = Box(finding="Mass", score=0.5, x=x, y=y, w=w, h=h, source="detector")
    [extension] = fhir_readings._region(box, Correction(quarter_turns=turns))["extension"]
    assert [part["valueDecimal"] for part in extension["extension"][:4]] == [0.25, 0.25, 0.5, 0.25]


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("reference"), str):
            yield value["reference"]
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def test_the_zip_holds_the_bytes_and_says_what_is_missing(hospital: Hospital, run: UUID) -> None:
    with zipfile.ZipFile(io.BytesIO(exported(hospital, Format.ZIP))) as archive:
        assert archive.testzip() is None
        images = {name for name in archive.namelist() if name.startswith("images/")}
        dicom, jpeg = sha256(DICOM).hexdigest(), sha256(JPEG).hexdigest()
        assert images == {f"images/{dicom}.dcm", f"images/{jpeg}.jpg"}
        assert archive.read(f"images/{dicom}.dcm") == DICOM
        index = {row["sha256"]: row for row in rows(archive.read("images.csv"))}
        assert index["ee" * 32]["file"] == ""
        assert index["ee" * 32]["held"] == "False"
        assert index[jpeg]["kind"] == "preview"
        assert len(rows(archive.read("runs.csv"))) == 2
        assert json.loads(archive.read(f"runs/{run}.json"))["type"] == "collection"


def test_images_pass_through_without_being_held(hospital: Hospital) -> None:
    device = enrolled_device(hospital)
    large = 3_000_000
    for number in range(8):
        _, run = device.run(f"patient {number}")
        device.film(run, hold(hospital, DICOM[:132] + bytes([number]) * large))
    device.send()
    parts = export(hospital.database, hospital.images, Criteria(), Format.ZIP, "user:admin", NOW)
    next(parts)
    tracemalloc.start()
    try:
        total = sum(len(part) for part in parts)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total > 8 * large
    assert peak < large


def test_only_what_was_chosen_or_matches_is_exported_in_batches(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "AT_ONCE", 3)
    device = enrolled_device(hospital)
    runs = [_run(device, number) for number in range(8)]
    device.send()
    with hospital.database.writing() as session:
        hiding.hide(session, [runs[0]], "twice", "user:admin")
    assert {row["run"] for row in rows(exported(hospital, Format.CSV))} == {str(run) for run in runs[1:]}
    chosen = rows(exported(hospital, Format.CSV, [runs[0], runs[2], runs[5], runs[6], runs[7]]))
    assert {row["run"] for row in chosen} == {str(runs[number]) for number in (2, 5, 6, 7)}
    assert len(rows(exported(hospital, Format.CSV, Criteria(text="patient-3")))) == 1
    bundle = json.loads(exported(hospital, Format.FHIR, Criteria(text="nobody")))
    assert bundle["entry"] == []


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("sort", list(Sort))
def test_runs_that_change_while_they_are_exported_are_in_it_once(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch, sort: Sort, descending: bool
) -> None:
    monkeypatch.setattr(exports, "AT_ONCE", 4)
    device = enrolled_device(hospital)
    patients = dict(device.run(f"m-{number}")[::-1] for number in range(12))
    device.send()
    parts = export(
        hospital.database, hospital.images, Criteria(sort=sort, descending=descending), Format.CSV, "user:admin", NOW
    )
    begun = b"".join(itertools.islice(parts, 2))
    for run in list(patients)[::2]:  # whatever it is sorted by, they have another place now
        device.put(RecordType.PATIENT, {"name": "z" if descending else "a"}, patients[run])
        device.diagnosis(device.film(run), ["Pneumothorax"])
        device.send(device.events[-3:])
    found = [row["run"] for row in rows(begun + b"".join(parts))]
    assert sorted(found) == sorted(str(run) for run in patients)


def _run(device: TestDevice, number: int) -> UUID:
    return device.run(f"patient-{number}")[1]


def test_an_export_is_in_the_audit_log_before_its_first_byte(hospital: Hospital, run: UUID) -> None:
    export(hospital.database, hospital.images, Criteria(text="하늘"), Format.CSV, "user:admin")
    export(hospital.database, hospital.images, [run], Format.ZIP, "user:admin")
    with hospital.database.reading() as session:
        query = select(AuditRow).where(AuditRow.action == "runs.exported").order_by(col(AuditRow.number))
        first, second = session.exec(query).all()
    assert (first.actor, first.details) == ("user:admin", {"format": "csv", "criteria": {"text": "하늘"}})
    assert second.details == {"format": "zip", "runs": [str(run)]}
    for nothing in ([], [new_id() for _ in range(501)]):
        with pytest.raises(FirstRayError) as caught:
            export(hospital.database, hospital.images, nothing, Format.CSV, "user:admin")
        assert caught.value.code == "nothing_chosen"
