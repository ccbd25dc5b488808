"""A reader in this process, with the real models: what it stores, and whose fault it says a failure is."""

import errno
import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from sqlmodel import select

from shared.diagnosis import Diagnoser, Diagnosis
from shared.hospital import ImageKind
from shared.radiograph import Radiograph, load_radiograph
from shared.release import default_release, load_release
from sync_server.db.tables import ImageRow, ServerReadingRow
from sync_server.domain import fleet, releases
from sync_server.hospital import Hospital
from sync_server.jobs import queue
from sync_server.jobs.models import Models
from sync_server.jobs.reader import POLL_S, ModelsBroken, Plan, Reader, watched
from tests.hospital import new_hospital


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = new_hospital(tmp_path, listen=False)
    releases.ensure_server_release(made)
    yield made
    made.close()


def hold(hospital: Hospital, tmp_path: Path, data: bytes, *, lost: bool = False) -> str:
    """An original is held; ``lost``: its bytes are not there."""
    sha256 = hashlib.sha256(data).hexdigest()
    file = tmp_path / "bytes"
    file.write_bytes(data)
    if not lost:
        hospital.images.put(file, sha256)
    file.unlink()

    def act(session: Any) -> None:
        session.add(ImageRow(sha256=sha256, kind=ImageKind.ORIGINAL, size=len(data), stored_at=datetime.now(UTC)))
        session.flush()
        for hook in hospital.images.on_original:
            hook(session, sha256)

    hospital.database.write(act)
    return sha256


def rows(hospital: Hospital) -> dict[str, ServerReadingRow]:
    with hospital.database.reading() as session:
        return {row.sha256: row for row in session.exec(select(ServerReadingRow))}


def test_a_batch_reads_as_one_by_one_and_each_image_gets_its_own_answer(
    hospital: Hospital,
    tmp_path: Path,
    chest: Path,
    chest_jpeg2000: Path,
    legs: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(queue, "BACKOFF", (timedelta(hours=1), timedelta(hours=1)))  # however slowly the rest is read
    read = [hold(hospital, tmp_path, path.read_bytes()) for path in (chest, chest_jpeg2000, legs)]
    broken = hold(hospital, tmp_path, chest.read_bytes()[:100_000])
    lost = hold(hospital, tmp_path, b"purged", lost=True)
    reader = Reader(hospital, "r", Plan(batch=8, decoders=2))
    try:
        reader.step()
        assert reader.step() == POLL_S
    finally:
        reader.close()
    found = rows(hospital)
    alone = Diagnoser(load_release(default_release()), "fp32", "onnx", threads=1)
    for sha256, path in zip(read, (chest, chest_jpeg2000, legs), strict=True):
        here = Diagnosis.model_validate(found[sha256].result)
        there = alone.diagnose(load_radiograph(path))
        assert (here.sha256, here.precision, here.states, here.refused) == (
            sha256,
            "fp32",
            there.states,
            there.refused,
        )
        assert here.probabilities == pytest.approx(there.probabilities, abs=1e-5)
        assert len(here.boxes) == len(there.boxes)
    assert (found[broken].state, found[broken].error, found[broken].tries) == ("failed", "dicom_truncated", 1)
    assert (found[lost].state, found[lost].error, found[lost].tries) == ("waiting", "image_not_held", 1)


def test_an_image_that_the_models_choke_on_is_found_out_and_the_rest_of_its_batch_read(
    hospital: Hospital, tmp_path: Path, chest: Path, chest_jpeg2000: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = (hold(hospital, tmp_path, path.read_bytes()) for path in (chest, chest_jpeg2000))
    real = Diagnoser.diagnose_many

    def choke(self: Diagnoser, requests: Sequence[tuple[Radiograph, bool]]) -> list[Diagnosis]:
        if any(radiograph.sha256 == bad for radiograph, _ in requests):
            raise RuntimeError("Name^Patient")
        return real(self, requests)

    monkeypatch.setattr(Diagnoser, "diagnose_many", choke)
    reader = Reader(hospital, "r", Plan(batch=8))
    try:
        reader.step()
    finally:
        reader.close()
    found = rows(hospital)
    assert (found[good].state, found[bad].state, found[bad].error) == ("done", "waiting", "internal_error")


def test_where_nothing_can_be_read_any_more_no_image_is_blamed(
    hospital: Hospital, tmp_path: Path, chest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = hold(hospital, tmp_path, chest.read_bytes())

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(Diagnoser, "_run", broken)
    reader = Reader(hospital, "r", Plan())
    try:
        with pytest.raises(ModelsBroken):
            reader.step()
    finally:
        reader.close()
    assert (rows(hospital)[sha256].state, rows(hospital)[sha256].tries) == ("waiting", 0)


def test_a_release_that_is_not_to_be_had_is_left_to_others(
    hospital: Hospital, tmp_path: Path, chest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = hold(hospital, tmp_path, chest.read_bytes())
    monkeypatch.setenv("FIRSTRAY_TRUSTED_KEYS", str(tmp_path))
    reader = Reader(hospital, "r", Plan())
    try:
        assert reader.step() > POLL_S
        assert reader.step() == POLL_S
    finally:
        reader.close()
    assert (rows(hospital)[sha256].state, rows(hospital)[sha256].tries) == ("waiting", 0)


def held_up(hospital: Hospital) -> list[str]:
    """What an admin sees of why readings wait."""
    with hospital.database.reading() as session:
        return fleet.queue(session, datetime.now(UTC)).held_up


def test_a_full_disk_blames_no_image_and_all_is_read_once_there_is_room(
    hospital: Hospital, tmp_path: Path, chest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = hold(hospital, tmp_path, chest.read_bytes())

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for number in range(queue.MOST_TRIES + 1):
        reader = Reader(hospital, f"r{number}", Plan())
        with monkeypatch.context() as patch:
            patch.setattr(tempfile, "TemporaryDirectory", full)
            assert watched(reader) > POLL_S
        reader.close()
        assert (rows(hospital)[sha256].state, rows(hospital)[sha256].tries) == ("waiting", 0)
        assert held_up(hospital) == ["disk_full"]
    reader = Reader(hospital, "r", Plan())
    watched(reader)
    reader.close()
    assert (rows(hospital)[sha256].state, rows(hospital)[sha256].error) == ("done", None)
    assert held_up(hospital) == []


def test_models_that_end_the_process_when_they_are_opened_are_no_images_fault(
    hospital: Hospital, tmp_path: Path, chest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = hold(hospital, tmp_path, chest.read_bytes())
    held: list[str | None] = []

    def broken(*_: object) -> None:
        held.append(rows(hospital)[sha256].worker)  # what it would be blamed for if the process ended here
        raise RuntimeError

    monkeypatch.setattr(Models, "open", broken)
    reader = Reader(hospital, "r", Plan())
    with pytest.raises(ModelsBroken):
        watched(reader)
    reader.close()
    assert held == [None]
    assert (rows(hospital)[sha256].state, rows(hospital)[sha256].tries) == ("waiting", 0)
    assert held_up(hospital) == ["models_broken"]


def test_a_database_that_fails_before_the_answer_is_stored_blames_no_image(
    hospital: Hospital, tmp_path: Path, chest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = hold(hospital, tmp_path, chest.read_bytes())
    reader = Reader(hospital, "r", Plan())
    monkeypatch.setattr(queue, "BACKOFF", (timedelta(0), timedelta(0)))

    def full(*_: object, **__: object) -> None:
        raise OperationalError("", {}, Exception("database or disk is full"))

    try:
        with monkeypatch.context() as patch:
            patch.setattr(queue, "finish", full)
            for _ in range(queue.MOST_TRIES + 1):
                assert watched(reader) > POLL_S
        watched(reader)
    finally:
        reader.close()
    assert (rows(hospital)[sha256].state, rows(hospital)[sha256].tries) == ("done", 1)


def test_other_bytes_than_those_of_the_film_are_not_read(hospital: Hospital, tmp_path: Path, chest: Path) -> None:
    data = chest.read_bytes()
    sha256 = hold(hospital, tmp_path, data)
    held = Path(hospital.settings.images) / sha256[:2] / sha256
    held.write_bytes(data[:-2048] + bytes(2048))  # as on a bad disk: still a radiograph, but another one
    reader = Reader(hospital, "r", Plan())
    try:
        reader.step()
    finally:
        reader.close()
    assert (rows(hospital)[sha256].state, rows(hospital)[sha256].error) == ("waiting", "image_damaged")
