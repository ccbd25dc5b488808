"""What the store's tests share: a diagnosis, an arrival, a hospital that signs, and a judge of the chains."""

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlmodel import col, select

from edge_app.capture.intake import Arrival, Source
from edge_app.store.keys import MasterKey
from edge_app.store.store import Store
from edge_app.store.tables import ChainRow, EventRow
from shared.boxes import Box
from shared.calibration import State
from shared.diagnosis import Diagnosis, Ranked
from shared.events import Event, Position, first_break
from shared.findings import KEYS
from shared.hospital import BatchAnswer, Outcome, OutcomeStatus
from shared.quality import Verdict
from shared.receipts import HeldEvent, HeldImage, Receipt, key_id, sign_receipt

SECRET = bytes(range(32))


def open_store(folder: Path, **options: bool | int) -> Store:
    return Store.open(folder, MasterKey(SECRET), **{"reserve": 0, "check": False} | options)


def diagnosis(*likely: str, urgent: tuple[str, ...] = (), sha256: str = "0" * 64, release: str = "test-1") -> Diagnosis:
    likely = likely or ("Mass",)
    return Diagnosis(
        probabilities={key: 0.9 if key in likely else 0.1 for key in KEYS},
        states={key: State.LIKELY if key in likely else State.UNLIKELY for key in KEYS},
        top3=tuple(Ranked(finding=key, probability=0.9) for key in likely[:3]),
        boxes=tuple(Box(finding=key, score=0.8, x=0.1, y=0.2, w=0.3, h=0.4, source="detector") for key in likely),
        verdict=Verdict(problems=(), scores={"chest": 0.99}),
        urgent=urgent,
        prevalence="NIH",
        release=release,
        precision="int8",
        runtime="litert",
        timing_ms={"total": 31.5},
        sha256=sha256,
    )


def arrival(source: Source = Source.DICOM, station: str | None = "XRAY1") -> Arrival:
    return Arrival(source, station, datetime.now(UTC))


def receive(store: Store, data: bytes | None = None, **options: Source | str | None) -> UUID:
    with store.spool() as spool:
        spool.write(os.urandom(1000) if data is None else data)
        return spool.commit(arrival(**options))


def events(store: Store) -> list[EventRow]:
    with store._database.reading() as session:
        return list(session.exec(select(EventRow).order_by(col(EventRow.id))))


def check_chains(store: Store) -> int:
    """Every chain is whole from its first event to where it is said to end; returns the number of all events."""
    rows = events(store)
    with store._database.reading() as session:
        chains = session.exec(select(ChainRow)).all()
    assert {row.chain for row in rows} == {chain.chain for chain in chains}
    for chain in chains:
        own = sorted((row for row in rows if row.chain == chain.chain), key=lambda row: row.number)
        assert [row.number for row in own] == list(range(1, chain.number + 1))
        assert own[-1].hash == chain.hash
        after = Position(chain=chain.chain, number=0)
        for row in own:
            if row.body is None:
                after = Position(chain=row.chain, number=row.number, hash=row.hash)
                continue
            event = Event.model_validate_json(row.body)
            assert (event.hash, event.number, event.device) == (row.hash, row.number, store.device)
            assert first_break(after, [event]) is None
            after = event.position
    return len(rows)


class Hospital:
    """Signs what it is given."""

    def __init__(self, key: Ed25519PrivateKey | None = None) -> None:
        self.key = key or Ed25519PrivateKey.generate()
        self.keys = {key_id(self.key.public_key()): self.key.public_key()}

    def receipt(self, device: UUID, holds: HeldEvent | HeldImage) -> Receipt:
        return sign_receipt(self.key, device, holds, datetime.now(UTC))

    def stored(self, event: Event, device: UUID | None = None, hash: str | None = None) -> Outcome:
        held = HeldEvent(chain=event.chain, number=event.number, hash=hash or event.hash)
        receipt = self.receipt(device or event.device, held)
        return Outcome(number=event.number, status=OutcomeStatus.STORED, receipt=receipt)

    def take(self, store: Store, limit: int = 500) -> int:
        """Hold everything that waits; returns how many events that were."""
        taken = 0
        while batch := store.outbox.next_events(limit):
            outcomes = tuple(self.stored(event) for event in batch)
            store.outbox.record_answer(answer(outcomes, batch), batch[0].chain, self.keys)
            taken += len(batch)
        return taken

    def take_uploads(self, store: Store) -> list[str]:
        """Hold every image that may be sent; returns what each was, in order."""
        order = []
        while uploads := store.outbox.next_uploads(limit=1):
            with store.outbox.open_blob(uploads[0].sha256) as blob:
                data = blob.read()
            sha256 = hashlib.sha256(data).hexdigest()
            store.outbox.upload_held(self.receipt(store.device, HeldImage(sha256=sha256, size=len(data))), self.keys)
            order.append(uploads[0].kind.value)
        return order


def answer(outcomes: Iterable[Outcome], batch: list[Event]) -> BatchAnswer:
    return BatchAnswer(outcomes=tuple(outcomes), expected=batch[-1].position)


def all_bytes(folder: Path) -> Iterable[tuple[Path, bytes]]:
    """Every file under the folder with what is in it."""
    for path in sorted(folder.rglob("*")):
        with suppress(IsADirectoryError):
            yield path, path.read_bytes()
