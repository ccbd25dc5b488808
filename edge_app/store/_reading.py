"""Radiographs coming in, and their readings."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from sqlalchemy import delete, update
from sqlmodel import Session, col, select

from edge_app.store._columns import visible
from edge_app.store._journal import Journal, Transaction
from edge_app.store.images import Images, Label
from edge_app.store.tables import FindingRow, ImageRow, RadiographRow, UploadRow
from shared.calibration import State
from shared.diagnosis import Diagnosis
from shared.hospital import ImageKind
from shared.identity import new_id
from shared.records import RecordType

if TYPE_CHECKING:
    from edge_app.capture.intake import Arrival


class StoreSpool:
    """A radiograph coming in (:class:`edge_app.capture.intake.Spool`): encrypted from its first byte on."""

    def __init__(self, journal: Journal, images: Images) -> None:
        self._journal = journal
        self._images = images
        self._draft = images.draft()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._draft.discard()

    def write(self, data: bytes) -> None:
        """Append bytes of the file. Raises ``disk_full``, ``disk_read_only``, ``disk_failed``."""
        self._draft.write(data)

    def commit(self, arrival: Arrival) -> UUID:
        """Make image, record and event durable, in this order; the same bytes again give the same id.

        Bytes that lie here already are written anew all the same: that mends a damaged file.

        Raises:
            StoreError: ``disk_full``, ``disk_read_only``, ``disk_failed``, ``store_damaged``; then nothing is kept.
        """
        with self._images.settled:
            with self._journal.database.reading() as session:
                known = _same_bytes(session, self._draft.sha256)
            try:
                label = self._draft.keep(
                    "original",
                    known or new_id(),
                    received_at=arrival.received_at,
                    source=arrival.source.value,
                    station=arrival.station,
                )
                return adopt(self._journal, self._images, label)
            except BaseException:
                destroy_unowned(self._journal, self._images, {self._images.name(self._draft.sha256, "original")})
                raise


def adopt(journal: Journal, images: Images, label: Label) -> UUID:
    """Make the record of an original that lies in its place, and queue it, unless there is one of the same bytes.

    Returns its id.
    """
    with journal.change() as transaction:
        if known := _same_bytes(transaction.session, label.sha256):
            _queue_mended(transaction, label.sha256)
            return known
        fields = label.model_dump(include={"sha256", "size", "received_at", "source", "station"})
        id = transaction.make(RecordType.RADIOGRAPH, fields, label.radiograph)
        _own(transaction.session, images, label)
        _queue(transaction.session, id, ImageKind.ORIGINAL, label.sha256, label.size)  # whether it is read or not
        return id


def _queue_mended(transaction: Transaction, sha256: str) -> None:
    """Send an image after all that could not be sent because it was damaged here: it has just come again."""
    upload = transaction.session.get(UploadRow, sha256)
    if upload is not None and (upload.state, upload.code) == ("refused", "image_damaged"):
        upload.state, upload.code, upload.message = "waiting", None, None
        transaction.session.add(upload)
        transaction.tell("film", upload.radiograph)
        transaction.tell("delivery")


def _same_bytes(session: Session, sha256: str) -> UUID | None:
    chosen = select(RadiographRow.id).where(col(RadiographRow.sha256) == sha256, col(RadiographRow.hidden).is_(None))
    return session.exec(chosen).first()


def _own(session: Session, images: Images, label: Label) -> None:
    session.add(
        ImageRow(
            radiograph=label.radiograph,
            kind=label.kind,
            diagnosis=label.diagnosis,
            sha256=label.sha256,
            size=label.size,
            name=images.name(label.sha256, label.kind),
        )
    )
    session.flush()


def add_reading(
    journal: Journal,
    images: Images,
    film: UUID,
    reading: Mapping[str, Any],
    radiograph: Mapping[str, Any],
    pictures: Mapping[str, bytes | None],
    new_run: bool,
) -> UUID:
    """See :meth:`edge_app.store.store.Store.add_reading`; ``pictures`` are the ``picture`` and the ``preview``."""
    id = new_id()
    with journal.database.reading() as session:
        visible(session, RadiographRow, film)
    with images.settled:
        labels: dict[str, Label] = {}
        spare: set[str] = set()
        try:
            for kind, data in pictures.items():
                if data:
                    labels[kind] = _kept(images, kind, film, id, data)
            with journal.change() as transaction:
                fields = dict(radiograph) | ({"encounter": _new_run(transaction, film)} if new_run else {})
                spare = _write_reading(transaction, images, (film, id), reading, fields, labels)
        except BaseException:
            spare = {images.name(label.sha256, kind) for kind, label in labels.items()}
            raise
        finally:
            destroy_unowned(journal, images, spare)
    return id


def _kept(images: Images, kind: str, film: UUID, diagnosis: UUID, data: bytes) -> Label:
    draft = images.draft()
    try:
        draft.write(data)
        return draft.keep(kind, film, diagnosis=diagnosis)
    finally:
        draft.discard()


def _new_run(transaction: Transaction, film: UUID) -> UUID:
    """A run of a patient nobody knows yet, which began when the radiograph came."""
    patient = transaction.make(RecordType.PATIENT, {})
    began = visible(transaction.session, RadiographRow, film).received_at
    return transaction.make(RecordType.ENCOUNTER, {"patient": patient, "started_at": began})


def _write_reading(
    transaction: Transaction,
    images: Images,
    ids: tuple[UUID, UUID],
    reading: Mapping[str, Any],
    radiograph: dict[str, Any],
    labels: Mapping[str, Label],
) -> set[str]:
    """Everything of one reading; returns names of files that may be needed no more."""
    (film, id), session = ids, transaction.session
    if preview := labels.get("preview"):
        radiograph |= {"preview_sha256": preview.sha256, "preview_size": preview.size}
    if visible(session, RadiographRow, film).encounter is not None:
        radiograph.pop("encounter", None)  # somebody has said it meanwhile
    transaction.put(RecordType.RADIOGRAPH, film, radiograph)
    made = {"radiograph": film, "made_at": datetime.now(UTC)} | dict(reading)
    transaction.make(RecordType.DIAGNOSIS, made, id)
    row = visible(session, RadiographRow, film)
    row.diagnosis = id
    session.add(row)
    result: Diagnosis | None = reading.get("result")
    _list_findings(session, row, result)
    urgent = bool(result and result.urgent)
    outdated = _drop_preview(session, film) if preview else set()
    for label in labels.values():
        _own(session, images, label)
    if preview:
        _queue(session, film, ImageKind.PREVIEW, preview.sha256, preview.size)
    session.execute(update(UploadRow).where(col(UploadRow.radiograph) == film).values(urgent=urgent))
    return outdated


def _list_findings(session: Session, film: RadiographRow, result: Diagnosis | None) -> None:
    session.execute(delete(FindingRow).where(col(FindingRow.radiograph) == film.id))
    for finding, state in (result.states if result else {}).items():
        if result and state is State.LIKELY:
            urgent = finding in result.urgent
            session.add(FindingRow(radiograph=film.id, finding=finding, encounter=film.encounter, urgent=urgent))
    session.flush()


def _drop_preview(session: Session, film: UUID) -> set[str]:
    """Forget the preview of an earlier reading; returns its file's name."""
    of_film = col(ImageRow.radiograph) == film, col(ImageRow.kind) == "preview"
    names = set(session.exec(select(ImageRow.name).where(*of_film)))
    session.execute(delete(ImageRow).where(*of_film))
    session.execute(delete(UploadRow).where(col(UploadRow.radiograph) == film, col(UploadRow.kind) == "preview"))
    return names


def _queue(session: Session, film: UUID, kind: ImageKind, sha256: str, size: int) -> None:
    row = session.get(UploadRow, sha256)
    if row is None:
        row = UploadRow(sha256=sha256, kind=kind.value, radiograph=film, size=size, queued_at=datetime.now(UTC))
    row.radiograph = film
    session.add(row)
    session.flush()


def destroy_unowned(journal: Journal, images: Images, names: set[str]) -> None:
    """Remove those of the files that no record owns."""
    if names:
        with images.settled, journal.database.reading() as session:
            owned = session.exec(select(ImageRow.name).where(col(ImageRow.name).in_(names))).all()
            images.destroy(names.difference(owned))
