"""``firstray edge --headless``: receive, read, store and send without a screen, for a box without a monitor."""

from __future__ import annotations

import logging
import os
import signal
import socket
import stat
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Final

from edge_app.diagnostics import keep_log
from edge_app.memory import return_large_blocks
from edge_app.station import Change, Station, StationOptions
from shared.errors import FirstRayError

log = logging.getLogger(__name__)

CREDENTIAL: Final = "firstray-pin"
"""Name of the systemd credential that holds the PIN (systemd.exec(5), LoadCredential)."""


def run_headless(folder: Path, options: StationOptions, pin_file: Path | None) -> int:
    """Run until SIGTERM or SIGINT; returns the exit code.

    Args:
        folder: of the store; made, with the PIN given, if there is none.
        options: of the station.
        pin_file: file of the PIN, readable by its owner only; None means the systemd credential ``firstray-pin``.

    Raises:
        FirstRayError: the PIN is missing, open to others or wrong; the store cannot be opened.
    """
    _log_to_stderr()
    keep_log()
    return_large_blocks()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    pin = read_pin(pin_file)
    revoked = threading.Event()

    def tell(change: Change) -> None:
        if change.error is not None:
            log.warning("%s: %s", change.kind, change.error.code)
        elif change.kind in ("read", "models"):
            log.info("%s %s", change.kind, change.id or "")
        if change.kind == "revoked":
            revoked.set()
            ended.set()

    station = Station(folder, options=replace(options, alone=True), notify=tell)
    station.warm_up()
    try:
        if station.is_new:
            station.set_up(pin)
        else:
            station.unlock(pin)
        _tell_systemd("READY=1")
        log.info("ready")
        ended.wait()
        _tell_systemd("STOPPING=1")
    finally:
        station.close()
    log.info("stopped")
    return 3 if revoked.is_set() else 0


def read_pin(file: Path | None) -> str:
    """The PIN from ``file``, else from the systemd credential.

    Raises:
        FirstRayError: ``pin_missing``, ``pin_file_open`` where others may read the file.
    """
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    source = file or (Path(credentials) / CREDENTIAL if credentials else None)
    if source is None:
        raise FirstRayError(
            "pin_missing",
            "Without a screen the PIN must come from a file.",
            "Give --pin-file, or the systemd credential 'firstray-pin'.",
        )
    try:
        mode = source.stat().st_mode
        pin = source.read_text().strip()
    except (OSError, UnicodeDecodeError):
        raise FirstRayError(
            "pin_missing", "The PIN's file cannot be read.", "Check that it exists and belongs to this user."
        ) from None
    if file is not None and sys.platform != "win32" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise FirstRayError("pin_file_open", "Others may read the PIN's file.", "chmod 600 the file.")
    return pin


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
    for package in ("edge_app", "shared"):
        logging.getLogger(package).addHandler(handler)
        logging.getLogger(package).setLevel(logging.INFO)


def _tell_systemd(state: str) -> None:
    """sd_notify(3), where systemd started this process."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.connect("\0" + address[1:] if address.startswith("@") else address)
        channel.sendall(state.encode())
