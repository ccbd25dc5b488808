"""Tokens, without HTTP: what they say, and how long an assertion is remembered."""

import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey
from sqlalchemy import update
from sqlmodel import select

from edge_app.sync import DeviceKey
from shared.enrolment import claims
from shared.errors import FirstRayError
from sync_server.db.tables import AssertionRow
from sync_server.domain.devices import token_url
from sync_server.domain.tokens import Bearer, Tokens
from sync_server.hospital import Hospital
from tests.hospital import TestDevice, enrolled_device, new_hospital

KEY = DeviceKey.new()


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = new_hospital(tmp_path, listen=False)
    yield made
    made.close()


@pytest.fixture
def device(hospital: Hospital) -> TestDevice:
    return enrolled_device(hospital, jwk={**KEY.public.model_dump(), "kid": KEY.public.thumbprint})


def assertion(hospital: Hospital, device: TestDevice, **changes: object) -> str:
    said = claims(device.id, token_url(hospital.settings), int(time.time()), secrets.token_urlsafe(24))
    return KEY.sign({**said, **changes})


def test_a_token_says_whose_it_is_in_every_process(hospital: Hospital, device: TestDevice) -> None:
    given = Tokens(hospital).exchange(assertion(hospital, device))
    assert Tokens(hospital).check(given.access_token) == Bearer(device.id, KEY.public.thumbprint)


def test_a_token_ends(hospital: Hospital, device: TestDevice) -> None:
    given = Tokens(hospital).exchange(assertion(hospital, device))
    later = Tokens(hospital, now=lambda: time.time() + 301)
    with pytest.raises(FirstRayError) as caught:
        later.check(given.access_token)
    assert caught.value.code == "token_expired"


@pytest.mark.parametrize("ahead", [-20, 20])
def test_clocks_may_differ_by_some_seconds(hospital: Hospital, device: TestDevice, ahead: int) -> None:
    tokens = Tokens(hospital, now=lambda: time.time() - ahead)
    assert tokens.exchange(assertion(hospital, device))


def test_what_the_hospitals_secret_signed_for_another_purpose_is_no_token(
    hospital: Hospital, device: TestDevice
) -> None:
    tokens = Tokens(hospital)
    content = {"iss": "firstray", "aud": "device", "sub": str(device.id), "key": "k", "exp": time.time() + 60}
    for key in (OctKey.import_key(hospital.settings.secret), OctKey.import_key(b"0" * 32)):
        with pytest.raises(FirstRayError) as caught:
            tokens.check(jwt.encode({"alg": "HS256"}, content, key))
        assert caught.value.code == "token_invalid"
    for wrong in ({"aud": "browser"}, {"iss": "x"}, {"sub": "x"}, {"exp": "x"}):
        with pytest.raises(FirstRayError) as caught:
            tokens.check(jwt.encode({"alg": "HS256"}, {**content, **wrong}, tokens._key))
        assert caught.value.code == "token_invalid"


def test_assertions_are_remembered_for_as_long_as_they_could_be_shown_again(
    hospital: Hospital, device: TestDevice
) -> None:
    tokens = Tokens(hospital)
    first = assertion(hospital, device)
    tokens.exchange(first)
    with hospital.database.reading() as session:
        (row,) = session.exec(select(AssertionRow)).all()
    assert row.expires_at >= datetime.now(UTC) + timedelta(seconds=300)
    with pytest.raises(FirstRayError) as caught:
        tokens.exchange(first)
    assert caught.value.code == "assertion_replayed"
    with hospital.database.writing() as session:
        session.execute(update(AssertionRow).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    tokens.exchange(assertion(hospital, device))
    with hospital.database.reading() as session:
        assert len(session.exec(select(AssertionRow)).all()) == 1
