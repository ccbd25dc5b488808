"""What waits for the hospital, and what it has proven to hold: used by the sync."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import product
from typing import BinaryIO, Final
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import text, update
from sqlmodel import Session, col, select

from edge_app.store import _inbox, _settings
from edge_app.store._deleting import wipe_bodies
from edge_app.store._journal import Journal, Transaction
from edge_app.store._restating import lost_after, restate
from edge_app.store.errors import StoreError
from edge_app.store.images import Images
from edge_app.store.tables import ChainRow, EventRow, GraveRow, UploadRow
from edge_app.store.views import Upload
from shared.errors import FirstRayError
from shared.events import Event, Position
from shared.hospital import CLOCK_AHEAD, BatchAnswer, ImageKind, Inbox, Outcome, OutcomeStatus
from shared.receipts import HeldEvent, HeldImage, Receipt

_UPLOADS: Final = text("""
    SELECT u.sha256 FROM uploadrow u JOIN radiographrow r ON r.id = u.radiograph
    WHERE u.state = :state AND u.kind = :kind AND u.urgent = :urgent AND r.hidden IS NULL
    AND EXISTS (SELECT 1 FROM eventrow e WHERE e.subject = u.radiograph AND e.state = 'held')
    AND NOT EXISTS (SELECT 1 FROM eventrow e WHERE e.subject = u.radiograph AND e.state = 'waiting')
    ORDER BY u.queued_at LIMIT :limit
""")
_RANKS: Final = tuple(product(("waiting", "doubted"), (ImageKind.PREVIEW, ImageKind.ORIGINAL), (True, False)))
"""State, kind and urgency of images, what is sent first before the rest: each rank is one walk along an index."""


class Outbox:
    """The hospital's side of the store. Safe to use from several threads."""

    def __init__(self, journal: Journal, images: Images) -> None:
        self._journal = journal
        self._images = images

    @property
    def device(self) -> UUID:
        """Whose events these are."""
        return self._journal.device

    def next_events(self, limit: int = 500, most_bytes: int = 256_000) -> list[Event]:
        """The oldest events that the hospital has not answered: consecutive, of one chain, at least one if any.

        Args:
            limit: most events.
            most_bytes: most bytes of JSON, but one event always fits.
        """
        with self._journal.database.reading() as session:
            waiting = select(EventRow).where(col(EventRow.state) == "waiting").order_by(col(EventRow.id)).limit(limit)
            return _batch(session.exec(waiting).all(), most_bytes)

    def last_held(self) -> Event | None:
        """The latest event of the present chain that the hospital holds: sent again, it shows whether it still does.

        None where there is none, or its record was deleted since.
        """
        newest = select(ChainRow.chain).order_by(col(ChainRow.place).desc()).limit(1).scalar_subquery()
        held = col(EventRow.state) == "held", col(EventRow.chain) == newest, col(EventRow.body).is_not(None)
        with self._journal.database.reading() as session:
            row = session.exec(select(EventRow).where(*held).order_by(col(EventRow.id).desc()).limit(1)).first()
        return Event.model_validate_json(row.body) if row and row.body else None

    def lost_after(self, position: Position) -> None:
        """The hospital has lost what came after ``position``: it waits again, and every image is asked about again.

        Raises:
            StoreError: ``chain_forked`` where our event at ``position`` is another one; ``events_wiped`` where events
                after it were of records since deleted. Nothing is changed then.
        """
        lost_after(self._journal, position)

    def refused_for_clock(self) -> bool:
        """Whether the hospital refused events of the present chain because this device's clock was ahead."""
        newest = select(ChainRow.chain).order_by(col(ChainRow.place).desc()).limit(1).scalar_subquery()
        refused = col(EventRow.state) == "refused", col(EventRow.chain) == newest, col(EventRow.code) == CLOCK_AHEAD
        with self._journal.database.reading() as session:
            return session.exec(select(EventRow.id).where(*refused).limit(1)).first() is not None

    def record_answer(self, answer: BatchAnswer, chain: UUID, keys: Mapping[str, Ed25519PublicKey]) -> None:
        """Store the receipts, each verified, and what was refused.

        Raises:
            FirstRayError: ``receipt_forged``, ``receipt_key_unknown``, ``receipt_wrong`` (of another device or event):
                the first bad one, after the good ones were stored.
        """
        answered = [outcome for outcome in answer.outcomes if outcome.status is not OutcomeStatus.NOT_TAKEN]
        proven, problem = self._proven(answered, chain, keys)
        with self._journal.change() as transaction:
            rows = _numbered(transaction.session, chain, [outcome.number for outcome in answered])
            for outcome in answered:
                if (row := rows.get(outcome.number)) is not None and row.state != "moved":
                    _answer(row, outcome, proven.get(outcome.number))
                    transaction.session.add(row)
            transaction.session.flush()
            if rows:
                self._after_answers(transaction, [row.subject for row in rows.values() if row.subject], bool(proven))
        if problem:
            raise problem

    def next_uploads(self, kind: ImageKind | None = None, limit: int = 8) -> list[Upload]:
        """Images to send next: previews before originals, urgent ones first, then the oldest.

        Only those whose radiograph's events the hospital has all answered. Last come those in doubt: it held them once.
        """
        ids: list[str] = []
        with self._journal.database.reading() as session:
            for state, of_kind, urgent in _RANKS:
                if len(ids) < limit and kind in (None, of_kind):
                    rank = {"state": state, "kind": of_kind.value, "urgent": urgent, "limit": limit - len(ids)}
                    ids += session.execute(_UPLOADS, rank).scalars()
            rows = {row.sha256: row for row in session.exec(select(UploadRow).where(col(UploadRow.sha256).in_(ids)))}
        return [_upload(rows[sha256]) for sha256 in ids]

    def open_blob(self, sha256: str) -> BinaryIO:
        """The image's bytes, readable from any place, decrypted piece by piece; the caller closes it.

        Raises:
            StoreError: ``record_unknown`` where it no longer waits, ``image_damaged``.
        """
        with self._journal.database.reading() as session:
            row = session.get(UploadRow, sha256)
        if row is None:
            raise StoreError("record_unknown")
        return self._images.stream(self._images.name(sha256, row.kind))

    def upload_moved(self, sha256: str, url: str | None, offset: int) -> None:
        """The upload lies at ``url`` and the hospital has ``offset`` bytes; None and 0 to begin anew."""
        with self._journal.change() as transaction:
            if row := transaction.session.get(UploadRow, sha256):
                tries = 0 if offset > row.offset else row.tries
                row.url, row.offset, row.tries = url, offset, tries
                transaction.session.add(row)
                transaction.tell("delivery")

    def upload_failed(self, sha256: str) -> None:
        """A try failed; it stays queued."""
        with self._journal.change() as transaction:
            if row := transaction.session.get(UploadRow, sha256):
                row.tries += 1
                transaction.session.add(row)

    def upload_refused(self, sha256: str, code: str, message: str) -> None:
        """The hospital will not have it: shown, not tried again."""
        with self._journal.change() as transaction:
            row = transaction.session.get(UploadRow, sha256)
            if row is not None and row.state != "held":
                row.state, row.code, row.message = "refused", code, message
                transaction.session.add(row)
                transaction.tell("film", row.radiograph)
                transaction.tell("delivery")

    def upload_held(self, receipt: Receipt, keys: Mapping[str, Ed25519PublicKey]) -> None:
        """The hospital proves that it holds an image.

        Raises:
            FirstRayError: ``receipt_forged``, ``receipt_key_unknown``, ``receipt_wrong``.
        """
        receipt.verify(keys)
        if not isinstance(receipt.holds, HeldImage) or receipt.device != self.device:
            raise _wrong_receipt()
        with self._journal.change() as transaction:
            row = transaction.session.get(UploadRow, receipt.holds.sha256)
            if row is None:
                return
            if row.size != receipt.holds.size:
                raise _wrong_receipt()
            row.state, row.receipt, row.offset = "held", receipt.model_dump_json(), row.size
            row.code = row.message = None
            transaction.session.add(row)
            _settings.put(transaction.session, _settings.LAST_RECEIPT, datetime.now(UTC).isoformat())
            transaction.tell("film", row.radiograph)
            transaction.tell("delivery")

    def inbox_position(self) -> int:
        """Id of the last inbox item taken: what to ask after."""
        with self._journal.database.reading() as session:
            return _inbox.position(session)

    def take_inbox(self, inbox: Inbox) -> None:
        """Keep what the hospital said, in one transaction; taking it twice changes nothing.

        Revocations and release offers are not kept: act on them before calling this.
        """
        _inbox.take(self._journal, inbox)

    def fork(self, chain: UUID, detail: str) -> None:
        """The hospital holds other events under our numbers: go on in a new chain, with all it has not answered."""
        with self._journal.change() as transaction:
            session = transaction.session
            broken = session.exec(select(ChainRow).where(col(ChainRow.chain) == chain)).first()
            if broken is None:
                raise StoreError("record_unknown")
            unsent = col(EventRow.chain) == chain, col(EventRow.state) == "waiting"
            rows = session.exec(select(EventRow).where(*unsent).order_by(col(EventRow.number))).all()
            transaction.open_chain(Position(chain=chain, number=broken.number, hash=broken.hash), detail)
            for row in rows:
                if row.body is not None and row.kind != "open_chain":
                    transaction.append_again(Event.model_validate_json(row.body), row.type, row.subject)
            session.execute(update(EventRow).where(*unsent).values(state="moved", body=None))

    def restate(self, detail: str, *, clock_was_ahead: bool = False) -> None:
        """Say everything that exists again, in a new chain: for a hospital that has lost what was wiped here.

        Args:
            detail: why, for the status.
            clock_was_ahead: the hospital refused our stamps, and this device's clock is right now: those that lie in
                the future are made anew.
        """
        restate(self._journal, detail, clock_was_ahead)

    def _proven(
        self, outcomes: Sequence[Outcome], chain: UUID, keys: Mapping[str, Ed25519PublicKey]
    ) -> tuple[dict[int, Receipt], FirstRayError | None]:
        """Receipts that hold, by event number, and the first problem of those that do not."""
        with self._journal.database.reading() as session:
            hashes = {
                number: row.hash for number, row in _numbered(session, chain, [o.number for o in outcomes]).items()
            }
        proven, problem = {}, None
        for outcome in outcomes:
            if outcome.status is OutcomeStatus.STORED:
                try:
                    proven[outcome.number] = self._verified(outcome, chain, hashes.get(outcome.number), keys)
                except FirstRayError as found:
                    problem = problem or found
        return proven, problem

    def _verified(
        self, outcome: Outcome, chain: UUID, hash: str | None, keys: Mapping[str, Ed25519PublicKey]
    ) -> Receipt:
        receipt = outcome.receipt
        if receipt is None or hash is None:
            raise _wrong_receipt()
        receipt.verify(keys)
        if receipt.device != self.device or receipt.holds != HeldEvent(chain=chain, number=outcome.number, hash=hash):
            raise _wrong_receipt()
        return receipt

    def _after_answers(self, transaction: Transaction, subjects: list[UUID], any_held: bool) -> None:
        session = transaction.session
        deleted = session.exec(select(GraveRow.id).where(col(GraveRow.id).in_(subjects))).all()
        if deleted:
            wipe_bodies(session, deleted)
        if any_held:
            _settings.put(session, _settings.LAST_RECEIPT, datetime.now(UTC).isoformat())
        transaction.tell("delivery")


def _answer(row: EventRow, outcome: Outcome, receipt: Receipt | None) -> None:
    if receipt is not None:
        row.state, row.receipt, row.code, row.message = "held", receipt.model_dump_json(), None, None
    elif outcome.status is OutcomeStatus.REFUSED and row.state == "waiting":
        row.state, row.code, row.message = "refused", outcome.code or "refused", outcome.message


def _numbered(session: Session, chain: UUID, numbers: Sequence[int]) -> dict[int, EventRow]:
    chosen = select(EventRow).where(col(EventRow.chain) == chain, col(EventRow.number).in_(numbers))
    return {row.number: row for row in session.exec(chosen)}


def _batch(rows: Sequence[EventRow], most_bytes: int) -> list[Event]:
    """The first rows that follow each other in one chain, still have their body, and fit."""
    batch: list[EventRow] = []
    taken = 0
    for row in rows:
        follows = not batch or (row.chain == batch[-1].chain and row.number == batch[-1].number + 1)
        if row.body is None or not follows or (batch and taken + len(row.body.encode()) > most_bytes):
            break
        batch.append(row)
        taken += len(row.body.encode())
    return [Event.model_validate_json(row.body or "") for row in batch]


def _upload(row: UploadRow) -> Upload:
    return Upload(
        radiograph=row.radiograph,
        kind=ImageKind(row.kind),
        sha256=row.sha256,
        size=row.size,
        urgent=row.urgent,
        url=row.url,
        offset=row.offset,
        tries=row.tries,
        doubted=row.state == "doubted",
    )


def _wrong_receipt() -> FirstRayError:
    return FirstRayError(
        "receipt_wrong",
        "The hospital sent a receipt for something else than what was sent.",
        "Nothing is taken as delivered; it is sent again. Tell the hospital if this happens again.",
    )
