"""Texts and numbers that no page's form has, on both databases: refused with a reason, never an error of the server."""

from collections.abc import Iterator
from uuid import UUID

import httpx
import pytest
from fastapi.testclient import TestClient

from sync_server.domain import accounts
from sync_server.domain.accounts import Role
from sync_server.hospital import Hospital
from tests.contract.sync_server.ambulance import served
from tests.hospital import DATABASES, Cluster, enrolled_device, new_hospital

PASSWORD = "fifteen quiet ambulances"
NUL = "a\x00b"
ADDRESSES = [
    f"{path}?{name}={value}"
    for path, names in (
        ("/admin/histories", ("q", "finding", "mark", "since", "until", "device", "sort", "of")),
        ("/admin/audit", ("actor", "action", "subject", "mark", "since", "until")),
        ("/admin/merges/new", ("run",)),
        ("/login", ("next",)),
    )
    for name in names
    for value in ("a%00b", "%ED%A0%80", "%FF%FE", "0001-01-01", "9999-12-31", "-1", "9" * 400, "W10", "e30", "%25", "'")
]


@pytest.fixture(params=DATABASES, scope="module")
def hospital(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    database = None
    if request.param == "postgresql":
        postgres: Cluster = request.getfixturevalue("postgres")
        database = postgres.with_tables()
    made = new_hospital(tmp_path_factory.mktemp("hospital"), database)
    with made.database.writing() as session:
        accounts.create_user(session, "admin", "Park Jiho", Role.ADMIN, PASSWORD, "test", "en")
    yield made
    made.close()


@pytest.fixture(scope="module")
def admin(hospital: Hospital) -> Iterator[TestClient]:
    """A browser of an admin; every change carries the session's token."""
    token = accounts.log_in(hospital.database, "admin", PASSWORD, "10.0.0.1")
    person = accounts.person(hospital.database, token)
    assert person is not None
    with served(hospital) as client:
        client.headers |= {"Accept": "text/html", "X-CSRF-Token": person.csrf}
        client.cookies.set("firstray", token)
        yield client


@pytest.fixture(scope="module")
def run(hospital: Hospital) -> UUID:
    device = enrolled_device(hospital)
    _, encounter = device.run()
    device.send()
    return encounter


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_address_breaks_a_page(admin: TestClient, address: str) -> None:
    answer = admin.get(address, follow_redirects=False)
    assert answer.status_code in (200, 422, 404), answer.status_code
    assert "<html" in answer.text


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/login", {"login": NUL, "password": "x"}),
        ("/login", {"login": "x", "password": NUL}),
        ("/runs/{run}/message", {"text": NUL}),
        ("/admin/histories/delete", {"run": "{run}", "reason": NUL}),
        ("/admin/histories/export", {"format": "csv", "scope": "all", "filter": "q=a%00b"}),
        ("/admin/histories/export", {"format": "zip", "scope": "all", "filter": "since=0001-01-01"}),
        ("/admin/devices/code", {"name": NUL, "ring": "general"}),
        ("/admin/devices/code", {"name": "x", "ring": NUL}),
        ("/admin/users", {"login": NUL, "name": "x"}),
        ("/admin/users", {"login": "xy", "name": NUL}),
        ("/admin/releases/assign", {"ring": NUL, "release": "x"}),
        ("/admin/releases/assign", {"ring": "general", "release": NUL}),
        ("/admin/releases/rollback", {"ring": NUL}),
        ("/admin/releases", {"file": NUL}),
    ],
)
def test_a_nul_is_refused_everywhere(admin: TestClient, run: UUID, path: str, form: dict[str, str]) -> None:
    filled = {name: value.replace("{run}", str(run)) for name, value in form.items()}
    answer: httpx.Response = admin.post(path.replace("{run}", str(run)), data=filled, follow_redirects=False)  # type: ignore[assignment]
    refused = answer.status_code in (401, 404, 422)
    assert refused, f"{answer.status_code}: {answer.text[:300]}"
