"""One real server process, which all attacks of this folder share."""

import json
from collections.abc import Iterator

import httpx
import pytest

from sync_server.domain import accounts
from sync_server.domain.accounts import Role
from sync_server.hospital import Hospital
from tests.contract.sync_server.abuse.attack import PASSWORD
from tests.contract.sync_server.ambulance import Ambulance
from tests.hospital.process import ServerProcess


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """No attack may be an error of the server, nor a password come into its log."""
    with ServerProcess(tmp_path_factory.mktemp("server")) as made:
        yield made
    log = made.log.read_text()
    assert PASSWORD not in log
    for line in log.splitlines():
        assert json.loads(line)["level"] != "ERROR", line


@pytest.fixture(scope="package")
def hospital(server: ServerProcess) -> Iterator[Hospital]:
    made = server.open()
    with made.database.writing() as session:
        for login, role in (("doctor", Role.ER), ("admin", Role.ADMIN)):
            accounts.create_user(session, login, "Someone", role, PASSWORD, "test", "en")
    yield made
    made.close()


@pytest.fixture(scope="package")
def ambulance(hospital: Hospital, server: ServerProcess) -> Iterator[Ambulance]:
    with httpx.Client(base_url=server.url, timeout=60, trust_env=False) as client:
        yield Ambulance(hospital, client)
