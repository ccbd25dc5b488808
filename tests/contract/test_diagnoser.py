"""The one diagnosis path with the release in use: what it promises whatever the radiograph."""

import json
from pathlib import Path

import numpy as np
import pytest

from shared.calibration import sigmoid
from shared.diagnosis import Diagnoser
from shared.errors import RuntimeUnavailable
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
        assert box.score >= diagnoser.variant.calibration.findings[box.finding].box_threshold
        assert release.manifest.located_by[box.finding] == box.source


def test_every_finding_can_be_placed(release: Release, radiograph: Radiograph):
    boxes = Diagnoser(release, min_score=0.0).diagnose(radiograph).boxes
    by_map = {key for key, source in release.manifest.located_by.items() if source == "activation"}
    assert by_map <= {box.finding for box in boxes if box.source == "activation"}
    assert {box.source for box in boxes} == {"detector", "activation"}


def test_urgent_findings_are_over_their_threshold_most_urgent_first(release: Release, radiograph: Radiograph):
    diagnoser = Diagnoser(release)
    diagnosis = diagnoser.diagnose(radiograph)
    thresholds = diagnoser.variant.calibration.findings
    over = {key for key, p in diagnosis.probabilities.items() if p >= thresholds[key].threshold}
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
