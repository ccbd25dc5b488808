"""Reading what a device sent, event by event: one that is wrong must not stop the others."""

from __future__ import annotations

import hashlib
import json
import re
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
from shared.records import REQUIRED, Sha256, changed_fields

MOST_PARTS: Final = 100_000
"""Objects and lists in a batch's JSON, at most: 200 an event, and an event has some 20. Each takes a hundred times as
much memory as its two bytes."""
_SORTED: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
_OTHERWISE: Final = re.compile(r"[:,\[]-?(?:\d+\.0[,\]}]|[\d.]+e|\d{16})")
_FAR: Final = re.compile("[\U00010000-\U0010ffff]")
"""Where neither finds anything, sorted JSON without blanks is canonical (RFC 8785, 3.2.2 and 3.2.3), and made several
times faster: Python writes some numbers otherwise (1.0, 1e-05, whole ones beyond 2^53), and sorts letters beyond the
Basic Multilingual Plane elsewhere. What they find within a text only costs time."""


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
        intact = hashed(event.model_dump(mode="json", exclude={"hash"})) == event.hash
    else:
        body = json.dumps(raw, ensure_ascii=False, separators=(",", ":"))
        intact = hashed({name: value for name, value in raw.items() if name != "hash"}) == place.hash
    if len(body.encode()) > MAX_EVENT_BYTES:
        return Came(place, intact, "", event, fault=f"An event has at most {MAX_EVENT_BYTES} bytes.")
    return Came(place, intact, body, event, fields, fault)


def hashed(content: Mapping[str, Any]) -> str | None:
    """SHA-256 of the canonical JSON (RFC 8785); None for what has none, such as whole numbers beyond 2^53."""
    try:
        text = _SORTED.encode(content)
        simple = not (_OTHERWISE.search(text) or _FAR.search(text))
        canonical = text.encode() if simple else rfc8785.dumps(dict(content))
    except (rfc8785.CanonicalizationError, RecursionError, ValueError):
        return None
    return hashlib.sha256(canonical).hexdigest()


def _why(problem: Exception) -> str:
    """What is wrong, without the values, which may be a patient's."""
    if isinstance(problem, ValidationError):
        errors = problem.errors(include_url=False, include_context=False, include_input=False)
        return "; ".join(f"{'.'.join(str(part)[:40] for part in e['loc'])}: {e['type']}" for e in errors[:5])[:500]
    return str(problem)[:500] if isinstance(problem, ValueError) else "A moment is out of range."


def _malformed(message: str) -> FirstRayError:
    return FirstRayError("malformed", message, "Send a batch as the API's documentation has it.")
