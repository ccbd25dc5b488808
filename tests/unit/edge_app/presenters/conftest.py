from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_app.store.store import Store
from tests.unit.edge_app.presenters.rig import Rig
from tests.unit.edge_app.store.samples import check_chains, open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store; its chains must be whole at the end."""
    store = open_store(tmp_path / "store")
    yield store
    check_chains(store)
    store.close()


@pytest.fixture
def rig(store: Store) -> Iterator[Rig]:
    made = Rig(store)
    yield made
    made.desk.close()
