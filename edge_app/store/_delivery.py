"""What of runs and radiographs the hospital provably holds."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Final
from uuid import UUID

from sqlalchemy import bindparam, text
from sqlmodel import Session

from edge_app.store.views import Delivery

_RUNS: Final = text("""
    WITH wanted(run) AS (SELECT id FROM encounterrow WHERE id IN :ids),
    film(run, id) AS (SELECT run, r.id FROM wanted JOIN radiographrow r ON r.encounter = run),
    part(run, subject) AS (
        SELECT run, run FROM wanted
        UNION ALL SELECT run, e.patient FROM wanted JOIN encounterrow e ON e.id = run
        UNION ALL SELECT run, v.id FROM wanted JOIN vitalsignsrow v ON v.encounter = run
        UNION ALL SELECT run, id FROM film
        UNION ALL SELECT run, d.id FROM film JOIN diagnosisrow d ON d.radiograph = film.id)
    SELECT run, state, count(*) FROM part JOIN eventrow ON eventrow.subject = part.subject GROUP BY run, state
    UNION ALL
    SELECT run, state, count(*) FROM film JOIN imagerow i ON i.radiograph = film.id AND i.kind = 'preview'
    JOIN uploadrow u ON u.sha256 = i.sha256 GROUP BY run, state
""").bindparams(bindparam("ids", expanding=True))

_FILMS: Final = text("""
    WITH film(id) AS (SELECT id FROM radiographrow WHERE id IN :ids)
    SELECT film.id, 'record', state, count(*) FROM film JOIN eventrow ON subject = film.id GROUP BY film.id, state
    UNION ALL
    SELECT film.id, 'record', state, count(*) FROM film JOIN diagnosisrow d ON d.radiograph = film.id
    JOIN eventrow ON subject = d.id GROUP BY film.id, state
    UNION ALL
    SELECT film.id, u.kind, state, count(*) FROM film JOIN imagerow i ON i.radiograph = film.id
    JOIN uploadrow u ON u.sha256 = i.sha256 GROUP BY film.id, u.kind, state
""").bindparams(bindparam("ids", expanding=True))


def of_runs(session: Session, runs: Iterable[UUID]) -> dict[UUID, Delivery]:
    """Of records and previews of each run."""
    counts: dict[UUID, Counter[str]] = defaultdict(Counter)
    for run, state, number in session.execute(_RUNS, {"ids": [id.hex for id in runs]}):
        counts[UUID(run)][state] += number
    return defaultdict(lambda: Delivery.WAITING, {run: _judged(states) for run, states in counts.items()})


def of_films(session: Session, films: Iterable[UUID]) -> dict[UUID, dict[str, Delivery]]:
    """Of each radiograph: its ``record``, its ``preview`` and its ``original``."""
    films = tuple(films)
    counts: dict[UUID, dict[str, Counter[str]]] = {
        film: {"record": Counter(), "preview": Counter(), "original": Counter()} for film in films
    }
    for film, part, state, number in session.execute(_FILMS, {"ids": [id.hex for id in films]}):
        counts[UUID(film)][part][state] += number
    return {film: {part: _judged(states) for part, states in parts.items()} for film, parts in counts.items()}


def _judged(states: Mapping[str, int]) -> Delivery:
    if states.get("refused"):
        return Delivery.REFUSED
    if not states.get("held"):
        return Delivery.WAITING
    return Delivery.PARTLY if states.get("waiting") or states.get("doubted") else Delivery.HELD
