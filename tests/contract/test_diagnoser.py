"""The one diagnosis path with the release in use: what it promises whatever the radiograph."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shared.calibration import State, sigmoid
from shared.correction import Correction
from shared.diagnosis import Diagnoser
from shared.errors import RuntimeUnavailable
from shared.familiarity import FEATURES, Familiarity
from shared.findings import BY_KEY, KEYS, Urgency
from shared.preprocess import model_image
from shared.radiograph import Radiograph, load_radiograph
from shared.release import Release, default_release, load_release
from shared.runtime import available, open_model
from shared.variants import cache_folder, choose_variant


@pytest.fixture(scope="module")
def release() -> Release:
    return load_release(default_release())


@pytest.fixture(scope="module")
def radiograph(chest: Path) -> Radiograph:
    return load_radiograph(chest)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_the_release_has_every_variant_of_the_design(release: Release):
    ids = {variant.id for variant in release.manifest.variants}
    assert ids == {"int8-litert", "int8-onnx", "fp16-onnx", "fp32-onnx"}
    calibrations = [variant.calibration for variant in release.manifest.variants]
    assert all(a != b for n, a in enumerate(calibrations) for b in calibrations[:n])


def test_the_parity_report_of_the_release_is_within_its_limits(release: Release):
    rows = json.loads(release.path("parity.json").read_text())
    assert len(rows) == 4
    for row in rows:
        assert row["top1_agreement"] >= 0.95
        assert row["auc_difference"]["value"] >= -0.01
        assert row["map_difference"]["value"] >= -0.02


def test_probabilities_are_the_calibrated_mean_of_the_maps(release: Release, radiograph: Radiograph):
    diagnoser = Diagnoser(release, "fp32", "onnx")
    diagnosis = diagnoser.diagnose(radiograph)
    variant = diagnoser.variant
    side = release.manifest.inputs["classifier"].side
    square = model_image(radiograph.pixels, side)[0]
    maps = open_model(release.path(variant.classifier))(square[None, None])["maps"][0]
    for number, key in enumerate(KEYS):
        finding = variant.calibration.findings[key]
        expected = sigmoid(np.array(finding.slope * maps[number].mean() + finding.intercept))
        assert diagnosis.probabilities[key] == pytest.approx(float(expected), abs=1e-5)


def test_boxes_meet_their_thresholds_and_their_source(release: Release, radiograph: Radiograph):
    diagnoser = Diagnoser(release)
    for box in diagnoser.diagnose(radiograph).boxes:
        finding = diagnoser.variant.calibration.findings[box.finding]
        assert box.score >= (finding.box_threshold if box.source == "detector" else finding.threshold)
        assert release.manifest.located_by[box.finding] == box.source


def test_every_finding_can_be_placed(release: Release, radiograph: Radiograph):
    boxes = Diagnoser(release, min_score=0.0).diagnose(radiograph).boxes
    by_map = {key for key, source in release.manifest.located_by.items() if source == "activation"}
    assert by_map <= {box.finding for box in boxes if box.source == "activation"}
    assert {box.source for box in boxes} == {"detector", "activation"}


def with_calibration(release: Release, **changes: dict[str, object]) -> Release:
    """The release with some findings' calibrations changed, in every variant."""
    variants = []
    for variant in release.manifest.variants:
        findings = {
            key: finding.model_copy(update=changes.get(key, {}))
            for key, finding in variant.calibration.findings.items()
        }
        calibration = variant.calibration.model_copy(update={"findings": findings})
        variants.append(variant.model_copy(update={"calibration": calibration}))
    return replace(release, manifest=release.manifest.model_copy(update={"variants": tuple(variants)}))


def test_states_follow_from_probabilities_and_thresholds(release: Release, radiograph: Radiograph):
    diagnoser = Diagnoser(release)
    diagnosis = diagnoser.diagnose(radiograph)
    assert tuple(diagnosis.states) == KEYS
    for key, finding in diagnoser.variant.calibration.findings.items():
        likely = diagnosis.probabilities[key] >= finding.threshold
        assert (diagnosis.states[key] is State.LIKELY) == (likely and finding.assessed)


def test_what_is_not_assessed_is_neither_ranked_nor_urgent_nor_drawn(release: Release, radiograph: Radiograph):
    """Every finding in turn, at thresholds that would flag it on any radiograph."""
    certain = {"threshold": 0.0, "box_threshold": 0.0, "assessed": True}
    everything = with_calibration(release, **dict.fromkeys(KEYS, certain))
    shown = Diagnoser(everything, "int8").diagnose(radiograph)
    assert {box.source for box in shown.boxes} == {"detector", "activation"}
    assert set(shown.urgent) == {key for key in KEYS if BY_KEY[key].urgency is not Urgency.ROUTINE}
    leading = {ranked.finding for ranked in shown.top3}
    hidden = leading | {"Pneumothorax", "Edema", "Effusion"}
    some = with_calibration(everything, **{key: {"assessed": False} for key in hidden})
    diagnosis = Diagnoser(some, "int8").diagnose(radiograph)
    assert {key for key, state in diagnosis.states.items() if state is State.NOT_ASSESSED} == hidden
    mentioned = {ranked.finding for ranked in diagnosis.top3} | {box.finding for box in diagnosis.boxes}
    assert not hidden & (mentioned | set(diagnosis.urgent))
    assert len(diagnosis.top3) == 3
    assert set(diagnosis.cannot_exclude) == {"Pneumothorax", "Edema"}, "not assessed is not excluded"
    assert len(diagnosis.probabilities) == 13


def test_an_urgent_finding_is_excluded_only_where_it_is_unlikely(release: Release, radiograph: Radiograph):
    uncertain = {"threshold": 1.0, "rule_out": 0.0, "assessed": True}
    unlikely = {"threshold": 1.0, "rule_out": 1.0, "assessed": True}
    mixed = with_calibration(release, Pneumothorax=uncertain, Edema=unlikely)
    diagnosis = Diagnoser(mixed, "int8").diagnose(radiograph)
    assert diagnosis.cannot_exclude == ("Pneumothorax",)
    assert not {"Pneumothorax", "Edema"} & set(diagnosis.urgent)


def test_urgent_findings_are_over_their_threshold_most_urgent_first(release: Release, radiograph: Radiograph):
    diagnoser = Diagnoser(release)
    diagnosis = diagnoser.diagnose(radiograph)
    thresholds = diagnoser.variant.calibration.findings
    over = {key for key, p in diagnosis.probabilities.items() if p >= thresholds[key].threshold}
    over -= {key for key, state in diagnosis.states.items() if state is State.NOT_ASSESSED}
    assert set(diagnosis.urgent) == {key for key in over if BY_KEY[key].urgency is not Urgency.ROUTINE}
    ranks = [list(Urgency).index(BY_KEY[key].urgency) for key in diagnosis.urgent]
    assert ranks == sorted(ranks)


def test_reading_twice_says_the_same(release: Release, radiograph: Radiograph):
    diagnoser = Diagnoser(release)
    first, second = (diagnoser.diagnose(radiograph).model_dump(exclude={"timing_ms"}) for _ in range(2))
    assert first == second


@pytest.mark.skipif(not (available("litert") and available("onnx")), reason="needs both runtimes")
def test_the_faster_runtime_is_measured_once_and_remembered(release: Release):
    chosen = choose_variant(release, "int8")
    (file,) = (cache_folder() / "probe").iterdir()
    figures = json.loads(file.read_text())["seconds"]
    assert set(figures) == {"litert", "onnx"}
    assert figures[chosen.runtime] == min(figures.values())
    other = "onnx" if chosen.runtime == "litert" else "litert"
    file.write_text(json.dumps({"fastest": other}))
    assert choose_variant(release, "int8").runtime == other
    file.write_text("not json")
    assert choose_variant(release, "int8").precision == "int8"


@pytest.mark.parametrize(
    "taken_as",
    [Correction(quarter_turns=1), Correction(quarter_turns=2), Correction(quarter_turns=3), Correction(invert=True)],
    ids=str,
)
def test_a_wrong_way_round_radiograph_is_refused_and_corrected_on_request_reads_as_the_right_one(
    release: Release, radiograph: Radiograph, taken_as: Correction
):
    diagnoser = Diagnoser(release)
    wrong = replace(radiograph, pixels=taken_as.apply(radiograph.pixels))
    refused = diagnoser.diagnose(wrong)
    assert refused.refused
    assert refused.correction is None
    offered = refused.verdict.correction
    assert offered is not None
    read = diagnoser.diagnose(wrong.corrected(offered))
    right = diagnoser.diagnose(radiograph)
    same = {"probabilities", "states", "top3", "boxes", "urgent", "sha256"}
    assert read.model_dump(include=same) == right.model_dump(include=same)
    assert read.verdict.accepted
    assert (read.correction, right.correction) == (offered, None)


def test_a_corrected_radiograph_that_is_still_wrong_stays_refused(release: Release, radiograph: Radiograph):
    diagnosis = Diagnoser(release).diagnose(radiograph.corrected(Correction(quarter_turns=1)))
    assert diagnosis.refused
    assert diagnosis.correction == Correction(quarter_turns=1), "the record says what was judged"
    assert diagnosis.probabilities == {}


def test_unfamiliar_maps_are_warned_of_beside_the_reading(release: Release, radiograph: Radiograph):
    diagnoser = Diagnoser(release, "int8")
    for limit, codes in ((1e6, []), (1e-6, ["unfamiliar"])):
        known = Familiarity.of(np.zeros(FEATURES), np.eye(FEATURES), limit, "nothing")
        diagnoser.variant = diagnoser.variant.model_copy(update={"familiarity": known})
        diagnosis = diagnoser.diagnose(radiograph)
        assert [problem.code for problem in diagnosis.verdict.problems] == codes
        assert not diagnosis.refused
        assert diagnosis.verdict.scores["unfamiliarity"] > 0


def test_a_variant_that_is_not_there_is_a_clear_error(release: Release):
    with pytest.raises(RuntimeUnavailable) as caught:
        choose_variant(release, "fp32", "litert")
    assert caught.value.code == "variant_missing"
    assert "int8-litert" in caught.value.action


def test_a_runtime_that_is_not_installed_is_a_clear_error(release: Release, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("shared.variants.available", lambda name: False)
    with pytest.raises(RuntimeUnavailable) as caught:
        choose_variant(release, "int8")
    assert caught.value.code == "runtime_missing"


def test_a_file_that_is_no_model_is_a_clear_error(tmp_path: Path):
    for name in ["broken.onnx", *(["broken.tflite"] if available("litert") else [])]:
        (tmp_path / name).write_bytes(b"no model" * 100)
        with pytest.raises(RuntimeUnavailable) as caught:
            open_model(tmp_path / name)
        assert caught.value.code == "model_unusable"
