"""Model releases on the device: fetched piece by piece, checked, kept beside the one before, switched by a pointer.

``releases.json`` in the folder is the pointer; it is replaced whole: a pulled plug leaves the old one or the new one.
A release counts as proved once its models have been loaded. One that cannot be loaded, or in the midst of whose first
loading the program ended, is given up: the one before is used again, and the hospital's offer of it is not taken twice.

Layout: ``ID/`` (an unpacked release), ``SHA256.part`` (as much of a ZIP as has come), ``releases.json``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from shared.errors import FirstRayError, ReleaseError
from shared.hospital import ReleaseOffer
from shared.release import default_release
from shared.release_archive import MOST_BYTES, unpack_release

T = TypeVar("T")

POINTER: Final = "releases.json"
MOST_REFUSED: Final = 20
log = logging.getLogger(__name__)


class _Pointer(BaseModel):
    """What ``releases.json`` holds.

    Attributes:
        current, previous: release ids; None means the one installed with the program.
        proved: the models of ``current`` have been loaded once.
        trying: they are being loaded for the first time.
        wanted: the hospital's latest offer, until it is installed.
        refused: SHA-256 of offers that turned out unusable, latest last.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    current: str | None = None
    previous: str | None = None
    proved: bool = True
    trying: bool = False
    wanted: ReleaseOffer | None = None
    refused: tuple[str, ...] = ()


class ReleaseShelf:
    """The releases of one device. Safe to call from several threads.

    Args:
        folder: where they lie; made when something comes.
        installed: called after a release was installed or gone back to, on the thread that did it.
    """

    def __init__(self, folder: Path, installed: Callable[[], None] = lambda: None) -> None:
        self._folder = folder
        self._installed = installed
        self._lock = threading.RLock()
        self._pointer = self._read()

    @property
    def current(self) -> str | None:
        """Id of the release to use; None for the one installed with the program."""
        return self._pointer.current

    @property
    def wanted(self) -> ReleaseOffer | None:
        """What to fetch; None where there is nothing."""
        return self._pointer.wanted

    def offered(self, offer: ReleaseOffer) -> None:
        """The hospital offers a release; one that is here already is switched to at once."""
        with self._lock:
            pointer = self._pointer
            if offer.sha256 in pointer.refused or offer.size > MOST_BYTES:
                log.warning("the release %s is not taken: it was tried in vain, or is too large", offer.release)
                return
            if offer.release == pointer.current:
                self._write(wanted=None)
                return
            if offer.release != pointer.previous or not self._is_here(offer.release):
                self._write(wanted=offer)
                return
            self._switch(offer.release)
        self._installed()

    def fetched(self, offer: ReleaseOffer) -> int:
        """How many bytes of it have come."""
        with contextlib.suppress(FileNotFoundError):
            return self._part(offer).stat().st_size
        return 0

    def add(self, offer: ReleaseOffer, piece: bytes) -> None:
        """The next bytes have come; durable on return.

        Raises:
            FirstRayError: ``release_no_room``.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._part(offer).open("ab") as file:
                file.write(piece)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _no_room(error) from None

    def install(self, offer: ReleaseOffer) -> None:
        """All bytes have come: check them, unpack, switch. What is not right is given up.

        Raises:
            ReleaseError: ``release_file_altered`` (fetched once more), or of
                :func:`shared.release_archive.unpack_release` (never fetched again).
            FirstRayError: ``release_no_room``.
        """
        part = self._part(offer)
        with part.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if sha256 != offer.sha256:
            part.unlink()
            raise ReleaseError(
                "release_file_altered",
                "The release that came is not the one the hospital offered.",
                "It is fetched once more.",
            )
        try:
            release = unpack_release(part, self._folder)
            if release.id != offer.release:
                raise ReleaseError(
                    "release_other", "The release that came has another id than the offer.", "Tell the hospital."
                )
        except ReleaseError:
            self._refuse(offer)
            part.unlink(missing_ok=True)
            raise
        except OSError as error:
            raise _no_room(error) from None
        with self._lock:
            self._switch(release.id)
        part.unlink()
        self._installed()

    def give_up(self, offer: ReleaseOffer) -> None:
        """The hospital does not have it any more."""
        with self._lock:
            if self._pointer.wanted == offer:
                self._write(wanted=None)
        self._part(offer).unlink(missing_ok=True)

    def load(self, make: Callable[[Path], T]) -> T:
        """The models of the release to use, made by ``make`` from its folder; of the one before where that fails.

        Raises:
            FirstRayError: not even those of the release installed with the program could be made.
        """
        while (current := self._begin()) is not None:
            try:
                made = make(self._folder / current)
            except FirstRayError as error:
                log.error("the release %s cannot be used (%s): the one before is used again", current, error.code)
                self._go_back()
                continue
            with self._lock:
                if not self._pointer.proved:
                    self._write(proved=True, trying=False)
                    self._tidy()
            return made
        return make(default_release())

    def _begin(self) -> str | None:
        """Note that the release is about to be loaded; gives it, or the one before where that has failed already."""
        with self._lock:
            if self._pointer.trying and not self._pointer.proved:
                log.error("the program ended while it loaded the release %s: the one before is used", self.current)
                self._go_back()
            if self.current is not None and not self._pointer.proved:
                self._write(trying=True)
            return self.current

    def _go_back(self) -> None:
        with self._lock:
            broken = self._pointer.current
            self._write(current=self._pointer.previous, previous=None, proved=True, trying=False)
            if broken is not None and broken != self._pointer.current:
                shutil.rmtree(self._folder / broken, ignore_errors=True)

    def _switch(self, release: str) -> None:
        pointer = self._pointer
        before = pointer.current if pointer.proved else pointer.previous
        known = release == pointer.previous
        wanted = None if pointer.wanted is None or pointer.wanted.release == release else pointer.wanted
        self._write(current=release, previous=before, proved=known, trying=False, wanted=wanted)

    def _refuse(self, offer: ReleaseOffer) -> None:
        with self._lock:
            refused = (*self._pointer.refused, offer.sha256)[-MOST_REFUSED:]
            self._write(refused=refused, wanted=None if self._pointer.wanted == offer else self._pointer.wanted)

    def _tidy(self) -> None:
        """Remove releases that are neither in use nor the one before, and pieces that nobody waits for."""
        kept = {self._pointer.current, self._pointer.previous, POINTER}
        if self._pointer.wanted is not None:
            kept.add(self._part(self._pointer.wanted).name)
        for path in self._folder.iterdir():
            if path.name not in kept:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _is_here(self, release: str) -> bool:
        return (self._folder / release).is_dir()

    def _part(self, offer: ReleaseOffer) -> Path:
        return self._folder / f"{offer.sha256}.part"

    def _read(self) -> _Pointer:
        try:
            pointer = _Pointer.model_validate_json((self._folder / POINTER).read_bytes())
        except FileNotFoundError:
            return _Pointer()
        except (OSError, ValidationError):
            log.error("%s is damaged: the release installed with the program is used", POINTER)
            return _Pointer()
        if pointer.current is not None and not self._is_here(pointer.current):
            return pointer.model_copy(update={"current": pointer.previous, "previous": None, "proved": True})
        return pointer

    def _write(self, **changes: object) -> None:
        """Replace the pointer, on the disk before it counts."""
        pointer = self._pointer.model_copy(update=changes)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            draft = self._folder / f"{POINTER}.new"
            with draft.open("w") as file:
                json.dump(pointer.model_dump(mode="json"), file)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._folder / POINTER)
        except OSError as error:
            raise _no_room(error) from None
        self._pointer = pointer


def _no_room(error: OSError) -> FirstRayError:
    return FirstRayError(
        "release_no_room",
        f"The new release cannot be kept on this device ({error.strerror or type(error).__name__}).",
        "Make room on the disk; the release in use goes on.",
    )
