"""A new database of each kind for tests over HTTP."""

from collections.abc import Iterator

import pytest

from tests.hospital import DATABASES, Cluster, cluster_or_skip


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
