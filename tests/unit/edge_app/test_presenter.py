"""The presenter without Kivy: a real worker thread, and a ``post`` that delivers when the test says so."""

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_app.ui.presenter import (
    TRANSITIONS,
    Event,
    Failed,
    Idle,
    Reading,
    Refused,
    ResultPresenter,
    Shown,
    Starting,
    State,
)
from shared.calibration import State as FindingState
from shared.diagnosis import Diagnosis, Ranked
from shared.errors import RadiographError, ReleaseError
from shared.findings import KEYS
from shared.quality import CORRECTIONS, MESSAGES, NOT_OVERRIDABLE, Problem, Severity, Verdict
from shared.radiograph import Radiograph, View

SECONDS = 20.0


def radiograph(name: str) -> Radiograph:
    pixels = np.full((80, 80), 100, np.uint8)
    return Radiograph(pixels, 8, "png", name, None, View.PA, None, None, None, "MONOCHROME2")


def diagnosis(sha256: str, refused_for: str | None = None, forced: bool = False) -> Diagnosis:
    problems = ()
    if refused_for:
        message, action = MESSAGES[refused_for]
        overridable = refused_for not in NOT_OVERRIDABLE
        problems = (
            Problem(
                code=refused_for,
                severity=Severity.REFUSE,
                message=message,
                action=action,
                overridable=overridable,
                correction=CORRECTIONS.get(refused_for),
            ),
        )
    read = refused_for is None or forced
    return Diagnosis(
        probabilities=dict.fromkeys(KEYS, 0.1) if read else {},
        states=dict.fromkeys(KEYS, FindingState.UNCERTAIN) if read else {},
        top3=tuple(Ranked(finding=key, probability=0.1) for key in KEYS[:3]) if read else (),
        boxes=(),
        verdict=Verdict(problems=problems, scores={}),
        urgent=(),
        prevalence="NIH ChestX-ray14",
        release="test",
        precision="int8",
        runtime="litert",
        timing_ms={"total": 1.0},
        sha256=sha256,
    )


@dataclass
class Rig:
    """A presenter with hand-made work: a file's name decides what becomes of it.

    ``slow*`` waits until ``release`` is set; ``broken*`` does not decode; ``bug*`` raises what nobody expected;
    ``dark*`` and ``leg*`` are refused, ``turn*`` too until it is corrected; ``both*`` is inverted and too dark.
    """

    warm_up: Callable[[], None] = lambda: None
    posted: "queue.Queue[Callable[[], None]]" = field(default_factory=queue.Queue)
    release: threading.Event = field(default_factory=threading.Event)
    started: threading.Event = field(default_factory=threading.Event)
    seen: list[State] = field(default_factory=list)
    decoded: list[str] = field(default_factory=list)
    drawn: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.presenter = ResultPresenter(
            load=self.load,
            diagnose=self.diagnose,
            draw=self.draw,
            warm_up=self.warm_up,
            post=self.posted.put,
            listen=self.seen.append,
            language="en",
        )

    def load(self, path: Path) -> Radiograph:
        self.decoded.append(path.name)
        self.started.set()
        if path.name.startswith("slow"):
            assert self.release.wait(SECONDS)
        if path.name.startswith("broken"):
            raise RadiographError("dicom_truncated", "It breaks off.", "Send it again.")
        if path.name.startswith("bug"):
            raise ZeroDivisionError(path)
        return radiograph(path.name)

    def diagnose(self, taken: Radiograph, force: bool) -> Diagnosis:
        reasons = {"dark": "over_exposed", "legs": "not_a_chest_radiograph"}
        if taken.correction is None:
            reasons |= {"turn": "rotated_180", "both": "inverted"}
        else:
            reasons |= {"both": "over_exposed"}
        read = diagnosis(taken.sha256, reasons.get(taken.sha256[:4]), force)
        return read.model_copy(update={"correction": taken.correction})

    def draw(self, taken: Radiograph, result: Diagnosis, language: str) -> Image.Image:
        self.drawn.append(language)
        return Image.new("RGB", (80, 80))

    def deliver(self, times: int = 1) -> State:
        """What the user interface's thread does: run what the worker posted."""
        for _ in range(times):
            self.posted.get(timeout=SECONDS)()
        return self.presenter.state

    def opened(self, name: str) -> State:
        self.presenter.open(Path(name))
        return self.deliver()


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.release.set()
    made.presenter.close()


def test_start_loads_the_models_and_then_waits_for_a_file(rig: Rig) -> None:
    assert isinstance(rig.presenter.state, Starting)
    rig.presenter.start()
    assert isinstance(rig.deliver(), Idle)


def test_an_opened_file_is_read_in_the_background_and_shown(rig: Rig) -> None:
    rig.presenter.open(Path("slow.dcm"))
    assert rig.presenter.state == Reading(Path("slow.dcm"))
    rig.release.set()
    shown = rig.deliver()
    assert isinstance(shown, Shown)
    assert (shown.path, shown.diagnosis.sha256, shown.language) == (Path("slow.dcm"), "slow.dcm", "en")
    assert [type(state) for state in rig.seen] == [Reading, Shown]


def test_the_result_of_an_older_file_never_replaces_a_newer_one(rig: Rig) -> None:
    rig.presenter.open(Path("slow.dcm"))
    assert rig.started.wait(SECONDS)
    rig.presenter.open(Path("new.dcm"))
    rig.release.set()
    after_old = rig.deliver()
    assert after_old == Reading(Path("new.dcm"))
    after_new = rig.deliver()
    assert isinstance(after_new, Shown)
    assert after_new.path == Path("new.dcm")
    assert not [state for state in rig.seen if isinstance(state, Shown) and state.path == Path("slow.dcm")]


def test_an_older_file_that_fails_late_does_not_hide_the_newer_one(rig: Rig) -> None:
    rig.presenter.open(Path("slow.dcm"))
    assert rig.started.wait(SECONDS)
    rig.presenter.open(Path("broken.dcm"))
    rig.presenter.open(Path("new.dcm"))
    rig.release.set()
    state = rig.deliver(2)
    assert isinstance(state, Shown)
    assert state.path == Path("new.dcm")
    assert rig.decoded == ["slow.dcm", "new.dcm"], "a file that was given up before its turn is not decoded at all"


def test_a_file_that_does_not_decode_says_so_and_the_next_one_is_read(rig: Rig) -> None:
    failed = rig.opened("broken.dcm")
    assert isinstance(failed, Failed)
    assert (failed.path, failed.error.code) == (Path("broken.dcm"), "dicom_truncated")
    assert isinstance(rig.opened("good.dcm"), Shown)


def test_an_unexpected_exception_is_logged_and_shown_as_an_error_of_its_own(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    failed = rig.opened("bug.dcm")
    assert isinstance(failed, Failed)
    assert failed.error.code == "internal_error"
    assert failed.error.action
    assert "ZeroDivisionError" in caplog.text
    assert "in load" in caplog.text, "the log says where it happened"
    assert "bug.dcm" not in caplog.text, "a file's name may be a patient's"


def test_a_release_that_cannot_be_trusted_is_shown_at_the_start() -> None:
    def refuse() -> None:
        raise ReleaseError("release_file_altered", "It was altered.", "Install it again.")

    rig = Rig(warm_up=refuse)
    rig.presenter.start()
    failed = rig.deliver()
    assert isinstance(failed, Failed)
    assert (failed.path, failed.error.code) == (None, "release_file_altered")
    rig.presenter.close()


def test_a_file_opened_before_the_models_are_loaded_is_read_after_them(rig: Rig) -> None:
    rig.presenter.start()
    rig.presenter.open(Path("early.dcm"))
    while not isinstance(rig.deliver(), Shown):
        assert rig.presenter.state == Reading(Path("early.dcm"))


def test_a_quality_refusal_may_be_overridden_without_decoding_again(rig: Rig) -> None:
    refused = rig.opened("dark.dcm")
    assert isinstance(refused, Refused)
    assert (refused.problem.code, refused.diagnosis.probabilities) == ("over_exposed", {})
    rig.presenter.read_anyway()
    assert rig.presenter.state == Reading(Path("dark.dcm"))
    shown = rig.deliver()
    assert isinstance(shown, Shown)
    assert shown.diagnosis.probabilities
    assert shown.diagnosis.verdict.reason is not None, "the warning stays with the result"
    assert rig.decoded == ["dark.dcm"]


def test_what_is_no_chest_radiograph_cannot_be_overridden(rig: Rig) -> None:
    refused = rig.opened("legs.dcm")
    assert isinstance(refused, Refused)
    rig.presenter.read_anyway()
    assert rig.presenter.state is refused


def test_reading_anyway_means_nothing_where_nothing_was_refused(rig: Rig) -> None:
    shown = rig.opened("good.dcm")
    rig.presenter.read_anyway()
    assert rig.presenter.state is shown


def test_a_radiograph_upside_down_is_read_once_it_is_turned_on_request(rig: Rig) -> None:
    refused = rig.opened("turned.dcm")
    assert isinstance(refused, Refused)
    rig.presenter.read_corrected()
    assert rig.presenter.state == Reading(Path("turned.dcm"))
    shown = rig.deliver()
    assert isinstance(shown, Shown)
    assert shown.diagnosis.correction == CORRECTIONS["rotated_180"]
    assert shown.radiograph.correction == CORRECTIONS["rotated_180"]
    assert shown.diagnosis.verdict.reason is None
    assert refused.radiograph.correction is None
    assert rig.decoded == ["turned.dcm"]


def test_what_is_refused_after_its_correction_stays_refused(rig: Rig) -> None:
    rig.opened("both.dcm")
    rig.presenter.read_corrected()
    still = rig.deliver()
    assert isinstance(still, Refused)
    assert (still.problem.code, still.diagnosis.correction) == ("over_exposed", CORRECTIONS["inverted"])
    rig.presenter.read_corrected()
    assert rig.presenter.state is still, "nothing more is offered"


@pytest.mark.parametrize("name", ["dark.dcm", "legs.dcm", "good.dcm"])
def test_a_correction_that_was_not_offered_does_nothing(rig: Rig, name: str) -> None:
    state = rig.opened(name)
    rig.presenter.read_corrected()
    assert rig.presenter.state is state


@pytest.mark.parametrize("name", ["good.dcm", "dark.dcm"])
def test_a_change_of_language_draws_the_labels_again(rig: Rig, name: str) -> None:
    before = rig.opened(name)
    rig.presenter.set_language("ko")
    assert rig.presenter.state is before, "the old picture stays until the new one is there"
    after = rig.deliver()
    assert isinstance(after, Shown | Refused)
    assert type(after) is type(before)
    assert (after.language, rig.drawn, rig.decoded) == ("ko", ["en", "ko"], [name])


def test_a_language_chosen_while_a_file_is_read_holds_for_its_picture(rig: Rig) -> None:
    rig.presenter.open(Path("slow.dcm"))
    rig.presenter.set_language("ko")
    rig.release.set()
    state = rig.deliver()
    assert isinstance(state, Shown)
    assert state.language == "ko"


def test_a_language_chosen_between_drawing_and_delivery_draws_again(rig: Rig) -> None:
    rig.presenter.open(Path("good.dcm"))
    delivery = rig.posted.get(timeout=SECONDS)
    rig.presenter.set_language("ko")
    delivery()
    state = rig.deliver()
    assert isinstance(state, Shown)
    assert state.language == "ko"


def test_a_redrawn_picture_does_not_come_back_over_a_newer_file(rig: Rig) -> None:
    rig.opened("good.dcm")
    rig.presenter.set_language("ko")
    redrawn = rig.posted.get(timeout=SECONDS)
    rig.presenter.open(Path("new.dcm"))
    redrawn()
    assert rig.presenter.state == Reading(Path("new.dcm"))
    state = rig.deliver()
    assert isinstance(state, Shown)
    assert state.path == Path("new.dcm")


def test_nothing_is_delivered_after_closing(rig: Rig) -> None:
    rig.presenter.open(Path("good.dcm"))
    delivery = rig.posted.get(timeout=SECONDS)
    rig.presenter.close()
    delivery()
    assert rig.presenter.state == Reading(Path("good.dcm"))


def test_a_new_file_can_be_opened_in_every_state() -> None:
    states = {Starting, Idle, Reading, Shown, Refused, Failed}
    assert {state for state, event in TRANSITIONS if event is Event.OPEN} == states


def test_a_move_outside_the_table_is_a_mistake_that_shows(rig: Rig) -> None:
    with pytest.raises(ValueError, match="does not lead from Starting to Shown"):
        rig.presenter._move(Event.ACCEPT, Shown.__new__(Shown))
