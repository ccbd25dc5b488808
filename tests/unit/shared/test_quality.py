"""The quality gate: its measurements and decisions on real radiographs, and the released gate as a user meets it."""

from pathlib import Path

import numpy as np
import pytest
from pydicom.data import get_testdata_file

from shared.correction import Correction
from shared.preprocess import model_image
from shared.quality import (
    MESSAGES,
    MESSAGES_KO,
    OUTPUTS,
    Gate,
    GateSpec,
    Severity,
    Verdict,
    explain,
    gate_image,
    measure_exposure,
)
from shared.radiograph import load_radiograph
from shared.release import default_release, load_release
from shared.runtime import open_model
from shared.variants import choose_variant

SPEC = GateSpec(side=96, chest=0.5, turned=0.5, inverted=0.5, cut_off_warn=0.5, cut_off_refuse=0.99)


def answering(**logits: float):
    """A network that gives the same logits to every image: an upright, complete chest radiograph but for ``logits``."""
    usual = dict.fromkeys(OUTPUTS, -8.0) | {"chest": 8.0, "turn_0": 8.0} | logits
    return lambda image: {"gate": np.array([[usual[name] for name in OUTPUTS]], np.float32)}


def not_to_be_asked(image):
    raise AssertionError("the network was asked about an image that holds nothing")


def codes(verdict):
    return [problem.code for problem in verdict.problems]


@pytest.fixture(scope="module")
def radiograph(chest):
    return load_radiograph(chest).pixels


def darkened(pixels, factor, shift=0.0):
    full = np.iinfo(pixels.dtype).max
    return np.clip(pixels * factor + shift * full, 0, full).astype(pixels.dtype)


def test_a_good_radiograph_has_no_problem(radiograph):
    verdict = Gate(answering(), SPEC)(radiograph)
    assert verdict.accepted
    assert verdict.problems == ()
    assert verdict.reason is None


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((500, 400), np.uint8),
        np.full((500, 400), 65535, np.uint16),
        np.zeros((1, 1), np.uint8),
        np.random.default_rng(0).integers(0, 256, (20, 3000)).astype(np.uint8),
        np.random.default_rng(0).integers(120, 125, (500, 400)).astype(np.uint8),
    ],
    ids=["black", "white", "one pixel", "a strip", "five grey levels"],
)
def test_an_image_that_holds_nothing_is_unreadable(pixels):
    verdict = Gate(not_to_be_asked, SPEC)(pixels)
    assert codes(verdict) == ["unreadable_image"]
    assert not verdict.accepted
    assert verdict.problems[0].overridable


def test_a_picture_of_something_else_is_refused_for_good(radiograph):
    verdict = Gate(answering(chest=-3, inverted=9, turn_90=20), SPEC)(radiograph)
    assert codes(verdict) == ["not_a_chest_radiograph"]
    assert verdict.reason.severity is Severity.REFUSE
    assert not verdict.reason.overridable


def test_only_being_no_chest_radiograph_cannot_be_overridden(radiograph):
    verdict = Gate(answering(inverted=9, turn_180=20, cut_off=9), SPEC)(radiograph)
    assert codes(verdict) == ["inverted", "rotated_180", "cut_off"]
    assert all(problem.overridable for problem in verdict.problems)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_turn_is_named_by_its_angle(radiograph, degrees):
    verdict = Gate(answering(**{f"turn_{degrees}": 20.0}), SPEC)(radiograph)
    assert verdict.reason.code == f"rotated_{degrees}"


def test_what_is_turned_or_inverted_is_offered_as_one_correction(radiograph):
    gate = Gate(answering(inverted=9, turn_180=20, cut_off=9), SPEC)
    verdict = gate(radiograph)
    assert verdict.correction == Correction(quarter_turns=2, invert=True)
    assert [problem.correction for problem in verdict.problems] == [
        Correction(invert=True),
        Correction(quarter_turns=2),
        None,
    ]
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict, "the offer survives being recorded"


@pytest.mark.parametrize("logits", [{}, {"chest": -9.0, "inverted": 9.0}, {"cut_off": 9.0}])
def test_nothing_is_offered_where_nothing_can_be_mended(radiograph, logits):
    assert Gate(answering(**logits), SPEC)(radiograph).correction is None


def test_an_unfamiliar_radiograph_is_read_with_a_warning(radiograph):
    verdict = Gate(answering(cut_off=1), SPEC)(radiograph)
    near, far = verdict.with_unfamiliarity(0.99), verdict.with_unfamiliarity(1.0)
    assert codes(near) == ["cut_off"]
    assert codes(far) == ["cut_off", "unfamiliar"]
    assert far.accepted
    assert (near.scores["unfamiliarity"], far.scores["unfamiliarity"]) == (0.99, 1.0)


def test_cut_off_warns_and_refuses_only_when_extreme(radiograph):
    warned = Gate(answering(cut_off=1), SPEC)(radiograph)
    assert codes(warned) == ["cut_off"]
    assert warned.accepted
    assert not Gate(answering(cut_off=7), SPEC)(radiograph).accepted


@pytest.mark.parametrize("edge", range(4))
@pytest.mark.parametrize("ink", [0, 65535, 30000])
def test_a_radiograph_of_which_half_was_not_received_is_warned_of(radiograph, edge, ink):
    spoilt = np.rot90(radiograph, edge).copy()
    spoilt[: len(spoilt) // 2] = ink
    verdict = Gate(answering(), SPEC)(np.ascontiguousarray(np.rot90(spoilt, -edge)))
    assert codes(verdict) == ["cut_off"]
    assert verdict.accepted
    assert verdict.scores["blank_margin"] == pytest.approx(0.5, abs=0.02)


def test_too_dark_warns_then_refuses(radiograph):
    gate = Gate(answering(), SPEC)
    dark, black = gate(darkened(radiograph, 1.0, -0.55)), gate(darkened(radiograph, 1.0, -0.8))
    assert codes(dark) == codes(black) == ["over_exposed"]
    assert dark.accepted
    assert not black.accepted


def test_too_white_warns_then_refuses(radiograph):
    gate = Gate(answering(), SPEC)
    pale, white = gate(darkened(radiograph, 1.0, 0.22)), gate(darkened(radiograph, 1.0, 0.4))
    assert codes(pale) == codes(white) == ["under_exposed"]
    assert pale.accepted
    assert not white.accepted


def test_few_grey_levels_left_is_an_exposure_problem(radiograph):
    eight_bits = (radiograph >> 8).astype(np.uint8)
    assert codes(Gate(answering(), SPEC)(darkened(eight_bits, 0.1))) == ["over_exposed"]


def test_exposure_is_not_judged_while_black_and_white_are_swapped(radiograph):
    swapped = 65535 - darkened(radiograph, 1.0, -0.8)
    assert codes(Gate(answering(inverted=9), SPEC)(swapped)) == ["inverted"]


def test_a_wide_black_or_white_frame_is_not_taken_for_bad_exposure(radiograph):
    gate = Gate(answering(), SPEC)
    for ink in (0, 65535):
        assert gate(np.pad(radiograph, 900, constant_values=ink)).problems == ()


def test_eight_bits_measure_as_sixteen_do(radiograph):
    deep, flat = measure_exposure(radiograph), measure_exposure((radiograph >> 8).astype(np.uint8))
    assert flat.median == pytest.approx(deep.median, abs=0.01)
    assert flat.black_share == pytest.approx(deep.black_share, abs=0.02)
    assert flat.entropy_bits == pytest.approx(deep.entropy_bits, abs=0.2)


def test_the_gate_sees_nearly_what_every_model_sees(radiograph):
    difference = np.abs(gate_image(radiograph, 96) - model_image(radiograph, 96)[0])
    assert np.median(difference) < 0.01
    assert difference.mean() < 0.03


def test_every_code_is_explained_in_both_languages():
    assert set(MESSAGES) == set(MESSAGES_KO)
    for code in MESSAGES:
        message, action = explain(code, "ko")
        assert any("가" <= letter <= "힣" for letter in message)
        assert any("가" <= letter <= "힣" for letter in action)
        assert explain(code) != (message, action)
    with pytest.raises(KeyError):
        explain("no_such_code")


def test_a_spec_with_a_threshold_out_of_range_is_refused():
    with pytest.raises(ValueError, match="less than or equal to 1"):
        GateSpec(side=96, chest=1.5, turned=0.5, inverted=0.5, cut_off_warn=0.5, cut_off_refuse=0.9)


@pytest.fixture(scope="module")
def released():
    release = load_release(default_release())
    return Gate(open_model(release.path(choose_variant(release).gate), 1), release.manifest.gate)


def test_released_gate_accepts_the_chest_radiograph_and_its_mirror_image(released, radiograph):
    assert released(radiograph).problems == ()
    assert released(np.ascontiguousarray(radiograph[:, ::-1])).accepted


def test_released_gate_refuses_the_leg(released, legs: Path):
    assert released(load_radiograph(legs).pixels).reason.code == "not_a_chest_radiograph"


@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "MR_small.dcm", "693_UNCR.dcm", "MR2_UNCR.dcm", "US1_UNCR.dcm", "JPEG-LL.dcm"]
)
def test_released_gate_refuses_other_modalities(released, name):
    assert not released(load_radiograph(Path(get_testdata_file(name, download=False))).pixels).accepted


@pytest.mark.parametrize("seed", range(4))
def test_released_gate_refuses_noise_and_gradients(released, seed):
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 65536, (900 + 300 * seed, 1000)).astype(np.uint16)
    ramp = np.linspace(0, 255, 800)[None].repeat(700, 0).astype(np.uint8)
    assert not released(noise).accepted
    assert not released(np.ascontiguousarray(np.rot90(ramp, seed))).accepted


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_released_gate_names_the_turn_and_the_correction_works(released, radiograph, degrees):
    turned = np.ascontiguousarray(np.rot90(radiograph, -degrees // 90))
    assert released(turned).reason.code == f"rotated_{degrees}"
    corrected = released(turned).correction.apply(turned)
    assert np.array_equal(corrected, radiograph)
    assert released(corrected).accepted


def test_released_gate_finds_inversion(released, radiograph):
    verdict = released(65535 - radiograph)
    assert verdict.reason.code == "inverted"
    assert np.array_equal(verdict.correction.apply(65535 - radiograph), radiograph)
