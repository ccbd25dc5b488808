"""The command line as its users run it: real processes, the real release, real radiographs, and what goes wrong."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared.correction import Correction
from shared.findings import KEYS
from shared.overlay import NOTE_GROUND
from shared.radiograph import load_radiograph
from shared.release import MANIFEST, default_release
from shared.runtime import available


def firstray(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "firstray", *[os.fsencode(str(argument)) for argument in arguments]]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env={**os.environ, **environment}
    )


def records(*arguments: object, **environment: str) -> tuple[list[dict], int]:
    done = firstray("diagnose", "--json", *arguments, **environment)
    assert "Traceback" not in done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.returncode


def test_a_chest_radiograph_gets_the_whole_contract(chest: Path, tmp_path: Path):
    (record,), code = records(chest, "--out", tmp_path)
    assert code == 0
    assert record["status"] == "ok"
    assert tuple(record["probabilities"]) == KEYS
    assert all(0 < p < 1 for p in record["probabilities"].values())
    assert tuple(record["states"]) == KEYS
    assessed = {key: p for key, p in record["probabilities"].items() if record["states"][key] != "not_assessed"}
    expected = sorted(assessed.items(), key=lambda item: -item[1])[:3]
    assert [(top["finding"], top["probability"]) for top in record["top3"]] == expected
    assert {key for key in ("Pneumothorax", "Edema") if record["states"][key] in ("uncertain", "not_assessed")} == set(
        record["cannot_exclude"]
    )
    assert record["prevalence"] == "NIH ChestX-ray14"
    assert record["boxes"]
    for box in record["boxes"]:
        assert set(box) == {"finding", "score", "x", "y", "w", "h", "source"}
        assert 0 <= box["x"] < box["x"] + box["w"] <= 1 + 1e-6
        assert 0 <= box["y"] < box["y"] + box["h"] <= 1 + 1e-6
    assert record["precision"] == "int8"
    assert {"decode", "gate", "classifier", "detector", "total"} <= set(record["timing_ms"])
    with Image.open(record["image"]) as image:
        assert image.size == (1841, 1955)
        assert ((np.asarray(image, int) - (255, 48, 48)).clip(-60, 60).__abs__().max(axis=2) < 60).sum() > 1000


def test_the_sample_shows_the_masses_it_has(chest: Path):
    """RG1 shows several large masses: a mass or nodule leads, and its boxes lie in the lungs."""
    (record,), _ = records(chest)
    assert {"Mass", "Nodule"} & {top["finding"] for top in record["top3"]}


def test_every_variant_agrees_on_the_sample(chest: Path):
    runs = [
        ("fp32", "onnx"),
        ("fp16", "onnx"),
        ("int8", "onnx"),
        ("int8", "litert"),
    ]
    answers = []
    for precision, runtime in runs:
        if not available(runtime):
            continue
        (record,), code = records(chest, "--precision", precision, "--runtime", runtime)
        assert code == 0
        assert (record["precision"], record["runtime"]) == (precision, runtime)
        answers.append(np.array(list(record["probabilities"].values())))
    for answer in answers[1:]:
        assert np.abs(answer - answers[0]).max() < 0.1


def test_two_encodings_of_one_radiograph_get_the_same_answer(chest: Path, chest_jpeg2000: Path):
    lines, code = records(chest, chest_jpeg2000)
    assert code == 0
    assert lines[0]["probabilities"] == lines[1]["probabilities"]
    assert lines[0]["boxes"] == lines[1]["boxes"]


def test_legs_are_refused_with_a_reason_and_read_only_by_force(legs: Path):
    (record,), code = records(legs)
    assert (record["status"], record["code"], code) == ("refused", "not_a_chest_radiograph", 0)
    assert record["probabilities"] == {}
    assert record["boxes"] == []
    assert "chest" in record["message"]
    (forced,), _ = records(legs, "--force")
    assert forced["status"] == "ok"
    assert forced["code"] == "not_a_chest_radiograph"
    assert len(forced["probabilities"]) == 13


def test_an_inverted_and_turned_radiograph_is_offered_a_correction_and_read_with_it(
    chest: Path, legs: Path, tmp_path: Path
):
    right = load_radiograph(chest)
    wrong = tmp_path / "wrong.png"
    Image.fromarray(Correction(quarter_turns=3, invert=True).apply(right.pixels)).save(wrong)
    (refused,), code = records(wrong)
    assert (refused["status"], refused["code"], code) == ("refused", "inverted", 0)
    assert refused["correction_offered"] == {"quarter_turns": 1, "invert": True}
    assert refused["correction"] is None
    assert "With --correct it is read turned 90° anticlockwise and black and white swapped" in refused["message"]

    (upright, read, other), code = records(chest, wrong, legs, "--correct", "--out", tmp_path)
    assert code == 0
    assert (upright["correction"], read["correction"]) == (None, {"quarter_turns": 1, "invert": True})
    assert read["probabilities"] == upright["probabilities"]
    assert read["boxes"] == upright["boxes"]
    assert (other["status"], other["correction"]) == ("refused", None), "what is no chest is not turned until it passes"
    with Image.open(read["image"]) as image, Image.open(upright["image"]) as plain:
        assert image.size == plain.size == (1841, 1955)
        note = np.abs(np.asarray(image, int) - NOTE_GROUND).max(axis=2) < 12
        assert note[-60:, :400].mean() > 0.3
        assert not (np.abs(np.asarray(plain, int) - NOTE_GROUND).max(axis=2) < 12)[-60:, :400].any()
    assert "not as received, turned 90° anticlockwise" in firstray("diagnose", wrong, "--correct", COLUMNS="200").stdout


def test_one_bad_file_never_stops_the_others_and_order_is_kept(chest: Path, legs: Path, tmp_path: Path):
    pdf = tmp_path / "report.dcm"
    pdf.write_bytes(b"%PDF-1.7\n" + b"0" * 5000)
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(chest.read_bytes()[:200_000])
    empty = tmp_path / "empty.dcm"
    empty.touch()
    latin = Path(os.fsdecode(os.fsencode(tmp_path) + b"/r\xf6ntgen.dcm"))
    shutil.copy(chest, latin)
    folder = tmp_path / "folder"
    folder.mkdir()
    inputs = [pdf, chest, cut, legs, empty, folder, tmp_path / "missing.dcm", latin]
    lines, code = records(*inputs)
    assert code == 1
    assert [line["status"] for line in lines] == ["error", "ok", "error", "refused", "error", "error", "error", "ok"]
    codes = [line["code"] for line in lines if line["status"] == "error"]
    assert codes == ["format_unknown", "dicom_truncated", "file_empty", "folder_empty", "file_missing"]
    assert [os.fsencode(line["file"]) for line in lines] == [os.fsencode(path) for path in inputs]
    assert all(line["message"] for line in lines if line["status"] == "error")


def test_a_low_minimum_score_gives_every_candidate(chest: Path):
    (usual,), _ = records(chest)
    (all_of_them,), _ = records(chest, "--min-score", "0.01")
    assert len(all_of_them["boxes"]) > len(usual["boxes"])
    assert min(box["score"] for box in all_of_them["boxes"]) < 0.1
    assert {box["source"] for box in all_of_them["boxes"]} == {"detector", "activation"}


def test_a_missing_and_a_tampered_release_are_clear_errors_for_every_file(chest: Path, legs: Path, tmp_path: Path):
    lines, code = records(chest, legs, "--release", tmp_path / "none")
    assert code == 1
    assert [line["code"] for line in lines] == ["release_missing"] * 2
    copy = tmp_path / "copy"
    shutil.copytree(default_release(), copy)
    altered = copy / json.loads((copy / MANIFEST).read_text())["variants"][0]["detector"]
    content = bytearray(altered.read_bytes())
    content[len(content) // 2] ^= 1
    altered.write_bytes(content)
    lines, code = records(chest, "--release", copy)
    assert (lines[0]["code"], code) == ("release_file_altered", 1)
    assert altered.name in lines[0]["message"]


def test_a_person_gets_a_table_and_the_path_of_the_boxed_image(chest: Path, legs: Path, tmp_path: Path):
    done = firstray("diagnose", chest, legs, "--out", tmp_path, COLUMNS="160")
    assert done.returncode == 0
    assert "probability" in done.stdout
    assert "population of NIH ChestX-ray14" in done.stdout
    assert "Research use only" in done.stdout
    assert "refused (not_a_chest_radiograph)" in done.stdout
    assert len(list(tmp_path.glob("RG1_UNCR-*.jpg"))) == 1


def test_a_site_states_probabilities_at_its_own_prevalences(chest: Path, tmp_path: Path):
    site = tmp_path / "site.toml"
    site.write_text('name = "Our ambulances"\n[prevalence]\nPneumothorax = 0.001\nEffusion = 0.4\n')
    (usual,), _ = records(chest)
    for (moved,), _ in [records(chest, "--prevalence", site), records(chest, FIRSTRAY_PREVALENCE=str(site))]:
        assert moved["prevalence"] == "Our ambulances"
        assert moved["states"] == usual["states"]
        probabilities = moved["probabilities"]
        assert probabilities["Pneumothorax"] < usual["probabilities"]["Pneumothorax"]
        assert probabilities["Effusion"] > usual["probabilities"]["Effusion"]
        assert probabilities["Mass"] == usual["probabilities"]["Mass"]
        assert moved["boxes"] == usual["boxes"]
    site.write_text('name = "Our ambulances"\n[prevalence]\nHernia = 0.1\n')
    done = firstray("diagnose", chest, "--prevalence", site)
    assert done.returncode == 2
    assert "prevalence_invalid" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments", [["--precision", "int4"], ["--runtime", "tpu"], ["--min-score", "2"], ["--format", "bmp"], []]
)
def test_wrong_options_are_usage_errors(chest: Path, arguments: list[str]):
    done = firstray("diagnose", *([chest, *arguments] if arguments else []))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr


def test_an_output_folder_that_cannot_be_made_is_a_clear_error(chest: Path, tmp_path: Path):
    (tmp_path / "file").touch()
    lines, code = records(chest, "--out", tmp_path / "file" / "out")
    assert (lines[0]["code"], code) == ("output_unwritable", 1)


def test_the_installed_release_verifies_and_an_untrusted_one_does_not(tmp_path: Path):
    assert "signature trusted" in firstray("release", "verify").stdout
    (tmp_path / "keys").mkdir()
    done = firstray("release", "verify", FIRSTRAY_TRUSTED_KEYS=str(tmp_path / "keys"))
    assert done.returncode == 2
    assert "release_signature_invalid" in done.stderr


def test_nothing_but_its_own_cache_is_written_into_the_home_folder(tmp_path: Path, chest: Path) -> None:
    """ONNX Runtime would keep a device id and a database of events for its maker there."""
    environment = {name: value for name, value in os.environ.items() if name not in ("XDG_CACHE_HOME", "HOME")}
    subprocess.run(
        [sys.executable, "-m", "firstray", "diagnose", str(chest), "--runtime", "onnx", "--json"],
        env={**environment, "HOME": str(tmp_path)},
        check=True,
        capture_output=True,
        timeout=120,
    )
    written = {path.relative_to(tmp_path).parts[:2] for path in tmp_path.rglob("*") if path.is_file()}
    assert written <= {(".cache", "firstray")}
