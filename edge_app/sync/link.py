"""The link to the hospital as a state machine, and what the status screen may say about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from shared.errors import FirstRayError
from shared.hospital import ImageKind


class LinkKind(StrEnum):
    """How the device stands with the hospital."""

    OFFLINE = "offline"
    """Nothing answers; it is looked for all the time."""
    CONNECTING = "connecting"
    """The hospital was found, and is being talked to for the first time since."""
    ONLINE = "online"
    """The hospital answers as it should."""
    FAILING = "failing"
    """The hospital answers, but cannot do what it is asked."""
    FOREIGN = "foreign"
    """Something else answers in its place."""
    UNAUTHORISED = "unauthorised"
    """The hospital does not accept the credentials."""
    REVOKED = "revoked"
    """The hospital has shut this device out. Nothing is tried any more."""


class LinkEvent(StrEnum):
    """What happens to the link."""

    REACHED = "reached"
    """The hospital was found."""
    ANSWERED = "answered"
    """It did what it was asked."""
    FAILED = "failed"
    """It could not."""
    LOST = "lost"
    """There was no answer."""
    FOREIGN = "foreign"
    """Something that is not the hospital answered."""
    DENIED = "denied"
    """It did not accept the credentials, renewed ones included."""
    REVOKED = "revoked"
    """It has revoked the device."""
    RETRY = "retry"
    """A rest is over."""


class LinkAction(StrEnum):
    """What the client does next."""

    PROBE = "probe"
    """Look for the hospital until something answers."""
    WORK = "work"
    """Run the lanes."""
    STAY = "stay"
    """Go on with what is being done."""
    REST = "rest"
    """Stop the lanes, and look again after a while."""
    HALT = "halt"
    """Stop for good."""


LinkCell = tuple[LinkKind, LinkAction]


def _row(kind: LinkKind, reached: LinkKind, answered: LinkKind) -> dict[tuple[LinkKind, LinkEvent], LinkCell]:
    """The cells of a state from which the client goes on trying."""
    return {
        (kind, LinkEvent.REACHED): (reached, LinkAction.WORK),
        (kind, LinkEvent.ANSWERED): (answered, LinkAction.STAY),
        (kind, LinkEvent.FAILED): (LinkKind.FAILING, LinkAction.STAY),
        (kind, LinkEvent.LOST): (LinkKind.OFFLINE, LinkAction.PROBE),
        (kind, LinkEvent.FOREIGN): (LinkKind.FOREIGN, LinkAction.REST),
        (kind, LinkEvent.DENIED): (LinkKind.UNAUTHORISED, LinkAction.REST),
        (kind, LinkEvent.REVOKED): (LinkKind.REVOKED, LinkAction.HALT),
        (kind, LinkEvent.RETRY): (kind, LinkAction.PROBE),
    }


LINK: Final[dict[tuple[LinkKind, LinkEvent], LinkCell]] = {
    **_row(LinkKind.OFFLINE, reached=LinkKind.CONNECTING, answered=LinkKind.ONLINE),
    **_row(LinkKind.CONNECTING, reached=LinkKind.CONNECTING, answered=LinkKind.ONLINE),
    **_row(LinkKind.ONLINE, reached=LinkKind.CONNECTING, answered=LinkKind.ONLINE),
    **_row(LinkKind.FAILING, reached=LinkKind.FAILING, answered=LinkKind.ONLINE),
    **_row(LinkKind.FOREIGN, reached=LinkKind.CONNECTING, answered=LinkKind.ONLINE),
    **_row(LinkKind.UNAUTHORISED, reached=LinkKind.UNAUTHORISED, answered=LinkKind.ONLINE),
    **{(LinkKind.REVOKED, event): (LinkKind.REVOKED, LinkAction.HALT) for event in LinkEvent},
}
"""(state, event) -> (state, action). Complete: the network owes us no order of events."""


@dataclass(frozen=True, slots=True)
class Problem:
    """The last error, as text for people; see ``FirstRayError``."""

    code: str
    message: str
    action: str


@dataclass(frozen=True, slots=True)
class UploadProgress:
    """The image being sent: ``sent`` of ``size`` bytes are at the hospital."""

    radiograph: UUID
    kind: ImageKind
    sent: int
    size: int


@dataclass(frozen=True, slots=True)
class LinkState:
    """What is known of the link at one moment.

    Attributes:
        kind: see :class:`LinkKind`.
        since: when that began.
        last_contact: when the hospital last did what it was asked; None since the start of the client.
        last_error: what went wrong last; None once all works again.
        bytes_per_second: measured speed upwards; None before anything was measured.
        upload: the image being sent; None where there is none.
        clock_ahead_s: by how many seconds this device's clock is ahead of the hospital's, to about two seconds.
    """

    kind: LinkKind
    since: datetime
    last_contact: datetime | None = None
    last_error: Problem | None = None
    bytes_per_second: float | None = None
    upload: UploadProgress | None = None
    clock_ahead_s: float | None = None


class Link:
    """Holds the link's state and tells who listens. For one thread; :attr:`state` may be read by any.

    Args:
        listen: called with each new state, on the sync's thread.
    """

    def __init__(self, listen: Callable[[LinkState], None]) -> None:
        self._listen = listen
        self.state = LinkState(LinkKind.OFFLINE, datetime.now(UTC))

    def happened(self, event: LinkEvent, error: FirstRayError | None = None) -> LinkAction:
        """Move to the next state; gives what to do."""
        kind, action = LINK[self.state.kind, event]
        now = datetime.now(UTC)
        changes = self.state
        if kind is not changes.kind:
            changes = replace(changes, kind=kind, since=now)
        if error is not None:
            changes = replace(changes, last_error=Problem(error.code, error.message, error.action))
        if event is LinkEvent.ANSWERED:
            changes = replace(changes, last_contact=now)
        if kind is not LinkKind.ONLINE:
            changes = replace(changes, upload=None)
        self._become(changes)
        return action

    def contact(self) -> None:
        """The hospital did something it was asked, while something else still fails."""
        self._become(replace(self.state, last_contact=datetime.now(UTC)))

    def trouble(self, error: FirstRayError) -> None:
        """One thing cannot be done; the rest goes on."""
        self._become(replace(self.state, last_error=Problem(error.code, error.message, error.action)))

    def settled(self) -> None:
        """Nothing fails any more."""
        self._become(replace(self.state, last_error=None))

    def progress(self, upload: UploadProgress | None, bytes_per_second: float | None) -> None:
        """An image moves, or none does."""
        self._become(replace(self.state, upload=upload, bytes_per_second=bytes_per_second))

    def clock(self, ahead_s: float) -> None:
        """The two clocks were compared."""
        self._become(replace(self.state, clock_ahead_s=ahead_s))

    def _become(self, state: LinkState) -> None:
        if state != self.state:
            self.state = state
            self._listen(state)
