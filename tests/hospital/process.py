"""The hospital's server as a process of its own, as ``firstray serve`` starts it: to be measured, and to be killed."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import httpx
import psutil

from sync_server.hospital import Hospital, open_hospital
from sync_server.settings import Settings, load_settings


class ServerProcess:
    """Use it as a context manager; it can be killed and started again on the same data.

    Args:
        folder: of its data and its log.
        database: SQLAlchemy URL; SQLite in the folder if not given.
        more: other settings.

    Attributes:
        url: where it listens.
        log: file of what it prints on standard error.
    """

    def __init__(self, folder: Path, database: str | None = None, **more: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "server.log"
        self.settings: Settings = load_settings(data=folder / "hospital", database=database, port=self.port, **more)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end(signal.SIGTERM)

    def open(self) -> Hospital:
        """Its hospital, beside it: for accounts, codes, and to look at what it holds. Close it."""
        return open_hospital(self.settings, listen=False)

    def start(self, wait: bool = True) -> None:
        """Start it; ``wait`` until it answers."""
        given = {
            "FIRSTRAY_SERVER_DATA": str(self.settings.data),
            "FIRSTRAY_SERVER_DATABASE": self.settings.database,
            "FIRSTRAY_SERVER_IMAGES": self.settings.images,
            "FIRSTRAY_SERVER_PORT": str(self.port),
            "FIRSTRAY_SERVER_PUBLIC_URL": self.settings.public_url,
            "FIRSTRAY_SERVER_LOG_LEVEL": "DEBUG",
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "firstray", "serve", "--readers", "0"],
                env={**os.environ, **given},
                stdout=log,
                stderr=log,
            )
        if wait:
            self.wait_until_it_answers()

    def wait_until_it_answers(self, seconds: float = 120) -> None:
        """Fails where it ends, or does not answer in time."""
        until = time.monotonic() + seconds
        while not self.answers():
            assert self.running, f"the server ended: {self.log.read_text()[-2000:]}"
            assert time.monotonic() < until, "the server does not answer"
            time.sleep(0.05)

    def answers(self, seconds: float = 2) -> bool:
        """Whether it is healthy."""
        try:
            return httpx.get(f"{self.url}/healthz", timeout=seconds, trust_env=False).is_success
        except httpx.HTTPError:
            return False

    @property
    def running(self) -> bool:
        """It has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Of the process, as long as it runs."""
        assert self._process is not None
        return self._process.pid

    @property
    def rss(self) -> int:
        """Its memory now, in bytes."""
        return int(psutil.Process(self.pid).memory_info().rss)

    def end(self, by: signal.Signals) -> None:
        """End it by a signal, and wait for its end."""
        assert self._process is not None
        self._process.send_signal(by)
        try:
            self._process.wait(90)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
