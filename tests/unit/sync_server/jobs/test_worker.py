"""The worker as it starts: what keeps it from reading is waited out, whatever it is."""

import errno
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_server.domain import releases
from sync_server.hospital import Hospital
from sync_server.jobs import worker
from sync_server.jobs.worker import Worker
from tests.hospital import new_hospital

WAIT_S = 120.0


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = new_hospital(tmp_path, listen=False)
    yield made
    made.close()


@pytest.mark.parametrize(
    "problem", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("something else")], ids=["full", "other"]
)
def test_what_fails_at_the_start_is_tried_again_until_it_is_well(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    met, ready, mended = threading.Event(), threading.Event(), threading.Event()
    real, prepare = tempfile.TemporaryDirectory, worker.prepare

    def failing(*given: object, **named: object) -> object:
        met.set()
        if mended.is_set():
            return real(*given, **named)  # type: ignore[call-overload]
        raise problem

    def watched(hospital: Hospital) -> None:
        prepare(hospital)
        ready.set()

    monkeypatch.setattr(tempfile, "TemporaryDirectory", failing)
    monkeypatch.setattr(worker, "prepare", watched)
    monkeypatch.setattr(worker, "PREPARE_AGAIN_S", 0.05)
    with Worker(hospital.settings, 0):
        assert met.wait(WAIT_S)
        assert not ready.is_set()
        mended.set()
        assert ready.wait(WAIT_S)
    with hospital.database.reading() as session:
        assert releases.current(session, releases.SERVER) is not None
