"""Model releases at the hospital: taken in only if a trusted key signed them, handed to devices ring by ring.

A release lies as one ZIP in the image store, under its SHA-256, where every process and worker finds it. What a ring
is to run is its latest :class:`RingRow`; the ring :data:`SERVER` is the hospital itself. Rolling back is assigning what
the ring ran before.
"""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final
from uuid import UUID

from sqlmodel import Session, col, select

from shared.calibration import NIH
from shared.errors import FirstRayError, ReleaseError
from shared.hospital import ReleaseOffer
from shared.release import Manifest, Release, default_release, load_release
from shared.release_archive import MOST_BYTES, pack_release, unpack_release
from sync_server.db.engine import locked
from sync_server.db.tables import DeviceRow, ReleaseRow, RingRow
from sync_server.domain import audit, inbox
from sync_server.domain.images import is_full

if TYPE_CHECKING:  # it puts these parts together
    from sync_server.hospital import Hospital

SERVER: Final = "server"
"""The ring of the hospital itself."""
RING: Final = re.compile("[a-z0-9][a-z0-9_-]{0,39}")
_PIECE: Final = 1 << 20
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RingState:
    """A ring: its release now and the one before, how many devices are in it, since when and by whom.

    ``release`` and ``at`` are None, and ``by`` empty, where it was never assigned one: its devices run what they were
    installed with.
    """

    ring: str
    release: str | None
    before: str | None
    devices: int
    at: datetime | None
    by: str


def current(session: Session, ring: str) -> str | None:
    """Id of the release that a ring is to run; None where none was ever assigned."""
    return next(iter(_history(session, ring, 1)), None)


def thresholds(row: ReleaseRow, precision: str, runtime: str, prevalence: str) -> dict[str, tuple[float, float]] | None:
    """Finding -> (unlikely below, likely from) of one variant; None for another prevalence, where others hold."""
    if prevalence != NIH:
        return None
    for variant in Manifest.model_validate(row.manifest).variants:
        if (variant.precision, variant.runtime) == (precision, runtime):
            return {key: (found.rule_out, found.threshold) for key, found in variant.calibration.findings.items()}
    return None


def upload(hospital: Hospital, file: BinaryIO, by: str) -> ReleaseRow:
    """Take in a release's ZIP; the same release twice is one.

    Args:
        hospital: whose.
        file: the ZIP, from its present place on.
        by: who, for the audit log.

    Raises:
        ReleaseError: ``release_too_large``, ``release_exists`` (another release has this id), or of
            :func:`shared.release_archive.unpack_release`.
        FirstRayError: ``disk_full``, ``disk_failed``, or of the image store.
    """
    with _scratch(hospital) as scratch:
        archive = Path(scratch) / "release.zip"
        sha256, size = _spool(file, archive)
        try:
            release = unpack_release(archive, Path(scratch) / "unpacked")
        except ReleaseError as error:
            raise _of_upload(error, scratch) from None
        return _take(hospital, release, archive, sha256, size, by)


def adopt(hospital: Hospital, folder: Path, by: str) -> ReleaseRow:
    """Take in a release from its folder, as the one installed with the program.

    Raises:
        ReleaseError, FirstRayError: as :func:`upload`.
    """
    release = load_release(folder)
    with hospital.database.reading() as session:
        row = session.get(ReleaseRow, release.id)
    if row is not None:
        return _same(row, release)
    with _scratch(hospital) as scratch:
        archive = Path(scratch) / "release.zip"
        pack_release(release, archive)
        with archive.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return _take(hospital, release, archive, sha256, archive.stat().st_size, by)


def ensure_server_release(hospital: Hospital) -> str:
    """The release the hospital reads with; at the first start, or with a new one in the settings, that one.

    Raises:
        ReleaseError: none was assigned, and there is none to begin with.
        FirstRayError: as :func:`upload`.
    """
    named = hospital.settings.release
    with hospital.database.reading() as session:
        chosen = current(session, SERVER)
    if chosen is not None and named is None:
        return chosen
    row = adopt(hospital, named or default_release(), "system")
    with hospital.database.reading() as session:
        ever = set(_history(session, SERVER))
    if chosen is not None and row.id in ever:  # an admin has chosen another one since
        return chosen
    assign(hospital, SERVER, row.id, "system")
    return row.id


def assign(hospital: Hospital, ring: str, release: str, by: str) -> int:
    """Have a ring run a release: its devices are offered it, the hospital reads with it from now on.

    Returns:
        How many devices were offered it.

    Raises:
        FirstRayError: ``release_unknown``, ``ring_invalid``.
    """
    return hospital.database.write(lambda session: _assign(session, ring, release, by))


def roll_back(hospital: Hospital, ring: str, by: str) -> str:
    """Have a ring run what it ran before; gives that release's id.

    Raises:
        FirstRayError: ``release_none_before``.
    """

    def act(session: Session) -> str:
        before = _before(_history(session, ring))
        if before is None:
            raise FirstRayError(
                "release_none_before", f"The ring {ring} ran no other release before.", "Assign one instead."
            )
        _assign(session, ring, before, by, action="release.rolled_back")
        return before

    return hospital.database.write(act)


def refuse_as_device_ring(ring: str) -> None:
    """Refuse a ring that no device may be in: raises FirstRayError ``ring_invalid`` or ``ring_reserved``."""
    _refuse_misnamed(ring)
    if ring == SERVER:
        raise FirstRayError(
            "ring_reserved",
            f"The ring {SERVER} is the hospital itself: its releases are read with here, and offered to no device.",
            "Choose another ring for the device.",
        )


def offer(session: Session, device: UUID) -> bool:
    """Offer a device what its ring is to run, as after its enrolment or a move; False where the ring has nothing."""
    row = session.get(DeviceRow, device)
    release = current(session, row.ring) if row is not None else None
    if release is None:
        return False
    inbox.say(session, device, _offer_of(known(session, release)))
    return True


def listed(session: Session) -> list[ReleaseRow]:
    """All releases, latest first."""
    return list(session.exec(select(ReleaseRow).order_by(col(ReleaseRow.uploaded_at).desc())))


def rings(session: Session) -> list[RingState]:
    """Every ring that devices are in or that was ever assigned a release, the hospital's own first."""
    devices: dict[str, int] = {}
    for ring in session.exec(select(DeviceRow.ring).where(col(DeviceRow.revoked_at).is_(None))):
        devices[ring] = devices.get(ring, 0) + 1
    assigned: dict[str, list[RingRow]] = {}
    for row in session.exec(select(RingRow).order_by(col(RingRow.id).desc())):
        assigned.setdefault(row.ring, []).append(row)
    states = [RingState(ring, None, None, count, None, "") for ring, count in devices.items() if ring not in assigned]
    states += [
        RingState(
            ring=ring,
            release=rows[0].release,
            before=_before([row.release for row in rows]),
            devices=devices.get(ring, 0),
            at=rows[0].at,
            by=rows[0].by,
        )
        for ring, rows in assigned.items()
    ]
    return sorted(states, key=lambda state: (state.ring != SERVER, state.ring))


def fetched(hospital: Hospital, release: str) -> Release:
    """A release unpacked and verified on this machine, from the store if it is not here yet.

    Raises:
        ReleaseError: ``release_unknown``, or of :func:`shared.release_archive.unpack_release`.
        FirstRayError: ``disk_full``, ``disk_failed``, or of the image store.
    """
    folder = hospital.settings.data / "releases"
    with hospital.database.reading() as session:
        row = known(session, release)
    if (folder / row.id).is_dir():
        try:
            return load_release(folder / row.id)
        except ReleaseError as error:
            log.warning("the release %s on this machine is damaged (%s) and fetched again", row.id, error.code)
            with _disk():
                shutil.rmtree(folder / row.id)
    with _scratch(hospital) as scratch:
        archive = Path(scratch) / "release.zip"
        with hospital.images.open(row.sha256) as source:
            sha256, _ = _spool(source, archive)
        if sha256 != row.sha256:
            raise ReleaseError(
                "release_file_altered",
                f"The stored ZIP of release {row.id} is not the one that was uploaded.",
                "Upload it again; look at the disk.",
            )
        return unpack_release(archive, folder)


@contextmanager
def _scratch(hospital: Hospital) -> Iterator[str]:
    """A folder to unpack a release in, whose disk's errors say what they mean."""
    with _disk(), tempfile.TemporaryDirectory(prefix="release-", dir=hospital.settings.data) as folder:
        yield folder


@contextmanager
def _disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise FirstRayError(
                "disk_full", "The server's disk is full.", "Make room on the disk of its data folder; nothing is lost."
            ) from error
        raise FirstRayError(
            "disk_failed",
            f"The server's disk does not work ({type(error).__name__}).",
            "Look at the disk of its data folder, and who may write there; then try again.",
        ) from error


def _spool(source: BinaryIO, target: Path) -> tuple[str, int]:
    """Copy with an upper limit; gives SHA-256 and size."""
    digest, size = hashlib.sha256(), 0
    with target.open("xb") as file:
        while piece := source.read(_PIECE):
            size += len(piece)
            if size > MOST_BYTES:
                raise ReleaseError(
                    "release_too_large",
                    f"The file is larger than a release can be ({MOST_BYTES >> 20} MB).",
                    "Choose the release's ZIP.",
                )
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest(), size


def _of_upload(error: ReleaseError, scratch: str) -> ReleaseError:
    """The error as who uploads a ZIP understands it, without the paths at which it was unpacked."""
    folder = rf"{re.escape(scratch)}\S*?/release"
    message = re.sub(folder, "The ZIP", re.sub(rf"{folder}/", "", error.message))
    return ReleaseError(
        error.code, message, "Nothing was taken in. Get the ZIP once more from where the release was made."
    )


def _take(hospital: Hospital, release: Release, archive: Path, sha256: str, size: int, by: str) -> ReleaseRow:
    hospital.images.put(archive, sha256)

    def act(session: Session) -> ReleaseRow:
        if (row := session.get(ReleaseRow, release.id)) is not None:
            return _same(row, release)
        row = ReleaseRow(
            id=release.id,
            sha256=sha256,
            size=size,
            manifest=release.manifest.model_dump(mode="json"),
            uploaded_at=datetime.now(UTC),
            uploaded_by=by,
        )
        session.add(row)
        session.flush()
        audit.record(session, by, "release.uploaded", release.id, sha256=sha256)
        return row

    return hospital.database.write(act)


def _same(row: ReleaseRow, release: Release) -> ReleaseRow:
    if row.manifest != release.manifest.model_dump(mode="json"):
        raise ReleaseError(
            "release_exists", f"Another release has the id {release.id} already.", "Give the new one an id of its own."
        )
    return row


def _assign(session: Session, ring: str, release: str, by: str, action: str = "release.assigned") -> int:
    _refuse_misnamed(ring)
    row = known(session, release)
    in_ring = select(DeviceRow.id).where(DeviceRow.ring == ring, col(DeviceRow.revoked_at).is_(None))
    devices = list(session.exec(locked(session, in_ring.order_by(col(DeviceRow.id)))).all()) if ring != SERVER else []
    for device in devices:
        inbox.say(session, device, _offer_of(row))
    session.add(RingRow(ring=ring, release=release, at=datetime.now(UTC), by=by))
    session.flush()
    audit.record(session, by, action, release, ring=ring, devices=len(devices))
    return len(devices)


def _refuse_misnamed(ring: str) -> None:
    if not RING.fullmatch(ring):
        raise FirstRayError(
            "ring_invalid", "A ring's name is made of a-z, 0-9, - and _, 40 at most.", "Choose another name."
        )


def known(session: Session, release: str) -> ReleaseRow:
    """The row of a release; raises ReleaseError ``release_unknown``."""
    row = session.get(ReleaseRow, release)
    if row is None:
        raise ReleaseError("release_unknown", f"There is no release {release} here.", "Upload it first.")
    return row


def _offer_of(row: ReleaseRow) -> ReleaseOffer:
    return ReleaseOffer(release=row.id, sha256=row.sha256, size=row.size)


def _history(session: Session, ring: str, most: int = 1000) -> list[str]:
    """What a ring was assigned, latest first."""
    statement = select(RingRow.release).where(RingRow.ring == ring).order_by(col(RingRow.id).desc()).limit(most)
    return list(session.exec(statement))


def _before(history: list[str]) -> str | None:
    """The release assigned last that is not the present one."""
    return next((release for release in history if release != history[0]), None)
