"""Backups and restores: nothing held is lost, nothing is said twice, and devices mend what is missing."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from sqlmodel import col, select

from shared.errors import FirstRayError
from shared.hospital import ErMessage, OutcomeStatus
from shared.identity import new_id
from sync_server.db.tables import AuditRow, EncounterRow, HistoryRow, ImageDeliveryRow, ImageRow, WebSessionRow
from sync_server.domain import audit, backup, inbox
from sync_server.domain.backup import back_up, backups, listed_images
from sync_server.domain.restoring import restore
from sync_server.hospital import Hospital, open_hospital
from tests.hospital import DATABASES, Cluster, TestDevice, cluster_or_skip, enrolled_device, new_hospital, settings_for

NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    yield from cluster_or_skip()


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = new_hospital(tmp_path, listen=False)
    yield made
    made.close()


def hold(hospital: Hospital, device: TestDevice, data: bytes) -> str:
    name = sha256(data).hexdigest()
    file = hospital.settings.data / "upload"
    file.write_bytes(data)
    hospital.images.put(file, name)
    file.unlink()
    with hospital.database.writing() as session:
        session.merge(ImageRow(sha256=name, kind="original", size=len(data), stored_at=NOW))
        session.merge(ImageDeliveryRow(sha256=name, device=device.id, at=NOW))
    return name


@pytest.mark.parametrize("kind", DATABASES)
def test_a_restored_hospital_goes_on_where_the_backup_was_and_devices_mend_the_rest(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    def database() -> str | None:
        return request.getfixturevalue("cluster").new_database() if kind == "postgresql" else None

    lost = new_hospital(tmp_path / "lost", database(), listen=False)
    device = enrolled_device(lost)
    _, run = device.run("before")
    name = hold(lost, device, b"film")
    device.film(run, name)
    device.send()
    back_up(lost.settings, tmp_path / "backups")
    # What comes now is lost to the hospital, and not to the device.
    _, later = device.run("after")
    device.send()
    with lost.database.writing() as session:
        said = inbox.say(session, device.id, ErMessage(encounter=run, text="bed 3", by="Dr", at=NOW))
    key = lost.receipts.public_keys
    lost.close()

    settings = settings_for(tmp_path / "new", database())
    done = restore(settings, tmp_path / "backups")
    assert (done.images, done.lost) == (1, 0)
    found = open_hospital(settings, listen=False)
    try:
        assert found.receipts.public_keys == key
        with found.images.open(name) as file:
            assert file.read() == b"film"
        with found.database.reading() as session:
            assert session.exec(select(HistoryRow.encounter)).all() == [run]
            assert audit.verify(session).whole
            last = session.exec(select(AuditRow).order_by(col(AuditRow.number).desc())).first()
            assert last is not None
            assert last.action == "hospital.restored"
        # The device shows its last event again and hears where its chain ends here; it sends from there.
        device.hospital = found
        answer = device.send(device.events[-1:])
        assert answer.outcomes[0].status is OutcomeStatus.NOT_TAKEN
        again = device.send(device.events[answer.expected.number :])
        assert {outcome.status for outcome in again.outcomes} == {OutcomeStatus.STORED}
        with found.database.writing() as session:
            assert set(session.exec(select(HistoryRow.encounter)).all()) == {run, later}
            assert inbox.say(session, device.id, ErMessage(encounter=run, text="bed 4", by="Dr", at=NOW)) > said
    finally:
        found.close()


def test_a_backup_is_of_one_moment_while_devices_deliver(hospital: Hospital, tmp_path: Path) -> None:
    device = enrolled_device(hospital)
    stop = threading.Event()

    def deliver() -> None:
        while not stop.is_set():
            start = len(device.events)
            device.run("someone")
            device.send(device.events[start:])

    device.send()
    thread = threading.Thread(target=deliver)
    thread.start()
    try:
        for second in range(3):
            back_up(hospital.settings, tmp_path / "backups", now=NOW + timedelta(seconds=second))
    finally:
        stop.set()
        thread.join(30)
    for folder in backups(tmp_path / "backups"):
        with closing(sqlite3.connect(folder / "hospital.db")) as copy:
            assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            counts = {
                copy.execute(f"SELECT count(*) FROM {table}").fetchone()
                for table in ("patient", "encounter", "history")
            }
            (events,) = copy.execute("SELECT count(*) FROM event").fetchone()
        # Each batch is a patient and a run: all of it or nothing.
        assert len(counts) == 1
        assert events == 1 + 2 * counts.pop()[0]


def test_images_are_copied_once_and_forgotten_with_the_last_backup_that_lists_them(
    hospital: Hospital, tmp_path: Path
) -> None:
    target = tmp_path / "backups"
    device = enrolled_device(hospital)
    first, second = hold(hospital, device, b"first"), hold(hospital, device, b"second")
    back_up(hospital.settings, target, keep=2, now=NOW)
    kept = target / "images" / first[:2] / first
    inode = kept.stat().st_ino
    with hospital.database.writing() as session:
        session.delete(session.get_one(ImageRow, second))
    hospital.images.delete(second)
    back_up(hospital.settings, target, keep=2, now=NOW + timedelta(days=1))
    assert (target / "images" / second[:2] / second).read_bytes() == b"second"
    made = back_up(hospital.settings, target, keep=2, now=NOW + timedelta(days=2))
    assert made.images == 1
    assert not (target / "images" / second[:2] / second).exists()
    assert kept.stat().st_ino == inode
    assert [folder.name for folder in backups(target)] == ["20261129T120000Z", "20261128T120000Z"]
    assert listed_images(backups(target)[0]) == {first: 5}


def test_backups_are_for_their_owner_only(hospital: Hospital, tmp_path: Path) -> None:
    device = enrolled_device(hospital)
    hold(hospital, device, b"film")
    back_up(hospital.settings, tmp_path / "backups", now=NOW)
    everything = [tmp_path / "backups", *(tmp_path / "backups").rglob("*")]
    assert [file for file in everything if file.stat().st_mode & 0o077] == []


def test_a_damaged_image_is_not_called_held(hospital: Hospital, tmp_path: Path) -> None:
    target = tmp_path / "backups"
    device = enrolled_device(hospital)
    whole, damaged, missing = (hold(hospital, device, data) for data in (b"whole", b"damaged", b"missing"))
    with hospital.database.writing() as session:
        session.add(WebSessionRow(token_sha256="x", user=new_id(), csrf="y", made_at=NOW, seen_at=NOW, expires_at=NOW))
    back_up(hospital.settings, target, now=NOW)
    (target / "images" / damaged[:2] / damaged).write_bytes(b"DAMAGED")
    (target / "images" / missing[:2] / missing).unlink()
    settings = settings_for(tmp_path / "new")
    done = restore(settings, target)
    assert (done.images, done.lost) == (1, 2)
    found = open_hospital(settings, listen=False)
    try:
        with found.database.reading() as session:
            assert session.exec(select(ImageRow.sha256)).all() == [whole]
            assert session.exec(select(ImageDeliveryRow.sha256)).all() == [whole]
            assert session.exec(select(WebSessionRow)).all() == []
    finally:
        found.close()
    assert not list(settings.data.glob(".restore-*"))


def test_a_restore_overwrites_nothing_and_believes_nothing_damaged(hospital: Hospital, tmp_path: Path) -> None:
    target = tmp_path / "backups"
    device = enrolled_device(hospital)
    _, run = device.run()
    device.send()

    def refusal(settings: object = None, **more: str) -> str:
        with pytest.raises(FirstRayError) as caught:
            restore(settings or settings_for(tmp_path / "new"), target, **more)  # type: ignore[arg-type]
        return caught.value.code

    assert refusal() == "backup_unknown"
    back_up(hospital.settings, target, now=NOW)
    assert refusal(hospital.settings) == "restore_not_empty"
    assert refusal(name="20200101T000000Z") == "backup_unknown"
    with hospital.database.reading() as session:
        assert session.get(EncounterRow, run) is not None
    [folder] = backups(target)
    manifest = json.loads((folder / "backup.json").read_text())
    (folder / "backup.json").write_text(json.dumps(manifest | {"database": "../../elsewhere"}))
    assert refusal() == "backup_damaged"
    (folder / "backup.json").write_text(json.dumps(manifest))
    with (folder / "hospital.db").open("r+b") as file:
        file.seek(5000)
        file.write(b"!")
    assert refusal() == "backup_damaged"
    assert not (tmp_path / "new" / "hospital" / "hospital.db").exists()


@pytest.mark.parametrize("rest", [b"", b"sha256,size\n", b"sha256,size\nab", b"\xff\xfe"])
def test_a_list_of_images_that_is_damaged_takes_no_images_away(hospital: Hospital, tmp_path: Path, rest: bytes) -> None:
    target = tmp_path / "backups"
    name = hold(hospital, enrolled_device(hospital), b"film")
    back_up(hospital.settings, target, now=NOW)
    listed = target / "20261127T120000Z" / "images.csv"
    whole = listed.read_bytes()
    listed.write_bytes(rest)
    with pytest.raises(FirstRayError) as caught:
        restore(settings_for(tmp_path / "new"), target)
    assert caught.value.code == "backup_damaged"
    with hospital.database.writing() as session:
        session.delete(session.get_one(ImageRow, name))
    with pytest.raises(FirstRayError, match="20261127T120000Z is damaged"):
        back_up(hospital.settings, target, now=NOW + timedelta(days=1))
    listed.write_bytes(whole)
    done = restore(settings_for(tmp_path / "new"), target, "20261127T120000Z")
    assert (done.images, done.lost) == (1, 0)
    assert [folder.name for folder in backups(target)] == ["20261128T120000Z", "20261127T120000Z"]


@pytest.mark.parametrize("kind", DATABASES)
def test_a_backup_that_found_no_room_does_not_count_and_takes_none(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    target = tmp_path / "backups"
    url = request.getfixturevalue("cluster").new_database() if kind == "postgresql" else None
    hospital = new_hospital(tmp_path, url, listen=False)
    back_up(hospital.settings, target, now=NOW)
    before = {file: file.stat().st_size for file in target.rglob("*") if file.is_file()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    hold(hospital, enrolled_device(hospital), b"film")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)  # of the first image, after the database
        with pytest.raises(FirstRayError) as caught:
            back_up(hospital.settings, target, now=NOW + timedelta(days=1))
    assert caught.value.code == "backup_failed"
    assert "No space left" in caught.value.message
    assert [folder.name for folder in backups(target)] == ["20261127T120000Z"]
    assert {file: file.stat().st_size for file in target.rglob("*") if file.is_file()} == before
    assert back_up(hospital.settings, target, now=NOW + timedelta(days=1)).images == 1
    hospital.close()


def test_a_backup_is_not_begun_or_restored_while_another_runs(
    hospital: Hospital, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "backups"
    back_up(hospital.settings, target, now=NOW)
    name = hold(hospital, enrolled_device(hospital), b"film")
    copied, go_on = threading.Event(), threading.Event()
    size = backup.file_sha256

    def waiting(file: Path) -> str:
        copied.set()
        assert go_on.wait(60)
        return size(file)

    monkeypatch.setattr(backup, "file_sha256", waiting)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(back_up, hospital.settings, target, now=NOW + timedelta(days=1))
        try:
            assert copied.wait(60)
            with pytest.raises(FirstRayError) as second:
                back_up(hospital.settings, target, now=NOW + timedelta(days=2))
            with pytest.raises(FirstRayError) as restored:
                restore(settings_for(tmp_path / "new"), target)
        finally:
            go_on.set()
        assert first.result().images == 1
    assert (second.value.code, restored.value.code) == ("backup_running", "backup_running")
    assert (target / "images" / name[:2] / name).read_bytes() == b"film"
    assert [folder.name for folder in backups(target)] == ["20261128T120000Z", "20261127T120000Z"]
    done = restore(settings_for(tmp_path / "new"), target)
    assert (done.images, done.lost) == (1, 0)


@pytest.mark.parametrize("kind", DATABASES)
def test_what_a_killed_backup_left_goes_with_the_next_one(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    target = tmp_path / "backups"
    url = request.getfixturevalue("cluster").new_database() if kind == "postgresql" else None
    hospital = new_hospital(tmp_path, url, listen=False)
    back_up(hospital.settings, target, now=NOW)
    hold(hospital, enrolled_device(hospital), b"film")
    killed = (
        "import os, signal, sys; from pathlib import Path\n"
        "from sync_server.domain import backup; from sync_server.settings import load_settings\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        "backup.back_up(load_settings(data=Path(sys.argv[1]), database=sys.argv[2]), Path(sys.argv[3]))\n"
    )
    given = (hospital.settings.data, hospital.settings.database, target)
    done = subprocess.run([sys.executable, "-c", killed, *given], timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL
    [left] = {folder.name for folder in target.glob("2*Z")} - {"20261127T120000Z"}
    assert [file for file in (target / left).glob("hospital.*") if file.stat().st_size]
    (target / "2026 of another kind").mkdir()

    made = back_up(hospital.settings, target, now=NOW + timedelta(days=1))
    assert made.images == 1
    names = {"20261127T120000Z", "20261128T120000Z", "2026 of another kind", "images", "lock"}
    assert {file.name for file in target.iterdir()} == names
    assert not list(target.rglob("*.part"))
    hospital.close()


def test_the_backup_just_made_is_kept_where_the_clock_was_set_back(hospital: Hospital, tmp_path: Path) -> None:
    target = tmp_path / "backups"
    for day in (0, 1):
        back_up(hospital.settings, target, keep=2, now=NOW + timedelta(days=day))
    back_up(hospital.settings, target, keep=2, now=NOW - timedelta(days=300))
    assert [folder.name for folder in backups(target)] == ["20261128T120000Z", "20260131T120000Z"]


def test_an_image_that_is_damaged_in_the_store_is_not_called_backed_up(hospital: Hospital, tmp_path: Path) -> None:
    name = hold(hospital, enrolled_device(hospital), b"film")
    (Path(hospital.settings.images) / name[:2] / name).write_bytes(b"FILM")
    made = back_up(hospital.settings, tmp_path / "backups", now=NOW)
    assert (made.images, made.absent) == (0, 1)
    assert not list((tmp_path / "backups" / "images").glob("??/*"))


def test_the_password_of_postgresql_is_on_no_command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from sqlalchemy import make_url

    from sync_server.domain.backup import run_tool

    seen: dict[str, object] = {}

    def run(command: list[str], env: dict[str, str], **_: object) -> subprocess.CompletedProcess[str]:
        seen["command"], seen["password"] = " ".join(command), env["PGPASSWORD"]
        return subprocess.CompletedProcess(command, 1, "", "pg_dump: error: no such database")

    monkeypatch.setattr(subprocess, "run", run)
    url = make_url("postgresql+psycopg://firstray:s3cret@localhost:5433/hospital?sslmode=require")
    with pytest.raises(FirstRayError, match="no such database"):
        run_tool("pg_dump", url, "--format=custom")
    assert seen["password"] == "s3cret"
    assert "s3cret" not in str(seen["command"])
    assert "postgresql://firstray@localhost:5433/hospital?sslmode=require" in str(seen["command"])
