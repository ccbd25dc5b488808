"""Restores: nothing that lies in the place, or came to it meanwhile, is believed or overwritten."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

import pytest
from sqlmodel import select

from shared.errors import FirstRayError
from sync_server.db.tables import AccountRow, ImageRow, ReleaseRow
from sync_server.domain import accounts, audit
from sync_server.domain.backup import back_up
from sync_server.domain.images import ImageStore
from sync_server.domain.restoring import restore
from sync_server.hospital import Hospital, open_hospital
from sync_server.settings import Settings, load_settings
from tests.hospital import DATABASES, Cluster, cluster_or_skip, enrolled_device, new_hospital, settings_for
from tests.hospital.process import ServerProcess
from tests.unit.sync_server.domain.test_backup import NOW, hold


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    yield from cluster_or_skip()


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = new_hospital(tmp_path, listen=False)
    yield made
    made.close()


def again(hospital: Hospital, database: str | None = None) -> Settings:
    """The place of the hospital without its database, or with an empty one; its keys and images stay."""
    hospital.close()
    for file in hospital.settings.data.glob("hospital.db*"):
        file.unlink()
    return load_settings(data=hospital.settings.data, database=database)


def full(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


def logins(hospital: Hospital) -> list[str]:
    with hospital.database.reading() as session:
        return sorted(session.exec(select(AccountRow.login)).all())


def test_a_restore_takes_nothing_over_from_a_database_that_crashed_there(tmp_path: Path) -> None:
    target = tmp_path / "backups"
    with ServerProcess(tmp_path) as server:
        hospital = server.open()
        with hospital.database.writing() as session:
            accounts.create_user(session, "early", "Early", accounts.Role.ADMIN, None, "test")
        back_up(server.settings, target, now=NOW)
        with hospital.database.writing() as session:
            accounts.create_user(session, "late", "Late", accounts.Role.ADMIN, None, "test")
        hospital.close()
        server.end(signal.SIGKILL)
    data = server.settings.data
    assert (data / "hospital.db-wal").stat().st_size > 0
    (data / "hospital.db").rename(tmp_path / "hospital.db")

    with pytest.raises(FirstRayError) as caught:
        restore(server.settings, target)
    assert caught.value.code == "restore_not_empty"
    assert str(data / "hospital.db*") in caught.value.action
    for file in data.glob("hospital.db*"):
        file.rename(tmp_path / file.name)

    restore(server.settings, target)
    found = open_hospital(server.settings, listen=False)
    try:
        assert logins(found) == ["early"]
        with found.database.reading() as session:
            assert session.connection().exec_driver_sql("PRAGMA integrity_check").scalars().all() == ["ok"]
            assert audit.verify(session).whole
    finally:
        found.close()


@pytest.mark.parametrize("rest", ["-wal", "-shm", "-journal"])
def test_a_restore_is_refused_beside_what_a_database_left(hospital: Hospital, tmp_path: Path, rest: str) -> None:
    back_up(hospital.settings, tmp_path / "backups", now=NOW)
    settings = settings_for(tmp_path / "new")
    settings.data.mkdir(parents=True)
    left = settings.data / f"hospital.db{rest}"
    left.touch()
    with pytest.raises(FirstRayError) as caught:
        restore(settings, tmp_path / "backups")
    assert caught.value.code == "restore_not_empty"
    assert list(settings.data.iterdir()) == [left]


def test_a_restore_overwrites_no_hospital_that_began_meanwhile(
    hospital: Hospital, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(hospital, enrolled_device(hospital), b"film")
    back_up(hospital.settings, tmp_path / "backups", now=NOW)
    settings = settings_for(tmp_path / "new")
    put = ImageStore.put

    def while_a_server_starts(store: ImageStore, file: Path, name: str) -> None:
        put(store, file, name)
        begun = open_hospital(settings, listen=False)
        with begun.database.writing() as session:
            accounts.create_user(session, "meanwhile", "Meanwhile", accounts.Role.ADMIN, None, "test")
        begun.close()

    monkeypatch.setattr(ImageStore, "put", while_a_server_starts)
    with pytest.raises(FirstRayError) as caught:
        restore(settings, tmp_path / "backups")
    assert caught.value.code == "restore_not_empty"
    found = open_hospital(settings, listen=False)
    assert logins(found) == ["meanwhile"]
    found.close()
    assert not list(settings.data.glob(".restore-*"))


@pytest.mark.parametrize("kind", DATABASES)
def test_what_the_store_holds_damaged_comes_from_the_backup(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    def database() -> str | None:
        return request.getfixturevalue("cluster").new_database() if kind == "postgresql" else None

    target = tmp_path / "backups"
    hospital = new_hospital(tmp_path, database(), listen=False)
    device = enrolled_device(hospital)
    films = (b"whole", b"mended", b"unread", b"ruined", b"forgot")
    whole, mended, unread, ruined, forgot = (hold(hospital, device, data) for data in films)
    back_up(hospital.settings, target, now=NOW)
    settings = again(hospital, database())
    held = {name: Path(settings.images) / name[:2] / name for name in (whole, mended, unread, ruined, forgot)}
    inode = held[whole].stat().st_ino
    held[mended].write_bytes(b"MENDED")
    held[ruined].write_bytes(b"RUINED")
    (target / "images" / ruined[:2] / ruined).write_bytes(b"ruin")
    (target / "images" / forgot[:2] / forgot).unlink()
    opened = ImageStore.open

    def bad_sector(store: ImageStore, name: str) -> BinaryIO:
        if name == unread and held[unread].stat().st_ino == unread_inode:
            raise FirstRayError("image_store_failing", "The store does not work (OSError).", "Look at the disk.")
        return opened(store, name)

    unread_inode = held[unread].stat().st_ino
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImageStore, "open", bad_sector)
        done = restore(settings, target)
    assert (done.images, done.mended, done.lost) == (4, 2, 1)
    assert held[whole].stat().st_ino == inode
    found = open_hospital(settings, listen=False)
    try:
        with found.database.reading() as session:
            names = session.exec(select(ImageRow.sha256)).all()
        assert set(names) == {whole, mended, unread, forgot}
        for name in names:
            assert sha256(found.images.read(name)).hexdigest() == name
    finally:
        found.close()


def test_a_restore_names_releases_whose_file_is_lost(hospital: Hospital, tmp_path: Path) -> None:
    release = hold(hospital, enrolled_device(hospital), b"release")
    with hospital.database.writing() as session:
        session.delete(session.get_one(ImageRow, release))
        session.add(
            ReleaseRow(id="net-1", sha256=release, size=7, manifest={}, uploaded_at=NOW, uploaded_by="somebody")
        )
    back_up(hospital.settings, tmp_path / "backups", now=NOW)
    (tmp_path / "backups" / "images" / release[:2] / release).unlink()
    done = restore(settings_for(tmp_path / "new"), tmp_path / "backups")
    assert (done.lost, done.lost_releases) == (0, ["net-1"])


@pytest.mark.parametrize("kind", DATABASES)
def test_a_restore_that_was_cut_off_is_no_hospital_yet(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def database() -> str | None:
        return request.getfixturevalue("cluster").new_database() if kind == "postgresql" else None

    target = tmp_path / "backups"
    hospital = new_hospital(tmp_path, database(), listen=False)
    hold(hospital, enrolled_device(hospital), b"film")
    back_up(hospital.settings, target, now=NOW)
    hospital.close()
    settings = settings_for(tmp_path / "new", database())
    with monkeypatch.context() as patch:
        patch.setattr(audit, "record", full)
        with pytest.raises(FirstRayError) as caught:
            restore(settings, target)
    assert caught.value.code == "restore_failed"
    assert "No space left" in caught.value.message
    if kind == "postgresql":
        # Its tables are there, but still say what is not true any more.
        for act in (lambda: open_hospital(settings, listen=False), lambda: back_up(settings, target)):
            with pytest.raises(FirstRayError) as caught:
                act()
            assert caught.value.code == "restore_unfinished"
        settings = settings_for(tmp_path / "new", database())
    assert restore(settings, target).images == 1
    open_hospital(settings, listen=False).close()
    assert not list(settings.data.glob(".restore-*"))


@pytest.mark.parametrize("kind", DATABASES)
def test_a_restore_can_be_done_again_where_the_database_found_no_room(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def database() -> str | None:
        return request.getfixturevalue("cluster").new_database() if kind == "postgresql" else None

    copyfile = shutil.copyfile

    def no_room(source: Path, target: Path, **more: bool) -> None:
        if Path(source).name == "hospital.db":
            Path(target).write_bytes(b"a part")
            full()
        copyfile(source, target, **more)

    hospital = new_hospital(tmp_path, database(), listen=False)
    back_up(hospital.settings, tmp_path / "backups", now=NOW)
    hospital.close()
    settings = settings_for(tmp_path / "new", database())
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", no_room)
        patch.setattr(subprocess, "run", full)
        with pytest.raises(FirstRayError) as caught:
            restore(settings, tmp_path / "backups")
    assert caught.value.code == "restore_failed"
    assert not list(settings.data.glob("hospital.db*")) + list(settings.data.glob(".restore-*"))
    restore(settings, tmp_path / "backups")
    open_hospital(settings, listen=False).close()


def test_what_a_killed_restore_left_goes_with_the_next_one(hospital: Hospital, tmp_path: Path) -> None:
    back_up(hospital.settings, tmp_path / "backups", now=NOW)
    settings = settings_for(tmp_path / "new")
    killed = (
        "import os, signal, sys; from pathlib import Path\n"
        "from sync_server.domain import audit, restoring; from sync_server.settings import load_settings\n"
        "audit.record = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)\n"
        "restoring.restore(load_settings(data=Path(sys.argv[1])), Path(sys.argv[2]))\n"
    )
    done = subprocess.run([sys.executable, "-c", killed, settings.data, tmp_path / "backups"], timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (settings.data / "hospital.db").exists()
    assert list(settings.data.glob(".restore-*"))
    restore(settings, tmp_path / "backups")
    open_hospital(settings, listen=False).close()
    assert not list(settings.data.glob(".restore-*"))
