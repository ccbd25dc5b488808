"""What differs between device and hospital, and which differences matter."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.boxes import Box
from shared.calibration import State
from shared.diagnosis import Diagnosis
from shared.findings import BY_KEY, KEYS, Urgency
from shared.quality import Problem, Severity, Verdict
from sync_server.domain.agreement import LEAST_SHIFT, Outcome, compare


def diagnosis(states: dict[str, State] | None = None, boxes: tuple[Box, ...] = (), **more: Any) -> Diagnosis:
    """A reading; findings not named are unlikely."""
    chosen = dict.fromkeys(KEYS, State.UNLIKELY) | (states or {})
    level = {State.LIKELY: 0.8, State.UNCERTAIN: 0.4, State.UNLIKELY: 0.05, State.NOT_ASSESSED: 0.5}
    fields: dict[str, Any] = {
        "probabilities": {key: level[state] for key, state in chosen.items()},
        "states": chosen,
        "top3": (),
        "boxes": boxes,
        "verdict": Verdict(problems=(), scores={}),
        "urgent": tuple(
            key for key in KEYS if chosen[key] is State.LIKELY and BY_KEY[key].urgency is not Urgency.ROUTINE
        ),
        "prevalence": "NIH ChestX-ray14",
        "release": "1",
        "precision": "int8",
        "runtime": "onnx",
        "timing_ms": {},
        "sha256": "a" * 64,
    }
    return Diagnosis(**{**fields, **more})


def refused(code: str = "not_a_chest_radiograph") -> Diagnosis:
    problem = Problem(code=code, severity=Severity.REFUSE, message="m", action="a", overridable=False)
    return diagnosis(
        probabilities={}, states={}, urgent=(), verdict=Verdict(problems=(problem,), scores={"chest": 0.1})
    )


def box(finding: str, x: float, y: float = 0.2, size: float = 0.2) -> Box:
    return Box(finding=finding, score=0.7, x=x, y=y, w=size, h=size, source="detector")


def of(result: Diagnosis) -> Outcome:
    return Outcome(result=result)


ROUTINE = next(key for key in KEYS if BY_KEY[key].urgency is Urgency.ROUTINE)
URGENT = next(key for key in KEYS if BY_KEY[key].urgency is Urgency.IMMEDIATE)


def test_the_same_reading_by_another_precision_differs_in_name_only() -> None:
    changes = compare(of(diagnosis()), of(diagnosis(precision="fp32", release="2")))
    assert changes.precision is not None
    assert (changes.precision.device, changes.precision.hospital) == ("int8", "fp32")
    assert changes.release is not None
    assert changes.prevalence is None
    assert not changes.findings
    assert not changes.significant


@pytest.mark.parametrize(
    ("device", "hospital", "matters"),
    [
        (State.LIKELY, State.UNLIKELY, True),
        (State.UNLIKELY, State.LIKELY, True),
        (State.LIKELY, State.NOT_ASSESSED, True),
        (State.LIKELY, State.UNCERTAIN, False),
        (State.UNCERTAIN, State.UNLIKELY, False),
        (State.NOT_ASSESSED, State.UNLIKELY, False),
        (State.LIKELY, State.LIKELY, False),
    ],
)
def test_a_finding_matters_where_it_is_likely_to_one_and_excluded_by_the_other(
    device: State, hospital: State, matters: bool
) -> None:
    changes = compare(of(diagnosis({ROUTINE: device})), of(diagnosis({ROUTINE: hospital})))
    assert changes.significant is matters
    assert changes.reasons == ((f"state:{ROUTINE}",) if matters else ())
    assert [change.finding for change in changes.findings] == ([] if device is hospital else [ROUTINE])


def test_an_urgent_finding_matters_even_where_it_is_only_uncertain_to_the_other() -> None:
    changes = compare(of(diagnosis({URGENT: State.UNCERTAIN})), of(diagnosis({URGENT: State.LIKELY})))
    assert changes.urgent_hospital == (URGENT,)
    assert changes.urgent_device == ()
    assert changes.reasons == ("urgent",)


def test_one_refuses_and_the_other_reads() -> None:
    changes = compare(of(refused()), of(diagnosis()))
    assert changes.refusal is not None
    assert (changes.refusal.device, changes.refusal.hospital) == ("not_a_chest_radiograph", None)
    assert changes.significant
    assert not compare(of(refused()), of(refused())).significant
    assert compare(of(refused()), of(refused("cut_off"))).significant


def test_an_error_of_the_file_is_a_refusal_too() -> None:
    broken = Outcome(error="dicom_truncated")
    assert not compare(broken, broken).significant
    changes = compare(Outcome(error="decode_crashed"), of(diagnosis()))
    assert changes.refusal is not None
    assert changes.refusal.device == "decode_crashed"
    assert changes.significant


def test_boxes_are_matched_one_to_one_by_their_overlap() -> None:
    both = {ROUTINE: State.LIKELY}
    here = diagnosis(both, (box(ROUTINE, 0.1), box(ROUTINE, 0.6), box(ROUTINE, 0.1, 0.7)))
    there = diagnosis(both, (box(ROUTINE, 0.11), box(ROUTINE, 0.7)))
    changes = compare(of(here), of(there))
    assert changes.boxes.same == 1
    assert changes.boxes.moved == (ROUTINE,)
    assert changes.boxes.device_only == (ROUTINE,)
    assert changes.boxes.hospital_only == ()
    assert not changes.significant


def test_a_likely_finding_in_the_other_lung_matters() -> None:
    both = {ROUTINE: State.LIKELY}
    changes = compare(of(diagnosis(both, (box(ROUTINE, 0.1),))), of(diagnosis(both, (box(ROUTINE, 0.6),))))
    assert changes.boxes.elsewhere == (ROUTINE,)
    assert changes.reasons == (f"place:{ROUTINE}",)


def test_thresholds_say_why_a_state_changed() -> None:
    here = diagnosis({ROUTINE: State.LIKELY})
    lower = {**here.probabilities, ROUTINE: 0.79}
    there = diagnosis({ROUTINE: State.UNCERTAIN}, probabilities=lower)
    limits = {ROUTINE: (0.1, 0.5)}, {ROUTINE: (0.1, 0.85)}
    (change,) = compare(of(here), of(there), limits).findings
    assert change.thresholds == ((0.1, 0.5), (0.1, 0.85))
    assert change.cause == "threshold"
    (change,) = compare(of(here), of(there), (limits[0], {ROUTINE: (0.1, 0.795)})).findings
    assert change.cause == "probability"


def test_a_shift_within_a_state_is_listed_from_a_size_on_and_never_matters() -> None:
    here = diagnosis()
    for shift, listed in ((LEAST_SHIFT / 2, 0), (LEAST_SHIFT * 1.5, 1)):
        there = diagnosis(probabilities={**here.probabilities, ROUTINE: here.probabilities[ROUTINE] + shift})
        changes = compare(of(here), of(there))
        assert len(changes.findings) == listed
        assert not changes.significant


states = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(list(State)))
places = st.lists(
    st.builds(box, st.sampled_from(KEYS), st.floats(0, 0.8), st.floats(0, 0.8), st.floats(0.01, 0.2)), max_size=6
)


@given(states, states, places, places)
def test_whether_it_matters_does_not_depend_on_the_side(
    first: dict[str, State], second: dict[str, State], some: list[Box], others: list[Box]
) -> None:
    here, there = of(diagnosis(first, tuple(some))), of(diagnosis(second, tuple(others)))
    one, other = compare(here, there), compare(there, here)
    assert one.reasons == other.reasons
    assert one.boxes.same + len(one.boxes.moved) + len(one.boxes.device_only) == len(some)
    assert (one.boxes.device_only, one.boxes.same) == (other.boxes.hospital_only, other.boxes.same)
    assert not compare(here, here).significant
