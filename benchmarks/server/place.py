"""A hospital in a folder, served by ``firstray serve`` in a process of its own, and what that process takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
import psutil

from benchmarks.fresh import Problem
from sync_server.hospital import Hospital, open_hospital
from sync_server.settings import load_settings
from tools.e2e import Program, free_port
from tools.e2e import running as ended_after

START_S = 60.0
MB = 1e6


@dataclass(frozen=True)
class Place:
    """Where a hospital lies and where it listens.

    Attributes:
        folder: of the server's data and log.
        port: on loopback.
        settings: of the server, by name.
    """

    folder: Path
    port: int
    settings: dict[str, Any]

    @classmethod
    def new(cls, folder: Path, database: str | None = None, **more: Any) -> Self:
        """In an empty folder, on SQLite unless a URL is given."""
        folder.mkdir(parents=True, exist_ok=True)
        port = more.pop("port", None) or free_port()
        given = {"data": folder / "hospital", "database": database, "port": port, "log_level": "WARNING", **more}
        return cls(folder, port, {name: value for name, value in given.items() if value is not None})

    @property
    def url(self) -> str:
        """Of the server itself, on loopback."""
        return f"{'https' if 'certificate' in self.settings else 'http'}://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """The same settings for a process."""
        return {f"FIRSTRAY_SERVER_{name.upper()}": str(value) for name, value in self.settings.items()}

    @contextmanager
    def opened(self) -> Iterator[Hospital]:
        """The same hospital in this process, beside the server."""
        hospital = open_hospital(load_settings(**self.settings), listen=False)
        try:
            yield hospital
        finally:
            hospital.close()

    @contextmanager
    def served(self, readers: int = 0) -> Iterator[Program]:
        """The server, once it is ready."""
        program = Program(self.folder / "server.log", self.environment, "serve", "--readers", str(readers))
        with ended_after(program):
            wait_until(lambda: program.said("") and self._ready(), "the server's start", START_S)
            yield program

    def _ready(self) -> bool:
        try:
            answer = httpx.get(f"{self.url}/readyz", verify=str(self.settings.get("ca")) if self.is_tls else True)
        except httpx.HTTPError:
            return False
        return answer.is_success

    @property
    def is_tls(self) -> bool:
        """The server speaks TLS."""
        return "certificate" in self.settings


def wait_until(done: Callable[[], bool], what: str, seconds: float, every: float = 0.05) -> None:
    """Look again and again; raises Problem where it takes longer than ``seconds``."""
    until = time.monotonic() + seconds
    while not done():
        if time.monotonic() > until:
            raise Problem(f"failed: {what} took more than {seconds:.0f} s")
        time.sleep(every)


def processor_s(process: int) -> float:
    """Seconds of processor time that a process has taken, all its threads together, in user and kernel mode."""
    times = psutil.Process(process).cpu_times()
    return float(times.user + times.system)


class MemoryWatch:
    """The most resident memory that a process and all its children had together, looked at ten times a second.

    Attributes:
        peak_mb: so far, in MB; memory that the processes share counts once for each.
    """

    def __init__(self, process: int) -> None:
        self._process = psutil.Process(process)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.peak_mb = 0.0

    def __enter__(self) -> Self:
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.1):
            self._look()

    def _look(self) -> None:
        total = 0
        for process in (self._process, *self._process.children(recursive=True)):
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:  # a child that has just ended
                continue
        self.peak_mb = max(self.peak_mb, total / MB)
