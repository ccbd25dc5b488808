"""What a device refuses to be told of its hospital."""

import base64

import pytest

from edge_app.sync import Hospital
from shared.errors import FirstRayError
from tests.fake_hospital import Authority, FakeHospital


def refusal(url: str, ca_pem: str | None = None, keys: dict[str, str] | None = None) -> str:
    with pytest.raises(FirstRayError) as caught:
        Hospital(url, ca_pem, keys or {})
    assert caught.value.action
    return caught.value.code


@pytest.mark.parametrize(
    "url", ["", "hospital", "ftp://hospital", "https://", "https://h:99999", "https://a:b@h", "https://h/?q=1"]
)
def test_an_address_must_be_one(url: str) -> None:
    assert refusal(url) == "hospital_url_invalid"


def test_plain_http_stays_on_this_machine_unless_it_is_allowed() -> None:
    assert refusal("http://hospital.example") == "hospital_not_https"
    assert refusal("http://192.168.1.1:8000") == "hospital_not_https"
    assert refusal("http://localhost.hospital.example") == "hospital_not_https"
    for url in ("http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1"):
        assert Hospital(url).private
    assert not Hospital("http://192.168.1.1", allow_http=True).private


def test_https_needs_the_hospitals_own_certificate() -> None:
    assert refusal("https://hospital.example") == "hospital_ca_invalid"
    assert refusal("https://hospital.example", "not a certificate") == "hospital_ca_invalid"
    context = Hospital("https://hospital.example", Authority().pem).tls()
    assert context is not None
    assert context.check_hostname
    assert len(context.get_ca_certs()) == 1


def test_a_damaged_key_is_found_at_once() -> None:
    right = FakeHospital().receipt_keys
    assert list(Hospital("http://127.0.0.1", None, right).keys()) == list(right)
    (name, raw), *_ = right.items()
    assert refusal("http://127.0.0.1", None, {name: raw[:-8]}) == "hospital_key_invalid"
    assert refusal("http://127.0.0.1", None, {"0" * 16: raw}) == "hospital_key_invalid"
    assert refusal("http://127.0.0.1", None, {name: base64.b64encode(bytes(32)).decode()}) == "hospital_key_invalid"
