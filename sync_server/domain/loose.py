"""Radiographs of no run: the crew has not said yet whose they are, but what they show may be urgent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlmodel import Session, col, select

from shared.calibration import State
from shared.errors import FirstRayError
from shared.findings import KEYS
from sync_server.db.tables import AgreementRow, DeviceRow, RadiographRow, ServerReadingRow
from sync_server.domain import run, urgency
from sync_server.domain.acts import is_live
from sync_server.domain.film_states import DEADLY, FilmState, LatestReading, in_state, latest_readings, standing
from sync_server.domain.run import Film

SHOWN: Final = timedelta(hours=24)
"""How long one stays on the board."""
MOST: Final = 200

GONE: Final = FirstRayError(
    "loose_film_unknown",
    "There is no such radiograph without a run, or it was deleted.",
    "Go back to the board; it shows what is there now.",
)


@dataclass(frozen=True, slots=True)
class Loose:
    """A radiograph of no run, on the board.

    Attributes:
        received_at: when the device stored it.
        device: name of the ambulance.
        state: what became of it there.
        urgent: urgent findings, the hospital's too where its reading differs in what matters.
        suspected: likely ones, these included.
        open: findings that may kill within minutes and that the reading leaves open.
        differs: the hospital's reading differs in what matters.
    """

    id: UUID
    received_at: datetime
    device: str
    state: FilmState
    urgent: tuple[str, ...]
    suspected: tuple[str, ...]
    open: tuple[str, ...]
    differs: bool

    @property
    def immediate(self) -> bool:
        """One of its findings may kill within minutes."""
        return any(key in DEADLY for key in self.urgent)


@dataclass(frozen=True, slots=True)
class OneLoose:
    """A radiograph with all that is known of it; ``encounter`` is the run that the crew has put it into since."""

    film: Film
    device: str
    encounter: UUID | None

    @property
    def version(self) -> tuple[object, ...]:
        """Changes when there is something new to show."""
        film = self.film
        server = (film.server.release, film.server.state) if film.server else None
        readings = tuple(reading.id for reading in film.readings)
        return self.encounter, film.original, film.preview, readings, server, film.agreement is None


def listed(session: Session, now: datetime) -> tuple[Loose, ...]:
    """Those that came within :data:`SHOWN`, the most urgent first, then the latest."""
    films = session.exec(
        select(RadiographRow)
        .where(col(RadiographRow.encounter).is_(None), col(RadiographRow.first_at) >= now - SHOWN)
        .where(*standing(RadiographRow))
        .order_by(col(RadiographRow.first_at).desc())
        .limit(MOST)
    ).all()
    latest = latest_readings(session, [film.id for film in films])
    second = _differing(session, [reading.id for reading in latest.values()])
    names = select(DeviceRow.id, DeviceRow.name).where(col(DeviceRow.id).in_({film.device for film in films}))
    devices = dict(session.exec(names).all())
    found = [_loose(film, latest.get(film.id), second, devices.get(film.device, "")) for film in films]
    return tuple(sorted(found, key=lambda film: (not film.immediate, not film.urgent)))


def read(session: Session, film: UUID) -> OneLoose:
    """One radiograph, with its run where it has one by now; raises FirstRayError ``loose_film_unknown``."""
    row = session.get(RadiographRow, film)
    if row is None or not is_live(row):
        raise GONE
    device = session.get(DeviceRow, row.device)
    return OneLoose(run.films(session, [row])[0], device.name if device else "", row.encounter)


def _loose(film: RadiographRow, reading: LatestReading | None, second: dict[UUID, Any], device: str) -> Loose:
    theirs = second.get(reading.id) if reading else None
    results = [reading.result if reading else {}, theirs or {}]
    likely = {key for result in results for key in in_state(result, State.LIKELY)}
    urgent = tuple(urgency.urgent(likely))
    return Loose(
        id=film.id,
        received_at=datetime.fromisoformat(film.content["received_at"]),
        device=device,
        state=reading.state if reading else FilmState.WAITING,
        urgent=urgent,
        suspected=tuple(key for key in KEYS if key in likely),
        open=tuple(key for key in DEADLY if reading and key in reading.open and key not in urgent),
        differs=theirs is not None,
    )


def _differing(session: Session, diagnoses: Sequence[UUID]) -> dict[UUID, Any]:
    """Diagnosis -> the hospital's result that differs from it in what matters; empty where it could not read."""
    statement = (
        select(AgreementRow.diagnosis, ServerReadingRow.result)
        .join(ServerReadingRow, col(ServerReadingRow.id) == col(AgreementRow.reading))
        .where(col(AgreementRow.diagnosis).in_(diagnoses), col(AgreementRow.significant).is_(True))
        .order_by(col(AgreementRow.at))
    )
    return {diagnosis: result or {} for diagnosis, result in session.exec(statement)} if diagnoses else {}
