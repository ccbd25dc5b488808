"""Releases from the upload to the device that reads with them: signed, in rings, in pieces, and back."""

import hashlib
import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlmodel import select

from edge_app.capture.dicom import DicomSettings
from edge_app.releases import ReleaseShelf
from edge_app.station import Station, StationOptions
from shared.errors import FirstRayError
from shared.release import (
    TRUSTED_KEYS_VARIABLE,
    Manifest,
    default_release,
    load_release,
    make_key,
    read_private_key,
    write_manifest,
)
from shared.release_archive import pack_release
from sync_server import admin_release
from sync_server.db.tables import AuditRow, InboxRow
from sync_server.domain import enrolment, releases
from sync_server.hospital import Hospital
from tests.contract.sync_server.ambulance import Ambulance, served
from tests.contract.sync_server.running import RunningHospital
from tests.fake_hospital import until
from tests.hospital import new_hospital


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The ZIP of a release ``new-1``: the models in use under another id, signed by a key that is trusted here."""
    trusted = tmp_path / "trusted"
    make_key(tmp_path / "key.pem", trusted / "test.pem")
    for key in (default_release().parents[1] / "shared" / "trusted_keys").glob("*.pem"):
        shutil.copy(key, trusted)
    monkeypatch.setenv(TRUSTED_KEYS_VARIABLE, str(trusted))
    original = load_release(default_release())
    folder = tmp_path / "new-1"
    folder.mkdir()
    for file in original.manifest.files:
        shutil.copyfile(original.path(file), folder / file)
    manifest = Manifest.model_validate({**original.manifest.model_dump(), "id": "new-1"})
    write_manifest(folder, manifest, read_private_key(tmp_path / "key.pem"))
    pack_release(load_release(folder), tmp_path / "new-1.zip")
    return tmp_path / "new-1.zip"


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = new_hospital(tmp_path)
    yield made
    made.close()


@pytest.fixture
def ambulance(hospital: Hospital) -> Iterator[Ambulance]:
    with served(hospital) as client:
        yield Ambulance(hospital, client)


def offers(hospital: Hospital) -> list[str]:
    with hospital.database.reading() as session:
        found = session.exec(select(InboxRow).order_by(InboxRow.id)).all()  # type: ignore[arg-type]
        return [row.content["release"] for row in found if row.content["kind"] == "release"]


def upload(hospital: Hospital, archive: Path) -> str:
    with archive.open("rb") as file:
        return releases.upload(hospital, file, "user:admin").id


def test_a_release_is_had_in_pieces_by_devices_only(hospital: Hospital, ambulance: Ambulance, archive: Path) -> None:
    upload(hospital, archive)
    data = archive.read_bytes()
    path = "/v1/releases/new-1"
    assert ambulance.client.get(path).status_code == 401
    whole = ambulance.ask("GET", path)
    assert (whole.status_code, whole.content, whole.headers["Accept-Ranges"]) == (200, data, "bytes")
    tag = whole.headers["ETag"]
    assert tag == f'"{hashlib.sha256(data).hexdigest()}"'
    size = len(data)
    for asked, first, last in (("0-9", 0, 9), (f"{size - 5}-", size - 5, size - 1), ("-7", size - 7, size - 1)):
        part = ambulance.ask("GET", path, {"Range": f"bytes={asked}", "If-Range": tag})
        assert part.status_code == 206
        assert part.headers["Content-Range"] == f"bytes {first}-{last}/{size}"
        assert part.content == data[first : last + 1]
    over = ambulance.ask("GET", path, {"Range": f"bytes=5-{size * 2}"})
    assert (over.status_code, over.content) == (206, data[5:])
    beyond = ambulance.ask("GET", path, {"Range": f"bytes={size}-"})
    assert (beyond.status_code, beyond.json()["code"]) == (416, "range_invalid")
    assert beyond.headers["Content-Range"] == f"bytes */{size}"
    for ignored in ("bytes=-", "bytes=9-5", "lines=1-2", "bytes=0-1,4-5", "bytes=x"):
        assert ambulance.ask("GET", path, {"Range": ignored}).status_code == 200
    other = ambulance.ask("GET", path, {"Range": "bytes=0-9", "If-Range": '"another"'})
    assert (other.status_code, len(other.content)) == (200, size)
    head = ambulance.ask("HEAD", path)
    assert (head.status_code, head.headers["Content-Length"], head.content) == (200, str(size), b"")
    assert ambulance.ask("GET", "/v1/releases/none").json()["code"] == "release_unknown"
    assert ambulance.ask("GET", "/v1/releases/..%2f..%2fsecret.key").status_code in (404, 422)


def test_only_trusted_whole_releases_are_taken_and_the_same_twice_is_one(
    hospital: Hospital, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = archive.read_bytes()
    for broken, code in ((b"no zip", "release_archive_invalid"), (data[: len(data) // 2], "release_archive_invalid")):
        with pytest.raises(FirstRayError) as caught:
            releases.upload(hospital, io.BytesIO(broken), "user:admin")
        assert caught.value.code == code
    assert upload(hospital, archive) == upload(hospital, archive) == "new-1"
    with hospital.database.reading() as session:
        assert [row.id for row in releases.listed(session)] == ["new-1"]
        assert [row.action for row in session.exec(select(AuditRow))] == ["release.uploaded"]
    monkeypatch.delenv(TRUSTED_KEYS_VARIABLE)
    with pytest.raises(FirstRayError) as caught:
        upload(hospital, archive)
    assert caught.value.code == "release_signature_invalid"
    assert not list(hospital.settings.data.glob("release-*"))


def test_rings_are_offered_what_they_are_to_run_and_go_back(
    hospital: Hospital, ambulance: Ambulance, archive: Path
) -> None:
    first = releases.ensure_server_release(hospital)
    upload(hospital, archive)
    assert releases.assign(hospital, "night", "new-1", "user:admin") == 0
    assert releases.assign(hospital, "general", first, "user:admin") == 1
    assert releases.assign(hospital, "general", "new-1", "user:admin") == 1
    assert releases.roll_back(hospital, "general", "user:admin") == first
    assert offers(hospital) == [first, "new-1", first]
    assert releases.assign(hospital, releases.SERVER, "new-1", "user:admin") == 0
    assert releases.ensure_server_release(hospital) == "new-1"
    with hospital.database.reading() as session:
        states = {state.ring: (state.release, state.before, state.devices) for state in releases.rings(session)}
    assert states == {"server": ("new-1", first, 0), "general": (first, "new-1", 1), "night": ("new-1", None, 0)}
    for ring, release, code in (("Night", "new-1", "ring_invalid"), ("general", "none", "release_unknown")):
        with pytest.raises(FirstRayError) as caught:
            releases.assign(hospital, ring, release, "user:admin")
        assert caught.value.code == code
    with pytest.raises(FirstRayError) as caught:
        releases.roll_back(hospital, "night", "user:admin")
    assert caught.value.code == "release_none_before"


def test_a_damaged_release_on_a_workers_disk_is_fetched_again(hospital: Hospital, archive: Path) -> None:
    upload(hospital, archive)
    folder = releases.fetched(hospital, "new-1").folder
    (folder / "MODEL_CARD.md").write_text("altered")
    again = releases.fetched(hospital, "new-1")
    assert "altered" not in again.path("MODEL_CARD.md").read_text()


def test_the_command_line_says_what_happens(hospital: Hospital, archive: Path) -> None:
    settings = hospital.settings
    assert "new-1" in admin_release.upload(settings, archive)
    assert "reads with new-1" in admin_release.assign(settings, "server", "new-1")
    assert "new-1" in admin_release.upload(settings, archive.with_suffix(""))  # its folder
    rows, rings = admin_release.listed(settings)
    assert ([row.id for row in rows], [ring.ring for ring in rings]) == (["new-1"], ["server"])
    with pytest.raises(FirstRayError) as caught:
        admin_release.upload(settings, archive.with_name("none.zip"))
    assert caught.value.code == "release_missing"


def test_a_device_fetches_installs_reads_with_it_and_goes_back(tmp_path: Path, archive: Path, chest: Path) -> None:
    options = StationOptions(dicom=DicomSettings(host="127.0.0.1", port=0))
    with RunningHospital(tmp_path / "server") as running:
        first = releases.ensure_server_release(running.hospital)
        upload(running.hospital, archive)
        releases.assign(running.hospital, "general", first, "user:admin")
        station = Station(tmp_path / "store", options=options)
        try:
            station.warm_up()
            station.set_up("271828")
            until(lambda: station.status().models.ready)
            assert station.status().models.release == first
            station.enrol(running.url, str(enrolment.make_code(running.hospital, "user:admin", "Ambulance 7").code))
            releases.assign(running.hospital, "general", "new-1", "user:admin")
            until(lambda: station.status().models.release == "new-1")
            film = station.take_file(chest)
            until(lambda: not station.store.film(film).waiting_to_be_read)
            diagnosis = station.store.film(film).diagnosis
            assert diagnosis is not None
            assert diagnosis.release == "new-1"
        finally:
            station.close()
    assert ReleaseShelf(tmp_path / "store" / "releases").current == "new-1"
