"""The store of images, and the spool they come through."""

import errno
import fcntl
import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from shared.errors import FirstRayError
from sync_server.db.engine import Database, open_engine
from sync_server.domain import images
from sync_server.domain.images import ImageStore
from sync_server.domain.spool import OffsetWrong, Spool, UploadGone
from tests.hospital import cluster_or_skip

BODY = b"a radiograph" * 1000
SHA256 = hashlib.sha256(BODY).hexdigest()


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ImageStore:
    url = str(tmp_path / "images") if request.param == "folder" else f"memory://{tmp_path.name}"
    return ImageStore(url, tmp_path / "locks")


def a_file(folder: Path, body: bytes = BODY) -> Path:
    file = folder / "arrived"
    file.write_bytes(body)
    return file


def test_what_is_put_can_be_read_and_deleted(store: ImageStore, tmp_path: Path) -> None:
    assert not store.exists(SHA256)
    store.put(a_file(tmp_path), SHA256)
    assert store.size(SHA256) == len(BODY)
    assert store.read(SHA256) == BODY
    with store.open(SHA256) as held:
        held.seek(12)
        assert held.read(11) == b"a radiograp"
        assert held.tell() == 23
        held.seek(-4, os.SEEK_END)
        assert held.read() == BODY[-4:]
    with store.guarded(SHA256):
        store.delete(SHA256)
        store.delete(SHA256)
    assert not store.exists(SHA256)
    for act in (store.open, store.read):
        with pytest.raises(FirstRayError) as caught:
            act(SHA256)
        assert caught.value.code == "image_not_held"


def test_putting_again_replaces_what_the_disk_may_have_spoilt(store: ImageStore, tmp_path: Path) -> None:
    file = a_file(tmp_path)
    store.put(file, SHA256)
    store.put(file, SHA256)
    file.unlink()
    store.put(a_file(tmp_path), SHA256)
    with store.open(SHA256) as held:
        assert held.read() == BODY


@pytest.mark.parametrize("name", ["", "ab", "../../../etc/passwd", "A" * 64, "0" * 63 + "/", f"{'0' * 64}\n"])
def test_only_hashes_are_names(store: ImageStore, tmp_path: Path, name: str) -> None:
    for act in (store.open, store.exists, store.delete, lambda name: store.put(a_file(tmp_path), name)):
        with pytest.raises(ValueError, match="SHA-256"):
            act(name)


def test_a_probe_tells_whether_it_works(store: ImageStore) -> None:
    store.check()


def test_nothing_but_whole_images_lies_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ImageStore(str(tmp_path / "images"), tmp_path / "locks")
    file = a_file(tmp_path)

    def full(_: Path) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(images, "sync_file", full)
    with pytest.raises(FirstRayError) as caught:
        store.put(file, SHA256)
    assert caught.value.code == "image_store_full"
    assert not store.exists(SHA256)
    assert not [found for found in (tmp_path / "images").rglob("*") if found.is_file()]


def test_where_there_are_no_hard_links_the_bytes_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: Any) -> None:
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr(os, "link", no_links)
    store, file = ImageStore(str(tmp_path / "images"), tmp_path / "locks"), a_file(tmp_path)
    store.put(file, SHA256)
    file.write_bytes(b"changed")
    with store.open(SHA256) as held:
        assert held.read() == BODY


def test_a_disk_that_fails_while_it_is_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ImageStore(str(tmp_path / "images"), tmp_path / "locks")
    store.put(a_file(tmp_path), SHA256)

    def fails(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, "bad sector")

    with store.open(SHA256) as held:
        monkeypatch.setattr(type(held.raw._file), "read", fails, raising=False)
        with pytest.raises(FirstRayError) as caught:
            held.read(10)
    assert caught.value.code == "image_store_failing"


@pytest.mark.parametrize("url", ["nonsense://x", "/proc/nothing/images"])
def test_a_place_that_cannot_be_used_is_told_at_start(url: str, tmp_path: Path) -> None:
    with pytest.raises(FirstRayError) as caught:
        ImageStore(url, tmp_path / "locks")
    assert caught.value.code == "image_store_unusable"


def test_who_adds_and_who_purges_wait_for_each_other_over_processes(tmp_path: Path) -> None:
    store = ImageStore(str(tmp_path / "images"), tmp_path / "locks")
    held = (
        "import sys; from pathlib import Path; from sync_server.domain.images import ImageStore\n"
        "store = ImageStore(sys.argv[1], Path(sys.argv[2]))\n"
        "with store.guarded(sys.argv[3]): print('held', flush=True); sys.stdin.read()\n"
    )
    words = [sys.executable, "-c", held, str(tmp_path / "images"), str(tmp_path / "locks"), SHA256]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "held\n"
        got = threading.Event()

        def take() -> None:
            with store.guarded(SHA256):
                got.set()

        threading.Thread(target=take).start()
        assert not got.wait(0.3)
        other.stdin.close()
        assert got.wait(60)


def test_so_do_those_on_several_machines(tmp_path: Path) -> None:
    """Their lock files are not the same; the database is."""
    database = Database(open_engine(next(cluster_or_skip()).new_database()))
    one, other = (
        ImageStore(f"memory://{tmp_path.name}", tmp_path / name / "locks", database.alone) for name in ("one", "other")
    )
    got = threading.Event()

    def take() -> None:
        with other.guarded(SHA256):
            got.set()

    with one.guarded(SHA256):
        waiting = threading.Thread(target=take)
        waiting.start()
        with other.guarded("0" * 64):  # other bytes do not wait
            assert not got.wait(0.5)
    assert got.wait(60)
    waiting.join(60)
    with pytest.raises(RuntimeError), one.guarded(SHA256):
        raise RuntimeError
    with other.guarded(SHA256):
        pass
    database.close()


# --- the spool ---------------------------------------------------------------------------------------------------


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = Spool(tmp_path / "uploads")
    made.create("a")
    return made


def test_pieces_follow_each_other(spool: Spool) -> None:
    assert spool.append("a", 0, b"one ") == 4
    assert spool.append("a", 4, bytearray(b"two")) == 7
    assert spool.length("a") == 7
    assert spool.sha256("a") == hashlib.sha256(b"one two").hexdigest()


@pytest.mark.parametrize("offset", [0, 3, 5])
def test_a_piece_that_does_not_follow_is_refused(spool: Spool, offset: int) -> None:
    spool.append("a", 0, b"four")
    with pytest.raises(OffsetWrong) as caught:
        spool.append("a", offset, b"more")
    assert caught.value.offset == 4
    assert spool.length("a") == 4


def test_a_piece_is_taken_back_unless_somebody_built_on_it(spool: Spool) -> None:
    spool.append("a", 0, b"good bad")
    spool.take_back("a", 5, 8)
    assert spool.length("a") == 5
    spool.append("a", 5, b"bad")
    spool.append("a", 8, b" and more")
    spool.take_back("a", 5, 8)
    assert spool.length("a") == 17


def test_of_two_writers_one_wins_and_nothing_is_mixed(spool: Spool) -> None:
    """Two connections send the same bytes: a half-open one, and the one that took over."""
    body = os.urandom(2_000_000)
    wrong: list[int] = []

    def write(size: int) -> None:
        offset = 0
        while offset < len(body):
            try:
                offset = spool.append("a", offset, body[offset : offset + size])
            except OffsetWrong as error:
                wrong.append(error.offset)
                offset = error.offset

    writers = [threading.Thread(target=write, args=(size,)) for size in (10_007, 16_384, 5_003)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert spool.sha256("a") == hashlib.sha256(body).hexdigest()
    assert wrong


def test_who_comes_too_late_does_not_touch_what_became_an_image(spool: Spool, tmp_path: Path) -> None:
    spool.append("a", 0, BODY)
    store = ImageStore(str(tmp_path / "images"), tmp_path / "locks")
    store.put(spool.path("a"), SHA256)
    waiting = threading.Event()
    flock = fcntl.flock
    outcome: list[BaseException] = []

    def late() -> None:
        try:
            spool.take_back("a", 0, len(BODY))
        except UploadGone as gone:
            outcome.append(gone)

    with spool.locked("a"):
        thread = threading.Thread(target=late)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fcntl, "flock", lambda file, how: (waiting.set(), flock(file, how))[1])
            thread.start()
            assert waiting.wait(60)
            spool.remove("a")
    thread.join(60)
    assert len(outcome) == 1
    with store.open(SHA256) as held:
        assert held.read() == BODY


def test_an_upload_that_is_gone_is_told_so(spool: Spool) -> None:
    spool.remove("a")
    spool.remove("a")
    for act in (
        lambda: spool.length("a"),
        lambda: spool.sha256("a"),
        lambda: spool.append("a", 0, b"x"),
        lambda: spool.take_back("a", 0, 1),
    ):
        with pytest.raises(UploadGone):
            act()


def test_a_full_disk_is_told_and_what_fits_is_kept(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite

    def narrow(file: int, piece: bytes, offset: int) -> int:
        if offset >= 10:
            raise OSError(errno.ENOSPC, "full")
        return pwrite(file, piece[: 10 - offset], offset)

    monkeypatch.setattr(os, "pwrite", narrow)
    with pytest.raises(FirstRayError) as caught:
        spool.append("a", 0, b"0123456789abc")
    assert caught.value.code == "hospital_full"
    assert spool.length("a") == 10


def test_old_uploads_are_found(spool: Spool) -> None:
    spool.create("b")
    os.utime(spool.path("a"), (1, 1))
    assert spool.old(60.0) == ["a"]
