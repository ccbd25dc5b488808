"""What support needs to know about a device, without any patient data: versions, counts, states, the latest log lines.

The log holds no patient data by rule (names, file names and texts of errors never reach it); what goes into the bundle
is only what this module names.
"""

from __future__ import annotations

import io
import json
import logging
import platform
import sys
import threading
import traceback
import zipfile
from collections import deque
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from types import TracebackType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from edge_app.station import Status

log = logging.getLogger(__name__)

PACKAGES: Final = (
    "ai-edge-litert",
    "cryptography",
    "httpx",
    "kivy",
    "numpy",
    "onnxruntime",
    "pillow",
    "pydicom",
    "pynetdicom",
    "sqlcipher3",
    "sqlmodel",
)
LINES: Final = 2000


class _Recent(logging.Handler):
    """Keeps the latest log lines in memory."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: deque[str] = deque(maxlen=LINES)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        self.lines.append(self.format(record))


_recent: Final = _Recent()


def keep_log() -> None:
    """Keep the log lines of FirstRay's own modules for the bundle, and errors' texts out of them; call once at start.

    The text of an error that nobody caught may hold what a patient is called: only its type and place are told.
    """
    sys.excepthook = _tell_uncaught
    threading.excepthook = lambda told: _tell_uncaught(told.exc_type, told.exc_value, told.exc_traceback)
    for package in ("edge_app", "shared"):
        logger = logging.getLogger(package)
        logger.setLevel(min(logger.getEffectiveLevel(), logging.INFO))
        if _recent not in logger.handlers:
            logger.addHandler(_recent)


def _tell_uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    log.error("Nobody caught %s\n%s", kind.__name__, "".join(traceback.format_tb(trace)))


def bundle(status: Status) -> bytes:
    """A ZIP of ``status.json``, ``versions.json`` and ``log.txt``."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("status.json", json.dumps(_plain(status), indent=1, default=str))
        archive.writestr("versions.json", json.dumps(_versions(status.version), indent=1))
        archive.writestr("log.txt", "\n".join(_recent.lines))
    return out.getvalue()


def _plain(status: Status) -> dict[str, object]:
    receiver, link = status.receiver, status.link
    standing = asdict(status.standing)
    standing["refusals"] = [{"code": refusal.code} for refusal in status.standing.refusals]
    return {
        "made_at": datetime.now(UTC).isoformat(),
        "receiver": None
        if receiver is None
        else {
            **_fields(receiver, "listening", "received", "refused"),
            "error": _code(receiver.error),
        },
        "watches_a_folder": status.hot_folder is not None,
        "models": {
            **_fields(status.models, "ready", "release", "precision", "runtime"),
            "error": _code(status.models.error),
        },
        "link": None
        if link is None
        else {"kind": str(link.kind), "since": link.since, "error": _code(link.last_error)},
        "standing": standing,
        "room": asdict(status.room),
        "health": asdict(status.health),
        "reading": status.reading,
    }


def _fields(value: object, *names: str) -> dict[str, object]:
    return {name: getattr(value, name) for name in names}


def _code(error: object) -> object:
    return getattr(error, "code", None)


def _versions(version: str) -> dict[str, str]:
    installed = {}
    for package in PACKAGES:
        try:
            installed[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            installed[package] = "not installed"
    return {"firstray": version, "python": platform.python_version(), "system": platform.platform(), **installed}
