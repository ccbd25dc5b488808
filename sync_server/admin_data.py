"""``firstray admin backup | restore | purge | export``: what the command line calls; each gives lines to print."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from shared.errors import FirstRayError
from sync_server.domain import backup as backing
from sync_server.domain import exports, restoring
from sync_server.domain.archive import Criteria
from sync_server.domain.exports import Format
from sync_server.domain.purge import purge as purge_now
from sync_server.hospital import opened
from sync_server.settings import Settings


def backup(settings: Settings, target: Path, keep: int = 7) -> list[str]:
    """Back up while the server runs; raises as :func:`sync_server.domain.backup.back_up` does."""
    made = backing.back_up(settings, target, keep)
    lines = [
        f"Backup of {made.made_at:%Y-%m-%d %H:%M:%S} UTC: database, keys, {made.images} images ({made.bytes} bytes)."
    ]
    if made.absent:
        lines.append(f"{made.absent} images that the database names are not held: purged just now, lost or damaged.")
    return lines


def restore(settings: Settings, source: Path, name: str | None = None) -> list[str]:
    """Restore where there is no hospital yet; raises as :func:`sync_server.domain.restoring.restore` does."""
    done = restoring.restore(settings, source, name)
    lines = [f"Restored the backup of {done.backup.made_at:%Y-%m-%d %H:%M:%S} UTC with {done.images} images."]
    if done.mended:
        lines.append(f"{done.mended} of them were damaged where they lay and come from the backup now.")
    if done.lost:
        lines.append(f"{done.lost} images are not in the backup or damaged; they are no longer called held.")
    for release in done.lost_releases:
        lines.append(f"The file of model release {release} is not in the backup or damaged: upload it again.")
    lines.append("Devices send again what came after the backup. Shut out again whom you shut out since then.")
    return lines


def purge(settings: Settings) -> list[str]:
    """Purge now what was deleted long enough ago."""
    with opened(settings) as hospital:
        done = purge_now(hospital, datetime.now(UTC))
    lines = [f"Gone for good: {done.runs} runs, {done.records} records, {done.images} images."]
    if done.kept:
        lines.append(f"{done.kept} images could not be deleted; the next purge tries again. The log says why.")
    return lines


def export(settings: Settings, target: Path, form: Format, criteria: Criteria, actor: str) -> list[str]:
    """Write an export of all that match to a new file, for its owner only.

    Raises:
        FirstRayError: ``file_exists``; what :func:`sync_server.domain.exports.export` raises.
    """
    with opened(settings) as hospital:
        draft = target.with_name(f".{target.name}.part")
        if target.exists():
            raise FirstRayError("file_exists", f"{target} exists already.", "Name a new file.")
        try:
            with open(draft, "wb", opener=_private) as file:
                for part in exports.export(hospital.database, hospital.images, criteria, form, actor):
                    file.write(part)
            draft.rename(target)
        finally:
            draft.unlink(missing_ok=True)
    return [f"Exported to {target}. It holds patients' data."]


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
