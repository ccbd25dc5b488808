"""The hospital's own readings: which are asked for, and what is recorded when one is there.

A radiograph is read as the crew had it read: as it came, corrected, or in spite of the gate (:class:`Manner`), once a
manner and release. Whichever comes last, the device's diagnosis or the hospital's reading, makes the agreement record:
both lock the reading's row first, so that one of them sees the other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Self
from uuid import UUID

from sqlalchemy import update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col, select
from uuid6 import uuid7

from shared.correction import Correction
from shared.diagnosis import Diagnosis
from shared.hospital import ImageKind, ServerDiagnosis
from shared.records import RecordType
from sync_server.db.engine import dialect, locked
from sync_server.db.tables import (
    AgreementRow,
    DeviceRow,
    DiagnosisRow,
    EncounterRow,
    ImageRow,
    RadiographRow,
    ReleaseRow,
    ServerReadingRow,
)
from sync_server.domain import agreement, histories, inbox, releases
from sync_server.domain.changes import BOARD, publish, run_of

if TYPE_CHECKING:
    from sync_server.domain.effects import IntakeResult

TELL_WITHIN: Final = timedelta(hours=24)
"""The crew is told of a difference as long as its diagnosis is not older; the board and the history show it always."""
FRESH, ARCHIVE = 0, 1
"""Priorities: what arrives is read before what is read again."""
ANSWERED: Final = ("done", "failed")
LOST: Final = ("image_not_held", "image_damaged")
"""What keeps an image from being read until its bytes come again."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How a radiograph is read: turned or inverted first, and in spite of the gate's refusal.

    As text ``""`` where it is read as it came, else for example ``force+turn2+invert``.
    """

    forced: bool = False
    correction: Correction = field(default_factory=Correction)

    def __str__(self) -> str:
        turns = self.correction.quarter_turns
        parts = {"force": self.forced, f"turn{turns}": turns != 0, "invert": self.correction.invert}
        return "+".join(name for name, there in parts.items() if there)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The reverse of ``str``."""
        parts = text.split("+")
        turns = next((int(part[4:]) for part in parts if part.startswith("turn")), 0)
        return cls("force" in parts, Correction(quarter_turns=turns, invert="invert" in parts))

    @classmethod
    def of(cls, diagnosis: dict[str, Any]) -> Self:
        """How the device had it read: from the content of a diagnosis."""
        correction = (diagnosis.get("result") or {}).get("correction") or {}
        return cls(bool(diagnosis.get("overridden")), Correction.model_validate(correction))


def ask(session: Session, sha256: str, release: str, manners: Iterable[str], priority: int = FRESH) -> int:
    """Have an image read by a release, each manner once, whoever asks how often; gives how many are new."""
    now = datetime.now(UTC)
    rows = [
        {
            "id": uuid7(),
            "sha256": sha256,
            "release": release,
            "manner": manner,
            "precision": "fp32",
            "state": "waiting",
            "priority": priority,
            "tries": 0,
            "asked_at": now,
            "due_at": now,
        }
        for manner in sorted(set(manners))
    ]
    if not rows:
        return 0
    insert = postgresql.insert if dialect(session) == "postgresql" else sqlite.insert
    key = ["sha256", "release", "manner"]
    statement = insert(ServerReadingRow).values(rows).on_conflict_do_nothing(index_elements=key)
    return len(session.execute(statement.returning(ServerReadingRow.id)).all())  # type: ignore[call-overload]


def original_held(session: Session, sha256: str) -> None:
    """An original's bytes were delivered: have them read, also where they were asked for and lost meanwhile.

    In the transaction that notes them. A try for the lost bytes that is just under way counts no more.
    """
    _ask_current(session, sha256)
    row = ServerReadingRow
    lost = col(row.sha256) == sha256, col(row.state).in_(("waiting", "poison")), col(row.error).in_(LOST)
    session.execute(update(row).where(*lost).values(**_anew()))


def _ask_current(session: Session, sha256: str) -> None:
    """Have an original read by the release that the hospital reads with, if there is one."""
    if (release := releases.current(session, releases.SERVER)) is not None:
        ask(session, sha256, release, _manners(session, sha256))


def events_came(session: Session, result: IntakeResult) -> None:
    """A device's events were stored: compare the films they concern with what the hospital read, ask for the rest."""
    films = result.touched.get(RecordType.RADIOGRAPH, set())
    diagnoses = result.touched.get(RecordType.DIAGNOSIS, set())
    if not films and not diagnoses:
        return
    diagnosed = select(DiagnosisRow.radiograph).where(col(DiagnosisRow.id).in_(diagnoses))
    held = (
        select(RadiographRow.sha256)
        .join(ImageRow, col(ImageRow.sha256) == col(RadiographRow.sha256))
        .where(
            ImageRow.kind == ImageKind.ORIGINAL, col(RadiographRow.id).in_(films) | col(RadiographRow.id).in_(diagnosed)
        )
    )
    for sha256 in sorted({found for found in session.exec(held) if found is not None}):
        _ask_current(session, sha256)
        readings = select(ServerReadingRow).where(ServerReadingRow.sha256 == sha256).order_by(col(ServerReadingRow.id))
        for reading in session.exec(locked(session, readings)).all():
            if reading.state in ANSWERED:
                record_agreements(session, reading)


def unread(session: Session) -> list[str]:
    """Originals that nobody has ever asked to be read, as when the hospital had no release yet."""
    asked = select(ServerReadingRow.id).where(ServerReadingRow.sha256 == ImageRow.sha256).exists()
    statement = select(ImageRow.sha256).where(ImageRow.kind == ImageKind.ORIGINAL, ~asked)
    return list(session.exec(statement.order_by(col(ImageRow.stored_at))))


def archived(session: Session, since: datetime) -> list[str]:
    """Originals that came since then, oldest first; without what was deleted, by a crew or by the hospital."""
    statement = select(ImageRow.sha256).where(
        ImageRow.kind == ImageKind.ORIGINAL, col(ImageRow.stored_at) >= since, ~_deleted(col(ImageRow.sha256))
    )
    return list(session.exec(statement.order_by(col(ImageRow.stored_at), col(ImageRow.sha256))))


def read_again(session: Session, release: str, images: Collection[str]) -> int:
    """Have images, as far as they still stand, read by another release; gives how many readings are new."""
    standing = select(ImageRow.sha256).where(col(ImageRow.sha256).in_(images), ~_deleted(col(ImageRow.sha256)))
    originals = session.exec(standing.order_by(col(ImageRow.stored_at), col(ImageRow.sha256))).all()
    return sum(ask(session, sha256, release, _manners(session, sha256), ARCHIVE) for sha256 in originals)


def _deleted(sha256: Any) -> Any:
    """SQL: there are radiographs of these bytes, and each of them or its run was deleted."""
    film, run = RadiographRow, EncounterRow
    named = select(film.id).where(film.sha256 == sha256)
    standing = named.outerjoin(run, col(run.id) == col(film.encounter)).where(
        *(
            col(row.deleted).is_(None) & col(row.hidden_at).is_(None) & col(row.purged_at).is_(None)
            for row in (film, run)
        )
    )
    return named.exists() & ~standing.exists()


def try_again(session: Session, reading: UUID) -> bool:
    """Have a reading that was set aside tried again, as after a repair; False where it is not set aside."""
    aside = col(ServerReadingRow.id) == reading, col(ServerReadingRow.state) == "poison"
    changed = session.execute(
        update(ServerReadingRow).where(*aside).values(**_anew()).returning(col(ServerReadingRow.id))
    )
    return changed.first() is not None


def _anew() -> dict[str, Any]:
    """Values of a reading that begins from the start."""
    now = datetime.now(UTC)
    return {"state": "waiting", "tries": 0, "due_at": now, "done_at": None, "error": None, "worker": None}


def lock_devices(session: Session, sha256: str) -> None:
    """Lock the devices whose radiograph this is, before the reading: the order of :mod:`sync_server.db.engine`."""
    named = select(RadiographRow.device).where(RadiographRow.sha256 == sha256)
    session.exec(locked(session, select(DeviceRow.id).where(col(DeviceRow.id).in_(named)).order_by(col(DeviceRow.id))))


def record_agreements(session: Session, reading: ServerReadingRow) -> int:
    """Compare a reading that is there with all diagnoses made in its manner; gives how many records are new.

    A significant difference goes to the crew, once a radiograph. The caller has locked the reading's row.
    """
    recorded = set(session.exec(select(AgreementRow.diagnosis).where(AgreementRow.reading == reading.id)))
    pairs = [
        (diagnosis, film)
        for diagnosis, film in _diagnoses(session, reading.sha256)
        if diagnosis.id not in recorded and str(Manner.of(diagnosis.content)) == reading.manner
    ]
    hospital = _outcome(reading.result, reading.error)
    for diagnosis, film in pairs:
        device = _outcome(diagnosis.content.get("result"), diagnosis.content.get("error"))
        limits = _thresholds(session, device.result), _thresholds(session, hospital.result)
        found = agreement.compare(device, hospital, limits)
        if found.significant and hospital.result is not None:
            _tell_crew(session, reading.id, diagnosis, film, hospital.result)
        session.add(
            AgreementRow(
                diagnosis=diagnosis.id,
                reading=reading.id,
                radiograph=film.id,
                changes=found.model_dump(mode="json"),
                significant=found.significant,
                at=datetime.now(UTC),
            )
        )
        session.flush()
    _show(session, reading.sha256)
    return len(pairs)


def _show(session: Session, sha256: str) -> None:
    """Have boards and pages show what is new of the films that have these bytes."""
    films = session.exec(select(RadiographRow.encounter).where(RadiographRow.sha256 == sha256)).all()
    runs = {run for run in films if run is not None}
    if runs:
        histories.refresh(session, runs)
    if films:
        publish(session, BOARD, *sorted(run_of(run) for run in runs))


def _tell_crew(
    session: Session,
    reading: UUID,
    diagnosis: DiagnosisRow,
    film: RadiographRow,
    result: Diagnosis,
) -> None:
    now = datetime.now(UTC)
    gone = film.deleted is not None or film.hidden_at is not None or diagnosis.deleted is not None
    told = select(AgreementRow.diagnosis).where(
        AgreementRow.reading == reading, AgreementRow.radiograph == film.id, col(AgreementRow.significant)
    )
    if gone or now - diagnosis.first_at > TELL_WITHIN or session.exec(told).first() is not None:
        return
    content = ServerDiagnosis(encounter=film.encounter, radiograph=film.id, result=result, at=now)
    inbox.say(session, film.device, content)


def _diagnoses(session: Session, sha256: str) -> list[tuple[DiagnosisRow, RadiographRow]]:
    """All diagnoses of the films that have these bytes, and the films."""
    statement = (
        select(DiagnosisRow, RadiographRow)
        .join(RadiographRow, col(RadiographRow.id) == col(DiagnosisRow.radiograph))
        .where(RadiographRow.sha256 == sha256, col(DiagnosisRow.purged_at).is_(None))
        .order_by(col(DiagnosisRow.first_at), col(DiagnosisRow.id))
    )
    return list(session.exec(statement).all())


def _manners(session: Session, sha256: str) -> set[str]:
    """How the crews had these bytes read; as they came where nobody has said."""
    return {str(Manner.of(diagnosis.content)) for diagnosis, _ in _diagnoses(session, sha256)} or {""}


def _outcome(result: dict[str, Any] | None, error: str | None) -> agreement.Outcome:
    return agreement.Outcome(result=None if result is None else Diagnosis.model_validate(result), error=error)


def _thresholds(session: Session, result: Diagnosis | None) -> agreement.Thresholds | None:
    """The thresholds that the states of a result follow from, where its release is known here."""
    row = session.get(ReleaseRow, result.release) if result is not None else None
    if result is None or row is None:
        return None
    return releases.thresholds(row, result.precision, result.runtime, result.prevalence)
