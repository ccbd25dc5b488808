"""A store for tests of the ways in: plain files named by their SHA-256, durable, and refusing on request."""

from __future__ import annotations

import hashlib
import os
import threading
import uuid
from pathlib import Path
from typing import Self
from uuid import UUID

from edge_app.capture.intake import Arrival
from shared.errors import FirstRayError


class PlainStore:
    """What it holds is in ``folder``; ``refuse`` says which step ("spool", "write", "commit") fails with which code."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.refuse: dict[str, str] = {}
        self.arrivals: list[Arrival] = []
        self.taken: list[UUID] = []  # ids of the arrivals
        self.hold = threading.Event()  # commits wait for it
        self.hold.set()
        self.committing = threading.Event()
        self.open_spools = 0
        self.lock = threading.Lock()

    def spool(self) -> PlainSpool:
        self.check("spool")
        return PlainSpool(self)

    def check(self, step: str) -> None:
        code = self.refuse.get(step)
        if code == "bug":
            raise ZeroDivisionError("a fault of the store")
        if code:
            raise FirstRayError(code, "The test's store refuses.", "Nothing.")

    @property
    def files(self) -> list[Path]:
        """What is stored."""
        return sorted(path for path in self.folder.iterdir() if not path.name.startswith("spool"))

    @property
    def leftovers(self) -> list[Path]:
        """Spools not thrown away."""
        return [path for path in self.folder.iterdir() if path.name.startswith("spool")]


class PlainSpool:
    """One file on its way in."""

    def __init__(self, store: PlainStore) -> None:
        self.store = store
        self.hash = hashlib.sha256()

    def __enter__(self) -> Self:
        self.path = self.store.folder / f"spool-{uuid.uuid4()}"
        self.file = self.path.open("wb")
        with self.store.lock:
            self.store.open_spools += 1
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.path.unlink(missing_ok=True)
        with self.store.lock:
            self.store.open_spools -= 1

    def write(self, data: bytes) -> None:
        self.store.check("write")
        self.hash.update(data)
        self.file.write(data)

    def commit(self, arrival: Arrival) -> UUID:
        self.store.committing.set()
        assert self.store.hold.wait(120)
        self.store.check("commit")
        self.file.flush()
        os.fsync(self.file.fileno())
        self.path.replace(self.store.folder / self.hash.hexdigest())
        with self.store.lock:
            self.store.arrivals.append(arrival)
            self.store.taken.append(UUID(bytes=self.hash.digest()[:16]))
            return self.store.taken[-1]
