"""The code an admin hands over, and what vouches for the hospital."""

import base64
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as some

from edge_app.sync import DeviceKey
from shared.enrolment import ALPHABET, CODE_LENGTH, FINGERPRINT_LENGTH, EnrolmentCode, claims, fingerprint
from shared.errors import FirstRayError
from shared.identity import new_id
from tests.fake_hospital import Authority

letters = some.text(ALPHABET, min_size=FINGERPRINT_LENGTH, max_size=FINGERPRINT_LENGTH)


@given(letters | some.just(""), some.sampled_from([str.lower, str.upper, lambda text: text.replace("-", " ")]))
def test_a_code_is_read_as_it_was_written_whatever_case_and_gaps(mark: str, typed: object) -> None:
    made = EnrolmentCode.new(mark)
    assert EnrolmentCode.parse(typed(str(made))) == made  # type: ignore[operator]


def test_codes_are_not_alike() -> None:
    made = {EnrolmentCode.new("").code for _ in range(200)}
    assert len(made) == 200
    assert all(len(code) == CODE_LENGTH and set(code) <= set(ALPHABET) for code in made)
    assert set("".join(made)) == set(ALPHABET)


@pytest.mark.parametrize(
    "text", ["", "2" * 11, "2" * 13, "2" * 31, "2" * 33, "0" * 12, "O" * 12, "ü" * 12, "2222/3333/44"]
)
def test_what_is_no_code_is_told_so(text: str) -> None:
    with pytest.raises(FirstRayError) as caught:
        EnrolmentCode.parse(text)
    assert caught.value.code == "enrolment_code_mistyped"


def test_a_fingerprint_is_of_the_certificates_themselves() -> None:
    one, other = Authority().pem, Authority().pem
    assert fingerprint(one) == fingerprint(f"a comment\n{one.replace(chr(10), chr(13) + chr(10))}")
    assert len({fingerprint(one), fingerprint(other), fingerprint(one + other), fingerprint(other + one)}) == 4
    assert len(fingerprint(one)) == FINGERPRINT_LENGTH
    der = base64.b64decode("".join(one.splitlines()[1:-1]))
    number = int.from_bytes(hashlib.sha256(der).digest())
    assert fingerprint(one)[0] == ALPHABET[number % len(ALPHABET)]


@pytest.mark.parametrize("pem", ["", "no certificate", "-----BEGIN CERTIFICATE-----\n#\n-----END CERTIFICATE-----"])
def test_what_is_no_certificate_has_none(pem: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        fingerprint(pem)


def test_a_key_is_named_as_rfc_7638_has_it() -> None:
    public = DeviceKey.new().public
    members = json.dumps({"crv": "P-384", "kty": "EC", "x": public.x, "y": public.y}, separators=(",", ":"))
    digest = base64.urlsafe_b64encode(hashlib.sha256(members.encode()).digest()).rstrip(b"=").decode()
    assert public.thumbprint == digest


def test_an_assertion_ends_within_five_minutes() -> None:
    said = claims(new_id(), "https://er.example/v1/token", 1000, "j" * 32)
    assert said["iss"] == said["sub"]
    assert 1000 < said["exp"] <= 1300
