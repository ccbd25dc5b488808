"""What a server does by itself now and then, in the background."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Self

from shared.errors import FirstRayError
from sync_server.domain import display
from sync_server.domain.purge import purge
from sync_server.hospital import Hospital

FIRST_S: Final = 60.0
"""After the start: devices and pages come first."""
EVERY_S: Final = 6 * 3600.0
log = logging.getLogger(__name__)


class Housekeeping:
    """Purges what was deleted long enough ago, and display images of what anybody has purged; a context manager.

    Several servers may do it at once, on one machine or many.

    Args:
        hospital: whose.
        first_s, every_s: seconds until the first time, and between two.
    """

    def __init__(self, hospital: Hospital, first_s: float = FIRST_S, every_s: float = EVERY_S) -> None:
        self._hospital = hospital
        self._first_s, self._every_s = first_s, every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(10)

    def _run(self) -> None:
        rest = self._first_s
        while not self._ended.wait(rest):
            rest = self._every_s
            _tried("purging what was deleted failed", self._purge)
            _tried("removing pictures of purged images failed", self._sweep)

    def _purge(self) -> None:
        done = purge(self._hospital, datetime.now(UTC))
        if done.records or done.images:
            log.info("purged %d runs, %d records, %d images", done.runs, done.records, done.images)

    def _sweep(self) -> None:
        if removed := display.sweep(self._hospital):
            log.info("removed %d pictures of images that were purged", removed)


def _tried(what: str, act: Callable[[], None]) -> None:
    try:
        act()
    except FirstRayError as error:
        log.error("%s; it is tried again later: %s", what, error.code)
    except Exception as error:  # whatever it is: what was deleted must be purged the next time
        log.error("%s; it is tried again later: %s", what, type(error).__name__, exc_info=error)
