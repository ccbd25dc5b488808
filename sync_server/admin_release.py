"""What ``firstray admin`` does about releases and re-reading: on the database, with or without a running server."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from pathlib import Path
from time import sleep
from typing import Final

from sqlmodel import Session

from shared.errors import ReleaseError
from sync_server.db.tables import ReleaseRow
from sync_server.domain import audit, readings, releases
from sync_server.hospital import opened
from sync_server.settings import Settings

ACTOR = "command line"
"""How the audit log names who works at the server's own shell."""
AT_ONCE: Final = 200
"""Images asked for in one transaction: some tenths of a second, which others that write wait for."""
PAUSE_S: Final = 0.15
"""Between two of them: SQLite lets others in only if they look in that time, and they look every tenth of a second."""


def upload(settings: Settings, source: Path) -> str:
    """Take in a release, a ZIP or a folder; gives what to tell.

    Raises:
        ReleaseError: it is not a release, not to be trusted, or another one has its id.
        FirstRayError: of the database or the image store.
    """
    with opened(settings) as hospital:
        if source.is_dir():
            row = releases.adopt(hospital, source, ACTOR)
        else:
            try:
                file = source.open("rb")
            except OSError as error:
                raise ReleaseError(
                    "release_missing", f"{source} cannot be read: {error.strerror}.", "Give a release's ZIP or folder."
                ) from None
            with file:
                row = releases.upload(hospital, file, ACTOR)
    return f"Release {row.id} is here ({row.size >> 20} MB, its signature holds). Assign it to a ring to use it."


def assign(settings: Settings, ring: str, release: str) -> str:
    """Have a ring run a release; gives what to tell.

    Raises:
        FirstRayError: ``release_unknown``, ``ring_invalid``, or of the database.
    """
    with opened(settings) as hospital:
        devices = releases.assign(hospital, ring, release, ACTOR)
    if ring == releases.SERVER:
        return f"The hospital reads with {release} from now on. 'firstray admin reanalyse' reads older images with it."
    return f"{devices} devices of the ring {ring} are offered {release}; each installs it when it has a connection."


def roll_back(settings: Settings, ring: str) -> str:
    """Have a ring run what it ran before; gives what to tell.

    Raises:
        FirstRayError: ``release_none_before``, or of the database.
    """
    with opened(settings) as hospital:
        return f"The ring {ring} goes back to {releases.roll_back(hospital, ring, ACTOR)}."


def listed(settings: Settings) -> tuple[list[ReleaseRow], list[releases.RingState]]:
    """All releases, latest first, and what each ring runs."""
    with opened(settings) as hospital, hospital.database.reading() as session:
        return releases.listed(session), releases.rings(session)


def reanalyse(settings: Settings, release: str, since: datetime) -> str:
    """Have the images that came since then read by a release, after everything that comes fresh; gives what to tell.

    Some at a time, so that ambulances can deliver meanwhile. What was broken off is made up for by doing it again.

    Raises:
        FirstRayError: ``release_unknown``, or of the database.
    """

    def begin(session: Session) -> list[str]:
        releases.known(session, release)
        images = readings.archived(session, since)
        audit.record(session, ACTOR, "archive.reanalysed", release, since=since.isoformat(), images=len(images))
        return images

    count = 0
    with opened(settings) as hospital:
        images = hospital.database.write(begin)
        for start in range(0, len(images), AT_ONCE):
            if start:
                sleep(PAUSE_S)
            few = images[start : start + AT_ONCE]
            count += hospital.database.write(partial(readings.read_again, release=release, images=few))
    return f"{count} readings with {release} are asked for; the workers make them when nothing more urgent waits."
