"""Picked files and the hot folder."""

import errno
import io
import os
import shutil
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from PIL import Image

from edge_app.capture import files
from edge_app.capture.files import take_file
from edge_app.capture.hot_folder import HotFolder, Problem
from edge_app.capture.intake import Source
from edge_app.capture.scan import ENTRIES, mounted_media, regular_files
from shared.errors import FirstRayError, RadiographError
from shared.radiograph import Limits
from tests.unit.edge_app.capture.plain_store import PlainStore
from tests.unit.edge_app.capture.raw_peer import CR, EXPLICIT, data_set

CT = "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture
def store(tmp_path: Path) -> PlainStore:
    return PlainStore(tmp_path / "store")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "watched"
    folder.mkdir()
    return folder


class Watch(HotFolder):
    """A hot folder whose files settle at once, and what it told."""

    def __init__(self, store: PlainStore, folder: Path | None, media: list[Path] | None = None, **options: Any) -> None:
        self.store, self.before = store, len(store.taken)
        self.problems: list[Problem] = []
        super().__init__(
            store,
            folder,
            media=lambda: [medium for medium in media or [] if medium.exists()],
            on_problem=self.problems.append,
            settle_seconds=0.0,
            **options,
        )

    @property
    def taken(self) -> list[UUID]:
        """What came into the store since it began."""
        return self.store.taken[self.before :]

    @property
    def codes(self) -> list[str]:
        return [problem.error.code for problem in self.problems]


def dicom(path: Path, number: int, sop_class: str = CR) -> Path:
    from edge_app.capture.dicom.part10 import Label, file_start

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(file_start(Label(sop_class, f"1.2.{number}", EXPLICIT)) + data_set(sop_class))
    return path


def picture(path: Path, grey: int = 90) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (80, 80), grey).save(path, format="PNG")
    return path


def test_picked_file_is_stored_byte_by_byte(store: PlainStore, chest: Path) -> None:
    first, again = take_file(chest, store), take_file(chest, store)
    assert first == again
    assert store.files[0].read_bytes() == chest.read_bytes()
    assert len(store.files) == 1
    assert {(arrival.source, arrival.station) for arrival in store.arrivals} == {(Source.FILE, None)}


def make_nothing(path: Path) -> None:
    path.with_name("other").touch()


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (make_nothing, "file_missing"),
        (Path.mkdir, "file_not_regular"),
        (os.mkfifo, "file_not_regular"),
        (Path.touch, "file_empty"),
        (lambda path: path.write_bytes(b"not an image" * 20), "format_unknown"),
        (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(3000)), "file_too_large"),
    ],
)
def test_picked_file_that_cannot_be_taken(store: PlainStore, tmp_path: Path, make, code: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "picked"
    make(path)
    with pytest.raises(FirstRayError) as caught:
        take_file(path, store, Limits(file_bytes=2500))
    assert caught.value.code == code
    assert store.files == store.leftovers == []


@pytest.mark.parametrize("step", ["spool", "write", "commit"])
def test_store_that_refuses_a_picked_file(store: PlainStore, tmp_path: Path, step: str) -> None:
    store.refuse = {step: "disk_full"}
    with pytest.raises(FirstRayError) as caught:
        take_file(picture(tmp_path / "a.png"), store)
    assert caught.value.code == "disk_full"
    assert store.files == store.leftovers == []


def test_image_in_the_folder_is_taken_once_and_left_there(store: PlainStore, folder: Path) -> None:
    picture(folder / "a.png"), dicom(folder / "deep" / "er" / "1.2.3", 1)
    watch = Watch(store, folder)
    watch.poll()
    watch.poll()
    assert len(watch.taken) == len(store.files) == 2
    assert {arrival.source for arrival in store.arrivals} == {Source.FOLDER}
    assert (folder / "a.png").exists()
    assert watch.problems == []


def test_newest_is_taken_first(store: PlainStore, folder: Path) -> None:
    for number in range(3):
        os.utime(picture(folder / f"{number}.png", number), (1000 + number % 2, 1000 + number % 2))
    watch = Watch(store, folder)
    watch.poll()
    assert len(watch.taken) == 3
    assert watch.taken[0] == take_file(folder / "1.png", store)


def test_file_being_written_is_waited_for(store: PlainStore, folder: Path, tmp_path: Path) -> None:
    whole = picture(tmp_path / "whole.png").read_bytes()
    watch = Watch(store, folder)
    watch._settle_seconds = 0.3
    path = folder / "growing.png"
    path.write_bytes(whole[:100])
    watch.poll()
    time.sleep(0.35)
    path.write_bytes(whole)
    watch.poll()
    assert store.files == []
    time.sleep(0.35)
    watch.poll()
    assert [file.read_bytes() for file in store.files] == [whole]


def test_rewritten_file_is_taken_again(store: PlainStore, folder: Path) -> None:
    watch = Watch(store, folder)
    picture(folder / "a.png", 1)
    watch.poll()
    picture(folder / "a.png", 200)
    os.utime(folder / "a.png", (5, 5))
    watch.poll()
    assert len(store.files) == 2


def test_what_is_no_image_is_told_once(store: PlainStore, folder: Path) -> None:
    (folder / "letter.txt").write_text("dear doctor" * 20)
    dicom(folder / "slice.dcm", 1, CT)
    (folder / "empty.dcm").touch()
    (folder / ".hidden.png").write_bytes(b"x" * 200)
    watch = Watch(store, folder)
    for _ in range(3):
        watch.poll()
    assert sorted(watch.codes) == ["folder_not_a_radiograph", "format_unknown"]
    assert store.files == []


def test_nothing_but_regular_files_is_opened_and_links_are_not_followed(
    store: PlainStore, folder: Path, tmp_path: Path
) -> None:
    secret = picture(tmp_path / "elsewhere" / "secret.png")
    (folder / "link.png").symlink_to(secret)
    (folder / "linked").symlink_to(secret.parent)
    os.mkfifo(folder / "pipe.png")
    watch = Watch(store, folder)
    watch.poll()
    assert store.files == []
    assert watch.problems == []


def test_locked_store_is_tried_again_and_told_once(store: PlainStore, folder: Path) -> None:
    picture(folder / "a.png")
    watch = Watch(store, folder)
    store.refuse = {"spool": "store_locked"}
    watch.poll()
    watch.poll()
    assert watch.codes == ["store_locked"]
    store.refuse = {}
    watch.poll()
    assert len(store.files) == 1
    picture(folder / "b.png", 7)
    store.refuse = {"spool": "store_locked"}
    watch.poll()
    assert watch.codes == ["store_locked"] * 2


def test_missing_folder_is_told_once_and_again_after_it_was_there(store: PlainStore, folder: Path) -> None:
    watch = Watch(store, folder)
    for _ in range(2):
        folder.rmdir()
        watch.poll()
        watch.poll()
        folder.mkdir()
        watch.poll()
    assert watch.codes == ["folder_unreadable"] * 2


def test_only_radiographs_are_taken_from_a_medium_and_the_rest_is_not_told(store: PlainStore, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    film = dicom(stick / "DICOM" / "IM000001", 1)
    dicom(stick / "DICOM" / "CT000001", 2, CT)
    dicom(stick / "DICOMDIR", 3, "1.2.840.10008.1.3.10")
    picture(stick / "holiday.png")
    (stick / "song.mp3").write_bytes(bytes(4000))
    watch = Watch(store, None, [stick])
    watch.poll()
    watch.poll()
    assert [file.read_bytes() for file in store.files] == [film.read_bytes()]
    assert watch.problems == []


def test_crowded_medium_is_left_alone_until_one_more_comes(store: PlainStore, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    for number in range(4):
        dicom(stick / f"IM{number}", number)
    watch = Watch(store, None, [stick], most=3)
    watch.poll()
    watch.poll()
    assert watch.codes == ["folder_crowded"]
    assert store.files == []
    dicom(stick / "IM9", 9)
    watch.poll()
    assert len(store.files) == 1


def test_stick_plugged_in_again_gives_only_what_is_new_on_it(store: PlainStore, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    dicom(stick / "IM1", 1)
    watch = Watch(store, None, [stick])
    watch.poll()
    stick.rename(tmp_path / "away")
    watch.poll()
    (tmp_path / "away").rename(stick)
    dicom(stick / "IM2", 22)
    watch.poll()
    assert len(watch.taken) == len(store.files) == 2


def test_watching_thread_takes_what_appears_and_stops(store: PlainStore, folder: Path) -> None:
    watch = HotFolder(store, folder, media=list, interval=0.05, settle_seconds=0.1)
    with watch:
        watch.start()
        picture(folder / "a.png")
        end = time.monotonic() + 60
        while not store.taken:
            assert time.monotonic() < end
            time.sleep(0.02)
    assert watch._thread is None


def test_search_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ENTRIES > 1000
    monkeypatch.setattr("edge_app.capture.scan.ENTRIES", 5)
    monkeypatch.setattr("edge_app.capture.scan.DEPTH", 2)
    for number in range(9):
        (tmp_path / f"{number}").write_bytes(b"x")
    assert len(list(regular_files(tmp_path))) == 5
    shutil.rmtree(tmp_path)
    (tmp_path / "a/b/c").mkdir(parents=True)
    (tmp_path / "a/b/c/deep").write_bytes(b"x")
    (tmp_path / "a/b/near").write_bytes(b"x")
    assert [path.name for path, _ in regular_files(tmp_path)] == ["near"]


def test_a_file_written_to_while_it_is_copied_is_not_taken_half(
    store: PlainStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = dicom(folder / "a.dcm", 1)
    whole = path.read_bytes()
    real = files._read

    def changed_meanwhile(file: io.FileIO, most: int) -> bytes:
        chunk = real(file, most)
        path.write_bytes(whole[::-1][: len(whole)])
        os.utime(path, (1, 1))
        return chunk

    monkeypatch.setattr(files, "_read", changed_meanwhile)
    with pytest.raises(RadiographError) as error:
        take_file(path, store)
    assert error.value.code == "file_unreadable"
    path.write_bytes(whole)
    watch = Watch(store, folder)
    watch.poll()
    assert (watch.taken, watch.codes) == ([], [])
    monkeypatch.undo()
    path.write_bytes(whole)
    watch.poll()
    assert len(watch.taken) == 1
    assert watch.codes == []


def test_a_medium_pulled_out_unasked_does_not_hide_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("dead", "good"):
        (tmp_path / name).mkdir()

    def is_mount(path: Path) -> bool:
        if path.name == "dead":
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")
        return True

    monkeypatch.setattr(Path, "is_mount", is_mount)
    assert mounted_media((tmp_path,)) == [tmp_path / "good"]


class Starts:
    """Starts of the program one after the other, and the marks that are kept in between."""

    def __init__(self, store: PlainStore, folder: Path | None, media: list[Path]) -> None:
        self.store, self.folder, self.media = store, folder, media
        self.kept: list[str] = []

    def start(self) -> Watch:
        """Once more; two rounds."""
        watch = Watch(self.store, self.folder, self.media, recall=lambda: self.kept, remember=self.remember)
        watch.poll()
        watch.poll()
        return watch

    def remember(self, marks: list[str]) -> None:
        self.kept = marks


@pytest.mark.parametrize("medium", [False, True])
def test_what_was_taken_is_not_taken_again_after_a_restart(store: PlainStore, folder: Path, medium: bool) -> None:
    """Else a radiograph that was deleted on the device would come back, and into whatever run is under way."""
    starts = Starts(store, None if medium else folder, [folder] if medium else [])
    dicom(folder / "KIM^YOUNGHEE.dcm", 1)
    assert len(starts.start().taken) == 1
    assert "KIM" not in "".join(starts.kept)
    assert starts.start().taken == []
    dicom(folder / "KIM^YOUNGHEE.dcm", 22)
    os.utime(folder / "KIM^YOUNGHEE.dcm", (9, 9))
    assert len(starts.start().taken) == 1
    folder.rename(folder.parent / "away")
    starts.start()
    (folder.parent / "away").rename(folder)
    assert starts.start().taken == []


def test_what_could_not_be_taken_or_was_not_wanted_is_not_taken_for_taken(store: PlainStore, folder: Path) -> None:
    starts = Starts(store, None, [folder])
    dicom(folder / "1.dcm", 1)
    picture(folder / "holiday.png")
    store.refuse = {"commit": "disk_full"}
    starts.start()
    store.refuse = {}
    assert len(starts.start().taken) == 1
    assert len(starts.kept) == 1


def test_a_refused_file_of_the_folder_is_told_once_over_restarts(store: PlainStore, folder: Path) -> None:
    starts = Starts(store, folder, [])
    (folder / "letter.txt").write_text("dear doctor" * 20)
    assert starts.start().codes == ["format_unknown"]
    assert starts.start().codes == []


def test_what_a_medium_did_not_give_is_tried_again_when_it_is_plugged_in_again(
    store: PlainStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def torn(*_: object) -> bytes:
        raise RadiographError("file_unreadable", "", "")

    dicom(folder / "1.dcm", 1)
    monkeypatch.setattr(files, "_read", torn)
    watch = Starts(store, None, [folder]).start()
    assert (watch.codes, watch.taken) == (["file_unreadable"], [])
    monkeypatch.undo()
    folder.rename(folder.parent / "away")
    watch.poll()
    (folder.parent / "away").rename(folder)
    watch.poll()
    assert len(watch.taken) == 1


def test_marks_that_cannot_be_kept_are_kept_in_a_later_round(store: PlainStore, folder: Path) -> None:
    starts = Starts(store, None, [folder])
    dicom(folder / "1.dcm", 1)

    def full(marks: list[str]) -> None:
        raise FirstRayError("disk_full", "Full.", "")

    watch = Watch(store, None, [folder], recall=list, remember=full)
    with pytest.raises(FirstRayError):
        watch.poll()
    watch._remember = starts.remember
    watch.poll()
    assert starts.start().taken == []


def test_of_what_is_gone_only_the_latest_marks_are_kept(
    store: PlainStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_app.capture.hot_folder.GONE_MARKS", 2)
    starts = Starts(store, None, [folder])
    for number in range(5):
        dicom(folder / f"{number}.dcm", number)
    starts.start()
    assert len(starts.kept) == 5, "of what is there, all"
    aside = folder.parent / "aside"
    aside.mkdir()
    for number in range(5):
        (folder / f"{number}.dcm").rename(aside / f"{number}.dcm")
        dicom(folder / f"new-{number}.dcm", 100 + number)
        starts.start()
    assert len(starts.kept) == 5 + 2
    assert starts.start().taken == []
