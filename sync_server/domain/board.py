"""What the ER board shows: runs under way, most urgent first; those that arrived lately, and those nobody has ended.

And radiographs of no run: the crew has not said yet whose they are, but what they show may be urgent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from sqlmodel import Session, col, select

from shared.calibration import State
from shared.findings import BY_KEY, KEYS, Urgency
from sync_server.db.tables import DeviceRow, DiagnosisRow, HistoryRow, RadiographRow
from sync_server.domain.vital_signs import Mark, marks

STALE: Final = timedelta(hours=24)
"""A run that began before this and has no end was most likely never ended."""
LATELY: Final = timedelta(hours=6)
"""How long a run stays on the board after its end."""
MOST: Final = 200
"""Runs of one kind on the board, at most."""
_DEADLY: Final = tuple(key for key in KEYS if BY_KEY[key].urgency is Urgency.IMMEDIATE)


class FilmState(StrEnum):
    """What has become of a radiograph in the ambulance."""

    WAITING = "waiting"
    """Not read yet."""
    UNREADABLE = "unreadable"
    """The file could not be read."""
    REFUSED = "refused"
    """The quality gate refused it."""
    READ = "read"


@dataclass(frozen=True, slots=True)
class Entry:
    """One run on the board.

    Attributes:
        run: as the lists know it.
        device: name of the ambulance.
        marks: of vital signs that stand out.
        films: how many radiographs are in which state.
        open: findings that may kill within minutes and that the latest readings leave open.
        immediate: one of its findings may kill within minutes.
    """

    run: HistoryRow
    device: str
    marks: dict[str, Mark]
    films: dict[FilmState, int]
    open: tuple[str, ...]
    immediate: bool

    @property
    def suspected(self) -> tuple[str, ...]:
        """Likely findings of all its films, in the order of the vocabulary."""
        found = self.run.found.split(",")
        return tuple(key for key in KEYS if key in found)


@dataclass(frozen=True, slots=True)
class Loose:
    """A radiograph of no run.

    Attributes:
        received_at: when the device stored it.
        device: name of the ambulance.
        state: what became of it there.
        urgent: urgent findings; suspected: likely ones, these included; open: as in :class:`Entry`.
        immediate: as in :class:`Entry`.
    """

    id: UUID
    received_at: datetime
    device: str
    state: FilmState
    urgent: tuple[str, ...]
    suspected: tuple[str, ...]
    open: tuple[str, ...]
    immediate: bool


@dataclass(slots=True)
class Films:
    """What is known of a run's radiographs: how many are in which state, and what their readings leave open."""

    states: Counter[FilmState] = field(default_factory=Counter)
    open: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Board:
    """All of it; ``more`` says how many runs under way did not fit."""

    under_way: tuple[Entry, ...]
    arrived: tuple[Entry, ...]
    stale: tuple[Entry, ...]
    loose: tuple[Loose, ...] = ()
    more: int = 0


def read(session: Session, now: datetime | None = None) -> Board:
    """The board as it is now."""
    now = now or datetime.now(UTC)
    going = select(HistoryRow).where(col(HistoryRow.visible).is_(True), col(HistoryRow.under_way).is_(True))
    fresh = going.where(col(HistoryRow.started_at) >= now - STALE).order_by(
        col(HistoryRow.rank), col(HistoryRow.started_at)
    )
    under_way = session.exec(fresh.limit(MOST + 1)).all()
    stale = session.exec(
        going.where(col(HistoryRow.started_at) < now - STALE).order_by(col(HistoryRow.started_at).desc()).limit(MOST)
    ).all()
    arrived = session.exec(
        select(HistoryRow)
        .where(col(HistoryRow.visible).is_(True), col(HistoryRow.started_at) >= now - STALE - LATELY)
        .where(col(HistoryRow.under_way).is_(False), col(HistoryRow.ended_at) >= now - LATELY)
        .order_by(col(HistoryRow.ended_at).desc())
        .limit(MOST)
    ).all()
    shown = [*under_way[:MOST], *stale, *arrived]
    devices = _devices(session, {run.device for run in shown})
    films = films_of(session, [run.encounter for run in shown])

    def entries(runs: Iterable[HistoryRow]) -> tuple[Entry, ...]:
        return tuple(_entry(run, devices.get(run.device, ""), films.get(run.encounter, Films())) for run in runs)

    more = max(0, len(under_way) - MOST)
    return Board(entries(under_way[:MOST]), entries(arrived), entries(stale), _loose(session, now), more)


def films_of(session: Session, encounters: list[UUID]) -> dict[UUID, Films]:
    """Run -> its radiographs, by the latest reading of each; runs without any are left out."""
    if not encounters:
        return {}
    films = session.exec(
        select(RadiographRow.id, RadiographRow.encounter).where(
            col(RadiographRow.encounter).in_(encounters), *_live(RadiographRow)
        )
    ).all()
    latest = _latest(session, [film for film, _ in films])
    found: dict[UUID, Films] = {}
    for film, encounter in films:
        if encounter is not None:
            reading = latest.get(film)
            of_run = found.setdefault(encounter, Films())
            of_run.states[film_state(reading)] += 1
            of_run.open |= _left_open(reading)
    return found


def _loose(session: Session, now: datetime) -> tuple[Loose, ...]:
    """Radiographs of no run that came within :data:`STALE`, the most urgent first, then the latest."""
    films = session.exec(
        select(RadiographRow)
        .where(col(RadiographRow.encounter).is_(None), col(RadiographRow.first_at) >= now - STALE)
        .where(*_live(RadiographRow))
        .order_by(col(RadiographRow.first_at).desc())
        .limit(MOST)
    ).all()
    latest = _latest(session, [film.id for film in films])
    devices = _devices(session, {film.device for film in films})
    found = []
    for film in films:
        reading = latest.get(film.id)
        result = (reading or {}).get("result") or {}
        urgent = tuple(result.get("urgent") or ())
        states = result.get("states") or {}
        found.append(
            Loose(
                id=film.id,
                received_at=datetime.fromisoformat(film.content["received_at"]),
                device=devices.get(film.device, ""),
                state=film_state(reading),
                urgent=urgent,
                suspected=tuple(key for key in KEYS if states.get(key) == State.LIKELY.value),
                open=tuple(key for key in _DEADLY if key in _left_open(reading)),
                immediate=any(key in _DEADLY for key in urgent),
            )
        )
    return tuple(sorted(found, key=lambda film: (not film.immediate, not film.urgent)))


def _latest(session: Session, films: list[UUID]) -> dict[UUID, dict[str, Any]]:
    """Radiograph -> content of its latest reading."""
    latest: dict[UUID, dict[str, Any]] = {}
    readings = select(DiagnosisRow.radiograph, DiagnosisRow.content).where(
        col(DiagnosisRow.radiograph).in_(films), *_live(DiagnosisRow)
    )
    for radiograph, content in session.exec(readings) if films else ():
        if radiograph is not None and content.get("made_at", "") >= latest.get(radiograph, {}).get("made_at", ""):
            latest[radiograph] = dict(content)
    return latest


def film_state(reading: dict[str, Any] | None) -> FilmState:
    """State of a radiograph by the content of its latest reading; None where there is none."""
    if reading is None:
        return FilmState.WAITING
    result = reading.get("result")
    if result is None:
        return FilmState.UNREADABLE
    return FilmState.READ if result.get("probabilities") else FilmState.REFUSED


def _left_open(reading: dict[str, Any] | None) -> set[str]:
    """As ``Diagnosis.cannot_exclude`` has it."""
    states = ((reading or {}).get("result") or {}).get("states") or {}
    return {key for key in _DEADLY if states.get(key) in (State.UNCERTAIN.value, State.NOT_ASSESSED.value)}


def _live(table: Any) -> tuple[Any, ...]:
    return (
        col(table.deleted).is_(None),
        col(table.hidden_at).is_(None),
        col(table.purged_at).is_(None),
    )


def _devices(session: Session, ids: set[UUID]) -> dict[UUID, str]:
    if not ids:
        return {}
    return dict(session.exec(select(DeviceRow.id, DeviceRow.name).where(col(DeviceRow.id).in_(ids))).all())


def _entry(run: HistoryRow, device: str, films: Films) -> Entry:
    left_open = () if run.confirmed else tuple(key for key in _DEADLY if key in films.open and key not in run.urgent)
    return Entry(
        run,
        device,
        marks(run.vital_signs, run.age),
        dict(films.states),
        left_open,
        immediate=any(key in _DEADLY for key in run.urgent),
    )
