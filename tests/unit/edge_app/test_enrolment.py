"""How a device keeps its key and shows who it is."""

import json
import socket
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwt
from joserfc.jwk import ECKey

from edge_app import enrolment
from edge_app.hospital_access import HospitalAccess
from edge_app.sync import DeviceKey, EnrolledCredentials, Hospital
from edge_app.sync.problems import Failed
from shared.errors import FirstRayError
from shared.identity import new_id

DEVICE = new_id()
URL = "https://er.example:8443/v1/token"


class Clocks:
    def __init__(self) -> None:
        self.wall, self.ticks = 1_800_000_000.0, 50.0

    def credentials(self, key: DeviceKey) -> EnrolledCredentials:
        return EnrolledCredentials(key, DEVICE, URL, now=lambda: self.wall, ticks=lambda: self.ticks)


def answer(token: str = "abc.def", seconds: int = 300, kind: str = "bearer") -> bytes:
    return json.dumps({"access_token": token, "token_type": kind, "expires_in": seconds, "scope": "x"}).encode()


def test_a_key_comes_back_from_its_text() -> None:
    key = DeviceKey.new()
    assert DeviceKey.from_pem(key.to_pem()).public == key.public
    assert DeviceKey.new().public != key.public


def test_a_key_of_another_curve_is_none() -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    pem = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    for wrong in (pem, "", "poem"):
        with pytest.raises(ValueError, match=r"."):
            DeviceKey.from_pem(wrong)


def test_a_refusal_of_an_older_token_leaves_the_new_one() -> None:
    """Two lanes show the same token; the second hears of its refusal when the first has got a new one."""
    credentials = Clocks().credentials(DeviceKey.new())
    for token in ("old", "new"):
        assert credentials.renewal(0.0) is not None
        credentials.renewed(answer(token))
        shown = credentials.headers()
        if token == "old":
            old = shown
            credentials.refused(old)
    credentials.refused(old)
    assert credentials.renewal(0.0) is None
    assert credentials.headers() == shown
    credentials.refused(shown)
    assert credentials.renewal(0.0) is not None


def test_what_it_signs_others_can_verify() -> None:
    key = DeviceKey.new()
    for number in range(50):  # some numbers of a signature begin with zeros
        token = jwt.decode(key.sign({"n": number}), ECKey.import_key(key.public.model_dump()), algorithms=["ES384"])
        assert token.claims == {"n": number}
        assert token.header["kid"] == key.public.thumbprint


def test_a_token_is_asked_for_when_there_is_none_or_it_is_about_to_end() -> None:
    clocks, key = Clocks(), DeviceKey.new()
    credentials = clocks.credentials(key)
    asked = credentials.renewal(0.0)
    assert asked is not None
    assert asked.path == "/v1/token"
    credentials.renewed(answer())
    assert credentials.renewal(0.0) is None
    assert credentials.headers() == {"Authorization": "Bearer abc.def"}
    clocks.ticks += 250
    assert credentials.renewal(0.0) is None
    clocks.ticks += 10
    assert credentials.renewal(0.0) is not None
    credentials.renewed(answer("new"))
    assert credentials.renewal(0.0) is None
    credentials.refused(credentials.headers())
    assert credentials.renewal(0.0) is not None


def test_a_token_that_lives_seconds_is_used_for_half_of_them() -> None:
    clocks = Clocks()
    credentials = clocks.credentials(DeviceKey.new())
    credentials.renewal(0.0)
    credentials.renewed(answer(seconds=10))
    clocks.ticks += 4
    assert credentials.renewal(0.0) is None
    clocks.ticks += 2
    assert credentials.renewal(0.0) is not None


def test_an_assertion_is_in_the_hospitals_time_and_each_is_another() -> None:
    clocks, key = Clocks(), DeviceKey.new()
    credentials = clocks.credentials(key)
    said = []
    for _ in range(2):
        asked = credentials.renewal(3600.0)
        assert asked is not None
        public = ECKey.import_key(key.public.model_dump())
        said.append(jwt.decode(asked.form["client_assertion"], public, algorithms=["ES384"]).claims)
    assert said[0]["iat"] == clocks.wall - 3600
    assert UUID(said[0]["iss"]) == DEVICE
    assert said[0]["aud"] == URL
    assert said[0]["jti"] != said[1]["jti"]


@pytest.mark.parametrize(
    "given",
    [b"", b"[]", b"{}", answer(token=""), answer(token="a\r\nX: y"), answer(seconds=0), answer(kind="mac")],
)
def test_an_answer_without_a_token_is_a_failure(given: bytes) -> None:
    with pytest.raises(Failed):
        Clocks().credentials(DeviceKey.new()).renewed(given)


def test_the_key_is_not_shown_by_what_is_logged() -> None:
    key = DeviceKey.new()
    middle = key.to_pem().splitlines()[1]
    assert middle not in repr(key) + repr(Clocks().credentials(key))


@pytest.mark.parametrize(
    ("typed", "address"),
    [
        ("er.hospital.example", "https://er.hospital.example"),
        (" HTTPS://er.hospital.example:8443/ ", "https://er.hospital.example:8443"),
        ("https://er. hospital.example", "https://er.hospital.example"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
    ],
)
def test_an_address_is_completed(typed: str, address: str) -> None:
    assert enrolment.address(typed) == address


@pytest.mark.parametrize("typed", ["", "https://", "//", "ftp://er.example", "https://er.example:99999", "a?b"])
def test_what_is_no_address_is_refused(typed: str) -> None:
    with pytest.raises(FirstRayError) as caught:
        enrolment.address(typed)
    assert caught.value.code == "hospital_url_invalid"


@pytest.mark.parametrize(("addresses", "code"), [((), "enrolment_no_network"), (("192.0.2.7",), "enrolment_no_answer")])
def test_who_gets_no_answer_is_told_what_to_look_at(
    monkeypatch: pytest.MonkeyPatch, addresses: tuple[str, ...], code: str
) -> None:
    monkeypatch.setattr(enrolment, "PAUSE_S", 0.0)
    monkeypatch.setattr(enrolment, "addresses", lambda: addresses)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # not listening: the connection is refused
        with pytest.raises(FirstRayError) as caught:
            enrolment.recognise(f"127.0.0.1:{bound.getsockname()[1]}", "2" * 32)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (502, b"<html>", "enrolment_failed"),
        (302, b"", "network_portal"),
        (200, b"<html>", "network_portal"),
        (404, b'{"detail": "no"}', "enrolment_refused"),
        (403, b'{"code": "code_wrong", "title": "", "status": 403}', "code_wrong"),
        (200, b"x" * (enrolment.MOST_ANSWER + 1), "enrolment_unreadable"),
    ],
)
def test_an_answer_that_is_none_is_told_apart(status: int, body: bytes, code: str) -> None:
    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing on the console."""

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(FirstRayError) as caught:
            enrolment.recognise(f"http://127.0.0.1:{server.server_port}", "2" * 12)
        server.shutdown()
    assert caught.value.code == code


def test_access_comes_back_from_its_json() -> None:
    access = HospitalAccess(
        Hospital("http://127.0.0.1:1", name="City"),
        token_url="http://127.0.0.1:1/v1/token",
        device_name="Ambulance 7",
        enrolled_at=datetime(2026, 11, 27, 8, 0, tzinfo=UTC),
    )
    assert HospitalAccess.from_json(json.loads(json.dumps(access.to_json()))) == access
    old = {"url": "http://127.0.0.1:1", "token": "t"}
    assert HospitalAccess.from_json(old).token_url is None
