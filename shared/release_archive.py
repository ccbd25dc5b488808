"""A model release as one file: a ZIP of its folder's files, flat, as hospital and ambulance hand it on.

What a ZIP says of itself is not believed: names are plain file names, sizes are counted while they unpack, and nothing
counts before the whole release is verified (:func:`shared.release.load_release`).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from shared.errors import ReleaseError
from shared.release import MANIFEST, SIGNATURE, Release, load_release

MOST_FILES: Final = 64
MOST_BYTES: Final = 1 << 30
"""Bytes of all files of a release, and of its ZIP, at most."""
_PIECE: Final = 1 << 20
_LONGEST: Final = 200
"""Bytes of a file's name, at most: fewer than any file system takes."""
_WHEN: Final = (1980, 1, 1, 0, 0, 0)
"""Time of every entry, so that the same release always is the same file."""


def pack_release(release: Release, file: Path) -> None:
    """Write a verified release as a ZIP, the same bytes every time. Models hardly shrink, so they are stored as is."""
    names = sorted([*release.manifest.files, MANIFEST, SIGNATURE])
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name in names:
            entry = zipfile.ZipInfo(name, _WHEN)
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            with (release.folder / name).open("rb") as source, archive.open(entry, "w", force_zip64=True) as target:
                shutil.copyfileobj(source, target, _PIECE)


def unpack_release(file: Path, into: Path) -> Release:
    """Unpack and verify a release; its folder ``into / id`` appears only when all of it is verified and on the disk.

    Where that folder is there already it is verified and given back, the ZIP having been verified all the same.

    Raises:
        ReleaseError: ``release_archive_invalid`` (no ZIP, damaged, other names than plain ones), ``release_too_large``,
            or of :func:`shared.release.load_release`.
        OSError: of the disk.
    """
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=into) as scratch:
        draft = Path(scratch) / "release"
        draft.mkdir()
        with _explained(), zipfile.ZipFile(file) as archive:
            _extract(archive, draft)
        release = load_release(draft)
        folder = into / release.id
        if not folder.exists():
            _sync(draft)
            try:
                draft.rename(folder)
            except OSError:  # another process was quicker
                if not folder.is_dir():
                    raise
            _sync(into)
    return load_release(folder)


def _extract(archive: zipfile.ZipFile, folder: Path) -> None:
    entries = archive.infolist()
    if len(entries) > MOST_FILES:
        raise _too_large(f"more than {MOST_FILES} files")
    names = [entry.filename for entry in entries]
    if len(set(names)) != len(names):
        raise _invalid("two of its files have the same name")
    left = MOST_BYTES
    for entry in entries:
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _invalid("it is packed in an unusual way")
        if not _plain(entry):
            raise _invalid("it holds something else than plain files")
        if entry.flag_bits & 1:
            raise _invalid("it is encrypted")
        with archive.open(entry) as source, (folder / entry.filename).open("xb") as target:
            left = _copy(source, target, left)


def _plain(entry: zipfile.ZipInfo) -> bool:
    """A regular file whose name leads nowhere else, on any system."""
    name, mode = entry.filename, entry.external_attr >> 16
    leads_away = not name or name.startswith(".") or any(mark in name for mark in "/\\:") or Path(name).name != name
    return not leads_away and len(name.encode()) <= _LONGEST and stat.S_IFMT(mode) in (0, stat.S_IFREG)


def _copy(source: object, target: BinaryIO, left: int) -> int:
    """Copy what unpacks, counted; gives how many bytes may still follow."""
    read = source.read  # type: ignore[attr-defined]
    while piece := read(_PIECE):
        left -= len(piece)
        if left < 0:
            raise _too_large(f"more than {MOST_BYTES >> 20} MB")
        target.write(piece)
    target.flush()
    os.fsync(target.fileno())
    return left


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeError, ValueError) as error:
        raise _invalid(f"it is no ZIP or is damaged ({type(error).__name__})") from None


def _sync(folder: Path) -> None:
    if os.name == "nt":  # folders can't be opened there
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _invalid(why: str) -> ReleaseError:
    return ReleaseError(
        "release_archive_invalid", f"The file is not a model release: {why}.", "Get the release's ZIP once more."
    )


def _too_large(why: str) -> ReleaseError:
    return ReleaseError("release_too_large", f"The file is not a model release: {why}.", "Don't trust this file.")
