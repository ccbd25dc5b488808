"""Radiographs as screens want them: with their latest reading, what the hospital says, and how far they are sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter
from sqlmodel import Session, col, select

from edge_app.store import _delivery
from edge_app.store._columns import visible
from edge_app.store.tables import DiagnosisRow, EncounterRow, ImageRow, InboxRow, RadiographRow
from edge_app.store.views import Film, PastReading
from shared.hospital import ConfirmedReading, Content, ServerDiagnosis
from shared.records import DiagnosisFields, RadiographFields

CONTENT: TypeAdapter[Content] = TypeAdapter(Content)


def film(session: Session, id: UUID) -> Film:
    """One; raises ``record_unknown``."""
    return _views(session, [visible(session, RadiographRow, id)])[0]


def waiting(session: Session) -> list[Film]:
    """Of no run, oldest first."""
    return _where(session, col(RadiographRow.encounter).is_(None))


def unread(session: Session) -> list[Film]:
    """Not read yet, oldest first."""
    return _where(session, col(RadiographRow.diagnosis).is_(None))


def of_run(session: Session, run: UUID) -> list[Film]:
    """Latest first."""
    return _where(session, col(RadiographRow.encounter) == run)[::-1]


def of_patient(session: Session, patient: UUID) -> list[Film]:
    """Of all runs of a patient, latest first."""
    runs = select(EncounterRow.id).where(col(EncounterRow.patient) == patient, col(EncounterRow.hidden).is_(None))
    return _where(session, col(RadiographRow.encounter).in_(runs))[::-1]


def previous_diagnoses(session: Session, film: UUID) -> list[PastReading]:
    """Earlier readings, oldest first."""
    latest = visible(session, RadiographRow, film).diagnosis
    rows = select(DiagnosisRow).where(col(DiagnosisRow.radiograph) == film, col(DiagnosisRow.id) != latest)
    ordered = rows.order_by(col(DiagnosisRow.made_at), col(DiagnosisRow.id))
    return [PastReading(row.id, _reading(row)) for row in session.exec(ordered)]


def picture_of(session: Session, film: UUID, diagnosis: UUID | None) -> ImageRow | None:
    """The display picture of a reading, the latest by default."""
    latest = visible(session, RadiographRow, film).diagnosis
    wanted = diagnosis or latest
    return session.exec(
        select(ImageRow).where(
            col(ImageRow.radiograph) == film, col(ImageRow.kind) == "picture", col(ImageRow.diagnosis) == wanted
        )
    ).first()


def _where(session: Session, condition: Any) -> list[Film]:
    chosen = select(RadiographRow).where(condition, col(RadiographRow.hidden).is_(None))
    ordered = chosen.order_by(col(RadiographRow.received_at), col(RadiographRow.id))
    return _views(session, session.exec(ordered).all())


def _views(session: Session, rows: Sequence[RadiographRow]) -> list[Film]:
    if not rows:
        return []
    ids = [row.id for row in rows]
    latest = [row.diagnosis for row in rows if row.diagnosis]
    readings = {row.id: row for row in session.exec(select(DiagnosisRow).where(col(DiagnosisRow.id).in_(latest)))}
    pictured = set(session.exec(select(ImageRow.diagnosis).where(col(ImageRow.diagnosis).in_(latest))))
    delivery = _delivery.of_films(session, ids)
    said, news = _said(session, ids)
    views = []
    for row in rows:
        fields = RadiographFields.model_validate_json(row.content)
        reading = _reading(readings[row.diagnosis]) if row.diagnosis else None
        previewed = fields.preview_sha256 is not None or not reading  # one may still be made
        server, confirmed = (said.get((row.id, kind)) for kind in ("server_diagnosis", "confirmed_reading"))
        views.append(
            Film(
                id=row.id,
                run=row.encounter,
                sha256=row.sha256,
                size=fields.size or 0,
                received_at=row.received_at,
                source=fields.source or "",
                station=fields.station,
                acquired_at=fields.acquired_at,
                device_patient=fields.device_patient,
                diagnosis_id=row.diagnosis,
                made_at=reading.made_at if reading else None,
                diagnosis=reading.result if reading else None,
                error=reading.error if reading else None,
                overridden=reading.overridden if reading else False,
                picture=row.diagnosis in pictured,
                delivery={part: state for part, state in delivery[row.id].items() if part != "preview" or previewed},
                server=server if isinstance(server, ServerDiagnosis) else None,
                reading=confirmed if isinstance(confirmed, ConfirmedReading) else None,
                news=news[row.id],
            )
        )
    return views


def _reading(row: DiagnosisRow) -> DiagnosisFields:
    return DiagnosisFields.model_validate_json(row.content)


def _said(
    session: Session, films: Sequence[UUID]
) -> tuple[dict[tuple[UUID | None, str], Content], Counter[UUID | None]]:
    """The hospital's latest word of each kind on each radiograph, and how many the crew has not seen."""
    of_films = select(InboxRow).where(col(InboxRow.radiograph).in_(films)).order_by(col(InboxRow.id))
    items = session.exec(of_films).all()
    latest = {(item.radiograph, item.kind): CONTENT.validate_json(item.body) for item in items}
    return latest, Counter(item.radiograph for item in items if not item.seen)
