"""How a device keeps its key and shows who it is."""

import json
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwt
from joserfc.jwk import ECKey

from edge_app.hospital_access import HospitalAccess
from edge_app.sync import DeviceKey, EnrolledCredentials, Hospital
from edge_app.sync.problems import Failed
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
    credentials.refused()
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


def test_access_comes_back_from_its_json() -> None:
    access = HospitalAccess(Hospital("http://127.0.0.1:1", name="City"), token_url="http://127.0.0.1:1/v1/token")
    assert HospitalAccess.from_json(json.loads(json.dumps(access.to_json()))) == access
    old = {"url": "http://127.0.0.1:1", "token": "t"}
    assert HospitalAccess.from_json(old).token_url is None
