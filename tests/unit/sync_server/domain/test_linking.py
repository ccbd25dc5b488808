"""Accounts and the hospital's log-in service: linked, prepared, taken away; what a log-in under way remembers."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from sqlmodel import select

from shared.errors import FirstRayError
from sync_server.db.tables import AuditRow
from sync_server.domain import accounts, audit, linking, oidc
from sync_server.domain.accounts import Role
from sync_server.domain.oidc import ATTEMPT_SECONDS, LONGEST_NEXT, Attempts, Identity
from sync_server.hospital import Hospital

ISSUER = "https://id.hospital.example"
PASSWORD = "fifteen quiet ambulances"
NOW = datetime(2026, 11, 27, 3, 0, tzinfo=UTC)
LEE = Identity("4711", frozenset({"seoyeon.lee"}))


@pytest.fixture
def doctor(hospital: Hospital) -> UUID:
    with hospital.database.writing() as session:
        accounts.create_user(session, "chief", "Park Jiho", Role.ADMIN, PASSWORD, "test")
        return accounts.create_user(session, "doctor", "이서연", Role.ER, None, "test").id


def enter(hospital: Hospital, who: Identity = LEE, issuer: str = ISSUER) -> str:
    return linking.log_in(hospital.database, issuer, lambda: who, "10.0.0.1", NOW)


def code(error: pytest.ExceptionInfo[FirstRayError]) -> str:
    assert error.value.action
    return error.value.code


def test_linked_by_subject(hospital: Hospital, doctor: UUID) -> None:
    with hospital.database.writing() as session:
        linking.link(session, doctor, ISSUER, " 4711 ", "user:chief")
        assert linking.subject_of(accounts.account(session, doctor)) == "4711"
    person = accounts.person(hospital.database, enter(hospital), NOW)
    assert person is not None
    assert (person.login, person.role) == ("doctor", Role.ER)


def test_the_same_subject_of_another_issuer_is_somebody_else(hospital: Hospital, doctor: UUID) -> None:
    with hospital.database.writing() as session:
        linking.link(session, doctor, ISSUER, "4711", "user:chief")
    with pytest.raises(FirstRayError) as error:
        enter(hospital, issuer="https://id.another.example")
    assert code(error) == "oidc_no_account"


def test_an_awaited_name_opens_once(hospital: Hospital, doctor: UUID) -> None:
    with hospital.database.writing() as session:
        linking.prepare(session, doctor, "Seoyeon.Lee", "user:chief")
    assert enter(hospital)
    with pytest.raises(FirstRayError) as error:
        enter(hospital, Identity("0815", LEE.names))
    assert code(error) == "oidc_no_account"


def test_taking_the_link_away_ends_sessions_and_leaves_no_way_in(hospital: Hospital, doctor: UUID) -> None:
    with hospital.database.writing() as session:
        linking.link(session, doctor, ISSUER, "4711", "user:chief")
    token = enter(hospital)
    with hospital.database.writing() as session:
        linking.unlink(session, doctor, "user:chief")
    assert accounts.person(hospital.database, token, NOW) is None
    with pytest.raises(FirstRayError):
        enter(hospital)
    with hospital.database.writing() as session:
        accounts.set_password(session, doctor, PASSWORD, "user:chief")
    assert accounts.log_in(hospital.database, "doctor", PASSWORD, "10.0.0.1", NOW)


def test_another_link_takes_the_place_of_the_first(hospital: Hospital, doctor: UUID) -> None:
    with hospital.database.writing() as session:
        linking.link(session, doctor, ISSUER, "4711", "user:chief")
    token = enter(hospital)
    with hospital.database.writing() as session:
        linking.link(session, doctor, ISSUER, "0815", "user:chief")
    assert accounts.person(hospital.database, token, NOW) is None
    with pytest.raises(FirstRayError):
        enter(hospital)
    assert enter(hospital, Identity("0815", frozenset()))


def test_preparing_ends_no_session_of_a_password(hospital: Hospital, doctor: UUID) -> None:
    with hospital.database.writing() as session:
        accounts.set_password(session, doctor, PASSWORD, "user:chief")
    token = accounts.log_in(hospital.database, "doctor", PASSWORD, "10.0.0.1", NOW)
    with hospital.database.writing() as session:
        linking.prepare(session, doctor, "seoyeon.lee", "user:chief")
    assert accounts.person(hospital.database, token, NOW) is not None


def test_one_person_has_one_account(hospital: Hospital, doctor: UUID) -> None:
    with hospital.database.writing() as session:
        other = accounts.find(session, "chief").id
        linking.link(session, doctor, ISSUER, "4711", "user:chief")
        linking.link(session, doctor, ISSUER, "4711", "user:chief")
        with pytest.raises(FirstRayError) as error:
            linking.link(session, other, ISSUER, "4711", "user:chief")
        assert code(error) == "oidc_taken"
        linking.prepare(session, doctor, "lee", "user:chief")
        with pytest.raises(FirstRayError) as error:
            linking.prepare(session, other, "LEE", "user:chief")
        assert code(error) == "oidc_taken"


@pytest.mark.parametrize("text", ["", "  ", "a\nb", "x" * 256])
def test_names_that_are_refused(hospital: Hospital, doctor: UUID, text: str) -> None:
    with hospital.database.writing() as session:
        with pytest.raises(FirstRayError) as error:
            linking.prepare(session, doctor, text, "user:chief")
        assert code(error) == "oidc_name_invalid"
        with pytest.raises(FirstRayError) as error:
            linking.link(session, doctor, ISSUER, text, "user:chief")
        assert code(error) == "oidc_name_invalid"


def test_every_step_is_in_the_audit_log(hospital: Hospital, doctor: UUID) -> None:
    with hospital.database.writing() as session:
        linking.prepare(session, doctor, "seoyeon.lee", "user:chief")
    enter(hospital)
    with hospital.database.writing() as session:
        linking.unlink(session, doctor, "user:chief")
    with hospital.database.reading() as session:
        rows = session.exec(select(AuditRow).order_by(AuditRow.number)).all()[2:]  # type: ignore[arg-type]
        assert [(row.actor, row.action) for row in rows] == [
            ("user:chief", "user.oidc_prepared"),
            ("user:doctor", "user.oidc_linked"),
            ("user:doctor", "log_in"),
            ("user:chief", "user.oidc_unlinked"),
        ]
        assert {row.subject for row in rows} == {str(doctor)}
        assert audit.verify(session).whole


def test_a_service_out_of_reach_is_nobodys_failure(hospital: Hospital, doctor: UUID) -> None:
    def down() -> Identity:
        raise FirstRayError("oidc_unreachable", "It is down.", "Wait.")

    with pytest.raises(FirstRayError, match="down"):
        linking.log_in(hospital.database, ISSUER, down, "10.0.0.1", NOW)
    with hospital.database.reading() as session:
        assert "log_in.failed" not in session.exec(select(AuditRow.action)).all()


def test_a_log_in_under_way_is_believed_for_a_while_and_in_one_piece() -> None:
    clock = [1_000_000.0]
    attempts = Attempts(b"s" * 32, lambda: clock[0])
    attempt = oidc.begin("/board")
    sealed = attempts.seal(attempt)
    assert attempts.open(sealed, attempt.state) == attempt
    clock[0] += ATTEMPT_SECONDS - 1
    assert attempts.open(sealed, attempt.state) == attempt
    head, body, signature = sealed.split(".")
    others = (
        (sealed, oidc.begin("/").state),
        ("", attempt.state),
        (f"{head}.{body}x.{signature}", attempt.state),
        (Attempts(b"t" * 32, lambda: clock[0]).seal(attempt), attempt.state),
    )
    for kept, state in others:
        with pytest.raises(FirstRayError) as error:
            attempts.open(kept, state)
        assert code(error) == "oidc_expired"
    clock[0] += 1
    with pytest.raises(FirstRayError):
        attempts.open(sealed, attempt.state)


def test_what_is_kept_fits_into_a_cookie() -> None:
    longest = "/" + "a" * (LONGEST_NEXT - 1)
    attempt = oidc.begin(longest)
    assert attempt.next == longest
    assert len(Attempts(b"s" * 32).seal(attempt)) < 3000
    assert oidc.begin(longest + "a").next == "/"


def test_the_challenge_is_that_of_the_standard() -> None:
    """The example of RFC 7636, appendix B."""
    attempt = oidc.Attempt("", "", "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "/")
    assert attempt.challenge == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
