"""What the ER does with a run: acknowledge it, confirm a reading, send the crew a message.

Each is one transaction: the row, the item in the inbox of the device that made the run, the history, the audit log, and
the news to boards and pages that are open.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from pydantic import TypeAdapter, ValidationError
from sqlmodel import Session, col, select

from shared.errors import FirstRayError
from shared.findings import KEYS
from shared.hospital import Acknowledgement, ConfirmedReading, ErMessage, Presence
from shared.identity import new_id
from shared.records import Prose
from sync_server.db.tables import (
    AcknowledgementRow,
    ConfirmedReadingRow,
    EncounterRow,
    HistoryRow,
    MessageRow,
    RadiographRow,
)
from sync_server.domain import audit, histories, inbox
from sync_server.domain.accounts import Person

if TYPE_CHECKING:
    from sync_server.hospital import Hospital

_TEXT: Final[TypeAdapter[str]] = TypeAdapter(Prose)

RUN_GONE: Final = FirstRayError(
    "run_unknown", "There is no such run, or it was deleted.", "Go back to the board; it shows what is there now."
)
FILM_GONE: Final = FirstRayError(
    "film_unknown", "There is no such radiograph in this run, or it was deleted.", "Load the run's page again."
)


def acknowledge(hospital: Hospital, person: Person, encounter: UUID) -> AcknowledgementRow:
    """Note that someone in the ER has looked at the run; the crew sees it.

    A second time by the same person changes nothing, unless a film or a reading has come since.

    Raises:
        FirstRayError: ``run_unknown``.
    """

    def act(session: Session) -> AcknowledgementRow:
        run = live_run(session, encounter)
        before = session.exec(
            select(AcknowledgementRow)
            .where(AcknowledgementRow.encounter == encounter, AcknowledgementRow.by == person.id)
            .order_by(col(AcknowledgementRow.at).desc())
        ).first()
        history = session.get(HistoryRow, encounter)
        if before is not None and (history is None or history.seen(before.at)):
            return before
        row = AcknowledgementRow(
            id=new_id(), encounter=encounter, by=person.id, by_name=person.name, at=datetime.now(UTC)
        )
        session.add(row)
        inbox.say(session, run.device, Acknowledgement(encounter=encounter, by=row.by_name, at=row.at))
        _follow(hospital, session, encounter)
        audit.record(session, person.actor, "run.acknowledged", str(encounter))
        return row

    return hospital.database.write(act)


def confirm(
    hospital: Hospital,
    person: Person,
    encounter: UUID,
    radiograph: UUID,
    findings: Mapping[str, Presence],
    text: str = "",
) -> ConfirmedReadingRow:
    """Keep a physician's reading of a radiograph; an earlier one stays as it is, this one stands beside it.

    Args:
        hospital, person: where, and who reads.
        encounter, radiograph: what is read.
        findings: key of the vocabulary -> what is said of it; those left out are not judged.
        text: anything else, at most 4,000 letters.

    Raises:
        FirstRayError: ``run_unknown``, ``film_unknown``, ``reading_empty``, ``finding_unknown`` or ``text_invalid``.
    """
    text = _checked(text)
    if any(key not in KEYS for key in findings):
        raise FirstRayError(
            "finding_unknown", "The reading names a finding that does not exist.", "Load the page again."
        )
    if not findings and not text:
        raise FirstRayError(
            "reading_empty", "The reading says nothing yet.", "Judge at least one finding, or write a text."
        )
    said = {key: Presence(findings[key]) for key in KEYS if key in findings}

    def act(session: Session) -> ConfirmedReadingRow:
        run = live_run(session, encounter)
        film = session.get(RadiographRow, radiograph)
        if film is None or film.encounter != encounter or not is_live(film):
            raise FILM_GONE
        row = ConfirmedReadingRow(
            id=new_id(),
            encounter=encounter,
            radiograph=radiograph,
            findings={key: value.value for key, value in said.items()},
            text=text,
            by=person.id,
            by_name=person.name,
            at=datetime.now(UTC),
        )
        session.add(row)
        inbox.say(
            session,
            run.device,
            ConfirmedReading(
                encounter=encounter, radiograph=radiograph, findings=said, text=text, by=row.by_name, at=row.at
            ),
        )
        _follow(hospital, session, encounter)
        audit.record(session, person.actor, "reading.confirmed", str(encounter), radiograph=str(radiograph))
        return row

    return hospital.database.write(act)


def send_message(hospital: Hospital, person: Person, encounter: UUID, text: str) -> MessageRow:
    """Send the crew a message about the run.

    Raises:
        FirstRayError: ``run_unknown``, ``message_empty`` or ``text_invalid``.
    """
    text = _checked(text)
    if not text:
        raise FirstRayError("message_empty", "The message is empty.", "Write something to the crew.")

    def act(session: Session) -> MessageRow:
        run = live_run(session, encounter)
        row = MessageRow(
            id=new_id(), encounter=encounter, text=text, by=person.id, by_name=person.name, at=datetime.now(UTC)
        )
        session.add(row)
        inbox.say(session, run.device, ErMessage(encounter=encounter, text=text, by=row.by_name, at=row.at))
        _follow(hospital, session, encounter)
        audit.record(session, person.actor, "message.sent", str(encounter))
        return row

    return hospital.database.write(act)


def live_run(session: Session, encounter: UUID) -> EncounterRow:
    """The run, if it is there and neither deleted nor hidden; raises FirstRayError ``run_unknown``."""
    row = session.get(EncounterRow, encounter)
    if row is None or not is_live(row):
        raise RUN_GONE
    return row


def is_live(row: Any) -> bool:
    """Whether a record is neither deleted by its device nor hidden by the hospital."""
    return row.deleted is None and row.hidden_at is None and row.purged_at is None


def _checked(text: str) -> str:
    try:
        return _TEXT.validate_python(text.replace("\r\n", "\n"))
    except ValidationError:
        raise FirstRayError(
            "text_invalid",
            "The text is longer than 4,000 letters or holds control characters.",
            "Shorten it, or type it anew.",
        ) from None


def _follow(hospital: Hospital, session: Session, encounter: UUID) -> None:
    session.flush()
    histories.refresh(session, [encounter])
    hospital.changes.publish(session, "board")
    hospital.changes.publish(session, f"run:{encounter}")
