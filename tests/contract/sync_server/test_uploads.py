"""Uploads of images over HTTP: tus 1.0, clause by clause, and what a hospital must never believe."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from unittest.mock import patch as patched

import pytest
from sqlmodel import Session, select

from shared.hospital import ImageKind
from shared.identity import new_id
from shared.receipts import HeldImage, Receipt
from shared.records import RecordType
from sync_server.db.tables import DeviceRow, ImageDeliveryRow, ImageRow, UploadRow
from sync_server.domain import devices, uploads
from sync_server.domain.uploads import Uploads
from sync_server.hospital import Hospital
from tests.contract.sync_server.ambulance import TUS, Ambulance, announced, b64, digest, served
from tests.fake_hospital import until
from tests.hospital import new_hospital


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = new_hospital(tmp_path)
    yield made
    made.close()


@pytest.fixture
def ambulance(hospital: Hospital) -> Iterator[Ambulance]:
    with served(hospital) as client:
        yield Ambulance(hospital, client)


def rows(hospital: Hospital, table: type) -> list[object]:
    with hospital.database.reading() as session:
        return list(session.exec(select(table)).all())


def test_an_image_arrives_in_pieces_and_is_proven(ambulance: Ambulance, hospital: Hospital) -> None:
    body = os.urandom(700_000)
    made = ambulance.create(body, ambulance.film(body))
    assert made.status_code == 201
    place = made.headers["Location"]
    assert place.startswith("/v1/images/")
    expires = parsedate_to_datetime(made.headers["Upload-Expires"]) - datetime.now(UTC)
    assert timedelta(days=6.9) < expires < timedelta(days=7.1)
    assert ambulance.receipt(body).status_code == 404
    for start in range(0, len(body), 300_000):
        answer = ambulance.patch(place, start, body[start : start + 300_000])
        assert answer.status_code == 204
        assert answer.headers["Upload-Offset"] == str(min(start + 300_000, len(body)))
    receipt = Receipt.model_validate_json(ambulance.receipt(body).content)
    receipt.verify({key: hospital.settings.receipt_key.public_key() for key in ambulance.enrolled.receipt_keys})
    assert receipt.holds == HeldImage(sha256=digest(body), size=len(body))
    assert receipt.device == ambulance.id
    with hospital.images.open(digest(body)) as held:
        assert held.read() == body
    assert not rows(hospital, UploadRow)
    assert not list((hospital.settings.data / "uploads").iterdir())


def test_the_first_bytes_may_come_with_the_creation(ambulance: Ambulance) -> None:
    body = os.urandom(5000)
    film, kind = ambulance.film(body), ImageKind.ORIGINAL
    metadata = (
        f"radiograph {b64(str(film).encode())},kind {b64(kind.value.encode())},sha256 {b64(digest(body).encode())}"
    )
    headers = {
        **TUS,
        "Upload-Length": "5000",
        "Upload-Metadata": metadata,
        "Content-Type": "application/offset+octet-stream",
    }
    made = ambulance.ask("POST", "/v1/images", headers, content=body[:2000])
    assert (made.status_code, made.headers["Upload-Offset"]) == (201, "2000")
    assert ambulance.patch(made.headers["Location"], 2000, body[2000:]).status_code == 204
    assert ambulance.receipt(body).status_code == 200


def test_what_the_server_can_do(ambulance: Ambulance) -> None:
    answer = ambulance.ask("OPTIONS", "/v1/images")
    assert answer.status_code == 204
    assert answer.headers["Tus-Version"] == "1.0.0"
    assert set(answer.headers["Tus-Extension"].split(",")) == {
        "creation",
        "creation-with-upload",
        "checksum",
        "expiration",
        "termination",
    }
    assert answer.headers["Tus-Checksum-Algorithm"] == "sha256"
    assert int(answer.headers["Tus-Max-Size"]) == 200_000_000


def test_another_version_of_the_protocol_is_refused(ambulance: Ambulance) -> None:
    body = b"image"
    answer = ambulance.create(body, ambulance.film(body), **{"Tus-Resumable": "0.2.2"})
    assert answer.status_code == 412
    assert answer.headers["Tus-Version"] == "1.0.0"
    assert answer.json()["code"] == "tus_version"


def test_a_wrong_offset_is_a_conflict_and_changes_nothing(ambulance: Ambulance) -> None:
    body = os.urandom(1000)
    place = ambulance.create(body, ambulance.film(body)).headers["Location"]
    ambulance.patch(place, 0, body[:400])
    answer = ambulance.patch(place, 300, body[300:])
    assert (answer.status_code, answer.json()["code"]) == (409, "offset_wrong")
    assert ambulance.offset(place) == 400


def test_damaged_pieces_and_damaged_images_are_not_kept(ambulance: Ambulance, hospital: Hospital) -> None:
    body = os.urandom(1000)
    place = ambulance.create(body, ambulance.film(body)).headers["Location"]
    right = f"sha256 {b64(bytes.fromhex(digest(body[:400])))}"
    answer = ambulance.patch(place, 0, b"x" * 400, **{"Upload-Checksum": right})
    assert (answer.status_code, answer.json()["code"]) == (460, "checksum_mismatch")
    assert ambulance.offset(place) == 0
    assert ambulance.patch(place, 0, body[:400], **{"Upload-Checksum": right}).status_code == 204
    answer = ambulance.patch(place, 400, os.urandom(600))
    assert (answer.status_code, answer.json()["code"]) == (460, "sha256_mismatch")
    assert ambulance.ask("HEAD", place, TUS).status_code == 404
    assert ambulance.receipt(body).status_code == 404
    assert not hospital.images.exists(digest(body))


@pytest.mark.parametrize("checksum", ["md5 AAAA", "sha256", "sha256 ####", "sha256 AAAA"])
def test_a_checksum_that_cannot_be_checked_is_refused(ambulance: Ambulance, checksum: str) -> None:
    body = b"image"
    place = ambulance.create(body, ambulance.film(body)).headers["Location"]
    answer = ambulance.patch(place, 0, body, **{"Upload-Checksum": checksum})
    assert (answer.status_code, answer.json()["code"]) == (400, "checksum_unknown")
    assert ambulance.offset(place) == 0


def test_more_bytes_than_announced_are_refused_told_in_advance_or_not(ambulance: Ambulance) -> None:
    body = os.urandom(1000)
    place = ambulance.create(body, ambulance.film(body)).headers["Location"]
    assert ambulance.patch(place, 0, body + b"more").json()["code"] == "upload_too_long"

    def untold() -> Iterator[bytes]:
        yield body
        yield b"more"

    assert ambulance.patch(place, 0, untold()).json()["code"] == "upload_too_long"  # type: ignore[arg-type]
    assert ambulance.receipt(body).status_code == 404


def test_an_upload_can_be_stopped(ambulance: Ambulance, hospital: Hospital) -> None:
    body = b"image" * 100
    place = ambulance.create(body, ambulance.film(body)).headers["Location"]
    ambulance.patch(place, 0, body[:50])
    assert ambulance.ask("DELETE", place, TUS).status_code == 204
    assert ambulance.ask("HEAD", place, TUS).status_code == 404
    assert not list((hospital.settings.data / "uploads").iterdir())


def test_an_upload_begun_twice_is_one_and_goes_on(ambulance: Ambulance, hospital: Hospital) -> None:
    body = os.urandom(1000)
    film = ambulance.film(body)
    place = ambulance.create(body, film).headers["Location"]
    ambulance.patch(place, 0, body[:400])
    assert ambulance.create(body, film).headers["Location"] == place
    assert ambulance.offset(place) == 400
    assert len(rows(hospital, UploadRow)) == 1


def test_an_upload_is_its_devices_alone(ambulance: Ambulance, hospital: Hospital) -> None:
    other = Ambulance(hospital, ambulance.client, "Ambulance 8")
    body = os.urandom(1000)
    place = ambulance.create(body, ambulance.film(body)).headers["Location"]
    assert other.ask("HEAD", place, TUS).status_code == 404
    assert other.patch(place, 0, body).status_code == 404
    assert other.ask("DELETE", place, TUS).status_code == 404
    assert ambulance.patch(place, 0, body).status_code == 204


def test_held_bytes_are_proven_to_who_announced_them_and_to_nobody_else(
    ambulance: Ambulance, hospital: Hospital
) -> None:
    body = os.urandom(1000)
    ambulance.deliver(body)
    other = Ambulance(hospital, ambulance.client, "Ambulance 8")
    assert other.receipt(body).status_code == 404
    elsewhere = other.film(os.urandom(10))
    place = other.create(body, elsewhere).headers["Location"]
    assert other.offset(place) == 0  # it has to show that it has them
    announced(other, body)
    receipt = Receipt.model_validate_json(other.receipt(body).content)
    assert receipt.device == other.id
    place = other.create(body, elsewhere).headers["Location"]
    assert other.offset(place) == 1000
    assert other.patch(place, 0, body).status_code == 409
    assert len(rows(hospital, ImageDeliveryRow)) == 2


def test_images_come_after_their_records(ambulance: Ambulance, hospital: Hospital) -> None:
    body = b"image"
    answer = ambulance.create(body, new_id())
    assert (answer.status_code, answer.json()["code"]) == (503, "radiograph_unknown")
    assert int(answer.headers["Retry-After"]) <= 10
    other = Ambulance(hospital, ambulance.client, "Ambulance 8")
    answer = ambulance.create(body, other.film(body))
    assert (answer.status_code, answer.json()["code"]) == (403, "not_allowed")
    film = ambulance.film(body)
    ambulance.device.delete(RecordType.RADIOGRAPH, film)
    ambulance.device.send()
    answer = ambulance.create(body, film)
    assert (answer.status_code, answer.json()["code"]) == (410, "radiograph_deleted")


def test_limits(ambulance: Ambulance, monkeypatch: pytest.MonkeyPatch) -> None:
    body = b"image"
    film = ambulance.film(body)
    assert ambulance.create(body, film, size=200_000_001).status_code == 413
    assert ambulance.create(body, film, ImageKind.PREVIEW, size=1_000_001).status_code == 413
    for wrong in (0, -1):
        assert ambulance.create(body, film, size=wrong).status_code in (400, 413)
    monkeypatch.setattr(uploads, "MOST_OPEN", 2)
    for number in range(2):
        assert ambulance.create(b"%d" % number, film).status_code == 201
    answer = ambulance.create(b"one too many", film)
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many_uploads")
    assert "Retry-After" in answer.headers
    monkeypatch.setattr(uploads, "MOST_OPEN", 64)
    monkeypatch.setattr(uploads, "MOST_OPEN_BYTES", 1_000_000)
    assert ambulance.create(b"large", film, size=999_999).status_code == 429


def test_what_is_not_finished_in_time_is_forgotten(ambulance: Ambulance, hospital: Hospital) -> None:
    body = os.urandom(1000)
    place = ambulance.create(body, ambulance.film(body)).headers["Location"]
    ambulance.patch(place, 0, body[:400])
    late = Uploads(hospital, now=lambda: datetime.now(UTC) + timedelta(days=8))
    assert late.sweep() == 0  # the file is fresh
    assert ambulance.ask("HEAD", place, TUS).status_code == 404
    (file,) = (hospital.settings.data / "uploads").iterdir()
    os.utime(file, (1, 1))
    assert late.sweep() == 1
    assert not file.exists()


def test_who_starts_the_server_finds_no_old_leftovers(hospital: Hospital) -> None:
    left = Uploads(hospital).spool.path("0" * 32)
    left.write_bytes(b"left over")
    fresh = left.with_name("1" * 32)
    fresh.write_bytes(b"begun a moment ago")
    os.utime(left, (1, 1))
    with served(hospital):
        until(lambda: not left.exists())
    assert fresh.exists()


def test_a_process_that_died_before_it_was_noted_leaves_an_upload_that_is_finished_next(
    ambulance: Ambulance, hospital: Hospital
) -> None:
    body = os.urandom(1000)
    place = ambulance.create(body, ambulance.film(body)).headers["Location"]
    with patched.object(Uploads, "_keep", side_effect=MemoryError):
        assert ambulance.patch(place, 0, body).status_code == 500
    assert ambulance.receipt(body).status_code == 404
    assert ambulance.offset(place) == 1000
    assert ambulance.receipt(body).status_code == 200
    assert not list((hospital.settings.data / "uploads").iterdir())


def test_bytes_that_the_store_has_lost_are_asked_for_again(ambulance: Ambulance, hospital: Hospital) -> None:
    body = os.urandom(1000)
    ambulance.deliver(body)
    with hospital.images.guarded(digest(body)):
        hospital.images.delete(digest(body))
    assert ambulance.receipt(body).status_code == 404
    told: list[str] = []
    hospital.images.on_original.append(lambda _, sha256: told.append(sha256))
    ambulance.deliver(body)
    assert ambulance.receipt(body).status_code == 200
    assert told == [digest(body)]  # so that it is read after all


def test_an_original_is_told_of_in_the_transaction_of_each_delivery(ambulance: Ambulance, hospital: Hospital) -> None:
    told: list[tuple[str, bool]] = []

    def hook(session: Session, sha256: str) -> None:
        told.append((sha256, session.get(ImageRow, sha256) is not None))

    hospital.images.on_original.append(hook)
    body = os.urandom(1000)
    ambulance.deliver(os.urandom(500), ImageKind.PREVIEW)
    ambulance.deliver(body)
    other = Ambulance(hospital, ambulance.client, "Ambulance 8")
    place = other.create(body, other.film(b"other")).headers["Location"]
    assert other.patch(place, 0, body).status_code == 204
    assert told == [(digest(body), True)] * 2


def test_a_device_revoked_in_the_middle_delivers_nothing_more(ambulance: Ambulance, hospital: Hospital) -> None:
    body = os.urandom(1000)
    place = ambulance.create(body, ambulance.film(body)).headers["Location"]
    ambulance.patch(place, 0, body[:999])

    def last() -> Iterator[bytes]:
        devices.revoke(hospital, ambulance.id, "user:admin", wipe=True)
        yield body[999:]

    answer = ambulance.patch(place, 999, last())  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()["code"], answer.json()["wipe"]) == (403, "device_revoked", True)
    with hospital.database.reading() as session:
        assert session.get(ImageRow, digest(body)) is None
        device = session.get(DeviceRow, ambulance.id)
    assert device is not None


@pytest.mark.parametrize(
    "metadata",
    [
        "",
        "radiograph",
        "radiograph ####",
        f"radiograph {b64(b'no uuid')},kind {b64(b'original')},sha256 {b64(b'00' * 32)}",
        f"radiograph {b64(str(new_id()).encode())},kind {b64(b'poem')},sha256 {b64(b'00' * 32)}",
        f"radiograph {b64(str(new_id()).encode())},kind {b64(b'original')},sha256 {b64(b'../../../../etc/passwd')}",
        f"radiograph {b64(bytes([255, 254]))}",
        "," * 1000,
    ],
)
def test_metadata_that_says_nothing_is_refused(ambulance: Ambulance, metadata: str) -> None:
    headers = {**TUS, "Upload-Length": "5", "Upload-Metadata": metadata}
    answer = ambulance.ask("POST", "/v1/images", headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")


@pytest.mark.parametrize("length", ["", "five", "1e3", "٥", "9" * 30, "+5"])
def test_a_length_that_is_no_number_is_refused(ambulance: Ambulance, length: str) -> None:
    body = b"image"
    answer = ambulance.create(body, ambulance.film(body), **{"Upload-Length": length.encode()})  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")


@pytest.mark.parametrize("id", ["..%2f..%2fsecret.key", "%2e%2e", "0" * 31, "G" * 32, "0" * 32, "0" * 64, "a" * 500])
def test_addresses_of_no_upload_lead_nowhere(ambulance: Ambulance, id: str) -> None:
    for method in ("HEAD", "DELETE", "PATCH"):
        headers = {**TUS, "Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}
        assert ambulance.ask(method, f"/v1/images/{id}", headers).status_code in (404, 405, 422)
