"""How soon a change is on every open board, with many of them.

    python -m benchmarks.server.board --boards 100 --changes 60

The server runs in a process of its own on SQLite, with 40 runs under way; the boards are HTTP streams as browsers hold
them. Measured from the moment the change is sent to the last byte of the new board at each of them, so the commit
itself is part of it: once for changes made in the server (a message from the ER), once for changes that another process
commits to the same database (an API process, a worker).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import httpx
import uvicorn

from benchmarks.machine import facts
from shared.events import OpenChain, Position, Put, next_event
from shared.hybrid_clock import HybridClock
from shared.identity import new_id
from shared.records import RecordType, changed_fields
from sync_server.app import make_app
from sync_server.db.tables import DeviceRow
from sync_server.domain import accounts, acts, intake
from sync_server.domain.accounts import Person, Role
from sync_server.domain.batches import parse
from sync_server.hospital import Hospital, open_hospital
from sync_server.settings import load_settings

PASSWORD = "fifteen quiet ambulances"
RUNS = 40


def fill(hospital: Hospital) -> list[UUID]:
    """An account, a device, and runs under way; gives their ids."""
    with hospital.database.writing() as session:
        accounts.create_user(session, "doctor", "Doctor", Role.ER, PASSWORD, "benchmark", "en")
        device = new_id()
        now = datetime.now(UTC)
        session.add(DeviceRow(id=device, name="Ambulance", jwk={}, enrolled_at=now, enrolled_by="benchmark"))
    clock, end, events, runs = HybridClock(device), Position(chain=new_id(), number=0), [], []

    def say(action: OpenChain | Put) -> None:
        nonlocal end
        event = next_event(device, end, datetime.now(UTC), clock.now(), action)
        end = event.position
        events.append(event.model_dump(mode="json"))

    def put(kind: RecordType, id: UUID, **fields: object) -> None:
        say(Put(type=kind, id=id, fields=changed_fields(kind, fields)))

    say(OpenChain())
    for number in range(RUNS):
        patient, run = new_id(), new_id()
        started = now - timedelta(minutes=number)
        put(RecordType.PATIENT, patient, name=f"Patient {number}", sex="male", estimated_age=60)
        put(RecordType.ENCOUNTER, run, patient=str(patient), started_at=started, chief_complaint="Dyspnoea")
        put(RecordType.VITAL_SIGNS, new_id(), encounter=str(run), taken_at=now, spo2=91, heart_rate=110, systolic=95)
        runs.append(run)
    intake.take(hospital, device, parse(json.dumps({"events": events}).encode()))
    return runs


async def board(client: httpx.AsyncClient, arrived: Callable[[float], None], ready: asyncio.Event) -> None:
    """One open board; tells when each drawing was complete."""
    async with client.stream("GET", "/board/live") as answer:
        answer.raise_for_status()
        within = False
        async for piece in answer.aiter_raw():
            within |= b"event: board" in piece
            if within and piece.endswith(b"\n\n"):
                within = False
                ready.set()
                arrived(time.monotonic())


@contextlib.asynccontextmanager
async def watched(url: str, boards: int) -> AsyncIterator[tuple[httpx.AsyncClient, list[list[float]]]]:
    """Open boards, and the moments at which each got something."""
    limits = httpx.Limits(max_connections=boards + 10)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=60) as client:
        entered = await client.post("/login", data={"login": "doctor", "password": PASSWORD})
        if entered.status_code != 303:
            raise RuntimeError(f"the log-in was refused: {entered.status_code}")
        arrivals: list[list[float]] = [[] for _ in range(boards)]
        ready = [asyncio.Event() for _ in range(boards)]
        tasks = [asyncio.create_task(board(client, arrivals[n].append, ready[n])) for n in range(boards)]
        await asyncio.wait_for(asyncio.gather(*(one.wait() for one in ready)), 60)
        yield client, arrivals
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def measure(url: str, boards: int, changes: int, runs: list[UUID], other: Hospital | None) -> dict[str, object]:
    """Change something every 400 ms and time its way to each board."""
    took: list[float] = []
    async with watched(url, boards) as (client, arrivals):
        page = (await client.get("/board", headers={"accept": "text/html"})).text
        found = re.search(r'name="csrf" value="([^"]+)"', page)
        if found is None:
            raise RuntimeError("the board's page has no token")
        for number in range(changes):
            await asyncio.sleep(0.4)
            before = [len(one) for one in arrivals]
            run = runs[number % len(runs)]
            begun = time.monotonic()
            if other is None:
                sent = await client.post(f"/runs/{run}/message", data={"csrf": found[1], "text": f"Change {number}"})
                if sent.status_code != 303:
                    raise RuntimeError(f"the message was refused: {sent.status_code}")
            else:
                await asyncio.to_thread(acts.send_message, other, _doctor(other), run, f"Change {number}")
            until = time.monotonic() + 10
            while any(len(one) == count for one, count in zip(arrivals, before, strict=True)):
                if time.monotonic() > until:
                    raise RuntimeError("a board did not get the change")
                await asyncio.sleep(0.005)
            took += [one[count] - begun for one, count in zip(arrivals, before, strict=True)]
    ordered = sorted(took)
    return {
        "boards": boards,
        "changes": changes,
        "median_ms": round(statistics.median(ordered) * 1000),
        "p95_ms": round(ordered[int(0.95 * len(ordered))] * 1000),
        "slowest_ms": round(ordered[-1] * 1000),
    }


def _doctor(hospital: Hospital) -> Person:
    with hospital.database.reading() as session:
        row = accounts.find(session, "doctor")
    return Person(row.id, row.login, row.name, Role.ER, "en", "", datetime.now(UTC))


@contextlib.contextmanager
def server(folder: Path) -> Iterator[str]:
    """The server in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.server.board", "--serve", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(20)


def _serve(folder: Path) -> None:
    config = uvicorn.Config(make_app(load_settings(data=folder)), "127.0.0.1", 0, log_level="error")
    served = uvicorn.Server(config)

    async def run() -> None:
        task = asyncio.create_task(served.serve())
        while not served.started:
            await asyncio.sleep(0.02)
        print(f"http://127.0.0.1:{served.servers[0].sockets[0].getsockname()[1]}", flush=True)
        await task

    asyncio.run(run())


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--boards", type=int, default=100)
    parser.add_argument("--changes", type=int, default=60)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        _serve(options.serve)
        return
    with tempfile.TemporaryDirectory() as folder:
        hospital = open_hospital(load_settings(data=Path(folder)), listen=False)
        runs = fill(hospital)
        with server(Path(folder)) as url:
            results = {
                name: asyncio.run(measure(url, options.boards, options.changes, runs, other))
                for name, other in (("changed in the server", None), ("changed by another process", hospital))
            }
        hospital.close()
    print(json.dumps({"machine": facts(), **results}, indent=2))


if __name__ == "__main__":
    main()
