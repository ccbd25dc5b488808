"""Reading what a device sent, event by event: one that is wrong must not stop the others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import pydantic_core
import rfc8785
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.errors import FirstRayError
from shared.events import Event, Position, Put
from shared.hospital import MAX_EVENT_BYTES, MOST_EVENTS
from shared.records import REQUIRED, RecordType, Sha256, changed_fields

MOST_PARTS: Final = 100_000
"""Objects and lists in a batch's JSON, at most: 200 an event, and an event has some 20. Each takes a hundred times as
much memory as its two bytes."""


class _Place(BaseModel):
    """The fields of an event that say where it stands."""

    model_config = ConfigDict(frozen=True)

    device: UUID
    chain: UUID
    number: int = Field(ge=1, lt=2**53)
    previous: Sha256
    hash: Sha256


@dataclass(frozen=True, slots=True)
class Came:
    """One event as it came.

    Attributes:
        place: where it stands; None where that cannot be read.
        intact: its hash is that of its content.
        body: its JSON; empty where it is longer than ``MAX_EVENT_BYTES``.
        event: what it says; None where this version does not understand it.
        fields: what it changes, checked (:func:`shared.records.changed_fields`), for a :class:`Put`.
        fault: why it is invalid, without its values; None where nothing is wrong.
    """

    place: _Place | None
    intact: bool = False
    body: str = ""
    event: Event | None = None
    fields: Mapping[str, Any] | None = None
    fault: str | None = None

    @property
    def position(self) -> Position:
        """Where the chain ends after this event."""
        assert self.place is not None  # noqa: S101  (only events with a place are taken)
        return Position(chain=self.place.chain, number=self.place.number, hash=self.place.hash)

    @property
    def has_required(self) -> bool:
        """It may be the first event of its record."""
        if self.event is None or self.fields is None or not isinstance(self.event.action, Put):
            return False
        return all(self.fields.get(name) is not None for name in REQUIRED[self.event.action.type])


def parse(body: bytes) -> list[Came]:
    """The events of a batch (``shared.hospital.EventBatch``).

    Raises:
        FirstRayError: ``malformed`` (no JSON, or not of a batch), ``too_many_events`` or ``too_large``.
    """
    if body.count(b"{") + body.count(b"[") > MOST_PARTS:
        raise FirstRayError("too_large", f"A batch has at most {MOST_PARTS} objects and lists.", "Send less at once.")
    try:
        document = pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError:
        raise _malformed("The body is not JSON.") from None
    events = document.get("events") if isinstance(document, dict) else None
    if not isinstance(events, list) or not events or len(document) != 1:
        raise _malformed('The body is not of the form {"events": [...]}, with one event or more.')
    if len(events) > MOST_EVENTS:
        raise FirstRayError("too_many_events", f"A batch has at most {MOST_EVENTS} events.", "Send fewer at once.")
    came = [read(event) for event in events]
    if all(one.place is None for one in came):
        raise _malformed("No event says where it stands: device, chain, number, previous and hash.")
    return came


def read(raw: object) -> Came:
    """One event."""
    try:
        place = _Place.model_validate(raw)
    except ValidationError:
        return Came(None)
    assert isinstance(raw, dict)  # noqa: S101  (nothing else is valid)
    event, fields, fault = None, None, None
    try:
        event = Event.model_validate(raw)
        if isinstance(event.action, Put):
            fields = changed_fields(event.action.type, event.action.fields)
    except (ValueError, OverflowError) as problem:  # pydantic's ValidationError is a ValueError
        fault = _why(problem)
    if event is not None:
        body = event.model_dump_json()
        intact = _fits(event, fields)
    else:
        body = json.dumps(raw, ensure_ascii=False, separators=(",", ":"))
        intact = hashed({name: value for name, value in raw.items() if name != "hash"}) == place.hash
    if len(body.encode()) > MAX_EVENT_BYTES:
        return Came(place, intact, "", event, fault=f"An event has at most {MAX_EVENT_BYTES} bytes.")
    return Came(place, intact, body, event, fields, fault)


def _fits(event: Event, fields: Mapping[str, Any] | None) -> bool:
    """As :meth:`shared.events.Event.intact`, several times faster for what is free of fractions.

    There canonical JSON is JSON with sorted ASCII names and without blanks.
    """
    action = event.action
    content = event.model_dump(mode="json", exclude={"hash"})
    simple = isinstance(action, Put) and fields is not None and action.type is not RecordType.DIAGNOSIS
    if not simple or any(_is_number_of_its_own(value) for value in content["action"]["fields"].values()):
        return hashed(content) == event.hash
    text = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest() == event.hash


def _is_number_of_its_own(value: object) -> bool:
    """Whether RFC 8785 writes it otherwise than Python does, or not at all."""
    return isinstance(value, float) or (isinstance(value, int) and abs(value) >= 2**53)


def hashed(content: Mapping[str, Any]) -> str | None:
    """SHA-256 of the canonical JSON (RFC 8785); None for what has none, such as whole numbers beyond 2^53."""
    try:
        return hashlib.sha256(rfc8785.dumps(dict(content))).hexdigest()
    except (rfc8785.CanonicalizationError, RecursionError, ValueError):
        return None


def _why(problem: Exception) -> str:
    """What is wrong, without the values, which may be a patient's."""
    if isinstance(problem, ValidationError):
        errors = problem.errors(include_url=False, include_context=False, include_input=False)
        return "; ".join(f"{'.'.join(str(part)[:40] for part in e['loc'])}: {e['type']}" for e in errors[:5])[:500]
    return str(problem)[:500] if isinstance(problem, ValueError) else "A moment is out of range."


def _malformed(message: str) -> FirstRayError:
    return FirstRayError("malformed", message, "Send a batch as the API's documentation has it.")
