"""Taking on a device over HTTP, by one-time codes."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import update
from sqlmodel import select

from edge_app.sync import DeviceKey
from shared.enrolment import Enrolled, EnrolmentCode
from shared.errors import FirstRayError
from shared.identity import new_id
from sync_server.db.tables import AuditRow, DeviceRow, EnrolmentCodeRow
from sync_server.domain import devices, enrolment, inbox
from sync_server.hospital import Hospital
from tests.contract.sync_server.ambulance import Ambulance, served
from tests.fake_hospital import Authority
from tests.hospital import new_hospital


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = new_hospital(tmp_path, hospital_name="City Hospital")
    yield made
    made.close()


@pytest.fixture
def client(hospital: Hospital) -> Iterator[httpx.Client]:
    with served(hospital) as made:
        yield made


def new_code(hospital: Hospital) -> str:
    return enrolment.make_code(hospital, "user:admin", "Ambulance 7", "early").code.code


def request(code: str, key: DeviceKey | None = None, device: str | None = None) -> dict[str, Any]:
    jwk = (key or DeviceKey.new()).public.model_dump()
    return {"code": code, "device": device or str(new_id()), "jwk": jwk, "app": "1"}


def test_a_device_is_taken_on(hospital: Hospital, client: httpx.Client) -> None:
    wanted = request(new_code(hospital))
    answer = client.post("/v1/enrolment", json=wanted)
    assert answer.status_code == 201
    learnt = Enrolled.model_validate_json(answer.content)
    assert (learnt.hospital, learnt.device_name) == ("City Hospital", "Ambulance 7")
    assert learnt.receipt_keys == hospital.receipts.public_keys
    assert learnt.token_url == "http://127.0.0.1:8000/v1/token"
    with hospital.database.reading() as session:
        (row,) = session.exec(select(DeviceRow)).all()
        acts = [(one.actor, one.action) for one in session.exec(select(AuditRow)).all()]
    assert (str(row.id), row.name, row.ring, row.enrolled_by) == (
        wanted["device"],
        "Ambulance 7",
        "early",
        "user:admin",
    )
    assert ("user:admin", "device.code_made") in acts
    assert (f"device:{row.id}", "device.enrolled") in acts


def test_only_the_hash_of_a_code_is_kept(hospital: Hospital) -> None:
    code = new_code(hospital)
    files = [hospital.settings.data / name for name in ("hospital.db", "hospital.db-wal")]
    assert not any(code.encode() in file.read_bytes() for file in files)


def test_a_code_is_good_once_but_a_lost_answer_can_be_asked_for_again(hospital: Hospital, client: httpx.Client) -> None:
    wanted = request(new_code(hospital))
    first = client.post("/v1/enrolment", json=wanted)
    assert client.post("/v1/enrolment", json=wanted).json() == first.json()
    refused = client.post("/v1/enrolment", json={**wanted, "device": str(new_id())})
    assert (refused.status_code, refused.json()["code"]) == (403, "code_wrong")
    refused = client.post("/v1/enrolment", json={**wanted, "jwk": DeviceKey.new().public.model_dump()})
    assert (refused.status_code, refused.json()["code"]) == (409, "device_known")


def test_a_code_is_good_for_fifteen_minutes(hospital: Hospital, client: httpx.Client) -> None:
    code = new_code(hospital)
    with hospital.database.writing() as session:
        (row,) = session.exec(select(EnrolmentCodeRow)).all()
        assert row.expires_at - row.made_at == timedelta(minutes=15)
        session.execute(update(EnrolmentCodeRow).values(expires_at=datetime.now(UTC)))
    refused = client.post("/v1/enrolment", json=request(code))
    assert (refused.status_code, refused.json()["code"]) == (403, "code_wrong")


def test_who_guesses_has_to_wait_even_with_the_right_code(hospital: Hospital, client: httpx.Client) -> None:
    code = new_code(hospital)
    for _ in range(enrolment.MOST_WRONG):
        assert client.post("/v1/enrolment", json=request("2" * 12)).status_code == 403
    refused = client.post("/v1/enrolment", json=request(code))
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_attempts")
    assert refused.headers["Retry-After"] == "900"


def test_a_device_that_is_known_keeps_its_key_until_it_is_revoked(hospital: Hospital, client: httpx.Client) -> None:
    device = str(new_id())
    assert client.post("/v1/enrolment", json=request(new_code(hospital), device=device)).status_code == 201
    thief = request(new_code(hospital), device=device)
    assert client.post("/v1/enrolment", json=thief).json()["code"] == "device_known"
    with hospital.database.reading() as session:
        (row,) = session.exec(select(DeviceRow)).all()
    devices.revoke(hospital, row.id, "user:admin", wipe=True)
    assert client.post("/v1/enrolment", json=thief).status_code == 201
    with hospital.database.reading() as session:
        again = session.get(DeviceRow, row.id)
    assert again is not None
    assert (again.revoked_at, again.wipe) == (None, False)
    assert again.jwk["kid"] != row.jwk["kid"]
    assert inbox.fetch(hospital.database, row.id, 0).items == (), "it would obey its old revocation"


@pytest.mark.parametrize(
    "wrong",
    [
        {"code": "0" * 12},
        {"code": "2" * 11},
        {"device": "x"},
        {"jwk": {"kty": "oct", "k": "AAAA"}},
        {"jwk": {**DeviceKey.new().public.model_dump(), "d": "A" * 64}},
        {"jwk": {**DeviceKey.new().public.model_dump(), "crv": "P-256"}},
        {"jwk": {**DeviceKey.new().public.model_dump(), "x": "A" * 64}},
        {"jwk": {**DeviceKey.new().public.model_dump(), "x": "_" * 64}},
        {"more": 1},
        {"app": "x" * 121},
    ],
)
def test_a_request_that_makes_no_sense_is_refused(
    hospital: Hospital, client: httpx.Client, wrong: dict[str, Any]
) -> None:
    refused = client.post("/v1/enrolment", json={**request(new_code(hospital)), **wrong})
    assert refused.status_code == 422
    assert refused.headers["Content-Type"] == "application/problem+json"
    with hospital.database.reading() as session:
        assert not session.exec(select(DeviceRow)).all()


def test_on_this_machine_there_is_no_certificate_to_trust(client: httpx.Client) -> None:
    assert client.get("/v1/enrolment").json() == {"ca_pem": None, "hospital": "City Hospital"}


def test_behind_a_proxy_the_authority_must_be_named(tmp_path: Path) -> None:
    proxy = {"behind_proxy": True, "public_url": "https://er.example"}
    hospital = new_hospital(tmp_path, **proxy)
    with pytest.raises(FirstRayError) as caught:
        enrolment.make_code(hospital, "user:admin", "Ambulance 7")
    assert caught.value.code == "ca_missing"
    hospital.close()
    ca = tmp_path / "ca.pem"
    ca.write_text(Authority().pem)
    hospital = new_hospital(tmp_path, ca=ca, **proxy)
    made = enrolment.make_code(hospital, "user:admin", "Ambulance 7")
    assert made.url == "https://er.example"
    assert EnrolmentCode.parse(str(made.code)) == made.code
    assert len(made.code.fingerprint) == 20
    assert made.command == f"firstray edge --enrol https://er.example {made.code}"
    assert made.qr_svg().startswith("<svg ")
    assert "style=" not in made.qr_svg()
    hospital.close()


def test_a_token_is_for_who_signs(hospital: Hospital, client: httpx.Client) -> None:
    ambulance = Ambulance(hospital, client)
    answer = ambulance.ask_token(ambulance.assertion())
    assert answer.json()["token_type"] == "bearer"
    assert answer.json()["expires_in"] == 300
    assert answer.headers["Cache-Control"] == "no-store"


def test_an_assertion_is_good_once(hospital: Hospital, client: httpx.Client) -> None:
    ambulance = Ambulance(hospital, client)
    assertion = ambulance.assertion()
    assert ambulance.ask_token(assertion).status_code == 200
    refused = ambulance.ask_token(assertion)
    assert (refused.status_code, refused.json()["code"]) == (401, "assertion_replayed")
    assert refused.json()["error"] == "invalid_client"


NOW = int(time.time())


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": NOW - 60},
        {"exp": NOW + 3600},
        {"exp": None},
        {"exp": "soon"},
        {"exp": True},
        {"exp": float("1e400")},
        {"aud": "https://elsewhere.example/v1/token"},
        {"aud": ["http://127.0.0.1:8000/v1/token"]},
        {"sub": str(new_id())},
        {"iss": str(new_id()), "sub": str(new_id())},
        {"iss": "a poem"},
        {"iss": None},
        {"jti": None},
        {"jti": "short"},
        {"jti": "x" * 65},
        {"jti": "é" * 20},
        {"jti": 12345678901234567890},
    ],
)
def test_an_assertion_that_claims_wrongly_is_refused(
    hospital: Hospital, client: httpx.Client, changes: dict[str, Any]
) -> None:
    ambulance = Ambulance(hospital, client)
    refused = ambulance.ask_token(ambulance.assertion(**changes))
    assert refused.status_code == 401, changes
    assert refused.json()["code"] in ("assertion_invalid", "device_unknown")
    assert refused.headers["Content-Type"] == "application/problem+json"


def test_an_assertion_of_another_key_is_refused(hospital: Hospital, client: httpx.Client) -> None:
    ambulance = Ambulance(hospital, client)
    assert ambulance.ask_token(ambulance.assertion(DeviceKey.new())).json()["code"] == "assertion_invalid"


@pytest.mark.parametrize("assertion", ["", "a", "a.b.c", "é.é.é", "x" * 8000, "." * 50, "e30.e30.e30"])
def test_what_is_no_assertion_is_refused(hospital: Hospital, client: httpx.Client, assertion: str) -> None:
    assert Ambulance(hospital, client).ask_token(assertion).status_code == 401


def test_an_unsigned_assertion_and_one_by_the_public_key_as_secret_are_refused(
    hospital: Hospital, client: httpx.Client
) -> None:
    from joserfc import jwt
    from joserfc.jwk import OctKey

    ambulance = Ambulance(hospital, client)
    header, said, _ = ambulance.assertion().split(".")
    none = "eyJhbGciOiJub25lIn0"
    assert ambulance.ask_token(f"{none}.{said}.").status_code == 401
    assert ambulance.ask_token(f"{header}.{said}.").status_code == 401
    secret = OctKey.import_key(ambulance.key.public.x)
    import base64
    import json

    content = json.loads(base64.urlsafe_b64decode(said + "=="))
    assert ambulance.ask_token(jwt.encode({"alg": "HS256"}, content, secret)).status_code == 401


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": ""}, "unsupported_grant_type"),
        ({"client_assertion_type": "x"}, "invalid_request"),
    ],
)
def test_another_grant_is_refused(hospital: Hospital, client: httpx.Client, form: dict[str, str], error: str) -> None:
    ambulance = Ambulance(hospital, client)
    refused = ambulance.ask_token(ambulance.assertion(), **form)
    assert (refused.status_code, refused.json()["error"]) == (400, error)
