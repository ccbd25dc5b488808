"""A sync client between an outbox and a fake hospital, watched."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from edge_app.sync import Credentials, Hospital, LinkKind, LinkState, StaticCredentials, SyncClient
from shared.hospital import ReleaseOffer, Revocation
from tests.fake_hospital.memory_outbox import MemoryOutbox
from tests.fake_hospital.server import FakeHospital


@dataclass
class Rig:
    """What a running client has said so far."""

    states: list[LinkState] = field(default_factory=list)
    revocations: list[Revocation] = field(default_factory=list)
    releases: list[ReleaseOffer] = field(default_factory=list)
    client: SyncClient = field(init=False)

    def codes(self) -> set[str]:
        """Codes of all errors shown."""
        return {state.last_error.code for state in self.states if state.last_error is not None}

    def kinds(self) -> list[LinkKind]:
        """Kinds of link shown, each change once."""
        kinds = [state.kind for state in self.states]
        return [kind for index, kind in enumerate(kinds) if index == 0 or kinds[index - 1] is not kind]


@contextlib.contextmanager
def syncing(
    outbox: MemoryOutbox,
    hospital: FakeHospital,
    *,
    url: str | None = None,
    ca_pem: str | None = None,
    credentials: Credentials | None = None,
) -> Iterator[Rig]:
    """Run a client; ``url`` leads to the hospital by another way."""
    rig = Rig()
    rig.client = SyncClient(
        outbox,
        Hospital(url or hospital.url, ca_pem, hospital.receipt_keys),
        credentials or StaticCredentials(hospital.token),
        on_state=rig.states.append,
        on_revoked=rig.revocations.append,
        on_release=rig.releases.append,
    )
    outbox.changed = rig.client.wake
    rig.client.start()
    try:
        yield rig
    finally:
        outbox.changed = lambda: None
        rig.client.stop()


def until(what: Callable[[], Any], timeout: float = 120.0) -> None:
    """Wait until ``what()`` is true; fails the test otherwise."""
    end = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
