"""Readers in processes of their own that take turns: A B A B, a few readings each, so that noise meets all alike."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.fresh import Problem
from benchmarks.readers import Kind, Setting, make

SETTLE = 1
"""Readings at the start of a turn that do not count: the caches still hold the others' data."""

OPEN_SECONDS = 300.0
READ_SECONDS = 120.0


@dataclass(frozen=True)
class Entry:
    """A contender: ``name`` in the report, and how many of its readings count in a turn."""

    name: str
    kind: Kind
    setting: Setting
    readings: int
    settle: int = SETTLE


@dataclass
class Timings:
    """What a contender did.

    Attributes:
        rounds: for each round, for each counted reading, milliseconds by stage (``total`` among them).
        facts: what the reader says about itself.
        problem: why there are no timings, e.g. ``"not installed: torch"``.
    """

    name: str
    kind: Kind
    rounds: list[list[dict[str, float]]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    problem: str | None = None

    def stage(self, *names: str) -> list[list[float]]:
        """Rounds of one stage's milliseconds, or of the sum of several."""
        return [[sum(reading[name] for name in names) for reading in turn] for turn in self.rounds]

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages it has, in order, ``total`` last."""
        names = dict.fromkeys(name for turn in self.rounds for reading in turn for name in reading)
        return (*(name for name in names if name != "total"), "total")


class Contender:
    """A reader in its own fresh process. Its printed output goes to ``work/KIND.log``."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.timings = Timings(entry.name, entry.kind)
        spawn = multiprocessing.get_context("spawn")
        self._line, other = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(other, entry.kind, entry.setting))
        self._process.start()
        other.close()

    def await_ready(self) -> None:
        """Wait until the reader is open and has read once; its facts are complete then."""
        self._guarded(lambda: self.timings.facts.update(self._answer(OPEN_SECONDS)))

    def turn(self) -> None:
        """Let it read ``settle`` + ``readings`` times and keep the latter."""
        if self.timings.problem is None:
            self._guarded(lambda: self.timings.rounds.append(self._readings()))

    def close(self) -> None:
        """End the process: it stops when nobody can ask it any more."""
        self._line.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _readings(self) -> list[dict[str, float]]:
        if self.entry.settle:
            self._ask(self.entry.settle)
        return [self._ask(1) for _ in range(self.entry.readings)]

    def _ask(self, readings: int) -> dict[str, float]:
        """Stage times of the last of ``readings`` readings."""
        try:
            self._line.send(readings)
        except OSError:
            raise Problem(f"failed: its process ended with {self._process.exitcode}") from None
        return self._answer(READ_SECONDS * readings)

    def _answer(self, seconds: float) -> dict[str, Any]:
        try:
            if not self._line.poll(seconds):
                raise Problem(f"failed: no answer in {seconds:.0f} s")
            answer: dict[str, Any] | str = self._line.recv()
        except (EOFError, ConnectionError):
            self._process.join(10)
            raise Problem(f"failed: its process ended with {self._process.exitcode}") from None
        if isinstance(answer, str):
            raise Problem(answer)
        return answer

    def _guarded(self, step: Callable[[], Any]) -> None:
        try:
            step()
        except Problem as problem:
            self.timings.problem = str(problem)


def contest(entries: Sequence[Entry], rounds: int, progress: Callable[[str], None]) -> list[Timings]:
    """Let all entries read in turns for ``rounds`` rounds. One that fails is noted and the others go on."""
    contenders: list[Contender] = []
    try:
        for entry in entries:
            progress(f"opening {entry.name}")
            contenders.append(Contender(entry))
            contenders[-1].await_ready()
        for number in range(rounds):
            progress(f"warm readings: round {number + 1} of {rounds}")
            for contender in contenders:
                contender.turn()
    finally:
        for contender in contenders:
            contender.close()
    return [contender.timings for contender in contenders]


def _serve(line: Connection, kind: Kind, setting: Setting) -> None:
    """In the contender's process: open the reader, read once, then as often as asked until the line closes."""
    log = os.open(Path(setting.work) / f"{kind}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        reader = make(kind, setting)
        reader()
        line.send(reader.facts)
        while True:
            *_, stages = (reader() for _ in range(line.recv()))
            line.send(stages)
    except EOFError:
        return
    except ModuleNotFoundError as error:
        what = (error.name or str(error)).partition(".")[0]
        line.send(f"failed: no module {what}" if kind == "firstray" else f"not installed: {what}")
    except Exception as error:  # noqa: BLE001 - whatever a peer raises becomes its row's text
        line.send(f"failed: {type(error).__name__}: {error}")
