"""A process that writes to a store until it is killed, and tells in a file what was acknowledged (test_store_kill)."""

import itertools
import json
import os
import random
import time
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_app.store import migrations
from edge_app.store.store import Store
from shared.records import RecordType
from tests.unit.edge_app.store.samples import Hospital, diagnosis, open_store, receive

HOSPITAL = Ed25519PrivateKey.from_private_bytes(b"h" * 32)


class Diary:
    """Lines of JSON that outlive the process."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def __call__(self, **line: Any) -> None:
        os.write(self._file, (json.dumps(line, default=str) + "\n").encode())


def write_for_ever(folder: Path, diary: Path, seed: int) -> None:
    """Receive, change, read, send, delete and settle in random order."""
    tell, chance = Diary(diary), random.Random(seed)
    tell(did="began")
    store = open_store(folder, check=True)
    tell(did="opened")
    hospital = Hospital(HOSPITAL)
    films: list[UUID] = []
    for turn in itertools.count():
        run = store.start_run(who={"name": f"patient {seed} {turn}"})
        tell(did="run", id=run, name=f"patient {seed} {turn}")
        data = chance.randbytes(chance.choice((500, 70_000, 400_000)))
        film = receive(store, data)
        tell(did="film", id=film, sha256=sha256(data).hexdigest())
        films.append(film)
        store.change(RecordType.ENCOUNTER, run, {"notes": str(turn)})
        tell(did="note", id=run, notes=str(turn))
        picture = chance.randbytes(30_000)
        reading = store.add_reading(
            film,
            diagnosis=diagnosis("Mass"),
            error=None,
            radiograph={"encounter": run},
            picture=picture,
            preview=chance.randbytes(9_000),
        )
        tell(did="reading", id=reading, film=film, picture=sha256(picture).hexdigest())
        if chance.random() < 0.5:
            tell(did="held", number=hospital.take(store, limit=4) and store.standing().events_held)
        if chance.random() < 0.4:
            _delete(store, tell, films.pop(chance.randrange(len(films))))


def _delete(store: Store, tell: Diary, film: UUID) -> None:
    tell(did="deleting", id=film)
    store.delete_film(film, undo_seconds=0)
    tell(did="deleted", id=film)
    store.settle(datetime.now(UTC) + timedelta(seconds=1))
    tell(did="settled", id=film)


def migrate(folder: Path, diary: Path, scripts: Path) -> None:
    """Open the store as a later version of FirstRay with other tables would."""
    tell = Diary(diary)
    tell(did="began")
    migrations.SCRIPTS, migrations.LATEST = scripts, "0002"
    store = open_store(folder)
    tell(did="opened")
    while store.runs():
        time.sleep(0.01)
