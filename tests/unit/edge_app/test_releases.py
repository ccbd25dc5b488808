"""Releases on the device: installed only whole and trusted, switched by a pointer, given up where they do not load."""

import hashlib
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_app.releases import POINTER, ReleaseShelf
from shared.errors import FirstRayError, ReleaseError
from shared.hospital import ReleaseOffer
from shared.release import TRUSTED_KEYS_VARIABLE, Manifest, default_release, load_release, make_key, read_private_key
from shared.release import write_manifest as sign
from shared.release_archive import pack_release

Make = Callable[[str], tuple[ReleaseOffer, bytes]]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes releases of another id, signed by a key that is trusted beside the real ones, as offer and ZIP."""
    trusted = tmp_path / "trusted"
    make_key(tmp_path / "key.pem", trusted / "test.pem")
    real = default_release().parents[1] / "shared" / "trusted_keys"
    for key in real.glob("*.pem"):
        (trusted / key.name).write_bytes(key.read_bytes())
    monkeypatch.setenv(TRUSTED_KEYS_VARIABLE, str(trusted))
    original = load_release(default_release())

    def made(name: str) -> tuple[ReleaseOffer, bytes]:
        folder = tmp_path / "made" / name
        folder.mkdir(parents=True)
        for file in original.manifest.files:
            shutil.copyfile(original.path(file), folder / file)
        manifest = Manifest.model_validate({**original.manifest.model_dump(), "id": name})
        sign(folder, manifest, read_private_key(tmp_path / "key.pem"))
        archive = tmp_path / f"{name}.zip"
        pack_release(load_release(folder), archive)
        data = archive.read_bytes()
        return ReleaseOffer(release=name, sha256=hashlib.sha256(data).hexdigest(), size=len(data)), data

    return made


def loaded(shelf: ReleaseShelf) -> str:
    """Id of the release that is loaded."""
    return shelf.load(lambda folder: load_release(folder).id)


def give(shelf: ReleaseShelf, offer: ReleaseOffer, data: bytes) -> None:
    """The release is offered, fetched in two pieces and installed."""
    shelf.offered(offer)
    assert shelf.wanted == offer
    half = len(data) // 2
    shelf.add(offer, data[:half])
    assert shelf.fetched(offer) == half
    shelf.add(offer, data[half:])
    shelf.install(offer)


def failing(name: str) -> Callable[[Path], str]:
    """Loads any release but one."""

    def load(folder: Path) -> str:
        if folder.name == name:
            raise ReleaseError("model_unusable", "It cannot be opened.", "")
        return folder.name

    return load


BUILT_IN = default_release().name


def test_without_any_the_installed_one_is_used(tmp_path: Path) -> None:
    assert loaded(ReleaseShelf(tmp_path / "shelf")) == BUILT_IN


def test_a_release_is_fetched_in_pieces_across_restarts_and_switched_to(tmp_path: Path, make: Make) -> None:
    offer, data = make("new-1")
    heard: list[str] = []
    shelf = ReleaseShelf(tmp_path / "shelf")
    shelf.offered(offer)
    shelf.add(offer, data[:1000])
    again = ReleaseShelf(tmp_path / "shelf", lambda: heard.append("installed"))
    assert again.wanted == offer
    assert again.fetched(offer) == 1000
    again.add(offer, data[1000:])
    again.install(offer)
    assert heard == ["installed"]
    assert again.wanted is None
    assert loaded(again) == "new-1"
    assert loaded(ReleaseShelf(tmp_path / "shelf")) == "new-1"
    assert {path.name for path in (tmp_path / "shelf").iterdir()} == {"new-1", POINTER}


def test_the_one_before_is_kept_and_gone_back_to_without_fetching(tmp_path: Path, make: Make) -> None:
    shelf = ReleaseShelf(tmp_path / "shelf")
    first, second, third = make("new-1"), make("new-2"), make("new-3")
    for offer, data in (first, second):
        give(shelf, offer, data)
        assert loaded(shelf) == offer.release
    shelf.offered(first[0])
    assert shelf.wanted is None
    assert loaded(shelf) == "new-1"
    give(shelf, *third)
    assert loaded(shelf) == "new-3"
    assert {path.name for path in (tmp_path / "shelf").iterdir()} == {"new-1", "new-3", POINTER}


def test_one_that_cannot_be_loaded_is_given_up_for_the_one_before(tmp_path: Path, make: Make) -> None:
    shelf = ReleaseShelf(tmp_path / "shelf")
    for name in ("new-1", "new-2"):
        give(shelf, *make(name))
        used = shelf.load(failing("new-2"))
    assert used == "new-1"
    assert loaded(ReleaseShelf(tmp_path / "shelf")) == "new-1"
    assert not (tmp_path / "shelf" / "new-2").exists()


def test_one_that_ends_the_program_while_it_loads_is_given_up_at_the_next_start(tmp_path: Path, make: Make) -> None:
    shelf = ReleaseShelf(tmp_path / "shelf")
    give(shelf, *make("new-1"))

    def crash(_: Path) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shelf.load(crash)
    assert loaded(ReleaseShelf(tmp_path / "shelf")) == BUILT_IN


def test_a_damaged_download_is_fetched_again_and_never_used(tmp_path: Path, make: Make) -> None:
    offer, data = make("new-1")
    shelf = ReleaseShelf(tmp_path / "shelf")
    shelf.offered(offer)
    shelf.add(offer, data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ReleaseError) as caught:
        shelf.install(offer)
    assert caught.value.code == "release_file_altered"
    assert shelf.fetched(offer) == 0
    assert shelf.wanted == offer
    assert loaded(shelf) == BUILT_IN


def test_one_that_nobody_trusted_signed_is_refused_for_good(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer, data = make("new-1")
    monkeypatch.delenv(TRUSTED_KEYS_VARIABLE)
    shelf = ReleaseShelf(tmp_path / "shelf")
    with pytest.raises(ReleaseError) as caught:
        give(shelf, offer, data)
    assert caught.value.code == "release_signature_invalid"
    shelf.offered(offer)
    assert shelf.wanted is None
    assert loaded(shelf) == BUILT_IN
    assert {path.name for path in (tmp_path / "shelf").iterdir()} == {POINTER}


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/b", "..", ".hidden", "a\\b", "c:evil"])
def test_a_zip_writes_nothing_outside_its_folder(tmp_path: Path, name: str) -> None:
    archive = tmp_path / "evil.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(name, b"evil")
    data = archive.read_bytes()
    offer = ReleaseOffer(release="x", sha256=hashlib.sha256(data).hexdigest(), size=len(data))
    with pytest.raises(ReleaseError) as caught:
        give(ReleaseShelf(tmp_path / "shelf"), offer, data)
    assert caught.value.code == "release_archive_invalid"
    assert not list(tmp_path.rglob("evil"))
    assert not list(tmp_path.rglob("b"))


def test_a_bomb_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.release_archive.MOST_BYTES", 1 << 20)
    archive = tmp_path / "bomb.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("manifest.json", bytes(8 << 20))
    data = archive.read_bytes()
    offer = ReleaseOffer(release="x", sha256=hashlib.sha256(data).hexdigest(), size=len(data))
    with pytest.raises(ReleaseError) as caught:
        give(ReleaseShelf(tmp_path / "shelf"), offer, data)
    assert caught.value.code == "release_too_large"


def test_a_full_disk_is_an_error_of_its_own_and_the_pointer_stays(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer, data = make("new-1")
    shelf = ReleaseShelf(tmp_path / "shelf")
    shelf.offered(offer)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edge_app.releases.os.fsync", full)
    with pytest.raises(FirstRayError) as caught:
        shelf.add(offer, data)
    assert caught.value.code == "release_no_room"
    monkeypatch.undo()
    assert loaded(ReleaseShelf(tmp_path / "shelf")) == BUILT_IN


def test_a_damaged_pointer_means_the_installed_one(tmp_path: Path) -> None:
    folder = tmp_path / "shelf"
    folder.mkdir()
    (folder / POINTER).write_text("{")
    assert loaded(ReleaseShelf(folder)) == BUILT_IN
