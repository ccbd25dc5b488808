"""What the sync client needs from its surroundings: the outbox of the store, and credentials.

The store's outbox is `edge_app.store`'s; it may be called from the sync's own threads at any time. Every write it
confirms is durable, so that a pulled plug costs at most a repetition.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import BinaryIO, Protocol
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from edge_app.store.views import Upload
from shared.events import Event, Position
from shared.hospital import BatchAnswer, ImageKind, Inbox
from shared.receipts import Receipt


class Outbox(Protocol):
    """Events and images on their way to the hospital, and what it says."""

    def next_events(self, limit: int = 500, most_bytes: int = 256_000) -> list[Event]:
        """Consecutive events without receipt, not refused, of the oldest chain that has any; at least one if any."""

    def last_held(self) -> Event | None:
        """The latest event of the present chain that has a receipt; None where there is none to send again."""

    def lost_after(self, position: Position) -> None:
        """Have the events after ``position`` wait again, and all images asked about again.

        Raises ``FirstRayError`` ``events_wiped`` if bodies are gone, ``chain_forked`` if ``position`` is not ours.
        """

    def refused_for_clock(self) -> bool:
        """Whether events of the present chain were refused with ``shared.hospital.CLOCK_AHEAD``."""

    def record_answer(self, answer: BatchAnswer, chain: UUID, keys: Mapping[str, Ed25519PublicKey]) -> None:
        """Verify and store receipts and refusals; a bad receipt raises ``FirstRayError`` after the good are stored."""

    def fork(self, chain: UUID, detail: str) -> None:
        """Begin a new chain, with the events of ``chain`` that have no receipt issued again in it."""

    def restate(self, detail: str, *, clock_was_ahead: bool = False) -> None:
        """Begin a new chain that says all that exists, and have all images asked about again.

        With ``clock_was_ahead`` stamps that lie in the future are made anew.
        """

    def next_uploads(self, kind: ImageKind | None = None, limit: int = 8) -> list[Upload]:
        """Images to send, the most urgent first, whose records the hospital holds."""

    def open_blob(self, sha256: str) -> BinaryIO:
        """The bytes of an image; seekable. Raises ``FirstRayError`` ``image_damaged``."""

    def upload_moved(self, sha256: str, url: str | None, offset: int) -> None:
        """Where an upload stands; None and 0: from the beginning."""

    def upload_failed(self, sha256: str) -> None:
        """One more failed try."""

    def upload_refused(self, sha256: str, code: str, message: str) -> None:
        """The hospital will not take it."""

    def upload_held(self, receipt: Receipt, keys: Mapping[str, Ed25519PublicKey]) -> None:
        """Verify and store an image's receipt; raises ``FirstRayError`` where it is not good."""

    def inbox_position(self) -> int:
        """Id of the last item taken."""

    def take_inbox(self, inbox: Inbox) -> None:
        """Store what the hospital says, once."""


class Credentials(Protocol):
    """How the device shows who it is. Called on the sync's worker thread, so it may ask the network or compute."""

    def headers(self) -> Mapping[str, str]:
        """Headers of the next request. Raises ``FirstRayError`` where there are none now."""

    def refused(self) -> None:
        """The hospital answered 401 to the last headers: make new ones if that is possible."""


class StaticCredentials:
    """The same bearer token (RFC 6750) for ever, for a hospital that hands out such; ``None`` sends nothing."""

    def __init__(self, token: str | None = None) -> None:
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def headers(self) -> Mapping[str, str]:
        """The token as a header."""
        return self._headers

    def refused(self) -> None:
        """Nothing can be renewed."""
