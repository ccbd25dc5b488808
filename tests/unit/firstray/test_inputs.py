"""Which files are read: those named, and in folders those that may be radiographs."""

import os
from pathlib import Path

from firstray.inputs import Input, printable, radiograph_files


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_folders_are_walked_by_name_and_only_radiographs_are_taken(tmp_path: Path):
    touch(tmp_path, "b/2.dcm", "b/1.PNG", "a.tiff", "c/IM0001", "notes.txt", ".hidden.dcm", ".git/x.dcm", "DICOMDIR")
    found = [found.path.relative_to(tmp_path).as_posix() for found in radiograph_files([tmp_path])]
    assert found == ["a.tiff", "b/1.PNG", "b/2.dcm", "c/IM0001"]


def test_a_named_file_is_always_read_and_order_is_kept(tmp_path: Path):
    touch(tmp_path, "z.txt", "a.dcm")
    missing = tmp_path / "missing.dcm"
    paths = [tmp_path / "z.txt", missing, tmp_path / "a.dcm"]
    assert [(found.path, found.error) for found in radiograph_files(paths)] == [(path, None) for path in paths]


def test_a_folder_without_radiographs_is_an_error_in_its_place(tmp_path: Path):
    touch(tmp_path, "empty/readme.txt", "full/a.dcm")
    first, second = radiograph_files([tmp_path / "empty", tmp_path / "full"])
    assert first.path == tmp_path / "empty"
    assert first.error is not None
    assert first.error.code == "folder_empty"
    assert second == Input(tmp_path / "full" / "a.dcm")


def test_names_that_are_not_utf8_can_be_printed(tmp_path: Path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/r\xf6ntgen.dcm"))
    assert printable(path).endswith("r\\xf6ntgen.dcm")
