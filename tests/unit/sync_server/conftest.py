"""A hospital on each database."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_server.hospital import Hospital
from tests.hospital import DATABASES, Cluster, TestDevice, cluster_or_skip, enrolled_device, new_hospital


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    yield from cluster_or_skip()


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest) -> str | None:
    """URL of a new database; None for SQLite in the test's folder."""
    if request.param == "sqlite":
        return None
    postgres: Cluster = request.getfixturevalue("postgres")
    return postgres.with_tables()


@pytest.fixture
def hospital(database: str | None, tmp_path: Path) -> Iterator[Hospital]:
    made = new_hospital(tmp_path, database)
    yield made
    made.close()


@pytest.fixture
def device(hospital: Hospital) -> TestDevice:
    return enrolled_device(hospital)
