"""What differs between the device's diagnosis of a radiograph and the hospital's reading of it, and whether it matters.

Both were made in the same manner (as it came, corrected, in spite of the gate), by models of another precision and
perhaps of another release. A difference is *significant* if somebody may act otherwise because of it:

1. One of them is a reading and the other is none, or they refuse or fail for different reasons.
2. A finding is likely to one and, to the other, unlikely or not assessed.
3. The urgent findings are not the same.
4. A finding is likely to both, but no box of the one overlaps one of the other by :data:`SAME_PLACE`: the other lung.

Probabilities that move within a state, scores and shapes of boxes, and the names of release, precision and prevalence
are recorded and matter only where they lead to one of these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from shared.boxes import Box, overlap
from shared.calibration import State
from shared.diagnosis import Diagnosis
from shared.findings import KEYS

SAME_BOX: Final = 0.5
"""Intersection over union from which two boxes are the same box."""
SAME_PLACE: Final = 0.1
"""Intersection over union from which two boxes are at one place, as readers judge localisation of chest findings."""
LEAST_SHIFT: Final = 0.05
"""Difference of probability from which a finding is listed though its state is the same."""

Thresholds = Mapping[str, tuple[float, float]]
"""Finding -> (probability below which it is unlikely, probability from which it is likely)."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Outcome(_Frozen):
    """What one side says of a radiograph: exactly one of a result and an error's code."""

    result: Diagnosis | None = None
    error: str | None = None

    @property
    def refusal(self) -> str | None:
        """Code of what kept it from being read: the error, or the gate's reason; None where it was read."""
        if self.result is None:
            return self.error or "no_result"
        if not self.result.refused:
            return None
        reason = self.result.verdict.reason
        return reason.code if reason else "refused"


class Pair(_Frozen):
    """A name on each side; None where there is none."""

    device: str | None
    hospital: str | None


class FindingChange(_Frozen):
    """A finding of which the two say different things.

    Attributes:
        states, probabilities: of device and hospital; 0..1.
        thresholds: of device and hospital, each (unlikely below, likely from); None where a side's are not known.
        cause: ``threshold`` where the same probabilities would give both states, else ``probability``; None where the
            state is the same.
    """

    finding: str
    states: tuple[State, State]
    probabilities: tuple[float, float]
    thresholds: tuple[tuple[float, float] | None, tuple[float, float] | None]
    cause: Literal["threshold", "probability"] | None


class BoxChanges(_Frozen):
    """Boxes, matched one to one within a finding by their overlap, the greatest first.

    Attributes:
        same: pairs that overlap by :data:`SAME_BOX` or more.
        moved: findings of pairs that overlap less, but by :data:`SAME_PLACE`.
        device_only, hospital_only: findings of boxes without a partner.
        elsewhere: findings likely to both sides, with boxes on both, none of which are at one place.
    """

    same: int = 0
    moved: tuple[str, ...] = ()
    device_only: tuple[str, ...] = ()
    hospital_only: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()


class Changes(_Frozen):
    """Everything that differs; a field is None or empty where it does not.

    Attributes:
        refusal: why each did not read it.
        release, precision, prevalence: names.
        findings: see :class:`FindingChange`, in the order of the vocabulary.
        urgent_device, urgent_hospital: urgent to one side only.
        boxes: see :class:`BoxChanges`.
        reasons: why it matters, most important first: ``refusal``, ``urgent``, ``state:Mass``, ``place:Effusion``.
    """

    refusal: Pair | None = None
    release: Pair | None = None
    precision: Pair | None = None
    prevalence: Pair | None = None
    findings: tuple[FindingChange, ...] = ()
    urgent_device: tuple[str, ...] = ()
    urgent_hospital: tuple[str, ...] = ()
    boxes: BoxChanges = BoxChanges()
    reasons: tuple[str, ...] = ()

    @property
    def significant(self) -> bool:
        """Whether somebody may act otherwise because of it."""
        return bool(self.reasons)


def compare(
    device: Outcome, hospital: Outcome, thresholds: tuple[Thresholds | None, Thresholds | None] = (None, None)
) -> Changes:
    """What differs between the two, ``thresholds`` being those that each side's states follow from, where known."""
    here, there = device.result, hospital.result
    refusal = _pair(device.refusal, hospital.refusal)
    changes = Changes(refusal=refusal, reasons=("refusal",) if refusal else ())
    if here is None or there is None:
        return changes
    names = {name: _pair(getattr(here, name), getattr(there, name)) for name in ("release", "precision", "prevalence")}
    changes = changes.model_copy(update=names)
    if here.refused or there.refused:
        return changes
    findings = _findings(here, there, thresholds)
    boxes = _boxes(here, there)
    urgent_device = tuple(key for key in here.urgent if key not in there.urgent)
    urgent_hospital = tuple(key for key in there.urgent if key not in here.urgent)
    reasons = (
        *(("urgent",) if urgent_device or urgent_hospital else ()),
        *(f"state:{change.finding}" for change in findings if _contradicts(*change.states)),
        *(f"place:{key}" for key in boxes.elsewhere),
    )
    return changes.model_copy(
        update={
            "findings": findings,
            "urgent_device": urgent_device,
            "urgent_hospital": urgent_hospital,
            "boxes": boxes,
            "reasons": reasons,
        }
    )


def _pair(device: str | None, hospital: str | None) -> Pair | None:
    return Pair(device=device, hospital=hospital) if device != hospital else None


def _contradicts(device: State, hospital: State) -> bool:
    """Likely to one, and to the other neither likely nor uncertain."""
    states = {device, hospital}
    return State.LIKELY in states and bool(states & {State.UNLIKELY, State.NOT_ASSESSED})


def _findings(
    here: Diagnosis, there: Diagnosis, thresholds: tuple[Thresholds | None, Thresholds | None]
) -> tuple[FindingChange, ...]:
    changes = []
    for key in KEYS:
        states = here.states[key], there.states[key]
        probabilities = here.probabilities[key], there.probabilities[key]
        if states[0] is states[1] and abs(probabilities[0] - probabilities[1]) < LEAST_SHIFT:
            continue
        limits = tuple(side.get(key) if side else None for side in thresholds)
        changes.append(
            FindingChange(
                finding=key,
                states=states,
                probabilities=probabilities,
                thresholds=(limits[0], limits[1]),
                cause=_cause(states, probabilities, limits[1]),
            )
        )
    return tuple(changes)


def _cause(
    states: tuple[State, State], probabilities: tuple[float, float], hospital: tuple[float, float] | None
) -> Literal["threshold", "probability"] | None:
    """Whether the device's probability at the hospital's thresholds would have given the hospital's state."""
    if states[0] is states[1]:
        return None
    if State.NOT_ASSESSED in states:
        return "threshold"
    if hospital is None:
        return "probability" if abs(probabilities[0] - probabilities[1]) >= LEAST_SHIFT else "threshold"
    unlikely, likely = hospital
    there = State.LIKELY if probabilities[0] >= likely else State.UNLIKELY
    if unlikely <= probabilities[0] < likely:
        there = State.UNCERTAIN
    return "threshold" if there is states[1] else "probability"


def _boxes(here: Diagnosis, there: Diagnosis) -> BoxChanges:
    same = 0
    moved: list[str] = []
    device_only: list[str] = []
    hospital_only: list[str] = []
    elsewhere: list[str] = []
    for key in KEYS:
        ours, theirs = _of(here.boxes, key), _of(there.boxes, key)
        matched = _matches(ours, theirs)
        same += sum(share >= SAME_BOX for share in matched)
        moved += [key for share in matched if share < SAME_BOX]
        device_only += [key] * (len(ours) - len(matched))
        hospital_only += [key] * (len(theirs) - len(matched))
        likely = here.states[key] is State.LIKELY and there.states[key] is State.LIKELY
        if likely and ours and theirs and not matched:
            elsewhere.append(key)
    return BoxChanges(
        same=same,
        moved=tuple(moved),
        device_only=tuple(device_only),
        hospital_only=tuple(hospital_only),
        elsewhere=tuple(elsewhere),
    )


def _of(boxes: Sequence[Box], key: str) -> list[Box]:
    return [box for box in boxes if box.finding == key]


def _matches(ours: Sequence[Box], theirs: Sequence[Box]) -> list[float]:
    """Overlaps of the pairs, greatest first, each box in one pair at most, none below :data:`SAME_PLACE`.

    Of equal overlaps the one farther up and left comes first, so that the sides may be swapped.
    """
    if not ours or not theirs:
        return []
    here, there = _corners(ours), _corners(theirs)
    shares = overlap(here, there)
    pairs = sorted(
        np.argwhere(shares >= SAME_PLACE).tolist(),
        key=lambda pair: (-shares[*pair], *sorted((here[pair[0]].tolist(), there[pair[1]].tolist()))),
    )
    matched: list[float] = []
    taken: tuple[set[int], set[int]] = set(), set()
    for row, column in pairs:
        if row not in taken[0] and column not in taken[1]:
            matched.append(float(shares[row, column]))
            taken[0].add(row)
            taken[1].add(column)
    return matched


def _corners(boxes: Sequence[Box]) -> npt.NDArray[np.float32]:
    return np.array([(box.x, box.y, box.x + box.w, box.y + box.h) for box in boxes], np.float32)
