"""Accounts, passwords, sessions, and guessing that is slowed."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlmodel import select

from shared.errors import FirstRayError
from sync_server.db.tables import AccountRow, AuditRow, WebSessionRow
from sync_server.domain import accounts, audit, guessing
from sync_server.domain.accounts import IDLE, LONGEST, Role
from sync_server.domain.guessing import MOST_BY_BOTH, WINDOW
from sync_server.hospital import Hospital

PASSWORD = "fifteen quiet ambulances"
NOW = datetime(2026, 11, 27, 3, 0, tzinfo=UTC)


@pytest.fixture
def hospital(hospital: Hospital) -> Hospital:
    with hospital.database.writing() as session:
        accounts.create_user(session, "Doctor", "이서연", Role.ER, PASSWORD, "test")
        accounts.create_user(session, "chief", "Park Jiho", Role.ADMIN, PASSWORD, "test", "en")
    return hospital


def log_in(hospital: Hospital, password: str = PASSWORD, at: datetime = NOW, address: str = "10.0.0.1") -> str:
    return accounts.log_in(hospital.database, "doctor", password, address, at)


def code(error: pytest.ExceptionInfo[FirstRayError]) -> str:
    return error.value.code


def test_a_session_tells_who_it_belongs_to_and_keeps_neither_password_nor_token(hospital: Hospital) -> None:
    token = log_in(hospital)
    person = accounts.person(hospital.database, token, NOW)
    assert person is not None
    assert (person.login, person.name, person.role, person.language, person.is_admin) == (
        "doctor",
        "이서연",
        Role.ER,
        "ko",
        False,
    )
    with hospital.database.reading() as session:
        account = session.exec(select(AccountRow).where(AccountRow.login == "doctor")).one()
        assert account.password is not None
        assert account.password.startswith("$argon2id$")
        row = session.exec(select(WebSessionRow)).one()
        assert token not in row.model_dump_json()


def test_the_login_is_found_whatever_its_case(hospital: Hospital) -> None:
    assert accounts.log_in(hospital.database, " DOCTOR ", PASSWORD, "10.0.0.1", NOW)


@pytest.mark.parametrize("login", ["doctor", "nobody"])
def test_a_wrong_password_and_an_unknown_login_are_answered_alike(hospital: Hospital, login: str) -> None:
    with pytest.raises(FirstRayError) as error:
        accounts.log_in(hospital.database, login, "not the password", "10.0.0.1", NOW)
    assert code(error) == "log_in_failed"


def test_an_unknown_token_is_nobody(hospital: Hospital) -> None:
    assert accounts.person(hospital.database, "made up", NOW) is None


def test_a_session_that_nobody_uses_ends(hospital: Hospital) -> None:
    token = log_in(hospital)
    assert accounts.person(hospital.database, token, NOW + IDLE - timedelta(seconds=1)) is not None
    assert accounts.person(hospital.database, token, NOW + 2 * IDLE - timedelta(seconds=2)) is not None
    assert accounts.person(hospital.database, token, NOW + 3 * IDLE) is None


def test_a_session_in_use_ends_after_a_shift(hospital: Hospital) -> None:
    token = log_in(hospital)
    moment = NOW
    while moment < NOW + LONGEST:
        assert accounts.person(hospital.database, token, moment) is not None
        moment += IDLE / 2
    assert accounts.person(hospital.database, token, NOW + LONGEST) is None


def test_logging_out_ends_this_session_only(hospital: Hospital) -> None:
    one, other = log_in(hospital), log_in(hospital)
    with hospital.database.writing() as session:
        accounts.log_out(session, one, "user:doctor")
    assert accounts.person(hospital.database, one, NOW) is None
    assert accounts.person(hospital.database, other, NOW) is not None


def test_guessing_is_stopped_where_it_comes_from_and_goes_on_after_a_while(hospital: Hospital) -> None:
    for _ in range(MOST_BY_BOTH):
        with pytest.raises(FirstRayError, match="do not fit"):
            log_in(hospital, "wrong password", address="10.6.6.6")
    with pytest.raises(FirstRayError) as error:
        log_in(hospital, address="10.6.6.6")
    assert code(error) == "too_many_attempts"
    assert log_in(hospital, address="10.0.0.1"), "the doctor at another computer is not locked out"
    assert log_in(hospital, address="10.6.6.6", at=NOW + WINDOW + timedelta(seconds=1))


def test_one_address_cannot_try_many_logins(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guessing, "MOST_BY_ADDRESS", 3)
    for number in range(3):
        with pytest.raises(FirstRayError):
            accounts.log_in(hospital.database, f"guess{number}", "wrong password", "10.6.6.6", NOW)
    with pytest.raises(FirstRayError) as error:
        log_in(hospital, address="10.6.6.6")
    assert code(error) == "too_many_attempts"


def test_a_new_password_ends_sessions_and_lets_try_again(hospital: Hospital) -> None:
    token = log_in(hospital)
    for _ in range(MOST_BY_BOTH):
        with pytest.raises(FirstRayError):
            log_in(hospital, "wrong password")
    with hospital.database.writing() as session:
        accounts.set_password(session, accounts.find(session, "doctor").id, "another long password", "user:chief")
    assert accounts.person(hospital.database, token, NOW) is None
    assert log_in(hospital, "another long password")
    with pytest.raises(FirstRayError):
        log_in(hospital)


def test_who_is_shut_out_is_out_at_once(hospital: Hospital) -> None:
    token = log_in(hospital)
    with hospital.database.writing() as session:
        doctor = accounts.find(session, "doctor").id
        accounts.set_disabled(session, doctor, True, "user:chief")
    assert accounts.person(hospital.database, token, NOW) is None
    with pytest.raises(FirstRayError, match="do not fit"):
        log_in(hospital)
    with hospital.database.writing() as session:
        accounts.set_disabled(session, doctor, False, "user:chief")
    assert log_in(hospital)


def test_a_role_holds_from_the_next_request_on(hospital: Hospital) -> None:
    token = log_in(hospital)
    with hospital.database.writing() as session:
        accounts.set_role(session, accounts.find(session, "doctor").id, Role.ADMIN, "user:chief")
    person = accounts.person(hospital.database, token, NOW)
    assert person is not None
    assert person.is_admin


def test_the_last_admin_stays(hospital: Hospital) -> None:
    with hospital.database.writing() as session:
        chief = accounts.find(session, "chief").id
        for act in (
            lambda: accounts.set_role(session, chief, Role.ER, "user:chief"),
            lambda: accounts.set_disabled(session, chief, True, "user:chief"),
        ):
            with pytest.raises(FirstRayError) as error:
                act()
            assert code(error) == "last_admin"


@pytest.mark.parametrize(
    ("login", "name", "password", "expected"),
    [
        ("a", "A", PASSWORD, "login_invalid"),
        ("a b", "A", PASSWORD, "login_invalid"),
        ("-ab", "A", PASSWORD, "login_invalid"),
        ("doctor", "A", PASSWORD, "login_taken"),
        ("nurse", "  ", PASSWORD, "name_missing"),
        ("nurse", "A\x07", PASSWORD, "name_missing"),
        ("nurse", "A", "elevenchars", "password_weak"),
        ("nurse", "A", "x" * 257, "password_weak"),
        ("nurse", "A", "aaaabbbbaaaa", "password_weak"),
        ("nurse", "A", "the nurse 2026!", "password_weak"),
    ],
)
def test_accounts_that_are_refused(hospital: Hospital, login: str, name: str, password: str, expected: str) -> None:
    with hospital.database.writing() as session, pytest.raises(FirstRayError) as error:
        accounts.create_user(session, login, name, Role.ER, password, "test")
    assert code(error) == expected


def test_everything_is_in_the_audit_log_without_passwords(hospital: Hospital) -> None:
    log_in(hospital)
    with pytest.raises(FirstRayError):
        log_in(hospital, "a wrong secret")
    with hospital.database.reading() as session:
        rows = session.exec(select(AuditRow).order_by(AuditRow.number)).all()  # type: ignore[arg-type]
        assert [row.action for row in rows] == ["user.created", "user.created", "log_in", "log_in.failed"]
        assert all(secret not in row.model_dump_json() for row in rows for secret in (PASSWORD, "a wrong secret"))
        assert audit.verify(session).whole
