"""Who may speak: a token of a device that is trusted now, and nobody else."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from shared.hospital import Revocation
from sync_server.db.tables import DeviceRow
from sync_server.domain import devices, inbox
from sync_server.domain.tokens import TOKEN_SECONDS, Tokens
from sync_server.hospital import Hospital
from tests.contract.sync_server.ambulance import Ambulance, served
from tests.hospital import new_hospital

PATH = f"/v1/images/{'0' * 64}/receipt"


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = new_hospital(tmp_path)
    yield made
    made.close()


@pytest.fixture
def ambulance(hospital: Hospital) -> Iterator[Ambulance]:
    with served(hospital) as client:
        yield Ambulance(hospital, client)


@pytest.mark.parametrize(
    ("shown", "code"),
    [
        (None, "token_missing"),
        ("", "token_missing"),
        ("Basic dXNlcjpwYXNz", "token_missing"),
        ("Bearer ", "token_missing"),
        ("Bearer nonsense", "token_invalid"),
        ("Bearer a.b.c", "token_invalid"),
        ("Bearer eyJhbGciOiJub25lIn0.e30.", "token_invalid"),
    ],
)
def test_without_a_token_of_ours_nothing_is_answered(ambulance: Ambulance, shown: str | None, code: str) -> None:
    headers = {} if shown is None else {"Authorization": shown}
    answer = ambulance.client.get(PATH, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, code)
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_a_token_lets_in_for_five_minutes(ambulance: Ambulance, hospital: Hospital) -> None:
    assert ambulance.ask("GET", PATH).json()["code"] == "not_held"
    old = Tokens(hospital, now=lambda: time.time() - TOKEN_SECONDS)
    ambulance.client.app.state.tokens = old  # type: ignore[attr-defined]
    assertion = ambulance.assertion(exp=int(time.time()) - TOKEN_SECONDS + 100)
    ambulance.token = ambulance.ask_token(assertion).json()["access_token"]
    ambulance.client.app.state.tokens = Tokens(hospital)  # type: ignore[attr-defined]
    answer = ambulance.ask("GET", PATH)
    assert (answer.status_code, answer.json()["code"]) == (401, "token_expired")


def test_tokens_of_another_hospital_are_none(ambulance: Ambulance, hospital: Hospital, tmp_path: Path) -> None:
    other = new_hospital(tmp_path / "other")
    with served(other) as client:
        stranger = Ambulance(other, client)
        stranger.client = ambulance.client
        assert stranger.ask("GET", PATH).json()["code"] == "token_invalid"
    other.close()


@pytest.mark.parametrize("wipe", [False, True])
def test_a_revoked_device_is_refused_at_once(ambulance: Ambulance, hospital: Hospital, wipe: bool) -> None:
    devices.revoke(hospital, ambulance.id, "user:admin", wipe)
    answer = ambulance.ask("GET", PATH)
    assert (answer.status_code, answer.json()["code"], answer.json()["wipe"]) == (403, "device_revoked", wipe)
    answer = ambulance.ask_token(ambulance.assertion())
    assert (answer.status_code, answer.json()["code"], answer.json()["wipe"]) == (403, "device_revoked", wipe)
    (item,) = inbox.fetch(hospital.database, ambulance.id, 0).items
    assert item.content == Revocation(wipe=wipe)


def test_who_does_not_prove_who_it_is_learns_nothing_of_a_revocation(ambulance: Ambulance, hospital: Hospital) -> None:
    devices.revoke(hospital, ambulance.id, "user:admin")
    from edge_app.sync import DeviceKey

    assert ambulance.ask_token(ambulance.assertion(DeviceKey.new())).json()["code"] == "assertion_invalid"


def test_a_wipe_may_be_asked_for_later_and_is_not_taken_back(ambulance: Ambulance, hospital: Hospital) -> None:
    for wipe in (False, True, False):
        devices.revoke(hospital, ambulance.id, "user:admin", wipe)
    assert ambulance.ask("GET", PATH).json()["wipe"] is True


def test_a_token_got_by_a_former_key_is_none(ambulance: Ambulance, hospital: Hospital) -> None:
    with hospital.database.writing() as session:
        session.execute(update(DeviceRow).values(jwk={"kid": "another"}))
    assert ambulance.ask("GET", PATH).json()["code"] == "token_invalid"


def test_when_it_was_last_there_is_noted_once_a_minute(ambulance: Ambulance, hospital: Hospital) -> None:
    def seen() -> datetime | None:
        with hospital.database.reading() as session:
            row = session.get(DeviceRow, ambulance.id)
        assert row is not None
        return row.seen_at

    assert seen() is None
    ambulance.ask("GET", PATH)
    first = seen()
    assert first is not None
    ambulance.ask("GET", PATH)
    assert seen() == first
    with hospital.database.writing() as session:
        session.execute(update(DeviceRow).values(seen_at=datetime.now(UTC) - timedelta(minutes=2)))
    ambulance.ask("GET", PATH)
    again = seen()
    assert again is not None
    assert again >= first
