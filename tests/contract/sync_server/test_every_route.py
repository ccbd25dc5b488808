"""Every route of the hospital denies by default: walked from the application itself, so that a new one is walked too.

What may be asked without credentials stands in :data:`PUBLIC`, and nowhere else.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient
from sqlmodel import col, select
from starlette.routing import Mount

from sync_server.app import make_app
from sync_server.db.tables import AuditRow
from sync_server.domain import accounts, devices
from sync_server.domain.accounts import Role
from sync_server.domain.tokens import TOKEN_SECONDS, Tokens
from sync_server.hospital import Hospital
from tests.contract.sync_server.ambulance import TUS, Ambulance, served
from tests.hospital import new_hospital

PUBLIC = {
    "GET /healthz",
    "GET /readyz",
    "GET /v1/openapi.json",
    "GET /v1/enrolment",
    "POST /v1/enrolment",
    "POST /v1/token",
    "GET /login",
    "POST /login",
    "GET /login/oidc",
    "GET /login/oidc/callback",
    "POST /language",
    "GET /static/fonts/{weight}.ttf",
    "/static",
}
"""Routes that need no credentials: probes, the API's description, what gives credentials, and static files."""
GUARDED_OTHERWISE = {"GET /metrics"}
"""By the address of who asks, or a token of its own: see test_health."""
OPEN_TO_ALL_STAFF = {
    "GET /",
    "GET /board",
    "GET /board/live",
    "GET /session",
    "POST /logout",
    "GET /account",
    "POST /account/password",
}
"""Pages for both roles; so is everything below ``/runs`` and ``/films``."""

HARMLESS = ("log_in", "log_in.failed", "user.created")
UUID = "01890000-0000-7000-8000-000000000000"
FILLED = {"sha256": "ab" * 32, "id": "ab" * 16, "release": "2026-01-01.1"}
"""Values of path parameters that pass for real ones; every other one is a UUID."""


@dataclass(frozen=True)
class Route:
    """One method of one route."""

    method: str
    path: str

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def url(self) -> str:
        return re.sub(r"{(\w+)}", lambda found: FILLED.get(found[1], UUID), self.path)


@dataclass
class House:
    """A hospital that is served, with credentials of every kind."""

    hospital: Hospital
    client: TestClient
    ambulance: Ambulance
    routes: list[Route] = field(default_factory=list)

    def ask(self, route: Route, cookie: str = "", token: str = "", **headers: str) -> httpx.Response:
        given = {"Accept": "text/html", **TUS, **headers}
        given |= {"Cookie": f"firstray={cookie}"} if cookie else {}
        given |= {"Authorization": f"Bearer {token}"} if token else {}
        return self.client.request(route.method, route.url, headers=given, follow_redirects=False)

    def log_in(self, login: str, role: Role) -> str:
        with self.hospital.database.writing() as session:
            accounts.create_user(session, login, "Someone", role, "fifteen quiet ambulances", "test", "en")
        return accounts.log_in(self.hospital.database, login, "fifteen quiet ambulances", "10.0.0.1")


def routes_of(app: FastAPI) -> list[Route]:
    """All of them, HEAD left out where GET is there too."""
    found = []
    for context in iter_route_contexts(app.routes):
        if isinstance(context.original_route, Mount):
            continue
        methods = set(context.methods or ())
        found += [
            Route(method, str(context.path)) for method in sorted(methods - ({"HEAD"} if "GET" in methods else set()))
        ]
    return found


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    hospital = new_hospital(tmp_path_factory.mktemp("hospital"))
    with served(hospital) as client:
        yield House(hospital, client, Ambulance(hospital, client), routes_of(make_app(hospital=hospital)))
    hospital.close()


@pytest.fixture
def untouched(house: House) -> Iterator[None]:
    """Nothing is changed by what is asked during the test: every change is in the audit log."""

    def state() -> list[str]:
        with house.hospital.database.reading() as session:
            return list(session.exec(select(AuditRow.action).where(col(AuditRow.action).not_in(HARMLESS))))

    before = state()
    yield
    assert state() == before


def is_api(route: Route) -> bool:
    return route.path.startswith("/v1/")


def guarded(house: House, wanted: Callable[[Route], bool]) -> list[Route]:
    found = [route for route in house.routes if route.name not in PUBLIC | GUARDED_OTHERWISE and wanted(route)]
    assert len(found) > 5, "the walk found hardly any route: it tests nothing"
    return found


def is_problem(answer: httpx.Response) -> bool:
    kind = answer.headers.get("content-type", "")
    return answer.request.method == "HEAD" or (kind == "application/problem+json" and "code" in answer.json())


def test_the_walk_sees_every_router(house: House) -> None:
    names = {route.name for route in house.routes}
    for name in ("POST /v1/events", "GET /v1/inbox", "PATCH /v1/images/{id}", "GET /board", "POST /admin/users"):
        assert name in names
    lost = {name for name in PUBLIC | GUARDED_OTHERWISE | OPEN_TO_ALL_STAFF if name not in names} - {"/static"}
    assert not lost, f"these routes are no more: {lost}"


def test_without_credentials_devices_hear_401(house: House, untouched: None) -> None:
    for route in guarded(house, is_api):
        answer = house.ask(route)
        assert answer.status_code == 401, route
        assert is_problem(answer), route
        assert answer.headers["WWW-Authenticate"].startswith("Bearer"), route


def test_without_credentials_people_are_sent_to_the_log_in(house: House, untouched: None) -> None:
    for route in guarded(house, lambda route: not is_api(route)):
        answer = house.ask(route)
        if route.method == "GET":
            assert answer.status_code == 303, route
            assert answer.headers["Location"].startswith("/login?next="), route
        else:
            assert answer.status_code == 401, route
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"], route


def test_a_session_is_no_token(house: House, untouched: None) -> None:
    cookie = house.log_in("cookie.admin", Role.ADMIN)
    for route in guarded(house, is_api):
        assert house.ask(route, cookie=cookie).status_code == 401, route
        assert house.ask(route, token=cookie).status_code == 401, route


def test_a_token_is_no_session(house: House, untouched: None) -> None:
    for route in guarded(house, lambda route: not is_api(route)):
        for given in ({"token": house.ambulance.token}, {"cookie": house.ambulance.token}):
            assert house.ask(route, **given).status_code in (303, 401), route
    # Nor does it let in where the page would be forged, for there is no session whose token it could carry.
    for route in guarded(house, lambda route: route.method == "POST" and not is_api(route)):
        answer = house.ask(route, token=house.ambulance.token, **{"X-CSRF-Token": house.ambulance.token})
        assert answer.status_code == 401, route


def test_the_er_cannot_administer(house: House, untouched: None) -> None:
    cookie = house.log_in("er.alone", Role.ER)
    csrf = csrf_of(house, cookie)
    pages = guarded(house, lambda route: route.path.startswith("/admin"))
    for route in pages:
        answer = house.ask(route, cookie=cookie, **{"X-CSRF-Token": csrf})
        assert answer.status_code == 403, route
        assert "admins only" in answer.text, route


def test_whoever_is_no_page_of_the_er_is_an_admins(house: House) -> None:
    """A new page is for admins, for all staff by the list above, or this fails."""
    for route in guarded(house, lambda route: not is_api(route)):
        for_all = route.name in OPEN_TO_ALL_STAFF or route.path.startswith(("/runs/{encounter}", "/films/{film}"))
        assert for_all or route.path.startswith("/admin"), route


def test_changes_without_the_sessions_token_are_refused(house: House, untouched: None) -> None:
    cookie = house.log_in("forged.admin", Role.ADMIN)
    other = csrf_of(house, house.log_in("other.admin", Role.ADMIN))
    for route in guarded(house, lambda route: not is_api(route) and route.method != "GET"):
        for headers in ({}, {"X-CSRF-Token": other}, {"X-CSRF-Token": ""}):
            answer = house.ask(route, cookie=cookie, **headers)
            assert answer.status_code == 403, (route, headers)
        csrf = csrf_of(house, cookie)
        for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}, {"Origin": "null"}):
            answer = house.ask(route, cookie=cookie, **{"X-CSRF-Token": csrf}, **headers)
            assert answer.status_code == 403, (route, headers)


def test_the_public_changes_are_refused_from_another_site(house: House, untouched: None) -> None:
    form = {"login": "doctor", "password": "wrong", "language": "en"}
    for path in ("/login", "/language"):
        answer = house.client.post(path, data=form, headers={"Sec-Fetch-Site": "cross-site"}, follow_redirects=False)
        assert answer.status_code == 403 or "log-in" in answer.text
        assert "set-cookie" not in answer.headers


def test_tokens_that_ended_or_were_never_ours_let_nobody_in(house: House, tmp_path: Path, untouched: None) -> None:
    expired = Tokens(house.hospital, now=lambda: 1e9)
    house.client.app.state.tokens = expired  # type: ignore[attr-defined]
    ours = house.ambulance
    assertion = ours.assertion(exp=int(1e9) + TOKEN_SECONDS - 10)
    old = ours.ask_token(assertion).json()["access_token"]
    house.client.app.state.tokens = Tokens(house.hospital)  # type: ignore[attr-defined]
    other = new_hospital(tmp_path)
    with served(other) as client:
        foreign = Ambulance(other, client).token
    other.close()
    head, _, signature = ours.token.partition(".")
    altered = f"{head}.{signature[:-4]}{'AAAA' if signature[-4:] != 'AAAA' else 'BBBB'}"
    assert house.ask(Route("GET", "/v1/inbox"), token=ours.token).status_code == 200
    for route in guarded(house, is_api):
        for token, code in ((old, "token_expired"), (foreign, "token_invalid"), (altered, "token_invalid")):
            answer = house.ask(route, token=token)
            assert answer.status_code == 401, route
            assert answer.request.method == "HEAD" or answer.json()["code"] == code, route


def test_a_revoked_device_and_an_ended_session_are_shut_out_of_everything(house: House) -> None:
    gone = Ambulance(house.hospital, house.client, "Ambulance 99")
    devices.revoke(house.hospital, gone.id, "user:test", wipe=True)
    for route in guarded(house, is_api):
        answer = house.ask(route, token=gone.token)
        assert answer.status_code == 403, route
        assert answer.request.method == "HEAD" or answer.json()["wipe"] is True, route
    cookie = house.log_in("leaver", Role.ADMIN)
    with house.hospital.database.writing() as session:
        accounts.set_disabled(session, accounts.find(session, "leaver").id, True, "user:test")
    for route in guarded(house, lambda route: not is_api(route)):
        assert house.ask(route, cookie=cookie).status_code in (303, 401), route


def csrf_of(house: House, cookie: str) -> str:
    """The session's token, as its pages carry it."""
    found = accounts.person(house.hospital.database, cookie)
    assert found is not None
    return found.csrf
