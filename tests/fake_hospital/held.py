"""What the fake hospital holds, and the contract's rules for taking it."""

import hashlib
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.events import Delete, Event, Position, Put, first_break
from shared.hospital import (
    BatchAnswer,
    Content,
    EventBatch,
    ImageMetadata,
    Inbox,
    InboxItem,
    Outcome,
    OutcomeStatus,
)
from shared.receipts import HeldEvent, HeldImage, Receipt, key_id, sign_receipt


@dataclass
class Incoming:
    """An upload under way."""

    metadata: ImageMetadata
    size: int
    body: bytearray = field(default_factory=bytearray)


class Held:
    """Events by chain, images by SHA-256, uploads under way, the inbox. All methods may be called by any thread."""

    def __init__(self) -> None:
        self.key = Ed25519PrivateKey.generate()
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.refuse: Callable[[Event], str | None] = lambda event: None
        """Gives the code with which an event is refused, or None."""
        self.items: list[InboxItem] = []
        self.lose_disk()

    def lose_disk(self) -> None:
        """Forget every event and image, as after a restore of an empty database; the keys stay."""
        with self.lock:
            self.chains: dict[UUID, list[Event]] = {}
            self.devices: dict[UUID, UUID] = {}
            self.images: dict[str, bytes] = {}
            self.metadata: dict[str, ImageMetadata] = {}
            self.uploads: dict[str, Incoming] = {}
            self.deliveries: list[tuple[UUID, int]] = []
            """(chain, number) of each event as it came, repetitions included."""

    def snapshot(self) -> dict[str, Any]:
        """A backup of events and images."""
        with self.lock:
            chains = {name: list(chain) for name, chain in self.chains.items()}
            return {"chains": chains, "images": dict(self.images), "metadata": dict(self.metadata)}

    def put_back(self, backup: dict[str, Any]) -> None:
        """Go back to a backup; uploads under way are gone."""
        with self.lock:
            self.chains, self.images, self.metadata = backup["chains"], backup["images"], backup["metadata"]
            self.uploads.clear()

    def take(self, batch: EventBatch, key: Ed25519PrivateKey) -> BatchAnswer:
        """Store a batch, event by event."""
        with self.changed:
            chain = self.chains.setdefault(batch.events[0].chain, [])
            outcomes = []
            broken: str | None = None
            for event in batch.events:
                self.deliveries.append((event.chain, event.number))
                outcome, broken = self._take_one(chain, event, broken, key)
                outcomes.append(outcome)
            self.changed.notify_all()
            end = chain[-1].position if chain else Position(chain=batch.events[0].chain, number=0)
            return BatchAnswer(outcomes=tuple(outcomes), expected=end)

    def _take_one(
        self, chain: list[Event], event: Event, broken: str | None, key: Ed25519PrivateKey
    ) -> tuple[Outcome, str | None]:
        number = event.number
        known = number <= len(chain) and chain[number - 1].hash == event.hash and event.intact()
        end = chain[-1].position if chain else Position(chain=event.chain, number=0)
        if broken is None and not known and (found := first_break(end, [event])) is not None:
            broken = found.kind
        if broken is not None:
            return Outcome(number=number, status=OutcomeStatus.NOT_TAKEN, code=broken, message=broken), broken
        if not known:
            chain.append(event)
            self.devices[event.chain] = event.device
        if (code := self.refuse(event)) is not None:
            return Outcome(number=number, status=OutcomeStatus.REFUSED, code=code, message="refused in a test"), None
        held = HeldEvent(chain=event.chain, number=number, hash=event.hash)
        receipt = self._sign(key, event.device, held)
        return Outcome(number=number, status=OutcomeStatus.STORED, receipt=receipt), None

    def _sign(self, key: Ed25519PrivateKey, device: UUID, what: HeldEvent | HeldImage) -> Receipt:
        receipt = sign_receipt(key, device, what, datetime.now(UTC))
        return receipt.model_copy(update={"key": key_id(self.key.public_key())})

    def begin(self, metadata: ImageMetadata, size: int) -> str:
        """A new upload; gives its id."""
        with self.lock:
            name = uuid.uuid4().hex
            self.uploads[name] = Incoming(metadata, size)
            return name

    def finish(self, name: str) -> bool:
        """All bytes of an upload are there: keep the image if they are the right ones."""
        with self.changed:
            upload = self.uploads.pop(name)
            right = hashlib.sha256(upload.body).hexdigest() == upload.metadata.sha256
            if right:
                self.images[upload.metadata.sha256] = bytes(upload.body)
                self.metadata[upload.metadata.sha256] = upload.metadata
            self.changed.notify_all()
            return right

    def receipt(self, sha256: str, key: Ed25519PrivateKey) -> Receipt | None:
        """Receipt of an image, for the one device there is."""
        with self.lock:
            if (image := self.images.get(sha256)) is None:
                return None
            device = next(iter(self.devices.values()), UUID(int=0))
            return self._sign(key, device, HeldImage(sha256=sha256, size=len(image)))

    def push(self, *contents: Content) -> None:
        """Put things into the inbox."""
        with self.changed:
            for content in contents:
                self.items.append(InboxItem(id=len(self.items) + 1, content=content))
            self.changed.notify_all()

    def inbox(self, after: int, wait: float, give_up: Callable[[], bool]) -> Inbox:
        """Items after one, waiting for one if there is none."""
        with self.changed:
            self.changed.wait_for(lambda: len(self.items) > after or give_up(), timeout=wait)
            items = tuple(self.items[after : after + 100])
            return Inbox(items=items, after=items[-1].id if items else after)

    @property
    def events(self) -> list[Event]:
        """All events held, chain by chain."""
        with self.lock:
            return [event for chain in self.chains.values() for event in chain]

    def records(self) -> dict[UUID, dict[str, object]]:
        """What the events amount to: fields of each record that was not deleted."""
        found: dict[UUID, dict[str, object]] = {}
        for event in self.events:
            if isinstance(event.action, Put):
                found.setdefault(event.action.id, {"type": event.action.type.value}).update(event.action.fields)
            elif isinstance(event.action, Delete):
                found.pop(event.action.id, None)
        return found

    def sound(self) -> bool:
        """Every chain is whole, and every image is what it claims to be."""
        with self.lock:
            whole = all(
                first_break(Position(chain=name, number=0), chain) is None for name, chain in self.chains.items()
            )
            return whole and all(hashlib.sha256(body).hexdigest() == name for name, body in self.images.items())
