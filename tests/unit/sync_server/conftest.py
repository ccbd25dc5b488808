"""A hospital on each database."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from sync_server.domain import accounts
from sync_server.hospital import Hospital
from tests.hospital import DATABASES, Cluster, TestDevice, cluster_or_skip, enrolled_device, new_hospital


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    yield from cluster_or_skip()


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """URL of a new database; None for SQLite in the test's folder."""
    if request.param == "sqlite":
        yield None
        return
    postgres: Cluster = request.getfixturevalue("postgres")
    with postgres.lent() as url:
        yield url


@pytest.fixture
def hospital(database: str | None, tmp_path: Path) -> Iterator[Hospital]:
    made = new_hospital(tmp_path, database)
    yield made
    made.close()


@pytest.fixture
def device(hospital: Hospital) -> TestDevice:
    return enrolled_device(hospital)


@pytest.fixture(scope="session", autouse=True)
def quick_passwords() -> Iterator[None]:
    """A hash that costs little: these tests make hundreds. What the real one costs, ``test_password_cost`` looks at."""
    quick = PasswordHash((Argon2Hasher(time_cost=1, memory_cost=64, parallelism=1),))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accounts, "_HASH", quick)
        patch.setattr(accounts, "_NOBODY", quick.hash("nobody's"))
        yield
