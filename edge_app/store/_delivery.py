"""What of runs and radiographs the hospital provably holds."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Final
from uuid import UUID

from sqlalchemy import bindparam, text
from sqlmodel import Session

from edge_app.store.views import Delivery

_OF_RUNS: Final = """
    WITH wanted(run) AS (SELECT id FROM encounterrow WHERE id IN :ids),
    film(run, id) AS (SELECT run, r.id FROM wanted JOIN radiographrow r ON r.encounter = run WHERE r.hidden IS NULL),
    image(run, sha256) AS (
        SELECT run, i.sha256 FROM film JOIN imagerow i ON i.radiograph = film.id WHERE i.kind = 'preview'
        OR i.kind = 'original' AND NOT EXISTS (
            SELECT 1 FROM imagerow p WHERE p.radiograph = film.id AND p.kind = 'preview'))
"""
"""Runs, their radiographs, and the first image of each that the ER can look at."""

_RUNS: Final = text(
    _OF_RUNS  # noqa: S608
    + """, part(run, subject) AS (
        SELECT run, run FROM wanted
        UNION ALL SELECT run, e.patient FROM wanted JOIN encounterrow e ON e.id = run
        UNION ALL SELECT run, v.id FROM wanted JOIN vitalsignsrow v ON v.encounter = run
        UNION ALL SELECT run, id FROM film
        UNION ALL SELECT run, d.id FROM film JOIN diagnosisrow d ON d.radiograph = film.id)
    SELECT run, state, count(*) FROM part JOIN eventrow ON eventrow.subject = part.subject GROUP BY run, state
    UNION ALL
    SELECT run, state, count(*) FROM image JOIN uploadrow u ON u.sha256 = image.sha256 GROUP BY run, state
"""
).bindparams(bindparam("ids", expanding=True))

_SEEN: Final = text(
    _OF_RUNS  # noqa: S608
    + """, proof(run, receipt) AS (
        SELECT run, e.receipt FROM film JOIN eventrow e ON e.subject = film.id
        UNION ALL SELECT run, e.receipt FROM film JOIN diagnosisrow d ON d.radiograph = film.id
        JOIN eventrow e ON e.subject = d.id)
    SELECT run FROM wanted WHERE
        (SELECT max(julianday(json_extract(body, '$.at'))) FROM inboxrow
            WHERE encounter = run AND kind = 'acknowledgement')
        >= (SELECT coalesce(max(julianday(json_extract(receipt, '$.stored_at'))), 0) FROM proof
            WHERE proof.run = wanted.run)
"""
).bindparams(bindparam("ids", expanding=True))

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
    """Of records and previews of each run, and of originals without a preview."""
    counts: dict[UUID, Counter[str]] = defaultdict(Counter)
    for run, state, number in session.execute(_RUNS, {"ids": [id.hex for id in runs]}):
        counts[UUID(run)][state] += number
    return defaultdict(lambda: Delivery.WAITING, {run: _judged(states) for run, states in counts.items()})


def seen(session: Session, runs: Iterable[UUID]) -> set[UUID]:
    """Of the runs, those that someone in the ER has acknowledged since the hospital knows all films and readings.

    Both moments are the hospital's own: the acknowledgement's, and those in its receipts.
    """
    return {UUID(run) for run in session.execute(_SEEN, {"ids": [id.hex for id in runs]}).scalars()}


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
