"""What happened to the records, as a numbered chain of events that nobody can reorder, change or thin out unseen.

Each device writes chains: events numbered from 1, each holding the SHA-256 of the one before. A device begins a new
chain when its store is made or restored from a backup, because a restored store has forgotten its last events and would
number others with the same numbers. Delivery may repeat; an event is known by (chain, number) and its hash.

The hash is taken of the canonical JSON (RFC 8785) of everything but the hash itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import rfc8785
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

from shared.hybrid_clock import Stamp
from shared.records import Line, Moment, Prose, RecordType, Sha256

FIRST_PREVIOUS: Final = "0" * 64
"""``previous`` of the first event of a chain."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Position(_Frozen):
    """Where a chain ends: its id, the number of its last event (0 for none) and that event's hash."""

    chain: UUID
    number: Annotated[int, Field(ge=0)]
    hash: Sha256 = FIRST_PREVIOUS


class OpenChain(_Frozen):
    """A chain begins; ``after`` is what the device last knew of its former chain, None on a new device."""

    kind: Literal["open_chain"] = "open_chain"
    after: Position | None = None


class Put(_Frozen):
    """A record is made or some of its fields change; ``fields`` as :func:`shared.records.changed_fields` gives them."""

    kind: Literal["put"] = "put"
    type: RecordType
    id: UUID
    fields: dict[str, JsonValue]


class Delete(_Frozen):
    """A record is deleted, for good: later changes of it have no effect."""

    kind: Literal["delete"] = "delete"
    type: RecordType
    id: UUID
    reason: Prose | None = None


Action = Annotated[OpenChain | Put | Delete, Field(discriminator="kind")]


def _stamp(text: str) -> str:
    return str(Stamp.parse(text))


class Event(_Frozen):
    """One event.

    Attributes:
        version: of this schema.
        device: who wrote it.
        chain, number: where it stands, numbered from 1.
        previous: hash of the event before it in the chain, :data:`FIRST_PREVIOUS` for the first.
        at: wall clock of the device.
        clock: stamp of its hybrid clock (:class:`shared.hybrid_clock.Stamp`), which decides conflicts.
        action: what happened.
        hash: SHA-256 of all of the above.
    """

    version: Literal[1] = 1
    device: UUID
    chain: UUID
    number: Annotated[int, Field(ge=1, lt=2**53)]
    previous: Sha256
    at: Moment
    clock: Annotated[Line, AfterValidator(_stamp)]
    action: Action
    hash: Sha256

    def intact(self) -> bool:
        """Whether the hash is that of the content."""
        return self.hash == _hash(self.model_dump(mode="json", exclude={"hash"}))

    @property
    def position(self) -> Position:
        """Where the chain ends after this event."""
        return Position(chain=self.chain, number=self.number, hash=self.hash)


def next_event(device: UUID, after: Position, at: Any, clock: Stamp, action: OpenChain | Put | Delete) -> Event:
    """The event that follows ``after`` in its chain; ``at`` is a time with its zone."""
    draft = Event(
        device=device,
        chain=after.chain,
        number=after.number + 1,
        previous=after.hash,
        at=at,
        clock=str(clock),
        action=action,
        hash=FIRST_PREVIOUS,
    )
    return draft.model_copy(update={"hash": _hash(draft.model_dump(mode="json", exclude={"hash"}))})


class Break(BaseModel):
    """Why an event cannot follow where a chain ends.

    ``kind``: ``altered`` (its hash is not that of its content), ``gap`` (events are missing before it), ``fork``
    (another event already has its number, or it does not follow the one before), ``other_chain``.
    """

    model_config = ConfigDict(frozen=True)

    kind: Literal["altered", "gap", "fork", "other_chain"]
    number: int


def first_break(after: Position, events: Iterable[Event]) -> Break | None:
    """The first of ``events`` that does not follow in the chain that ends at ``after``; None where all do."""
    for event in events:
        if not event.intact():
            return Break(kind="altered", number=event.number)
        if event.chain != after.chain:
            return Break(kind="other_chain", number=event.number)
        if event.number > after.number + 1:
            return Break(kind="gap", number=event.number)
        if event.number <= after.number or event.previous != after.hash:
            return Break(kind="fork", number=event.number)
        after = event.position
    return None


def _hash(content: dict[str, Any]) -> str:
    return hashlib.sha256(rfc8785.dumps(content)).hexdigest()
