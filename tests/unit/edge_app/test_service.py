"""The PIN of a box without a screen comes from a file that only its owner can read, or from systemd."""

from pathlib import Path

import pytest

from edge_app.service import CREDENTIAL, read_pin
from shared.errors import FirstRayError


def test_the_pin_is_read_from_a_private_file(tmp_path: Path) -> None:
    file = tmp_path / "pin"
    file.write_text("271828\n")
    file.chmod(0o600)
    assert read_pin(file) == "271828"


def test_a_file_open_to_others_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "pin"
    file.write_text("271828")
    file.chmod(0o640)
    with pytest.raises(FirstRayError) as caught:
        read_pin(file)
    assert caught.value.code == "pin_file_open"


def test_the_systemd_credential_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / CREDENTIAL).write_text("271828")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read_pin(None) == "271828"


def test_no_pin_at_all_is_said_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    for source in (None, tmp_path / "absent"):
        with pytest.raises(FirstRayError) as caught:
            read_pin(source)
        assert caught.value.code == "pin_missing"
