"""A release is used only if every byte is what a trusted key signed; otherwise the error names what is wrong."""

import json
from pathlib import Path

import pytest

from shared.calibration import Calibration, FindingCalibration
from shared.errors import ReleaseError
from shared.findings import KEYS
from shared.quality import GateSpec
from shared.release import (
    CARD,
    MANIFEST,
    SIGNATURE,
    TRUSTED_KEYS_VARIABLE,
    InputSpec,
    Manifest,
    Variant,
    default_release,
    file_entry,
    load_release,
    make_key,
    read_private_key,
    write_manifest,
)

FILES = ("classifier-int8.tflite", "detector-int8.tflite", "gate.tflite")


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A signing key whose public half is trusted."""
    make_key(tmp_path / "private" / "key.pem", tmp_path / "trusted" / "key.pem")
    monkeypatch.setenv(TRUSTED_KEYS_VARIABLE, str(tmp_path / "trusted"))
    return tmp_path / "private" / "key.pem"


def manifest(folder: Path) -> Manifest:
    finding = FindingCalibration(
        slope=1, intercept=0, prevalence=0.1, threshold=0.5, rule_out=0.1, assessed=True, box_threshold=0.3
    )
    calibration = Calibration(findings=dict.fromkeys(KEYS, finding), operating_point="x", population="y")
    return Manifest(
        id="test-1",
        created="2026-11-24T00:00:00Z",
        findings=KEYS,
        inputs={"classifier": InputSpec(side=320), "detector": InputSpec(side=416)},
        gate=GateSpec(side=96, chest=0.5, turned=0.5, inverted=0.5, cut_off_warn=0.5, cut_off_refuse=0.9),
        located_by=dict.fromkeys(KEYS, "detector"),
        variants=(
            Variant(
                precision="int8",
                runtime="litert",
                classifier=FILES[0],
                detector=FILES[1],
                gate=FILES[2],
                calibration=calibration,
            ),
        ),
        files={path.name: file_entry(path) for path in sorted(folder.iterdir())},
        training_data_sha256="0" * 64,
        code_revision="test",
        metrics={},
    )


@pytest.fixture
def release(tmp_path: Path, keys: Path) -> Path:
    """A signed release of three made-up model files."""
    folder = tmp_path / "test-1"
    folder.mkdir()
    for name in FILES:
        (folder / name).write_bytes(name.encode() * 100)
    (folder / CARD).write_text("# card\n")
    write_manifest(folder, manifest(folder), read_private_key(keys))
    return folder


def refusal(folder: Path) -> ReleaseError:
    with pytest.raises(ReleaseError) as caught:
        load_release(folder)
    return caught.value


def test_an_untouched_release_loads(release: Path):
    loaded = load_release(release)
    assert loaded.id == "test-1"
    assert loaded.path(FILES[0]).read_bytes().startswith(b"classifier")
    assert loaded.manifest.variants[0].id == "int8-litert"


@pytest.mark.parametrize("name", [*FILES, CARD])
def test_one_flipped_bit_in_any_file_is_refused_and_the_file_is_named(release: Path, name: str):
    content = bytearray((release / name).read_bytes())
    content[len(content) // 2] ^= 1
    (release / name).write_bytes(content)
    error = refusal(release)
    assert error.code == "release_file_altered"
    assert name in error.message


def test_a_missing_and_a_smuggled_file_are_refused_by_name(release: Path):
    (release / "extra.onnx").write_bytes(b"x")
    error = refusal(release)
    assert (error.code, "extra.onnx" in error.message) == ("release_file_unlisted", True)
    (release / "extra.onnx").unlink()
    (release / FILES[1]).unlink()
    error = refusal(release)
    assert (error.code, FILES[1] in error.message) == ("release_file_missing", True)


def test_an_altered_manifest_or_a_strangers_signature_is_refused(release: Path, tmp_path: Path):
    original = (release / MANIFEST).read_bytes()
    (release / MANIFEST).write_bytes(original.replace(b'"intercept": 0.0', b'"intercept": 9.0', 1))
    assert refusal(release).code == "release_signature_invalid"
    (release / MANIFEST).write_bytes(original)
    make_key(tmp_path / "other.pem", tmp_path / "other.pub.pem")
    (release / SIGNATURE).write_bytes(read_private_key(tmp_path / "other.pem").sign(original))
    assert refusal(release).code == "release_signature_invalid"
    (release / SIGNATURE).unlink()
    assert refusal(release).code == "release_unsigned"


def test_a_signed_manifest_that_breaks_the_schema_says_where(release: Path, keys: Path):
    content = json.loads((release / MANIFEST).read_text())
    content["findings"].reverse()
    raw = json.dumps(content).encode()
    (release / MANIFEST).write_bytes(raw)
    (release / SIGNATURE).write_bytes(read_private_key(keys).sign(raw))
    error = refusal(release)
    assert error.code == "release_manifest_invalid"
    assert "findings" in error.message


@pytest.mark.parametrize("name", ["../evil.onnx", "/etc/passwd", ".hidden", "a/b.onnx"])
def test_a_manifest_cannot_name_files_outside_its_folder(release: Path, name: str):
    content = json.loads((release / MANIFEST).read_text())
    content["files"][name] = content["files"][CARD]
    with pytest.raises(ValueError, match="plain file name"):
        Manifest.model_validate(content)


def test_no_release_at_all(tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch):
    assert refusal(tmp_path).code == "release_missing"
    monkeypatch.setenv("FIRSTRAY_RELEASE", str(tmp_path / "nowhere"))
    assert refusal(default_release()).code == "release_missing"


def test_a_signing_key_is_private_and_never_overwritten(keys: Path):
    assert keys.stat().st_mode & 0o077 == 0
    with pytest.raises(ReleaseError) as caught:
        make_key(keys, keys.with_suffix(".pub"))
    assert caught.value.code == "signing_key_exists"


def test_a_wrong_signing_key_file_is_a_clear_error(tmp_path: Path):
    (tmp_path / "key.pem").write_text("not a key")
    with pytest.raises(ReleaseError) as caught:
        read_private_key(tmp_path / "key.pem")
    assert caught.value.code == "signing_key_invalid"
