"""The device without its screens, whole: real store, real models, real DICOM, the hospital of the tests."""

import io
import json
import socket
import threading
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from PIL import Image

from edge_app import demo
from edge_app.capture.dicom import DicomSettings
from edge_app.hospital_access import HospitalAccess, load_access
from edge_app.station import Change, Station, StationOptions
from edge_app.store.views import Delivery, Film
from edge_app.sync import Hospital, LinkKind
from shared.correction import Correction
from shared.errors import FirstRayError
from shared.overlay import grey8
from shared.radiograph import load_radiograph
from tests.fake_hospital import FakeHospital

PIN = "271828"
SECONDS = 120.0


class Device:
    """A station with what it told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.told: list[Change] = []
        self._heard = threading.Condition()
        options = StationOptions(dicom=DicomSettings(host="127.0.0.1", port=0))
        self.station = Station(folder, options=options, notify=self._hear)

    def _hear(self, change: Change) -> None:
        with self._heard:
            self.told.append(change)
            self._heard.notify_all()

    def wait(self, until: Callable[[], object], what: str) -> None:
        """Look after each change, and now and then, until it is so."""
        for _ in range(int(SECONDS / 0.1)):
            if until():
                return
            with self._heard:
                self._heard.wait(0.1)
        pytest.fail(f"waited in vain for {what}; told: {[change.kind for change in self.told]}")

    def errors(self) -> list[str]:
        """Codes of everything refused."""
        return [change.error.code for change in self.told if change.error is not None]

    def read(self, film: UUID) -> Film:
        """The film once it is read."""
        store = self.station.store
        self.wait(
            lambda: not store.film(film).waiting_to_be_read and not self.station.is_reading(store.film(film)),
            "the film's reading",
        )
        return store.film(film)

    def receive(self, sample: Path, exposed_at: datetime | None = None) -> Film:
        """Send a file by C-STORE, as exposed now if not told when; the film once it is read."""
        before = {film.id for film in self.films()}
        demo.send(sample, "127.0.0.1", self.station.dicom_address[1], "FIRSTRAY", exposed_at)
        (film,) = {film.id for film in self.films()} - before
        return self.read(film)

    def films(self) -> list[Film]:
        """All films there are."""
        store = self.station.store
        return [*store.waiting_films(), *(film for row in store.runs() for film in store.run(row.id).films)]


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    made = Device(tmp_path / "store")
    made.station.warm_up()
    made.station.set_up(PIN)
    yield made
    made.station.close()


def turned(chest: Path, path: Path) -> Path:
    Image.fromarray(np.rot90(np.asarray(grey8(load_radiograph(chest))), 2)).save(path)
    return path


def test_before_it_is_unlocked_nothing_listens_and_nothing_is_told(tmp_path: Path) -> None:
    station = Device(tmp_path / "store").station
    assert station.is_new
    assert not station.is_open
    with pytest.raises(FirstRayError) as caught:
        _ = station.store
    assert caught.value.code == "store_closed"
    station.close()


def test_an_image_finds_the_one_run_under_way(device: Device, chest: Path) -> None:
    run = device.station.store.start_run()
    film = device.receive(chest)
    assert film.run == run
    assert film.diagnosis is not None
    assert film.device_patient is not None
    assert film.acquired_at is not None
    assert film.acquired_at.startswith(f"{film.received_at.astimezone():%Y%m%d} ")
    assert film.station == demo.STATION
    device.wait(lambda: Change("read", film.id) in device.told, "the news of its reading")
    kinds = [change.kind for change in device.told if change.id == film.id]
    assert kinds.index("reading") < kinds.index("picture") < kinds.index("read")
    assert device.station.picture(film.id).pixels.shape == (1955, 1841)
    assert device.station.pixels(film.id).pixels.dtype == np.uint16


def test_an_image_with_another_patients_name_asks(device: Device, chest: Path) -> None:
    device.station.store.start_run(who={"name": "Park Jimin"})
    assert device.receive(chest).run is None


def test_an_image_exposed_long_before_the_run_asks(device: Device, chest: Path, tmp_path: Path) -> None:
    device.station.store.start_run()
    film = device.receive(chest, datetime(1995, 9, 26, 12, 51, 30, tzinfo=UTC))
    assert film.acquired_at is not None
    assert film.acquired_at.startswith("1995092")
    assert film.run is None
    (tmp_path / "watched").mkdir()
    (tmp_path / "watched" / "old.dcm").write_bytes(chest.read_bytes())
    device.station.set_hot_folder(tmp_path / "watched")
    device.wait(lambda: [film for film in device.films() if film.source == "folder"], "the image")
    (film,) = (film for film in device.films() if film.source == "folder")
    assert device.read(film.id).run is None


def test_an_image_of_no_or_of_two_runs_asks(device: Device, chest: Path, legs: Path) -> None:
    assert device.receive(chest).run is None
    for _ in range(2):
        device.station.store.start_run()
    refused = device.receive(legs)
    assert refused.run is None
    assert refused.diagnosis is not None
    assert refused.diagnosis.refused


def test_a_picked_file_belongs_to_the_run_it_was_picked_for(device: Device, chest: Path) -> None:
    first, _ = device.station.store.start_run(), device.station.store.start_run()
    film = device.read(device.station.take_file(chest, first))
    assert film.run == first
    assert film.source == "file"


def test_a_turned_image_is_corrected_as_offered_and_overruled_as_corrected(
    device: Device, chest: Path, tmp_path: Path
) -> None:
    film = device.read(device.station.take_file(turned(chest, tmp_path / "turned.png")))
    assert film.diagnosis is not None
    offered = film.diagnosis.verdict.correction
    assert offered == Correction(quarter_turns=2)
    device.station.read_again(film.id, correction=offered)
    device.wait(lambda: device.station.store.film(film.id).diagnosis_id != film.diagnosis_id, "the second reading")
    corrected = device.station.store.film(film.id)
    assert corrected.diagnosis is not None
    assert not corrected.diagnosis.refused
    assert corrected.diagnosis.correction == offered
    shown, upright = device.station.pixels(film.id), np.asarray(grey8(load_radiograph(chest)))
    assert np.abs(shown.pixels.astype(int) - upright.astype(int)).mean() < 1
    device.station.read_again(film.id, overridden=True)
    device.wait(lambda: len(device.station.store.previous_diagnoses(film.id)) == 2, "the third reading")
    again = device.station.store.film(film.id)
    assert again.overridden
    assert again.diagnosis is not None
    assert again.diagnosis.correction == offered


def test_behind_a_locked_screen_images_are_received_and_the_pin_is_only_checked(device: Device, chest: Path) -> None:
    with pytest.raises(FirstRayError) as caught:
        device.station.unlock("314159")
    assert caught.value.code == "pin_wrong"
    assert device.receive(chest).diagnosis is not None
    device.station.unlock(PIN)
    assert len(device.films()) == 1


def test_all_is_there_after_a_restart(device: Device, chest: Path, tmp_path: Path) -> None:
    run = device.station.store.start_run(who={"name": "Kim Chulsoo"})
    film = device.read(device.station.take_file(chest, run))
    device.station.set_preferences(language="ko", lock_minutes=5)
    device.station.close()
    again = Device(tmp_path / "store")
    assert not again.station.is_new
    assert again.station.preferences.language == "ko"
    again.station.unlock(PIN)
    found = again.station.store.film(film.id)
    assert found.run == run
    assert found.diagnosis == film.diagnosis
    again.station.close()


def test_a_port_in_use_is_said_and_the_receiver_goes_on_as_before(device: Device, chest: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(FirstRayError) as caught:
            device.station.set_dicom(DicomSettings(host="127.0.0.1", port=taken.getsockname()[1]))
    assert caught.value.code == "dicom_port_in_use"
    receiver = device.station.status().receiver
    assert receiver is not None
    assert receiver.problem is None
    assert device.receive(chest).diagnosis is not None
    device.station.set_dicom(DicomSettings(host="127.0.0.1", port=0, ae_title="RAY2"))
    assert device.station.status().dicom.ae_title == "RAY2"


def test_a_watched_folder_brings_images(device: Device, chest: Path, tmp_path: Path) -> None:
    watched = tmp_path / "watched"
    watched.mkdir()
    device.station.set_hot_folder(watched)
    (watched / "image.dcm").write_bytes(chest.read_bytes())
    device.wait(lambda: [film for film in device.films() if film.source == "folder"], "the image")
    assert device.station.status().hot_folder == watched


def test_everything_is_delivered_and_only_then_called_so(device: Device, chest: Path) -> None:
    run = device.station.store.start_run(who={"name": "Kim"})
    film = device.read(device.station.take_file(chest, run))
    assert set(film.delivery.values()) == {Delivery.WAITING}
    with FakeHospital(token="secret") as hospital:
        access = HospitalAccess(Hospital(hospital.url, receipt_keys=hospital.receipt_keys, name="City"), "secret")
        device.station.set_hospital(access)
        device.wait(lambda: len(hospital.held.images) == 2, "the images at the hospital")
        store = device.station.store
        device.wait(lambda: set(store.film(film.id).delivery.values()) == {Delivery.HELD}, "the receipts")
        assert store.standing().events_waiting == 0
        assert chest.stat().st_size * 0.9 < max(map(len, hospital.held.images.values()))
    link = device.station.status().link
    assert link is not None
    device.station.set_hospital(None)
    assert device.station.status().link is None


def test_a_revoked_device_with_a_wipe_can_never_be_opened_again(device: Device, chest: Path, tmp_path: Path) -> None:
    device.read(device.station.take_file(chest))
    with FakeHospital() as hospital:
        hospital.revoked = True
        device.station.set_hospital(HospitalAccess(Hospital(hospital.url, receipt_keys=hospital.receipt_keys)))
        device.wait(lambda: any(change.kind == "revoked" for change in device.told), "the revocation")
        device.wait(lambda: not device.station.is_open, "the end of everything")
    assert Device(tmp_path / "store").station.is_new


def test_a_revoked_device_without_a_wipe_keeps_its_records(device: Device, chest: Path) -> None:
    film = device.read(device.station.take_file(chest))
    with FakeHospital() as hospital:
        hospital.revoked = False
        device.station.set_hospital(HospitalAccess(Hospital(hospital.url, receipt_keys=hospital.receipt_keys)))
        device.wait(lambda: any(change.kind == "revoked" for change in device.told), "the revocation")
    link = device.station.status().link
    assert link is not None
    assert link.kind is LinkKind.REVOKED
    assert device.station.store.film(film.id).diagnosis is not None


def test_diagnostics_hold_no_patient_data(device: Device, chest: Path) -> None:
    run = device.station.store.start_run(who={"name": "Zebulon Quux"}, encounter={"chief_complaint": "unmistakable"})
    device.read(device.station.take_file(chest, run))
    bundle = zipfile.ZipFile(io.BytesIO(device.station.diagnostics()))
    everything = b"".join(bundle.read(name) for name in bundle.namelist())
    for secret in (b"Zebulon", b"Quux", b"unmistakable", b"CompressedSamples", b"9RG1", bytes(chest.name, "ascii")):
        assert secret not in everything
    status = json.loads(bundle.read("status.json"))
    assert status["models"]["ready"]
    assert status["standing"]["events_waiting"] > 0
    assert json.loads(bundle.read("versions.json"))["numpy"]


def test_the_settings_of_a_hospital_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "hospital.json"
    file.write_text(json.dumps({"url": "http://127.0.0.1:1", "name": "City", "token": "t"}))
    access = load_access(file)
    assert (access.hospital.name, access.token) == ("City", "t")
    assert HospitalAccess.from_json(access.to_json()) == access
    for broken in ("", "[]", '{"url": 1}', '{"nothing": true}'):
        file.write_text(broken)
        with pytest.raises(FirstRayError):
            load_access(file)


def test_the_demonstration_fills_an_empty_device_only(device: Device, chest: Path, tmp_path: Path) -> None:
    demo.show(device.station, chest, tmp_path)
    rows = device.station.store.runs()
    assert len(rows) == len(demo.SAMPLES) + 1
    assert len(device.station.store.runs(under_way=True)) == 1
    device.wait(lambda: all(not film.waiting_to_be_read for film in device.films()), "the earlier image")
    film = device.receive(chest)
    assert film.run == device.station.store.runs(under_way=True)[0].id
    demo.show(device.station, chest, tmp_path)
    assert len(device.station.store.runs()) == len(rows)
