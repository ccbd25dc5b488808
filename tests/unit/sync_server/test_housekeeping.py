"""What a server does by itself now and then."""

import hashlib
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from sync_server import housekeeping
from sync_server.db.tables import ImageRow
from sync_server.domain import display
from sync_server.domain.purge import Purged
from sync_server.housekeeping import Housekeeping
from tests.hospital import new_hospital


@pytest.mark.parametrize("failure", [OperationalError("", None, Exception("database is locked")), ValueError("김하늘")])
def test_it_purges_again_and_again_also_after_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    hospital = new_hospital(tmp_path)
    times: list[datetime] = []

    def purge(of: object, now: datetime) -> Purged:
        assert of is hospital
        times.append(now)
        if len(times) == 1:
            raise failure
        return Purged()

    monkeypatch.setattr(housekeeping, "purge", purge)
    end = time.monotonic() + 60
    with Housekeeping(hospital, first_s=0.01, every_s=0.01):
        while len(times) < 3 and time.monotonic() < end:
            time.sleep(0.01)
    assert len(times) >= 3
    assert datetime.now(UTC) - times[0] < timedelta(minutes=1)
    hospital.close()


def test_pictures_go_with_their_images_whoever_purged_them(tmp_path: Path, chest: Path) -> None:
    """Another machine has shown the image too, and does not hear of the purge."""
    hospital = new_hospital(tmp_path, listen=False)
    pictures = {}
    for name, data in (("kept", chest.read_bytes()), ("purged", chest.read_bytes() + b"\0\0")):
        sha256 = hashlib.sha256(data).hexdigest()
        file = tmp_path / name
        file.write_bytes(data)
        hospital.images.put(file, sha256)
        pictures[name] = display.display_image(hospital, sha256)
        with hospital.database.writing() as session:
            session.add(ImageRow(sha256=sha256, kind="original", size=len(data), stored_at=datetime.now(UTC)))
    assert display.sweep(hospital) == 0
    with hospital.database.writing() as session:  # as another machine's purge leaves it
        session.delete(session.get(ImageRow, hashlib.sha256(chest.read_bytes() + b"\0\0").hexdigest()))
    being_drawn, left_over = (pictures["kept"].with_name(name) for name in (".aa", ".bb"))
    being_drawn.touch()
    left_over.touch()
    os.utime(left_over, (1, 1))

    end = time.monotonic() + 60
    with Housekeeping(hospital, first_s=0.01, every_s=0.01):
        while pictures["purged"].exists() and time.monotonic() < end:
            time.sleep(0.01)
    assert display.sweep(hospital) == 0
    assert [pictures["kept"].exists(), pictures["purged"].exists()] == [True, False]
    assert [being_drawn.exists(), left_over.exists()] == [True, False]
    hospital.close()


def test_pictures_go_also_where_the_purge_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hospital = new_hospital(tmp_path, listen=False)
    picture = hospital.settings.data / "display" / "ab" / f"{'ab' * 32}-0.jpg"
    picture.parent.mkdir(parents=True)
    picture.touch()

    def purge(of: object, now: datetime) -> Purged:
        raise OSError

    monkeypatch.setattr(housekeeping, "purge", purge)
    end = time.monotonic() + 60
    with Housekeeping(hospital, first_s=0.01, every_s=0.01):
        while picture.exists() and time.monotonic() < end:
            time.sleep(0.01)
    assert not picture.exists()
    hospital.close()
