"""An outbox in memory that keeps the store's promises, for tests of the sync without a store."""

import hashlib
import io
import itertools
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import BinaryIO
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from edge_app.store.views import Upload
from shared.errors import FirstRayError
from shared.events import Event, OpenChain, Position, Put, next_event
from shared.hospital import CLOCK_AHEAD, BatchAnswer, ImageKind, Inbox, InboxItem, OutcomeStatus
from shared.hybrid_clock import HybridClock
from shared.identity import new_id
from shared.receipts import HeldEvent, Receipt
from shared.records import RecordType


@dataclass
class Image:
    """An image to send."""

    upload: Upload
    body: bytes
    receipt: Receipt | None = None
    refused: str | None = None


class MemoryOutbox:
    """See :class:`edge_app.sync.ports.Outbox`; ``changed`` is called after each write, as a store's listener is."""

    def __init__(self, device: UUID | None = None) -> None:
        self.device = device or new_id()
        self.clock = HybridClock(self.device)
        self.lock = threading.RLock()
        self.events: list[Event] = []
        self.receipts: dict[tuple[UUID, int], Receipt] = {}
        self.refused: dict[tuple[UUID, int], str] = {}
        self.images: dict[str, Image] = {}
        self.items: list[InboxItem] = []
        self.forks: list[str] = []
        self.position = 0
        self.wiped_before = 0
        self.changed: Callable[[], None] = lambda: None
        self._end = Position(chain=new_id(), number=0)
        self._write(OpenChain())

    def _write(self, action: OpenChain | Put) -> Event:
        event = next_event(self.device, self._end, datetime.now(UTC), self.clock.now(), action)
        self.events.append(event)
        self._end = event.position
        return event

    @property
    def chain(self) -> UUID:
        """The chain being written."""
        return self._end.chain

    def put(self, count: int = 1, notes: str = "") -> list[Event]:
        """Write events of new encounters."""
        with self.lock:
            made = [
                self._write(Put(type=RecordType.ENCOUNTER, id=new_id(), fields={"notes": f"{notes}{number}"}))
                for number in range(count)
            ]
        self.changed()
        return made

    def add_image(self, body: bytes, kind: ImageKind = ImageKind.ORIGINAL, urgent: bool = False) -> str:
        """Queue an image; gives its SHA-256."""
        sha256 = hashlib.sha256(body).hexdigest()
        upload = Upload(new_id(), kind, sha256, len(body), urgent, None, 0, 0)
        with self.lock:
            self.images[sha256] = Image(upload, body)
        self.changed()
        return sha256

    def waiting(self) -> int:
        """Events and images without receipt that are not refused."""
        with self.lock:
            events = [event for event in self.events if not self._settled(event)]
            return len(events) + sum(image.receipt is None and image.refused is None for image in self.images.values())

    def new_chain(self) -> None:
        """As a store restored from a backup does."""
        with self.lock:
            after = self._end
            self._end = Position(chain=new_id(), number=0)
            self._write(OpenChain(after=after))
        self.changed()

    def _settled(self, event: Event) -> bool:
        key = (event.chain, event.number)
        return key in self.receipts or key in self.refused

    def next_events(self, limit: int = 500, most_bytes: int = 256_000) -> list[Event]:
        with self.lock:
            waiting = itertools.dropwhile(self._settled, self.events)
            batch: list[Event] = []
            size = 0
            for event in waiting:
                size += len(event.model_dump_json())
                if batch and (event.chain != batch[0].chain or len(batch) >= limit or size > most_bytes):
                    break
                batch.append(event)
            return batch

    def last_held(self) -> Event | None:
        with self.lock:
            held = [event for event in self.events if (event.chain, event.number) in self.receipts]
            return held[-1] if held and held[-1].chain == self.chain else None

    def lost_after(self, position: Position) -> None:
        with self.lock:
            if position not in [event.position for event in self.events]:
                raise FirstRayError("chain_forked", "The hospital holds other records.", "")
            if position.number < self.wiped_before:
                raise FirstRayError("events_wiped", "Deleted records cannot be sent again.", "")
            for settled in (self.receipts, self.refused):
                for key in [key for key in settled if key[0] == position.chain and key[1] > position.number]:
                    del settled[key]
            self._doubt_images()
        self.changed()

    def refused_for_clock(self) -> bool:
        with self.lock:
            return any(chain == self.chain and code == CLOCK_AHEAD for (chain, _), code in self.refused.items())

    def _doubt_images(self) -> None:
        for image in self.images.values():
            image.upload = replace(image.upload, url=None, offset=0, tries=0, doubted=image.receipt is not None)
            image.receipt = None

    def record_answer(self, answer: BatchAnswer, chain: UUID, keys: Mapping[str, Ed25519PublicKey]) -> None:
        bad: FirstRayError | None = None
        with self.lock:
            hashes = {event.number: event.hash for event in self.events if event.chain == chain}
            for outcome in answer.outcomes:
                if outcome.status is OutcomeStatus.REFUSED:
                    self.refused[chain, outcome.number] = outcome.code or ""
                elif outcome.receipt is not None:
                    try:
                        outcome.receipt.verify(keys)
                        right = HeldEvent(chain=chain, number=outcome.number, hash=hashes[outcome.number])
                        if outcome.receipt.device != self.device or outcome.receipt.holds != right:
                            raise FirstRayError("receipt_wrong", "A receipt is for something else.", "")
                        self.receipts[chain, outcome.number] = outcome.receipt
                    except FirstRayError as error:
                        bad = error
        self.changed()
        if bad is not None:
            raise bad

    def fork(self, chain: UUID, detail: str) -> None:
        with self.lock:
            self.forks.append(detail)
            lost = [event for event in self.events if event.chain == chain and not self._settled(event)]
            self.events = [event for event in self.events if event not in lost]
            last = max((event for event in self.events if event.chain == chain), key=lambda e: e.number, default=None)
            self._end = Position(chain=new_id(), number=0)
            self._write(OpenChain(after=last.position if last else None))
            for event in lost:
                if not isinstance(event.action, OpenChain):
                    self._write(event.action)  # type: ignore[arg-type]
        self.changed()

    def restate(self, detail: str, *, clock_was_ahead: bool = False) -> None:
        if clock_was_ahead:
            self.clock.set_back()
        with self.lock:
            self.forks.append(detail)
            said = [event.action for event in self.events if not isinstance(event.action, OpenChain)]
            after, self._end = self._end, Position(chain=new_id(), number=0)
            self.events = [event for event in self.events if self._settled(event)]
            self._write(OpenChain(after=after))
            for action in said:
                self._write(action)  # type: ignore[arg-type]
            self._doubt_images()
            self.wiped_before = 0
        self.changed()

    def next_uploads(self, kind: ImageKind | None = None, limit: int = 8) -> list[Upload]:
        with self.lock:
            queue = [one.upload for one in self.images.values() if one.receipt is None and one.refused is None]
        queue = [upload for upload in queue if kind in (None, upload.kind)]
        return sorted(queue, key=lambda one: (one.kind is ImageKind.ORIGINAL, not one.urgent))[:limit]

    def open_blob(self, sha256: str) -> BinaryIO:
        return io.BytesIO(self.images[sha256].body)

    def upload_moved(self, sha256: str, url: str | None, offset: int) -> None:
        with self.lock:
            image = self.images[sha256]
            image.upload = replace(image.upload, url=url, offset=offset)
        self.changed()

    def upload_failed(self, sha256: str) -> None:
        with self.lock:
            image = self.images[sha256]
            image.upload = replace(image.upload, tries=image.upload.tries + 1)
        self.changed()

    def upload_refused(self, sha256: str, code: str, message: str) -> None:
        self.images[sha256].refused = code
        self.changed()

    def upload_held(self, receipt: Receipt, keys: Mapping[str, Ed25519PublicKey]) -> None:
        receipt.verify(keys)
        self.images[receipt.holds.sha256].receipt = receipt  # type: ignore[union-attr]
        self.changed()

    def inbox_position(self) -> int:
        return self.position

    def take_inbox(self, inbox: Inbox) -> None:
        with self.lock:
            self.items += [item for item in inbox.items if item.id > self.position]
            self.position = max(self.position, inbox.after)
        self.changed()
