"""Events stored durably with receipts: how many a second, and how long a batch takes at the rate that must be reached.

Two rounds with eight ambulances, batches of 50, compressed. First each sends one batch after the other as fast as it is
answered: the rate. Then batches come at the required rate, evenly, and each is timed from the moment at which it was
due, so that a server that falls behind cannot hide it. Every receipt is verified afterwards, and the events counted in
the database.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import numpy as np
from sqlalchemy import text
from sqlmodel import func, select

from benchmarks.fresh import Problem
from benchmarks.server.ambulance import BATCH, Ambulance, enrol_all
from benchmarks.server.place import MemoryWatch, Place, processor_s
from sync_server.db.tables import EventRow

AMBULANCES = 8
WARM_UP = 4
"""Batches of each ambulance that are not timed."""
BATCHES = 25
"""Of each ambulance, as fast as they are answered."""
PACED_S = 15.0
PATIENCE_S = 60.0


@dataclass
class _Load:
    """One ambulance with what it is to send and what it was answered."""

    ambulance: Ambulance
    first: list[bytes]
    fast: list[bytes]
    paced: list[bytes]
    answers: list[bytes] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    @classmethod
    def of(cls, ambulance: Ambulance, fast: int, paced: int) -> Self:
        """With all its batches written, in the order of its chain."""
        first, soon, later = ([ambulance.batch() for _ in range(count)] for count in (WARM_UP, fast, paced))
        return cls(ambulance, first, soon, later)

    async def warm_up(self, client: httpx.AsyncClient) -> None:
        """Until the server has its connections to the database, and has compiled its statements."""
        for batch in self.first:
            await self.send(client, batch)

    async def send(self, client: httpx.AsyncClient, batch: bytes, due: float | None = None) -> None:
        """Send; the time counts from ``due`` if that is given."""
        async with self.turn:  # a device sends one batch at a time
            began = due if due is not None else time.perf_counter()
            self.answers.append(await self.ambulance.send(client, batch))
            self.seconds.append(time.perf_counter() - began)


def measure(folder: Path, database: str | None, rate: float, quick: bool = False) -> dict[str, Any]:
    """Events a second, and the times of batches at ``rate`` events a second; raises Problem where one is lost."""
    place = Place.new(folder, database)
    with place.served() as server, MemoryWatch(server.process.pid) as memory:
        _check_durable(place)
        figures = asyncio.run(
            _measure(place, server.process.pid, rate, 3 if quick else BATCHES, 3.0 if quick else PACED_S)
        )
    return {**figures, "server_memory_mb": memory.peak_mb}


async def _measure(place: Place, server: int, rate: float, fast: int, paced_s: float) -> dict[str, Any]:
    paced = max(1, round(rate * paced_s / BATCH / AMBULANCES))
    async with httpx.AsyncClient(base_url=place.url, timeout=PATIENCE_S, trust_env=False) as client:
        ambulances = [Ambulance() for _ in range(AMBULANCES)]
        await enrol_all(place, client, ambulances)
        loads = [_Load.of(one, fast, paced) for one in ambulances]
        await asyncio.gather(*(load.warm_up(client) for load in loads))
        together = await _as_fast_as_possible(client, server, loads)
        at_rate = await _evenly(client, loads, rate)
    for load in loads:
        for answer in load.answers:
            load.ambulance.check(answer)
    sent = BATCH * AMBULANCES * (WARM_UP + fast + paced)
    if (held := _held(place)) != sent:
        raise Problem(f"failed: {sent} events were sent, the database holds {held}")
    return {"events": sent, "ambulances": AMBULANCES, **together, "rate": rate, **at_rate}


async def _as_fast_as_possible(client: httpx.AsyncClient, server: int, loads: list[_Load]) -> dict[str, Any]:
    async def all_of(load: _Load) -> None:
        for batch in load.fast:
            await load.send(client, batch)

    for load in loads:
        load.seconds.clear()
    began, spent, own = time.perf_counter(), processor_s(server), time.process_time()
    await asyncio.gather(*(all_of(load) for load in loads))
    seconds, spent, own = time.perf_counter() - began, processor_s(server) - spent, time.process_time() - own
    times = [one for load in loads for one in load.seconds]
    return {
        "events_per_s": len(times) * BATCH / seconds,
        "saturated_ms": [one * 1000 for one in times],
        "server_processor_ms_a_batch": spent / len(times) * 1000,
        "client_processor_ms_a_batch": own / len(times) * 1000,
    }


async def _evenly(client: httpx.AsyncClient, loads: list[_Load], rate: float) -> dict[str, Any]:
    queue = [(load, load.paced[turn]) for turn in range(len(loads[0].paced)) for load in loads]
    for load in loads:
        load.seconds.clear()
    began = time.perf_counter()
    sending = []
    for number, (load, batch) in enumerate(queue):
        due = began + number * BATCH / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        sending.append(asyncio.create_task(load.send(client, batch, due)))
    await asyncio.gather(*sending)
    times = [one * 1000 for load in loads for one in load.seconds]
    return {"batch_ms": times, "batch_p95_ms": float(np.quantile(times, 0.95))}


def _held(place: Place) -> int:
    with place.opened() as hospital, hospital.database.reading() as session:
        return session.exec(select(func.count()).select_from(EventRow)).one()


def _check_durable(place: Place) -> None:
    """A commit waits for the disk, or the figures say nothing."""
    with place.opened() as hospital, hospital.database.writing() as session:
        if hospital.database.sqlite:
            right = session.execute(text("PRAGMA synchronous")).scalar_one() >= 2  # FULL
        else:
            asked = (session.execute(text(f"SHOW {name}")).scalar_one() for name in ("fsync", "synchronous_commit"))
            right = all(value == "on" for value in asked)
    if not right:
        raise Problem("failed: the database does not wait for the disk")
