from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_app.store.store import Store
from tests.unit.edge_app.store.samples import Hospital, check_chains, open_store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    """An empty store; its chains must be whole at the end."""
    store = open_store(folder)
    yield store
    check_chains(store)
    store.close()


@pytest.fixture
def hospital() -> Hospital:
    return Hospital()
