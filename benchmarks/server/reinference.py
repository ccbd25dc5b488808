"""Full-precision re-inference: studies a second of one worker, from the queue to the stored reading.

    python -m benchmarks.server.reinference --studies 200

The studies are the sample radiograph (7 MB, uncompressed DICOM) with a line of its own in each, so that no two are the
same bytes. Measured from the first reading stored to the last, models loaded; with the worker's start beside it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import psutil
from sqlalchemy import func
from sqlmodel import select

from benchmarks.machine import facts
from shared.hospital import ImageKind
from shared.runtime import has_gpu
from sync_server.db.tables import ImageRow, ServerReadingRow
from sync_server.domain import readings, releases
from sync_server.hospital import Hospital, open_hospital
from sync_server.jobs.worker import Worker, usual_readers
from sync_server.settings import load_settings


def fill(hospital: Hospital, sample: bytes, studies: int, scratch: Path) -> None:
    """Originals that are held, and asked to be read."""
    for number in range(studies):
        data = bytearray(sample)
        data[-2048:] = number.to_bytes(2, "little") * 1024
        sha256 = hashlib.sha256(data).hexdigest()
        file = scratch / "study"
        file.write_bytes(data)
        hospital.images.put(file, sha256)
        file.unlink()
        with hospital.database.writing() as session:
            session.add(ImageRow(sha256=sha256, kind=ImageKind.ORIGINAL, size=len(data), stored_at=datetime.now(UTC)))
            session.flush()
            readings.original_held(session, sha256)


def measure(hospital: Hospital, studies: int, readers: int | None, seconds: float) -> dict[str, object]:
    """Have all read by one worker; raises RuntimeError where that takes longer than ``seconds``."""
    began = time.monotonic()
    began_work: tuple[int, float] | None = None
    done, memory, processor = 0, 0, 0.0
    with Worker(hospital.settings, readers):
        while (now_done := _count(hospital)) < studies:
            done = now_done
            if time.monotonic() - began > seconds:
                raise RuntimeError(f"only {done} of {studies} were read")
            memory, processor = _use()
            if done and began_work is None:
                began_work = (done, processor)
            time.sleep(0.2)
    with hospital.database.reading() as session:
        rows = session.exec(select(ServerReadingRow)).all()
    if any(row.state != "done" or row.tries != 1 for row in rows):
        raise RuntimeError("not every study was read at its first try")
    moments = sorted(row.done_at for row in rows if row.done_at is not None)
    span = (moments[-1] - moments[0]).total_seconds()
    return {
        "studies": studies,
        "readers": readers or usual_readers(has_gpu(), os.cpu_count() or 1),
        "studies_per_second": round((studies - 1) / span, 1),
        "seconds_to_first": round((moments[0] - min(row.asked_at for row in rows)).total_seconds(), 1),
        "whole_with_start_s": round(time.monotonic() - began, 1),
        "median_s_a_study": statistics.median(row.seconds or 0.0 for row in rows),
        "processor_ms_a_study": _rate(began_work, (done, processor)),
        "models_ms": _stages(rows),
        "memory_mb": round(memory / 2**20),
    }


def _stages(rows: Sequence[ServerReadingRow]) -> dict[str, float]:
    timings = [row.result["timing_ms"] for row in rows if row.result]
    return {name: round(statistics.median(one[name] for one in timings), 1) for name in timings[0]}


def _count(hospital: Hospital) -> int:
    with hospital.database.reading() as session:
        return session.exec(select(func.count()).where(ServerReadingRow.state == "done")).one()


def _rate(first: tuple[int, float] | None, last: tuple[int, float]) -> float | None:
    """Milliseconds of processor time a study, of readers and decoders, between two looks."""
    if first is None or last[0] <= first[0]:
        return None
    return round((last[1] - first[1]) / (last[0] - first[0]) * 1000, 1)


def _use() -> tuple[int, float]:
    """Bytes of memory and seconds of processor time of all processes of the worker."""
    memory, seconds = 0, 0.0
    for child in psutil.Process().children(recursive=True):
        try:
            memory += child.memory_info().rss
            times = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        seconds += times.user + times.system
    return memory, seconds


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--readers", type=int)
    parser.add_argument("--database", help="SQLAlchemy URL; SQLite in a temporary folder if not given")
    parser.add_argument("--image", type=Path, help="another sample than pydicom-data's")
    options = parser.parse_args()
    if options.image is None:
        from firstray.demo import sample_radiograph

        options.image = sample_radiograph()
    with tempfile.TemporaryDirectory() as scratch:
        hospital = open_hospital(
            load_settings(data=Path(scratch) / "hospital", database=options.database), listen=False
        )
        try:
            releases.ensure_server_release(hospital)
            fill(hospital, options.image.read_bytes(), options.studies, Path(scratch))
            figures = measure(hospital, options.studies, options.readers, 60 + options.studies)
        finally:
            hospital.close()
    print(json.dumps({"machine": facts(), "database": options.database or "SQLite", **figures}, indent=1))


if __name__ == "__main__":
    main()
