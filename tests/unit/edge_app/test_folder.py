"""What the file chooser offers, on real folders."""

import os
from pathlib import Path

import pytest

from edge_app.ui.folder import entries, places, plausible, readable
from shared.errors import FirstRayError


@pytest.mark.parametrize(
    "name",
    [
        "a.dcm",
        "A.DCM",
        "b.DiCoM",
        "c.jpg",
        "c.JPEG",
        "d.png",
        "e.tif",
        "e.TIFF",
        "IM000001",
        "1.2.840.113619.2.5.1762583153",
        "홍길동.dcm",
    ],
)
def test_a_file_that_may_be_a_radiograph_is_offered(name: str) -> None:
    assert plausible(name)


@pytest.mark.parametrize(
    "name", ["notes.txt", "report.pdf", "x.zip", ".hidden", ".hidden.dcm", "DICOMDIR", "a.dcm.part"]
)
def test_other_files_are_not(name: str) -> None:
    assert not plausible(name)


def test_folders_come_first_by_name_then_files_newest_first(tmp_path: Path) -> None:
    for folder in ("b", "A", ".cache"):
        (tmp_path / folder).mkdir()
    for age, name in enumerate(["new.dcm", "middle", "old.JPG", "notes.txt"]):
        (tmp_path / name).write_bytes(b"x" * 1000)
        os.utime(tmp_path / name, (1_000_000 - age, 1_000_000 - age))
    found = entries(tmp_path)
    assert [entry.name for entry in found] == ["A", "b", "new.dcm", "middle", "old.JPG"]
    assert [entry.is_folder for entry in found] == [True, True, False, False, False]
    assert [entry.size for entry in found[2:]] == [1000] * 3


def test_a_dangling_link_does_not_spoil_the_list(tmp_path: Path) -> None:
    (tmp_path / "gone.dcm").symlink_to(tmp_path / "nowhere")
    (tmp_path / "here.dcm").write_bytes(b"x")
    assert [entry.name for entry in entries(tmp_path)] == ["here.dcm"]


def test_a_name_that_is_not_utf8_is_shown_readably_and_opens(tmp_path: Path) -> None:
    raw = os.path.join(os.fsencode(tmp_path), b"\xc1\xa4\xff.dcm")
    try:
        with open(raw, "wb") as file:
            file.write(b"content")
    except OSError:
        pytest.skip("this file system only takes UTF-8 names")
    (entry,) = entries(tmp_path)
    assert entry.name.endswith(".dcm")
    assert entry.name.startswith("?")
    entry.name.encode()
    assert entry.path.read_bytes() == b"content"


@pytest.mark.parametrize("name", ["gone", "file.dcm"])
def test_a_folder_that_cannot_be_read_says_what_to_do(tmp_path: Path, name: str) -> None:
    (tmp_path / "file.dcm").write_bytes(b"x")
    with pytest.raises(FirstRayError) as caught:
        entries(tmp_path / name)
    assert caught.value.code == "folder_unreadable"
    assert caught.value.action


def test_the_home_folder_comes_first_and_only_mounted_media_follow(tmp_path: Path) -> None:
    (tmp_path / "media" / "user" / "not mounted").mkdir(parents=True)
    assert places(tmp_path, (tmp_path / "media", tmp_path / "nothing")) == [tmp_path]
    assert places(tmp_path, (Path("/"),))[1:], "/proc or the like is mounted below /"


def test_readable_keeps_what_is_readable() -> None:
    assert readable("영상 1.dcm") == "영상 1.dcm"
    assert readable(os.fsdecode(b"a\xff.dcm")) == "a?.dcm"
