"""What can be asked of the store without changing it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from edge_app.store import _deleting, _films, _inbox, _opening, _runs, _settings, _standing
from edge_app.store._columns import visible
from edge_app.store._database import Database
from edge_app.store.errors import StoreError
from edge_app.store.images import Images
from edge_app.store.tables import RadiographRow
from edge_app.store.views import Deletion, Film, PastReading, Patient, Room, Run, RunRow, Standing


class Reads:
    """The reading half of :class:`edge_app.store.store.Store`."""

    def __init__(self, folder: Path, database: Database, images: Images) -> None:
        self._folder = folder
        self._database = database
        self._images = images

    def runs(
        self,
        text: str = "",
        *,
        under_way: bool | None = None,
        open_after: datetime | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        finding: str | None = None,
        patient: UUID | None = None,
        limit: int = 50,
        before: UUID | None = None,
    ) -> list[RunRow]:
        """Runs, newest first.

        Args:
            text: words that must all occur in name, identifiers, incident number or complaint.
            under_way: only those under way (True) or ended (False).
            open_after: only those under way, or ended after this moment.
            since, until: begun from ... on and before ...
            finding: key of a finding that is likely on one of its radiographs.
            patient: only those of one patient.
            limit, before: a page: so many, those that come after the run ``before`` in the list.
        """
        wanted = _runs.Filter(text, under_way, open_after, since, until, finding, patient, limit, before)
        with self._database.reading() as session:
            return _runs.runs(session, wanted)

    def run(self, id: UUID) -> Run:
        """One run with all that belongs to it. Raises ``record_unknown``."""
        with self._database.reading() as session:
            return _runs.run(session, id)

    def patients(self, text: str = "", limit: int = 50) -> list[Patient]:
        """Patients with runs, of the latest run first; ``text``: words in name or identifiers."""
        with self._database.reading() as session:
            return _runs.patients(session, text, limit)

    def patient(self, id: UUID) -> Patient:
        """One patient. Raises ``record_unknown``."""
        with self._database.reading() as session:
            return _runs.patient(session, id)

    def film(self, id: UUID) -> Film:
        """One radiograph. Raises ``record_unknown``."""
        with self._database.reading() as session:
            return _films.film(session, id)

    def waiting_films(self) -> list[Film]:
        """Radiographs of no run, oldest first."""
        with self._database.reading() as session:
            return _films.waiting(session)

    def unread_films(self) -> list[Film]:
        """Radiographs to be read, oldest first."""
        with self._database.reading() as session:
            return _films.unread(session)

    def films_of_patient(self, patient: UUID) -> list[Film]:
        """Radiographs of all runs of a patient, latest first."""
        with self._database.reading() as session:
            return _films.of_patient(session, patient)

    def previous_diagnoses(self, film: UUID) -> list[PastReading]:
        """Earlier readings of a radiograph, oldest first. Raises ``record_unknown``."""
        with self._database.reading() as session:
            return _films.previous_diagnoses(session, film)

    def original(self, film: UUID) -> bytes:
        """The file as it arrived, verified. Raises ``record_unknown``, ``image_damaged``."""
        with self._database.reading() as session:
            sha256 = visible(session, RadiographRow, film).sha256
        return self._images.read(self._images.name(sha256, "original"), sha256)

    def picture(self, film: UUID, diagnosis: UUID | None = None) -> bytes:
        """The display picture of a reading (the latest). Raises ``record_unknown``, ``image_damaged``."""
        with self._database.reading() as session:
            row = _films.picture_of(session, film, diagnosis)
        if row is None:
            raise StoreError("record_unknown")
        return self._images.read(row.name, row.sha256)

    def heard(self) -> int:
        """Id of the latest item that the hospital said: what is read after this shows all up to it."""
        with self._database.reading() as session:
            return _inbox.position(session)

    def deletions(self) -> list[Deletion]:
        """What can still be undone, latest first."""
        with self._database.reading() as session:
            return _deleting.pending(session)

    def standing(self) -> Standing:
        """What the hospital holds and what waits."""
        with self._database.reading() as session:
            return _standing.standing(session)

    def room(self) -> Room:
        """Room on the disk, and what the store takes of it."""
        with self._database.reading() as session:
            images = _standing.image_bytes(session)
        disk = shutil.disk_usage(self._folder)
        files: Sequence[Path] = tuple(self._folder.glob(f"{_opening.DATABASE}*"))
        return Room(disk.free, disk.total, images, sum(file.stat().st_size for file in files))

    def setting(self, key: str, default: Any = None) -> Any:
        """A small value kept for the application."""
        with self._database.reading() as session:
            return _settings.get(session, key, default)
