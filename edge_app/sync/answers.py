"""What to do after the hospital's answer to a batch of events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from shared.events import Event, Position
from shared.hospital import BatchAnswer, OutcomeStatus

UNCLEAR: Final = "unclear"


class Next(StrEnum):
    """What follows."""

    GO_ON = "go_on"
    """Every event has its place in the chain."""
    RESEND = "resend"
    """The hospital lacks events before these: send from ``position``."""
    FORK = "fork"
    """The hospital has other events under these numbers: begin a new chain."""
    AGAIN = "again"
    """The answer makes no sense, or the batch was damaged on its way: send it again later."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What follows; ``position`` with RESEND, ``detail`` (a code) with FORK and AGAIN."""

    next: Next
    position: Position | None = None
    detail: str = ""


def plan(batch: Sequence[Event], answer: BatchAnswer) -> Plan:
    """What follows from an answer to ``batch``, consecutive events of one chain."""
    outcomes = {outcome.number: outcome for outcome in answer.outcomes}
    expected = answer.expected
    if expected.chain != batch[0].chain or any(event.number not in outcomes for event in batch):
        return Plan(Next.AGAIN, detail=UNCLEAR)
    stuck = next((event for event in batch if outcomes[event.number].status is OutcomeStatus.NOT_TAKEN), None)
    if stuck is None:
        return Plan(Next.GO_ON)
    code = outcomes[stuck.number].code or UNCLEAR
    other_past = expected.number == stuck.number - 1 and expected.hash != stuck.previous
    if code == "fork" or (code != "altered" and other_past):
        return Plan(Next.FORK, detail=code)
    if code != "altered" and expected.number < stuck.number - 1:
        return Plan(Next.RESEND, expected)
    return Plan(Next.AGAIN, detail=code)
