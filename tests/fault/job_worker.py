"""Real processes of the hospital for the fault tests: ``hold`` stores images as an upload does, ``work`` reads them.

    python -m tests.fault.job_worker hold FOLDER DATABASE SAMPLE COUNT
    python -m tests.fault.job_worker work FOLDER DATABASE

In ``work``, the image named by ``KILLS`` or ``HANGS`` (SHA-256, in the environment) ends or holds up the process that
reads them, as a defect of a runtime would. Reader processes import this module too, so they are affected alike.
"""

import hashlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlmodel import Session

from shared.diagnosis import Diagnoser, Diagnosis
from shared.hospital import ImageKind
from shared.radiograph import Radiograph
from sync_server.db.tables import ImageRow
from sync_server.domain import releases
from sync_server.hospital import Hospital
from sync_server.jobs import queue, reader, worker
from tests.hospital import new_hospital, settings_for

READERS = 2
diagnose_many = Diagnoser.diagnose_many
open_reader = reader.Reader.__init__


def harmed(self: Diagnoser, requests: Sequence[tuple[Radiograph, bool]]) -> list[Diagnosis]:
    """As the original, but for the images that harm."""
    names = {radiograph.sha256 for radiograph, _ in requests}
    if os.environ.get("KILLS") in names:
        os.kill(os.getpid(), signal.SIGKILL)
    if os.environ.get("HANGS") in names:
        time.sleep(600)
    return diagnose_many(self, requests)


def opened(self: reader.Reader, hospital: Hospital, name: str, plan: reader.Plan) -> None:
    """As the original, with the models opened already: not within the time that one batch may take."""
    open_reader(self, hospital, name, plan)
    self._models.open(releases.ensure_server_release(hospital))


Diagnoser.diagnose_many = harmed  # type: ignore[method-assign]
queue.BACKOFF = (timedelta(seconds=0.2),) * 2  # type: ignore[misc, assignment]
if os.environ.get("HANGS"):
    reader.Reader.__init__ = opened  # type: ignore[method-assign]
    reader.HANGS_S = 10.0  # type: ignore[misc]


def study(sample: bytes, number: int) -> bytes:
    """The sample with its last pixels changed, so that no two are the same bytes."""
    return sample[:-2048] + number.to_bytes(2, "little") * 1024


def hold(hospital: Hospital, data: bytes) -> str:
    """An original is held, and noted in one transaction with what follows from it."""
    sha256 = hashlib.sha256(data).hexdigest()
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        hospital.images.put(Path(file.name), sha256)

    def act(session: Session) -> None:
        if session.get(ImageRow, sha256) is None:
            now = datetime.now(UTC)
            session.add(ImageRow(sha256=sha256, kind=ImageKind.ORIGINAL, size=len(data), stored_at=now))
            session.flush()
            for hook in hospital.images.on_original:
                hook(session, sha256)

    hospital.database.write(act)
    return sha256


def main() -> None:
    """See above; ``hold`` prints each image's SHA-256 once it is committed."""
    what, folder, database, *rest = sys.argv[1:]
    if what == "work":
        worker.run(settings_for(Path(folder), database or None), READERS)
        return
    sample = Path(rest[0]).read_bytes()
    hospital = new_hospital(Path(folder), database or None, listen=False)
    releases.ensure_server_release(hospital)
    for number in range(int(rest[1])):
        print(hold(hospital, study(sample, number)), flush=True)
    hospital.close()


if __name__ == "__main__":
    main()
