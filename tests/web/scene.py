"""A hospital on an eventful night: runs of every kind a board has to show."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

import uvicorn
from PIL import Image

from firstray.demo import sample_radiograph
from shared.findings import BY_KEY, KEYS, Urgency
from shared.identity import new_id
from shared.overlay import grey8
from shared.radiograph import decode_radiograph
from shared.records import RecordType
from sync_server.app import make_app
from sync_server.db.tables import ImageRow, ServerReadingRow
from sync_server.domain import accounts, readings
from sync_server.domain.accounts import Role
from sync_server.hospital import Hospital
from tests.hospital import TestDevice, enrolled_device

PASSWORD = "fifteen quiet ambulances"
SCRIPT = "<script>alert(1)</script>"


def diagnosis(sha256: str, likely: dict[str, float], boxes: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """A reading as JSON: what is likely with its probability, Emphysema not assessed, Edema uncertain."""
    probabilities = {key: 0.04 + 0.005 * number for number, key in enumerate(KEYS)} | likely
    states = dict.fromkeys(KEYS, "unlikely") | dict.fromkeys(likely, "likely")
    states |= {"Emphysema": "not_assessed"} | ({"Edema": "uncertain"} if "Edema" not in likely else {})
    top = sorted((key for key in KEYS if states[key] != "not_assessed"), key=lambda key: -probabilities[key])[:3]
    urgent = [
        key for urgency in (Urgency.IMMEDIATE, Urgency.URGENT) for key in likely if BY_KEY[key].urgency is urgency
    ]
    return {
        "probabilities": probabilities,
        "states": states,
        "top3": [{"finding": key, "probability": probabilities[key]} for key in top],
        "boxes": boxes,
        "verdict": {"problems": [], "scores": {}},
        "urgent": urgent,
        "prevalence": "NIH ChestX-ray14",
        "release": "2026-11-25.2",
        "precision": "int8",
        "runtime": "litert",
        "timing_ms": {"total": 180.0},
        "sha256": sha256,
        **more,
    }


def box(finding: str, x: float, y: float, w: float, h: float, source: str = "detector") -> dict[str, Any]:
    """A box as JSON."""
    return {"finding": finding, "score": 0.7, "x": x, "y": y, "w": w, "h": h, "source": source}


@dataclass
class Scene:
    """A hospital, its devices and the ids of its runs by name."""

    hospital: Hospital
    device: TestDevice
    runs: dict[str, UUID] = field(default_factory=dict)
    films: dict[str, UUID] = field(default_factory=dict)

    def person(self, name: str, patient: dict[str, Any], minutes: int, **run: Any) -> UUID:
        """A patient and a run that began some minutes ago."""
        who, encounter = new_id(), new_id()
        self.device.put(RecordType.PATIENT, patient, who)
        started = datetime.now(UTC) - timedelta(minutes=minutes)
        self.device.put(RecordType.ENCOUNTER, {"patient": str(who), "started_at": started, **run}, encounter)
        self.runs[name] = encounter
        return encounter

    def hold(self, data: bytes, kind: str) -> str:
        """Have the hospital hold an image."""
        sha256 = hashlib.sha256(data).hexdigest()
        if not self.hospital.images.exists(sha256):
            file = self.hospital.settings.data / f"{kind}.part"
            file.write_bytes(data)
            self.hospital.images.put(file, sha256)
        with self.hospital.database.writing() as session:
            if session.get(ImageRow, sha256) is None:
                session.add(ImageRow(sha256=sha256, kind=kind, size=len(data), stored_at=datetime.now(UTC)))
        return sha256

    def send(self) -> None:
        """The device delivers what it has written."""
        answer = self.device.send()
        assert all(outcome.status == "stored" for outcome in answer.outcomes), answer

    def reads(self, result: dict[str, Any]) -> None:
        """The hospital's own models have read a film: what a worker writes."""
        now = datetime.now(UTC)
        with self.hospital.database.writing() as session:
            row = ServerReadingRow(
                id=new_id(),
                sha256=result["sha256"],
                release=result["release"],
                state="done",
                asked_at=now,
                due_at=now,
                done_at=now,
                result=result,
            )
            session.add(row)
            session.flush()
            assert readings.record_agreements(session, row)


def accounts_of(hospital: Hospital) -> None:
    """One of the ER, one admin."""
    with hospital.database.writing() as session:
        for login, name, role in (("doctor", "이서연", Role.ER), ("admin", "Park Jiho", Role.ADMIN)):
            accounts.create_user(session, login, name, role, PASSWORD, "test", "en")


def night(hospital: Hospital) -> Scene:
    """Fill a hospital."""
    accounts_of(hospital)
    scene = Scene(hospital, enrolled_device(hospital, "Ambulance 7"))
    device = scene.device
    original = sample_radiograph().read_bytes()
    sha256 = hashlib.sha256(original).hexdigest()
    preview = BytesIO()
    Image.new("L", (512, 620), 60).save(preview, "JPEG")
    preview_sha256 = hashlib.sha256(preview.getvalue()).hexdigest()
    held = {"sha256": sha256, "size": len(original), "received_at": datetime.now(UTC), "source": "dicom"}

    first = scene.person(
        "pneumothorax",
        {
            "name": "김하늘",
            "sex": "female",
            "birth_date": "1957-03-02",
            "identifiers": [{"system": "hospital", "value": "A-4471"}],
        },
        23,
        chief_complaint="갑작스러운 호흡곤란과 오른쪽 흉통",
        incident_number="119-20261127-0311",
        expected_arrival=datetime.now(UTC) + timedelta(minutes=9),
        notes="Fell from a ladder, about 2 m.\nAnticoagulated.",
    )
    for minutes, signs in (
        (21, (96, 22, 104, 118, 70, 15)),
        (12, (92, 26, 121, 104, 62, 15)),
        (3, (88, 32, 136, 88, 50, 13)),
    ):
        names = ("spo2", "respiratory_rate", "heart_rate", "systolic", "diastolic", "gcs")
        taken = {"encounter": first, "taken_at": datetime.now(UTC) - timedelta(minutes=minutes)}
        device.put(RecordType.VITAL_SIGNS, {**taken, **dict(zip(names, signs, strict=True))})
    film = device.film(first, **{**held, "preview_sha256": preview_sha256, "preview_size": 900})
    scene.films["pneumothorax"] = film
    marked = [
        box("Pneumothorax", 0.56, 0.12, 0.3, 0.35),
        box("Mass", 0.18, 0.3, 0.2, 0.16),
        box("Effusion", 0.2, 0.7, 0.25, 0.2, "activation"),
    ]
    suspected = {"Pneumothorax": 0.87, "Mass": 0.62}
    device.diagnosis(film, result=diagnosis(sha256, suspected, marked))

    second = scene.person("unknown", {"sex": "male", "estimated_age": 60}, 41, chief_complaint="Found unconscious")
    device.vital_signs(second, spo2=95, heart_rate=88, systolic=132, diastolic=80, gcs=7)
    unread = device.film(second, **{**held, "sha256": "cd" * 32})
    device.put(RecordType.DIAGNOSIS, {"radiograph": unread, "made_at": datetime.now(UTC), "error": "dicom_truncated"})

    third = scene.person(
        "routine",
        {"name": "John Ahn", "sex": "male", "birth_date": "1988-10-10"},
        12,
        chief_complaint="Cough for two weeks",
    )
    device.vital_signs(third, spo2=98, heart_rate=76, systolic=124, diastolic=78, respiratory_rate=16, gcs=15)
    calm = device.film(third, **{**held, "preview_sha256": preview_sha256, "preview_size": 900, "sha256": "ef" * 32})
    scene.films["routine"] = calm
    device.diagnosis(calm, result=diagnosis("ef" * 32, {}, []))
    hostile = {"name": SCRIPT, "sex": "female", "estimated_age": 34}
    scene.person("no film", hostile, 4, chief_complaint=SCRIPT, notes=SCRIPT)
    ended_at = datetime.now(UTC) - timedelta(minutes=50)
    scene.person("ended", {"name": "Choi Min", "sex": "male", "estimated_age": 71}, 130, ended_at=ended_at)
    scene.send()

    scene.hold(original, "original")
    scene.hold(preview.getvalue(), "preview")
    theirs = [box("Pneumothorax", 0.57, 0.11, 0.29, 0.37), box("Effusion", 0.62, 0.7, 0.24, 0.2)]
    scene.reads(diagnosis(sha256, {"Pneumothorax": 0.91, "Effusion": 0.55}, theirs, precision="fp32", runtime="onnx"))
    return scene


def without_run(scene: Scene) -> None:
    """Radiographs that the crew has not put into a run: an urgent one with its original, one
    with a preview, one new."""
    device, original, small = scene.device, BytesIO(), BytesIO()
    picture = decode_radiograph(sample_radiograph().read_bytes())
    grey8(picture).resize((920, 977)).save(original, "PNG")
    Image.new("L", (512, 620), 90).save(small, "JPEG")
    urgent, preview = scene.hold(original.getvalue(), "original"), scene.hold(small.getvalue(), "preview")
    now = datetime.now(UTC)
    taken = {"urgent": (urgent, 6), "preview": ("1a" * 32, 4), "new": ("1b" * 32, 1)}
    for name, (sha256, minutes) in taken.items():
        more = {"preview_sha256": preview, "preview_size": 900} if name == "preview" else {}
        received_at = now - timedelta(minutes=minutes)
        scene.films[f"loose {name}"] = device.film(None, sha256, received_at=received_at, source="dicom", **more)
    marked = [box("Mass", 0.18, 0.3, 0.2, 0.16)]
    device.diagnosis(scene.films["loose urgent"], result=diagnosis(urgent, {"Mass": 0.62}, marked))
    device.diagnosis(scene.films["loose preview"], result=diagnosis("1a" * 32, {}, []))
    scene.send()
    theirs = [box("Pneumothorax", 0.57, 0.11, 0.29, 0.37), *marked]
    found = {"Pneumothorax": 0.91, "Mass": 0.6}
    scene.reads(diagnosis(urgent, found, theirs, precision="fp32", runtime="onnx"))


@contextmanager
def served(hospital: Hospital, port: int = 0) -> Iterator[str]:
    """The hospital's pages on a port of this machine, in a thread; gives their address."""
    app = make_app(hospital=hospital)
    config = uvicorn.Config(app, "127.0.0.1", port, log_level="warning", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="pages", daemon=True)
    thread.start()
    until = time.monotonic() + 60
    while not server.started:
        assert time.monotonic() < until, "the server did not start"
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        hospital.changes.stop_waiting()
        server.should_exit = True
        thread.join(10)


def main() -> None:
    """Serve the scene until standard input ends: to look at it."""
    import sys
    import tempfile

    from tests.hospital import new_hospital

    with tempfile.TemporaryDirectory() as folder:
        hospital = new_hospital(Path(folder))
        scene = night(hospital)
        without_run(scene)
        with served(hospital) as address:
            runs = {name: str(run) for name, run in scene.runs.items()}
            films = {name: str(film) for name, film in scene.films.items()}
            print(json.dumps({"address": address, "password": PASSWORD, "runs": runs, "films": films}), flush=True)
            sys.stdin.read()


if __name__ == "__main__":
    main()
