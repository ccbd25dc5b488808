"""What the ER board shows: runs under way, most urgent first; those that arrived lately, and those nobody has ended.

And radiographs of no run (:mod:`sync_server.domain.loose`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from sqlmodel import Session, col, select

from shared.findings import KEYS
from sync_server.db.tables import DeviceRow, HistoryRow, RadiographRow
from sync_server.domain import loose
from sync_server.domain.film_states import DEADLY, FilmState, latest_readings, standing
from sync_server.domain.vital_signs import Mark, marks

STALE: Final = timedelta(hours=24)
"""A run that began before this and has no end was most likely never ended."""
LATELY: Final = timedelta(hours=6)
"""How long a run stays on the board after its end."""
MOST: Final = 200
"""Runs of one kind on the board, at most."""


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
    loose: tuple[loose.Loose, ...] = ()
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
    return Board(entries(under_way[:MOST]), entries(arrived), entries(stale), loose.listed(session, now), more)


def films_of(session: Session, encounters: list[UUID]) -> dict[UUID, Films]:
    """Run -> its radiographs, by the latest reading of each; runs without any are left out."""
    if not encounters:
        return {}
    films = session.exec(
        select(RadiographRow.id, RadiographRow.encounter).where(
            col(RadiographRow.encounter).in_(encounters), *standing(RadiographRow)
        )
    ).all()
    latest = latest_readings(session, [film for film, _ in films])
    found: dict[UUID, Films] = {}
    for film, encounter in films:
        if encounter is not None:
            reading = latest.get(film)
            of_run = found.setdefault(encounter, Films())
            of_run.states[reading.state if reading else FilmState.WAITING] += 1
            of_run.open |= reading.open if reading else set()
    return found


def _devices(session: Session, ids: set[UUID]) -> dict[UUID, str]:
    if not ids:
        return {}
    return dict(session.exec(select(DeviceRow.id, DeviceRow.name).where(col(DeviceRow.id).in_(ids))).all())


def _entry(run: HistoryRow, device: str, films: Films) -> Entry:
    left_open = () if run.confirmed else tuple(key for key in DEADLY if key in films.open and key not in run.urgent)
    return Entry(
        run,
        device,
        marks(run.vital_signs, run.age),
        dict(films.states),
        left_open,
        immediate=any(key in DEADLY for key in run.urgent),
    )
