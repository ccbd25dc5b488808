"""PostgreSQL for tests over HTTP."""

from collections.abc import Iterator

import pytest

from tests.hospital import Cluster, cluster_or_skip


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    yield from cluster_or_skip()
