"""Uploads of images: who may, how much, and when an image counts as held.

An upload is a row and a file in the spool. Once all bytes are there, their SHA-256 is compared with the one announced,
they move into the image store, and one transaction notes the image, that this device delivered it, and the end of the
upload; only then is there a receipt. A process that dies in between leaves an upload that is complete and is finished
by whoever asks for it next.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from sqlalchemy import delete, func, or_
from sqlmodel import Session, col, select

from shared.errors import FirstRayError
from shared.hospital import ImageKind, ImageMetadata
from shared.receipts import HeldImage, Receipt
from sync_server.db.engine import locked
from sync_server.db.tables import DeviceRow, ImageDeliveryRow, ImageRow, RadiographRow, UploadRow
from sync_server.domain.changes import BOARD, publish, run_of
from sync_server.domain.devices import refuse_revoked
from sync_server.domain.spool import OffsetWrong, Spool, UploadGone

if TYPE_CHECKING:
    from sync_server.hospital import Hospital

MOST_BYTES: Final = {ImageKind.ORIGINAL: 200_000_000, ImageKind.PREVIEW: 1_000_000}
"""Size of an image, at most."""
MOST_OPEN: Final = 64
"""Uploads of one device under way at once, at most."""
MOST_OPEN_BYTES: Final = 2_000_000_000
"""Sum of their sizes, at most."""
LIFETIME: Final = timedelta(days=7)
ORPHAN_SECONDS: Final = 3600.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload as its device sees it.

    Attributes:
        id: last part of its address; that of an image which is held already is the image's SHA-256.
        offset: bytes that have come; ``size`` once it is held.
        expires_at: when it is forgotten; None once it is held.
    """

    id: str
    sha256: str
    size: int
    offset: int
    expires_at: datetime | None = None

    @property
    def complete(self) -> bool:
        """All bytes have come."""
        return self.offset == self.size


class Uploads:
    """The uploads of all devices. Every method may block on disk and database."""

    def __init__(self, hospital: Hospital, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._hospital = hospital
        self._database = hospital.database
        self._now = now
        self.spool = Spool(hospital.settings.data / "uploads")

    def begin(self, device: UUID, image: ImageMetadata, size: int) -> Upload:
        """A new upload, or the one this device has begun already; a complete one where the image is held.

        Raises:
            FirstRayError: ``image_too_large``, ``radiograph_unknown`` (its record has not come yet),
                ``radiograph_deleted``, ``not_allowed`` (another device's), ``too_many_uploads``, ``device_revoked``.
        """
        if not 1 <= size <= MOST_BYTES[image.kind]:
            raise FirstRayError(
                "image_too_large",
                f"An image of {size} bytes is not taken: 1 to {MOST_BYTES[image.kind]} are.",
                "Tell the hospital's IT if it is a radiograph.",
            )
        with self._database.reading() as session:
            self._check_radiograph(session, device, image.radiograph)
        if (held := self._held(device, image.sha256)) is not None:
            return held
        row = self._database.write(lambda session: self._row(session, device, image, size))
        self.spool.create(row.id)
        return _upload(row, self.spool.length(row.id))

    def find(self, device: UUID, id: str) -> Upload:
        """An upload of this device; one that is complete is finished before.

        Raises:
            UploadGone: unknown, expired, or another device's.
            FirstRayError: as :meth:`finish`.
        """
        if len(id) == 64:
            if (held := self._held(device, id)) is None:
                raise UploadGone
            return held
        row = self._own(device, id)
        upload = _upload(row, self.spool.length(id))
        if upload.complete:
            self.finish(device, upload)
        return upload

    def finish(self, device: UUID, upload: Upload) -> None:
        """All bytes have come: take them for the image if they are.

        Raises:
            FirstRayError: ``sha256_mismatch`` (the upload is gone then), ``device_revoked``, ``image_store_full``,
                ``image_store_failing`` (the bytes stay in the spool then).
        """
        try:
            self._finish(device, upload)
        except UploadGone:
            # Another request of the device may have done it meanwhile.
            if self._held(device, upload.sha256) is None:
                raise

    def _finish(self, device: UUID, upload: Upload) -> None:
        with self.spool.locked(upload.id):
            if (length := self.spool.length(upload.id)) != upload.size:
                raise OffsetWrong(length)  # another request has taken a damaged piece back
            if self.spool.sha256(upload.id) != upload.sha256:
                self._forget(upload.id)
                raise FirstRayError(
                    "sha256_mismatch", "The bytes that came are not those announced.", "Send the image again."
                )
            with self._hospital.images.guarded(upload.sha256):
                self._hospital.images.put(self.spool.path(upload.id), upload.sha256)
                self._database.write(lambda session: self._keep(session, device, upload.id))
            self.spool.remove(upload.id)

    def stop(self, device: UUID, id: str) -> None:
        """Forget an upload (tus 1.0, "Termination"). Raises UploadGone."""
        self._own(device, id)
        self._forget(id)

    def receipt(self, device: UUID, sha256: str) -> Receipt | None:
        """Proof that these bytes are held; None where they are not, or not for this device."""
        held = self._held(device, sha256)
        if held is None:
            return None
        with self._database.reading() as session:
            image = session.get(ImageRow, sha256)
        if image is None:
            return None
        return self._hospital.receipts.sign(device, HeldImage(sha256=sha256, size=image.size), image.stored_at)

    def sweep(self) -> int:
        """Forget uploads whose time is over, and files that no upload knows; gives how many files."""
        with self._database.writing() as session:
            session.execute(delete(UploadRow).where(col(UploadRow.expires_at) <= self._now()))
        old = self.spool.old(ORPHAN_SECONDS)
        with self._database.reading() as session:
            known = set(session.exec(select(UploadRow.id)).all())
        orphans = [id for id in old if id not in known]
        for id in orphans:
            self.spool.remove(id)
        return len(orphans)

    def _check_radiograph(self, session: Session, device: UUID, id: UUID) -> None:
        """Images come after their records: what nobody announced is not taken."""
        radiograph = session.get(RadiographRow, id)
        if radiograph is None:
            raise FirstRayError(
                "radiograph_unknown",
                "The record of this radiograph has not come yet.",
                "Send the record first; the image is tried again by itself.",
            )
        if radiograph.device != device:
            raise FirstRayError("not_allowed", "The radiograph is another device's.", "Nothing is to be done.")
        if radiograph.deleted is not None or radiograph.purged_at is not None:
            raise FirstRayError("radiograph_deleted", "The radiograph was deleted.", "Nothing is to be done.")

    def _held(self, device: UUID, sha256: str) -> Upload | None:
        """A complete upload where the image is held and this device has delivered it, or names it in its records."""
        with self._database.reading() as session:
            image = session.get(ImageRow, sha256)
            if image is None:
                return None
            delivered = session.get(ImageDeliveryRow, (sha256, device)) is not None
            if not delivered and not _announced(session, device, sha256):
                return None
        if self._hospital.images.size(sha256) != image.size:
            _log.error("an image is lost from the store, the device is asked for it again: %s", sha256)
            return None
        if not delivered:
            self._database.write(lambda session: self._deliver(session, device, sha256))
        return Upload(sha256, sha256, image.size, image.size)

    def _row(self, session: Session, device: UUID, image: ImageMetadata, size: int) -> UploadRow:
        # The device's row is the lock that keeps two requests from exceeding its limits together.
        refuse_revoked(session.exec(locked(session, select(DeviceRow).where(col(DeviceRow.id) == device))).one())
        now = self._now()
        session.execute(delete(UploadRow).where(col(UploadRow.device) == device, col(UploadRow.expires_at) <= now))
        begun = select(UploadRow).where(
            col(UploadRow.device) == device, col(UploadRow.sha256) == image.sha256, col(UploadRow.size) == size
        )
        if (row := session.exec(begun).first()) is not None:
            return row
        count, total = session.exec(
            select(func.count(), func.coalesce(func.sum(UploadRow.size), 0)).where(col(UploadRow.device) == device)
        ).one()
        if count >= MOST_OPEN or total + size > MOST_OPEN_BYTES:
            raise FirstRayError(
                "too_many_uploads", "The device has begun too many uploads.", "Finish or stop some of them first."
            )
        row = UploadRow(
            id=secrets.token_hex(16),
            device=device,
            radiograph=image.radiograph,
            kind=image.kind.value,
            sha256=image.sha256,
            size=size,
            made_at=now,
            expires_at=now + LIFETIME,
        )
        session.add(row)
        return row

    def _own(self, device: UUID, id: str) -> UploadRow:
        with self._database.reading() as session:
            row = session.get(UploadRow, id)
        if row is None or row.device != device or row.expires_at <= self._now():
            raise UploadGone
        return row

    def _forget(self, id: str) -> None:
        with self._database.writing() as session:
            session.execute(delete(UploadRow).where(col(UploadRow.id) == id))
        self.spool.remove(id)

    def _keep(self, session: Session, device: UUID, id: str) -> None:
        """Note that the image is held; runs its hooks."""
        refuse_revoked(session.exec(locked(session, select(DeviceRow).where(col(DeviceRow.id) == device))).one())
        row = session.get(UploadRow, id)
        if row is None:
            raise UploadGone
        image = session.get(ImageRow, row.sha256)
        if image is None:
            image = ImageRow(sha256=row.sha256, kind=row.kind, size=row.size, stored_at=self._now())
        elif row.kind == ImageKind.ORIGINAL:
            image.kind = row.kind
        session.add(image)
        self._deliver(session, device, row.sha256)
        session.delete(row)
        session.flush()
        if row.kind == ImageKind.ORIGINAL:  # not only the first time: the bytes may have been lost meanwhile
            for hook in self._hospital.images.on_original:
                hook(session, row.sha256)

    def _deliver(self, session: Session, device: UUID, sha256: str) -> None:
        if session.get(ImageDeliveryRow, (sha256, device)) is None:
            session.add(ImageDeliveryRow(sha256=sha256, device=device, at=self._now()))
        films = select(RadiographRow.encounter).where(_named(sha256), col(RadiographRow.encounter).is_not(None))
        runs = session.exec(films.distinct()).all()
        publish(session, BOARD, *(run_of(run) for run in runs if run is not None))


def _announced(session: Session, device: UUID, sha256: str) -> bool:
    """Whether a record of this device, not deleted, names the image: who knows its SHA-256 had its bytes."""
    own = col(RadiographRow.device) == device, col(RadiographRow.deleted).is_(None), _named(sha256)
    return session.exec(select(RadiographRow.id).where(*own).limit(1)).first() is not None


def _named(sha256: str) -> Any:
    return or_(col(RadiographRow.sha256) == sha256, col(RadiographRow.preview_sha256) == sha256)


def _upload(row: UploadRow, offset: int) -> Upload:
    return Upload(row.id, row.sha256, row.size, offset, row.expires_at)
