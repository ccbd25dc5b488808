"""What the sync client needs from its surroundings: the outbox of the store, and credentials.

The store's outbox is `edge_app.store`'s; it may be called from the sync's own threads at any time. Every write it
confirms is durable, so that a pulled plug costs at most a repetition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO, Protocol
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from edge_app.store.views import Upload
from shared.events import Event, Position
from shared.hospital import BatchAnswer, ImageKind, Inbox, ReleaseOffer
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


@dataclass(frozen=True, slots=True)
class Renewal:
    """A form to post at ``path`` of the hospital, on the connection there is, for new credentials."""

    path: str
    form: Mapping[str, str]


class Shelf(Protocol):
    """Where releases are kept: :class:`edge_app.releases.ReleaseShelf`."""

    @property
    def wanted(self) -> ReleaseOffer | None:
        """What to fetch."""

    def fetched(self, offer: ReleaseOffer) -> int:
        """How many bytes of it have come."""

    def add(self, offer: ReleaseOffer, piece: bytes) -> None:
        """The next bytes have come."""

    def install(self, offer: ReleaseOffer) -> None:
        """All have come."""

    def give_up(self, offer: ReleaseOffer) -> None:
        """It cannot be had."""


class Credentials(Protocol):
    """How the device shows who it is. Called on a worker thread of the sync, so it may compute."""

    def renewal(self, clock_ahead_s: float) -> Renewal | None:
        """What to ask the hospital for before the next request; None where :meth:`headers` are good.

        ``clock_ahead_s`` is by how much this device's clock is ahead of the hospital's.
        """

    def renewed(self, answer: bytes) -> None:
        """Take the hospital's answer to the renewal; raises ``FirstRayError`` where it is not understood."""

    def headers(self) -> Mapping[str, str]:
        """Headers of the next request. Raises ``FirstRayError`` where there are none now."""

    def refused(self, shown: Mapping[str, str]) -> None:
        """The hospital answered 401 to these headers: make new ones if that is possible, and not done since."""


class StaticCredentials:
    """The same bearer token (RFC 6750) for ever, for a hospital that hands out such; ``None`` sends nothing."""

    def __init__(self, token: str | None = None) -> None:
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def renewal(self, clock_ahead_s: float) -> Renewal | None:
        """There is nothing to renew."""
        return None

    def renewed(self, answer: bytes) -> None:
        """Never called."""

    def headers(self) -> Mapping[str, str]:
        """The token as a header."""
        return self._headers

    def refused(self, shown: Mapping[str, str]) -> None:
        """Nothing can be renewed."""
