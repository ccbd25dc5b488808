"""A hospital that listens on a real port, with a certificate of its own, and can be stopped and started again."""

import socket
import threading
import time
from pathlib import Path
from typing import Any, Self

from sync_server.app import make_app
from sync_server.hospital import Hospital
from sync_server.serve import Server, server_for
from tests.fake_hospital import Authority
from tests.hospital import new_hospital


class RunningHospital:
    """Use it as a context manager.

    Args:
        folder: for its data.
        tls: speak https by a certificate of ``authority``; plain http otherwise.
        settings: of the server.
    """

    def __init__(self, folder: Path, tls: bool = True, **settings: Any) -> None:
        self.authority = Authority()
        self.port = _free_port()
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._folder = folder
        self._settings: dict[str, Any] = {"port": self.port, "public_url": self.url, **settings}
        if tls:
            certificate, key = folder / "certificate.pem", folder / "key.pem"
            folder.mkdir(parents=True, exist_ok=True)
            issued = self.authority.issue()
            start = issued.index("-----BEGIN PRIVATE KEY")
            certificate.write_text(issued[:start] + self.authority.pem)
            key.touch(mode=0o600)
            key.write_text(issued[start:])
            self._settings |= {"certificate": certificate, "key": key}
        self.hospital: Hospital
        self._server: Server
        self._thread: threading.Thread

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen."""
        self.hospital = new_hospital(self._folder, **self._settings)
        self._server = server_for(self.hospital.settings, make_app(hospital=self.hospital))
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        until = time.monotonic() + 60
        while not self._server.started:
            assert self._thread.is_alive(), "the server did not start"
            assert time.monotonic() < until, "the server did not start in time"
            time.sleep(0.02)

    @property
    def connections(self) -> set[Any]:
        """Those it serves now."""
        return self._server.server_state.connections

    def stop(self) -> None:
        """Cut every connection and end."""
        self._server.should_exit = True
        self._thread.join(60)
        assert not self._thread.is_alive(), "the server did not stop"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
