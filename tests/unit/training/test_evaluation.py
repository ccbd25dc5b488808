"""`firstray evaluate` from end to end with the release in use: one real radiograph, changed a little, as 36 films."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from firstray.cli import app, main
from shared.boxes import Detections
from shared.diagnosis import Diagnoser
from shared.findings import KEYS
from shared.radiograph import load_radiograph
from shared.release import default_release, load_release
from training.detection_metrics import Truth
from training.evaluation.comparisons import compare_precisions
from training.evaluation.evaluate import measure
from training.evaluation.films import Films, load_films
from training.evaluation.location import Places, location
from training.evaluation.reading import Answers, read_films
from training.evaluation.report import html

NUMBER = 36
JUNK = "<script>alert(1)<!--.png"
MASS = KEYS.index("Mass")


@pytest.fixture(scope="module")
def folder(chest: Path, legs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 films of a chest with masses, half of them blurred and labelled without a mass; legs, junk and a gap."""
    made = tmp_path_factory.mktemp("films")
    (made / "images").mkdir()
    pixels = load_radiograph(chest).pixels
    grey = Image.fromarray((pixels.astype(np.float32) / 257).astype(np.uint8)).resize((460, 488))
    rng = np.random.default_rng(0)
    names = [f"{n}.png" for n in range(NUMBER)]
    for number, name in enumerate(names):
        moved = grey.rotate(float(rng.uniform(-4, 4)), Image.Resampling.BILINEAR, fillcolor=0)
        if number % 2:
            moved = moved.resize((24, 26)).resize(grey.size, Image.Resampling.BICUBIC)
        moved.save(made / "images" / name)
    legs_grey = load_radiograph(legs).pixels
    Image.fromarray((legs_grey / 257).astype(np.uint8)).resize((400, 400)).save(made / "images" / "legs.png")
    (made / "images" / JUNK).write_bytes(b"junk")
    rows = pd.DataFrame({"image": [*names, "legs.png", JUNK, "gap.png"], "source": "Here"})
    rows["patient_id"] = [f"p{n // 2 if n < 8 else n}" for n in range(len(rows))]
    rows["view"], rows["sex"] = "PA", ["F" if n % 3 else "M" for n in range(len(rows))]
    rows["age"] = rng.integers(20, 90, len(rows))
    labels = (rng.random((len(rows), len(KEYS))) < 0.3).astype(int)
    labels[:, MASS] = [(n + 1) % 2 for n in range(len(rows))]
    rows = pd.concat([rows, pd.DataFrame(labels, columns=list(KEYS))], axis=1)
    rows["Edema"] = ""
    rows.to_csv(made / "labels.csv", index=False)
    boxes = pd.DataFrame({"image": names[::2], "finding": "Mass", "reader": "R1"})
    boxes[["x", "y", "w", "h"]] = 0.3, 0.3, 0.3, 0.3
    boxes.to_csv(made / "boxes.csv", index=False)
    pd.DataFrame({"patient_id": ["somebody"], "fold": [0]}).to_csv(made / "folds.csv", index=False)
    return made


@pytest.fixture(scope="module")
def films(folder: Path) -> Films:
    return load_films(folder, "unseen", folder / "folds.csv")


@pytest.fixture(scope="module")
def read(films: Films) -> tuple[Films, Answers, list]:
    readable, (answers,), left_out = read_films(films, [Diagnoser(load_release(default_release()))], quiet=True)
    return films.where(readable), answers, left_out


@pytest.fixture(scope="module")
def figures(read: tuple[Films, Answers, list]) -> dict:
    films, answers, left_out = read
    return measure(load_release(default_release()), films, [answers], left_out).figures


def test_the_command_writes_a_report_figures_and_a_row_for_every_film(folder: Path, tmp_path: Path):
    options = ["--data", str(folder), "--split", str(folder / "folds.csv"), "--out", str(tmp_path / "new" / "out")]
    done = CliRunner().invoke(app, ["evaluate", *options, "--no-compare", "--json"], catch_exceptions=False)
    assert done.exit_code == 0
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures == json.loads((tmp_path / "new" / "out" / "figures.json").read_text())
    for row in figures["summary"]:
        assert {"value", "low", "high", "n", "population"} == set(row["figure"])
        assert row["baseline_name"]
    report = (tmp_path / "new" / "out" / "report.html").read_text()
    assert report.count("data:image/svg+xml;base64,") >= 6
    assert "data:image/jpeg;base64," in report
    assert "http" not in report  # works offline
    assert "<script" not in report
    assert "&lt;script&gt;" in report
    rows = list(csv.DictReader((tmp_path / "new" / "out" / "per_image.csv").open()))
    assert len(rows) == NUMBER + 3
    by_name = {row["image"]: row for row in rows}
    assert by_name["legs.png"]["verdict"] == "refused"
    assert by_name["legs.png"]["codes"] == "not_a_chest_radiograph unfamiliar"
    assert by_name["legs.png"]["Mass"] == ""
    assert (by_name[JUNK]["codes"], by_name["gap.png"]["codes"]) == ("format_unknown", "file_missing")
    assert 0 < float(by_name["0.png"]["Mass"]) < 1
    assert by_name["0.png"]["Mass_state"] in {"likely", "uncertain", "unlikely", "not_assessed"}


def test_errors_of_the_user_end_with_2(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    (tmp_path / "file").touch()
    for arguments, code in (
        (["--data", str(tmp_path)], "data_missing"),
        (["--data", str(folder), "--out", str(tmp_path / "file" / "out")], "output_unwritable"),
        (["--data", str(folder), "--release", str(tmp_path)], "release_missing"),
    ):
        monkeypatch.setattr(sys, "argv", ["firstray", "evaluate", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        assert f"[{code}]" in capsys.readouterr().err


def test_an_answer_is_that_of_the_product(folder: Path, read: tuple[Films, Answers, list]):
    _, answers, _ = read
    expected = Diagnoser(load_release(default_release())).diagnose(load_radiograph(folder / "images" / "0.png"))
    for field in ("probabilities", "states", "boxes", "top3", "verdict"):
        assert getattr(answers.diagnoses[0], field) == getattr(expected, field)
    np.testing.assert_allclose(answers.probabilities[0], list(expected.probabilities.values()), rtol=1e-5)


def test_refused_films_count_for_the_gate_alone(figures: dict):
    assert figures["gate"]["accepted"].n == NUMBER + 1
    assert [entry["image"] for entry in figures["gate"]["refused"]] == ["legs.png"]
    assert {entry["code"] for entry in figures["data"]["unreadable"]} == {"format_unknown", "file_missing"}
    assert figures["classification"]["Here"]["films"] == NUMBER
    assert figures["gate"]["with_refused"]["auc"].n == NUMBER + 1


def test_a_folder_of_which_every_film_is_refused_is_still_reported(read: tuple[Films, Answers, list]):
    films, answers, left_out = read
    legs = (films.table.rows["image"] == "legs.png").to_numpy()
    done = measure(load_release(default_release()), films.where(legs), [answers.where(legs)], left_out)
    assert done.figures["gate"]["accepted"].value == 0
    assert [row["name"] for row in done.figures["summary"]] == ["accepted by the quality gate"]
    assert "not_a_chest_radiograph" in html(done)


def test_masses_that_are_there_are_told_from_those_blurred_away(figures: dict):
    found = figures["classification"]["Here"]["findings"]
    mass = found["Mass"]
    assert mass["positives"] == 18
    assert mass["auc"].value > 0.8
    assert mass["auc"].low <= mass["auc"].value <= mass["auc"].high
    table = mass["at_threshold"]
    assert table["true_positives"] + table["false_negatives"] == 18
    assert table["false_positives"] + table["true_negatives"] == 18
    assert "too_few" in found["Edema"]
    assert found["Edema"]["known"] == 0
    assert "Edema" not in figures["classification"]["Here"]["findings_in_means"]


def test_states_share_out_every_film(figures: dict):
    states = figures["classification"]["Here"]["states"]
    shares = [states[name].value for name in ("likely", "uncertain", "unlikely", "not_assessed")]
    assert sum(shares) == pytest.approx(1)


def test_small_groups_are_named_and_not_measured(figures: dict):
    groups = {(g["attribute"], g["group"]): g for g in figures["subgroups"]["Here"]}
    assert groups[("sex", "M")]["films"] == 12
    assert "too_few" in groups[("sex", "M")]
    assert groups[("view", "PA")]["auc"].value == pytest.approx(groups[("view", "PA")]["auc_all_films"].value)


def test_the_same_answers_differ_by_nothing(read: tuple[Films, Answers, list]):
    films, answers, _ = read
    row = compare_precisions(films, [answers, answers], "Here")[0]
    assert row["same_likeliest"] == row["same_top3"] == row["same_states"] == 1
    assert (row["auc_difference"].value, row["auc_difference"].low, row["auc_difference"].high) == (0, 0, 0)


def boxes(*corners: tuple[float, float, float, float], score: float = 0.9) -> Detections:
    number = len(corners)
    return Detections(
        np.array(corners, np.float32).reshape(-1, 4), np.full(number, MASS), np.full(number, score, np.float32)
    )


def test_boxes_are_judged_against_the_readers():
    """Six films with a box: three found, two pointed at wrongly, one without an answer. Two healthy, a box on one."""
    there, near, far = (0.2, 0.2, 0.4, 0.4), (0.2, 0.2, 0.4, 0.42), (0.6, 0.6, 0.8, 0.8)
    truth = [boxes(there)] * 6 + [Detections.none()] * 2
    said = [boxes(near)] * 3 + [boxes(far)] * 2 + [Detections.none()] + [boxes(far, score=0.95), Detections.none()]
    nothing: list[Detections] = [Detections.none()] * 8
    known = np.ones((8, len(KEYS)), bool)
    patients = np.array([f"p{n}" for n in range(8)], object)
    healthy = np.arange(8) >= 6
    right, wrong = said[:3] + nothing[3:], nothing[:3] + said[3:]
    places = Places(Truth(truth, known, patients), healthy, said, said, nothing, nothing, said, right, wrong)
    found = location(places, "all", dict.fromkeys(KEYS, "detector"))
    assert found["films"] == 6
    assert found["pointing"]["product"].value == 0.5
    assert found["pointing"]["fixed_box"].value == 0
    assert found["findings"]["Mass"]["activation_iou"].value == 0
    assert found["shown"]["precision_all"].value == 0.5
    assert found["shown"]["precision_detector"].value == 1
    assert found["shown"]["precision_activation"].value == 0
    assert found["shown"]["recall"].value == 0.5
    assert found["shown"]["boxes_a_healthy_film"].value == 0.5
    at = {point["false_per_film"]: point["found"].value for point in found["froc"]}
    assert at[0.125] == 0.5  # one wrong box on eight films
    assert at[4.0] == 0.5


def test_evaluating_needs_no_training_framework():
    code = (
        "import sys; import training.evaluation.run; "
        "print([m for m in ('torch', 'cv2', 'tensorflow', 'iterstrat', 'timm') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_development_data_is_read_and_its_training_patients_are_left_out(training_data: Path):
    films = load_films(training_data)
    assert set(films.cohort) == {"validation"}
    assert (len(films), films.trained_left_out[0]) == (360, 2202)
    assert films.truth.counts.sum() > 500
    assert films.unplaced_boxes == 0
