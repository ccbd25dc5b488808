"""People change their own password: what is asked of them, what ends with it, and guessing that is slowed."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlmodel import select

from shared.errors import FirstRayError
from sync_server.app import make_app
from sync_server.db.tables import AccountRow, AuditRow
from sync_server.domain import accounts, guessing
from sync_server.domain.accounts import Role
from sync_server.hospital import Hospital
from tests.hospital import new_hospital

OLD, NEW = "fifteen quiet ambulances", "forty loud helicopters"
HTML = {"accept": "text/html"}


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = new_hospital(tmp_path, listen=False)
    with made.database.writing() as session:
        accounts.create_user(session, "doctor", "이서연", Role.ER, OLD, "test", "en")
        accounts.create_user(session, "chief", "Park Jiho", Role.ADMIN, OLD, "test", "en")
    yield made
    made.close()


def browser(hospital: Hospital, login: str = "doctor", password: str = OLD) -> TestClient:
    """Somebody who is logged in."""
    client = TestClient(make_app(hospital=hospital), follow_redirects=False, headers=HTML)
    answer = client.post("/login", data={"login": login, "password": password})
    assert answer.status_code == 303, answer.text
    return client


def change(client: TestClient, old: str = OLD, new: str = NEW, again: str | None = None) -> tuple[int, str]:
    found = re.search(r'name="csrf" value="([^"]+)"', client.get("/account").text)
    assert found
    form = {"csrf": found[1], "old": old, "new": new, "again": new if again is None else again}
    answer = client.post("/account/password", data=form)
    page = answer if answer.status_code != 303 else client.get(answer.headers["location"])
    return answer.status_code, page.text


def stored(hospital: Hospital, login: str = "doctor") -> str | None:
    with hospital.database.reading() as session:
        return session.exec(select(AccountRow.password).where(AccountRow.login == login)).one()


@pytest.mark.parametrize("login", ["doctor", "chief"])
def test_whoever_it_is_changes_their_own_password_and_nobody_elses(hospital: Hospital, login: str) -> None:
    here, elsewhere = browser(hospital, login), browser(hospital, login)
    other = "chief" if login == "doctor" else "doctor"
    colleague, kept = browser(hospital, other), stored(hospital, other)
    assert 'href="/account"' in here.get("/board").text
    status, page = change(here)
    assert (status, "Your password was changed" in page) == (303, True)
    assert here.get("/board").status_code == 200, "this log-in goes on"
    assert elsewhere.get("/board").status_code == 303, "the others have ended"
    assert colleague.get("/board").status_code == 200
    assert stored(hospital, other) == kept
    assert browser(hospital, login, NEW)
    with pytest.raises(FirstRayError, match="do not fit"):
        accounts.log_in(hospital.database, login, OLD, "10.0.0.1")
    with hospital.database.reading() as session:
        rows = session.exec(select(AuditRow).where(AuditRow.action == "user.password_changed")).all()
        assert [(row.actor, row.details["login"]) for row in rows] == [(f"user:{login}", login)]
        texts = [row.model_dump_json() for row in session.exec(select(AuditRow))]
    assert not [text for text in texts if OLD in text or NEW in text]


@pytest.mark.parametrize(
    ("old", "new", "again", "status", "said"),
    [
        ("not my password", NEW, NEW, 403, "The present password is not right"),
        ("", NEW, NEW, 403, "The present password is not right"),
        (OLD, NEW, NEW + ".", 422, "The two new passwords are not the same"),
        (OLD, "elevenchars", "elevenchars", 422, "A password has 12 to 256 letters"),
        (OLD, "", "", 422, "A password has 12 to 256 letters"),
        (OLD, "x" * 257, "x" * 257, 422, "A password has 12 to 256 letters"),
        (OLD, "the doctor 2026!", "the doctor 2026!", 422, "too easy to guess"),
        (OLD, "aaaabbbbaaaa", "aaaabbbbaaaa", 422, "too easy to guess"),
    ],
)
def test_what_is_refused_changes_nothing_and_is_not_shown_again(
    hospital: Hospital, old: str, new: str, again: str, status: int, said: str
) -> None:
    here, elsewhere, kept = browser(hospital), browser(hospital), stored(hospital)
    answered, page = change(here, old, new, again)
    assert answered == status
    assert said in page
    assert not [typed for typed in (old, new, again) if typed and typed in page]
    assert stored(hospital) == kept
    assert elsewhere.get("/board").status_code == 200


def test_who_finds_a_browser_open_cannot_go_on_guessing(hospital: Hospital) -> None:
    here = browser(hospital)
    for _ in range(guessing.MOST_BY_BOTH):
        assert change(here, "guessed")[0] == 403
    for old in ("guessed", OLD):
        status, page = change(here, old)
        assert (status, "too many" in page) == (429, True)
    with hospital.database.reading() as session:
        rows = session.exec(select(AuditRow).where(AuditRow.action == "log_in.failed")).all()
    assert [row.details["password_change"] for row in rows] == ["doctor"] * guessing.MOST_BY_BOTH
    # An admin's new password lets them in again at once.
    with hospital.database.writing() as session:
        accounts.set_password(session, accounts.find(session, "doctor").id, NEW, "user:chief")
    assert change(browser(hospital, password=NEW), NEW, OLD)[0] == 303


def test_an_account_without_a_password_is_told_so(hospital: Hospital) -> None:
    here = browser(hospital)
    with hospital.database.writing() as session:
        row = accounts.find(session, "doctor")
        row.password = None
        session.add(row)
    page = here.get("/account").text
    assert "This account has no password here" in page
    assert 'type="password"' not in page
    status, page = change(here)
    assert (status, "no password here" in page) == (422, True)
    assert stored(hospital) is None


def test_a_session_that_ended_meanwhile_changes_nothing(hospital: Hospital) -> None:
    with pytest.raises(FirstRayError) as caught:
        accounts.change_password(hospital.database, "no token", OLD, NEW, "10.0.0.1")
    assert caught.value.code == "session_ended"
