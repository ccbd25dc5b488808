"""Every route below /admin: nobody without a log-in, nobody of the ER, nothing changed without the session's token."""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from sqlmodel import select

from sync_server.app import make_app
from sync_server.db.tables import AuditRow
from sync_server.hospital import Hospital
from sync_server.web.admin import audit_log, devices, histories, overview, patients, releases, users
from tests.hospital import new_hospital
from tests.web.scene import PASSWORD, accounts_of

ROUTES = [
    (
        method,
        f"/admin{route.path}".format(device=UUID(int=1), account=UUID(int=1), merge=UUID(int=1), reading=UUID(int=1)),
    )
    for part in (overview, histories, patients, devices, users, releases, audit_log)
    for route in part.router.routes
    if isinstance(route, APIRoute)
    for method in sorted(route.methods)
]


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    made = new_hospital(tmp_path_factory.mktemp("hospital"), listen=False)
    accounts_of(made)
    yield made
    made.close()


def client(hospital: Hospital, login: str | None) -> TestClient:
    made = TestClient(make_app(hospital=hospital), follow_redirects=False)
    if login is not None:
        assert made.post("/login", data={"login": login, "password": PASSWORD}).headers["location"] == "/"
    return made


def entries(hospital: Hospital) -> list[str]:
    with hospital.database.reading() as session:
        return list(session.exec(select(AuditRow.action)).all())


def test_the_routes_are_those_of_every_page() -> None:
    assert len(ROUTES) == len(set(ROUTES)) >= 25
    assert {path.split("/")[2] for _, path in ROUTES if path.count("/") > 1} == {
        "histories", "merges", "devices", "users", "releases", "audit", "readings",
    }  # fmt: skip


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_nobody_comes_in_without_a_log_in(hospital: Hospital, method: str, path: str) -> None:
    before = entries(hospital)
    answer = client(hospital, None).request(method, path, headers={"Accept": "text/html"})
    if method == "GET":
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/login")
    else:
        assert answer.status_code == 401
    assert entries(hospital) == before


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_the_er_is_refused(hospital: Hospital, method: str, path: str) -> None:
    er = client(hospital, "doctor")
    before = entries(hospital)
    answer = er.request(method, path)
    assert answer.status_code == 403
    assert entries(hospital) == before


@pytest.mark.parametrize("path", [path for method, path in ROUTES if method == "POST"])
def test_an_admin_changes_nothing_without_the_token(hospital: Hospital, path: str) -> None:
    admin = client(hospital, "admin")
    before = entries(hospital)
    for headers in ({}, {"X-CSRF-Token": "guessed"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = admin.post(path, headers=headers)
        assert answer.status_code == 403
        assert "csrf_failed" in answer.text
    assert entries(hospital) == before


@pytest.mark.parametrize(
    "query", ["mark=%00", "mark=AAAA", "since=never", "finding=Hernia", "device=1", "sort=sex", "of=-1"]
)
def test_an_address_that_makes_no_sense_is_refused_in_words(hospital: Hospital, query: str) -> None:
    answer = client(hospital, "admin").get(f"/admin/histories?{query}")
    assert answer.status_code == 422
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


def test_pages_are_kept_by_no_cache(hospital: Hospital, tmp_path: Path) -> None:
    answer = client(hospital, "admin").get("/admin/histories")
    assert answer.headers["cache-control"] == "no-store"
