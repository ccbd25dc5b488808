"""Preferences outlive a restart, and a damaged file costs nothing but them."""

from pathlib import Path

import pytest

from edge_app.preferences import FILE, Preferences, load_preferences, save_preferences


def test_they_outlive_a_restart(tmp_path: Path) -> None:
    chosen = Preferences(language="ko", theme="light", lock_minutes=3)
    save_preferences(tmp_path / "new", chosen)
    assert load_preferences(tmp_path / "new") == chosen


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"language": "fr"}', b'{"lock_minutes": 0}'])
def test_missing_or_damaged_ones_are_the_defaults(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / FILE).write_bytes(content)
    assert load_preferences(tmp_path) == Preferences()
