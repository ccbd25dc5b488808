"""What a server does by itself now and then."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from sync_server import housekeeping
from sync_server.domain.purge import Purged
from sync_server.housekeeping import Housekeeping
from tests.hospital import new_hospital


def test_it_purges_again_and_again_also_after_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hospital = new_hospital(tmp_path)
    times: list[datetime] = []

    def purge(of: object, now: datetime) -> Purged:
        assert of is hospital
        times.append(now)
        if len(times) == 1:
            raise OperationalError("", None, Exception("database is locked"))
        return Purged()

    monkeypatch.setattr(housekeeping, "purge", purge)
    end = time.monotonic() + 20
    with Housekeeping(hospital, first_s=0.01, every_s=0.01):
        while len(times) < 3 and time.monotonic() < end:
            time.sleep(0.01)
    assert len(times) >= 3
    assert datetime.now(UTC) - times[0] < timedelta(minutes=1)
    hospital.close()
