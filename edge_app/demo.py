"""A device that looks used: sample patients, and a sample radiograph sent to it as an X-ray device would."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pydicom
from pydicom.uid import generate_uid
from pynetdicom import AE

from edge_app.station import Station
from edge_app.store.store import Store
from shared.errors import FirstRayError
from shared.records import Sex

PIN: Final = "271828"
"""The demonstration's PIN; its store is thrown away afterwards."""
STATION: Final = "PORTABLE1"


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample patient's run, ``hours`` ago; ``imaged`` where the sample radiograph belongs to it."""

    hours: float
    who: Mapping[str, Any]
    encounter: Mapping[str, Any]
    vital_signs: Mapping[str, Any] = field(default_factory=dict)
    imaged: bool = False


SAMPLES: Final = (
    Sample(
        70.0,
        {"name": "김영희", "birth_date": date(1948, 3, 2), "sex": Sex.FEMALE},
        {"chief_complaint": "호흡곤란, 기침 3일째", "incident_number": "2026-118842"},
        {"spo2": 88, "respiratory_rate": 28, "heart_rate": 112, "systolic": 148, "diastolic": 86, "gcs": 15},
        imaged=True,
    ),
    Sample(
        49.0,
        {"name": "Daniel Okafor", "birth_date": date(1979, 11, 23), "sex": Sex.MALE},
        {"chief_complaint": "Fell from a ladder, pain in the left chest", "incident_number": "2026-118903"},
        {"spo2": 94, "respiratory_rate": 22, "heart_rate": 98, "systolic": 132, "diastolic": 80, "gcs": 15},
    ),
    Sample(
        26.0,
        {"estimated_age": 60, "sex": Sex.MALE},
        {"chief_complaint": "Found unconscious in the street"},
        {"spo2": 91, "respiratory_rate": 12, "heart_rate": 64, "systolic": 104, "diastolic": 60, "gcs": 7},
    ),
    Sample(
        3.5,
        {"name": "박지민", "birth_date": date(2001, 7, 14), "sex": Sex.FEMALE},
        {"chief_complaint": "가슴 통증", "incident_number": "2026-119377"},
        {"spo2": 97, "respiratory_rate": 18, "heart_rate": 88, "systolic": 118, "diastolic": 74, "gcs": 15},
    ),
)


def seed(store: Store, now: datetime | None = None) -> UUID | None:
    """Write the sample patients' runs, all ended, into an empty store; returns the run that has a radiograph coming.

    A store that has runs is left as it is, and None returned.
    """
    if store.runs(limit=1):
        return None
    now = now or datetime.now(UTC)
    imaged = None
    for sample in SAMPLES:
        began = now - timedelta(hours=sample.hours)
        run = store.start_run(who=sample.who, encounter={**sample.encounter, "started_at": began})
        store.add_vital_signs(run, {**sample.vital_signs, "taken_at": began + timedelta(minutes=6)})
        store.end_run(run)
        imaged = run if sample.imaged else imaged
    return imaged


def show(station: Station, sample: Path, scratch: Path) -> None:
    """Fill an open station: sample patients, one with an earlier radiograph, and a run under way for the next image.

    Args:
        station: open and with an empty store.
        sample: a DICOM radiograph.
        scratch: folder for the earlier radiograph's file.

    Raises:
        FirstRayError: of the store.
    """
    run = seed(station.store)
    if run is None:
        return
    earlier = scratch / "earlier.dcm"
    earlier.write_bytes(_relabelled(sample, "KIM^YOUNGHEE", "19480302", "F"))
    station.take_file(earlier, run)
    station.store.start_run(who={"estimated_age": 60, "sex": Sex.FEMALE}, encounter={"chief_complaint": "Dyspnoea"})


def exposed(sample: Path, at: datetime | None = None) -> pydicom.Dataset:
    """A DICOM file as if it had been exposed then, by this machine's clock; now if not given (PS3.3 C.7.6.1)."""
    dataset = pydicom.dcmread(sample)
    local = (at or datetime.now(UTC)).astimezone()
    dataset.AcquisitionDate, dataset.AcquisitionTime = f"{local:%Y%m%d}", f"{local:%H%M%S.%f}"
    return dataset


def send(sample: Path, host: str, port: int, called: str, exposed_at: datetime | None = None) -> None:
    """Send a DICOM file by C-STORE (PS3.4 Annex B), as a portable X-ray device does that has just exposed it.

    Args:
        sample: the file.
        host, port, called: the receiver, and its AE title.
        exposed_at: when it was exposed, if not now.

    Raises:
        FirstRayError: ``demo_not_sent`` where it was not taken.
    """
    dataset = exposed(sample, exposed_at)
    device = AE(STATION)
    device.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
    association = device.associate(host, port, ae_title=called)
    status = association.send_c_store(dataset).get("Status") if association.is_established else None
    if association.is_established:
        association.release()
    if status != 0:
        raise FirstRayError(
            "demo_not_sent", f"The sample radiograph was not taken (status {status}).", "See the status screen for why."
        )


def _relabelled(sample: Path, name: str, birth_date: str, sex: str) -> bytes:
    """The sample as another patient's radiograph, with an instance UID of its own (PS3.3 C.12.1)."""
    dataset = pydicom.dcmread(sample)
    dataset.PatientName, dataset.PatientBirthDate, dataset.PatientSex = name, birth_date, sex
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=["firstray demo", name])
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()
