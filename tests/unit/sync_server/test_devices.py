"""Codes, certificates and the list of devices, without HTTP."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import pytest
from sqlalchemy import func, update
from sqlmodel import col, select

from edge_app.sync import DeviceKey
from shared.enrolment import EnrolmentRequest, fingerprint
from shared.errors import FirstRayError
from shared.identity import new_id
from sync_server.db.tables import AttemptRow, AuditRow, DeviceRow, EnrolmentCodeRow
from sync_server.domain import audit, devices, enrolment, releases
from sync_server.hospital import Hospital
from tests.fake_hospital import Authority
from tests.hospital import enrolled_device, new_hospital


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = new_hospital(tmp_path, listen=False)
    yield made
    made.close()


def request(code: str) -> EnrolmentRequest:
    return EnrolmentRequest(code=code, device=new_id(), jwk=DeviceKey.new().public)


@pytest.mark.parametrize("name", ["", "   ", "x" * 121])
def test_a_device_needs_a_name(hospital: Hospital, name: str) -> None:
    with pytest.raises(FirstRayError) as caught:
        enrolment.make_code(hospital, "user:admin", name)
    assert caught.value.code == "device_name_missing"


def test_no_device_is_put_into_the_hospitals_own_ring(hospital: Hospital) -> None:
    device = enrolled_device(hospital)
    for ring, code in ((releases.SERVER, "ring_reserved"), ("Night", "ring_invalid")):
        for act in (
            partial(devices.change, hospital, device.id, "user:admin", name="Ambulance 8", ring=ring),
            partial(enrolment.make_code, hospital, "user:admin", "Ambulance 9", ring),
        ):
            with pytest.raises(FirstRayError) as caught:
                act()
            assert caught.value.code == code
    with hospital.database.reading() as session:
        row = session.get(DeviceRow, device.id)
        assert row is not None
        assert (row.name, row.ring) == ("Ambulance 7", "general")
        assert session.exec(select(EnrolmentCodeRow)).all() == []
    devices.change(hospital, device.id, "user:admin", ring="night")
    with hospital.database.reading() as session:
        assert session.exec(select(DeviceRow.ring)).one() == "night"


def test_wrong_codes_of_one_address_do_not_shut_out_another(hospital: Hospital) -> None:
    right = enrolment.make_code(hospital, "user:admin", "Ambulance 7").code.code
    for _ in range(enrolment.MOST_WRONG):
        with pytest.raises(FirstRayError) as caught:
            enrolment.enrol(hospital, request("2" * 12), "10.0.0.1")
        assert caught.value.code == "code_wrong"
    with pytest.raises(FirstRayError) as caught:
        enrolment.enrol(hospital, request(right), "10.0.0.1")
    assert caught.value.code == "too_many_attempts"
    assert enrolment.enrol(hospital, request(right), "10.0.0.2").device_name == "Ambulance 7"


def test_guessing_from_everywhere_is_stopped_and_forgotten_after_a_while(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enrolment, "MOST_WRONG_IN_ALL", 3)
    right = enrolment.make_code(hospital, "user:admin", "Ambulance 7").code.code
    for number in range(3):
        with pytest.raises(FirstRayError):
            enrolment.enrol(hospital, request("2" * 12), f"10.0.0.{number}")
    with pytest.raises(FirstRayError) as caught:
        enrolment.enrol(hospital, request(right), "10.9.9.9")
    assert caught.value.code == "too_many_attempts"
    with hospital.database.writing() as session:
        session.add(AttemptRow(subject="login:doctor", at=datetime.now(UTC) - timedelta(hours=1)))
        ours = col(AttemptRow.subject).startswith("enrol")
        session.execute(update(AttemptRow).where(ours).values(at=datetime.now(UTC) - timedelta(minutes=16)))
    enrolment.enrol(hospital, request(right), "10.9.9.9")
    with hospital.database.reading() as session:
        assert session.exec(select(AttemptRow.subject)).all() == ["login:doctor"]


def test_the_certificate_to_trust_is_the_topmost_unless_one_is_named(tmp_path: Path) -> None:
    authority, other = Authority(), Authority()
    issued = authority.issue()
    start = issued.index("-----BEGIN PRIVATE KEY")
    certificate, key, ca = tmp_path / "certificate.pem", tmp_path / "key.pem", tmp_path / "ca.pem"
    certificate.write_text(issued[:start] + authority.pem)
    key.touch(mode=0o600)
    key.write_text(issued[start:])
    ca.write_text("our own authority\n" + other.pem)
    for named, expected in ((None, authority.pem), (ca, other.pem)):
        hospital = new_hospital(tmp_path, listen=False, certificate=certificate, key=key, ca=named)
        assert enrolment.trust(hospital.settings).ca_pem == expected
        made = enrolment.make_code(hospital, "user:admin", "Ambulance 7")
        assert made.code.fingerprint == fingerprint(expected)
        hospital.close()


def test_a_file_that_holds_no_certificate_is_told(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("nothing")
    hospital = new_hospital(tmp_path, listen=False, behind_proxy=True, public_url="https://er.example", ca=ca)
    with pytest.raises(FirstRayError) as caught:
        enrolment.trust(hospital.settings)
    assert caught.value.code == "ca_invalid"
    hospital.close()


def test_a_qr_code_is_a_picture_alone(hospital: Hospital) -> None:
    svg = ElementTree.fromstring(enrolment.make_code(hospital, "user:admin", "Ambulance 7").qr_svg())
    assert svg.tag.endswith("svg")
    assert svg.get("viewBox")
    assert {child.tag.rpartition("}")[2] for child in svg.iter()} <= {"svg", "path", "g"}


def test_who_shut_a_device_out_first_stays_noted(hospital: Hospital) -> None:
    device = enrolled_device(hospital).id
    devices.revoke(hospital, device, "user:one")
    devices.revoke(hospital, device, "user:two", wipe=True)
    with hospital.database.reading() as session:
        row = session.get(DeviceRow, device)
        acts = session.exec(select(AuditRow.actor).where(col(AuditRow.action) == "device.revoked")).all()
        assert audit.verify(session).whole
    assert row is not None
    assert (row.revoked_by, row.wipe) == ("user:one", True)
    assert list(acts) == ["user:one", "user:two"]
    with pytest.raises(devices.DeviceRevoked) as caught:
        devices.refuse_revoked(row)
    assert caught.value.wipe


def test_a_device_is_called_otherwise_and_moved(hospital: Hospital) -> None:
    device = enrolled_device(hospital).id
    devices.change(hospital, device, "user:admin", name="Ambulance 8")
    devices.change(hospital, device, "user:admin", ring="early")
    with hospital.database.reading() as session:
        row = session.get(DeviceRow, device)
    assert row is not None
    assert (row.name, row.ring) == ("Ambulance 8", "early")


@pytest.mark.parametrize("act", [devices.revoke, devices.change])
def test_a_device_that_does_not_exist_is_told_so(hospital: Hospital, act: object) -> None:
    with pytest.raises(FirstRayError) as caught:
        act(hospital, new_id(), "user:admin")  # type: ignore[operator]
    assert caught.value.code == "device_unknown"
    with hospital.database.reading() as session:
        assert session.exec(select(func.count()).select_from(AuditRow)).one() == 0
