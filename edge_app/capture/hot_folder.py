"""Watches a folder, and USB media when they are plugged in, and takes in the radiographs found there.

Nothing there is changed, moved or deleted: it is someone else's. Links are not followed, and nothing but regular files
is opened. From the watched folder every image is taken. From a medium only radiographs in DICOM are, for it may hold
thousands of other pictures; and none at all where there are many, for then nobody can know which one is meant.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from edge_app.capture.files import copy
from edge_app.capture.intake import Intake, Source
from edge_app.capture.scan import ENTRIES, Signature, mounted_media, regular_files, signature_of
from edge_app.capture.sop_classes import RADIOGRAPH_CLASSES, START_BYTES, sop_class
from shared.errors import FirstRayError, RadiographError
from shared.radiograph import Limits, open_image

__all__ = ["ERRORS", "HotFolder", "Problem", "mounted_media"]

LOG: Final = logging.getLogger(__name__)

STOP_S: Final = 30.0
MOST_OF_TIME: Final = 0.1
"""Share of the time that may go into looking at folders: after a slow round follows a longer pause."""
GONE_MARKS: Final = ENTRIES
"""Of so many files that are no longer there is remembered that they were taken: their drive may come back."""

ERRORS: Final[dict[str, tuple[str, str]]] = {
    "folder_unreadable": (
        "The watched folder cannot be read, so no image can come in through it.",
        "Check whether it exists and its drive is connected.",
    ),
    "folder_crowded": (
        "The medium holds many radiographs, so none was taken by itself.",
        "Open the right one by hand.",
    ),
    "folder_not_a_radiograph": (
        "A DICOM file in the watched folder is not a radiograph (CR, DX or Secondary Capture).",
        "Put the chest radiograph itself there.",
    ),
}
"""Every code of this module: (what happened, what to do next). The codes never change their meaning."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that could not be taken in; told once.

    Attributes:
        error: of :data:`ERRORS`, of :mod:`shared.radiograph` or of the store.
        path: the file, folder or medium. May name a patient: for the screen, never for a log.
    """

    error: FirstRayError
    path: Path


def mark(path: Path, seen: Signature) -> str:
    """A short text that stands for a file as it is now, over restarts too, and does not tell its name."""
    _, _, size, modified = seen
    return hashlib.sha256(os.fsencode(path) + f"\0{size} {modified}".encode()).hexdigest()[:24]


class HotFolder:
    """Takes in what appears in a folder or on a medium. Also a context manager that starts and stops.

    A file is taken when its size and time of modification stood still for ``settle_seconds``. What was taken or refused
    is remembered while it is there. What was taken is remembered longer, over restarts and where a stick is plugged in
    again, or a radiograph deleted on this device would come back, and into the run of whoever is the patient then.
    Where the store refuses (locked, full), the file is tried again until it takes it.

    Args:
        intake: the store.
        folder: the watched folder, or None.
        media: lists the media to search, called once a round.
        on_problem: told of each problem once, on the watching thread.
        interval: seconds from round to round.
        settle_seconds: how long a file must have stood still.
        most: a medium with more new radiographs than this is left alone (``folder_crowded``).
        limits: what a file may cost; ``file_bytes`` counts here.
        recall, remember: give and keep the marks of files taken, and of those refused in the watched folder (texts that
            tell nothing).
    """

    def __init__(
        self,
        intake: Intake,
        folder: Path | None,
        *,
        media: Callable[[], list[Path]] = mounted_media,
        on_problem: Callable[[Problem], None] | None = None,
        interval: float = 1.0,
        settle_seconds: float = 2.0,
        most: int = 20,
        limits: Limits | None = None,
        recall: Callable[[], Iterable[str]] = tuple,
        remember: Callable[[list[str]], None] = lambda marks: None,
    ) -> None:
        self._intake = intake
        self._folder = folder
        self._media = media
        self._on_problem = on_problem
        self._interval = interval
        self._settle_seconds = settle_seconds
        self._most = most
        self._limits = limits or Limits()
        self._remember = remember
        self._marks = dict.fromkeys(recall())  # the latest last
        self._marks_kept = True
        self._still: dict[Path, tuple[Signature, float]] = {}  # since when (monotonic) each file stands still
        self._done: dict[Path, Signature] = {}
        self._told: set[tuple[Path | None, str]] = set()  # (folder, or None for the store; code)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to watch. Does nothing where it does already."""
        if self._thread is None:
            self._stopping.clear()
            self._thread = threading.Thread(target=self._run, name="hot folder", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop watching; a file being taken is finished first, unless its disk does not answer for :data:`STOP_S`."""
        if self._thread is not None:
            self._stopping.set()
            self._thread.join(STOP_S)
            self._thread = None

    def poll(self) -> None:
        """One round: look at everything, take what is new and stands still, the newest first."""
        media = self._media()
        found = {root: self._look(root) for root in (*filter(None, [self._folder]), *media)}
        if self._folder is not None:
            self._take_all(self._settled(found[self._folder]))
        for medium in media:
            wanted = [path for path in self._settled(found[medium]) if self._is_wanted(path)]
            if len(wanted) > self._most:
                self._done |= {path: found[medium][path] for path in wanted}
                self._tell("folder_crowded", medium)
            else:
                self._take_all(wanted)
        self._forget(found)
        self._keep_marks(found)

    def _run(self) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self.poll()
            except Exception as error:  # noqa: BLE001  the watch must outlive a mistake in here, and say so
                LOG.error("a round of the hot folder failed: %s", type(error).__name__)
            self._stopping.wait(max(self._interval, (time.monotonic() - began) / MOST_OF_TIME))

    def _look(self, root: Path) -> dict[Path, Signature]:
        try:
            found = dict(regular_files(root))
        except OSError:
            self._tell("folder_unreadable", root)
            return {}
        self._told.discard((root, "folder_unreadable"))
        return found

    def _settled(self, found: dict[Path, Signature]) -> list[Path]:
        """The files not yet dealt with that have stood still long enough, the newest first."""
        now, settled = time.monotonic(), []
        for path, signature in found.items():
            if self._done.get(path) == signature:
                continue
            if mark(path, signature) in self._marks:
                self._done[path] = signature
                continue
            if path not in self._still or self._still[path][0] != signature:
                self._still[path] = signature, now
            if now - self._still[path][1] >= self._settle_seconds:
                settled.append(path)
        return sorted(settled, key=lambda path: found[path][3], reverse=True)

    def _is_wanted(self, path: Path) -> bool:
        """Whether a file on a medium is a radiograph in DICOM; any other is passed over from now on, untold."""
        try:
            file, kind = open_image(path, self._limits)
            with file:
                wanted = kind == "dicom" and sop_class(file.read(START_BYTES)) in RADIOGRAPH_CLASSES
        except (OSError, RadiographError):
            wanted = False
        if not wanted:
            self._done[path] = self._still[path][0]
        return wanted

    def _take_all(self, paths: list[Path]) -> None:
        for path in paths:
            if self._stopping.is_set():
                return
            try:
                self._take(path)
            except RadiographError as error:  # of the file: it is not tried again
                self._done[path] = self._still[path][0]
                if self._folder in path.parents:  # of a medium it may be its plug: it is tried when plugged in again
                    self._mark(path)
                self._tell_error(error, path)
            except FirstRayError as error:  # of the store: the next round tries again
                if (None, error.code) not in self._told:
                    self._told.add((None, error.code))
                    self._tell_error(error, path)
                return

    def _take(self, path: Path) -> None:
        signature = self._still[path][0]
        file, kind = open_image(path, self._limits)
        with file:
            if signature_of(os.fstat(file.fileno())) != signature:  # not the file that was looked at: the next round
                return
            if kind == "dicom" and sop_class(file.read(START_BYTES)) not in (None, *RADIOGRAPH_CLASSES):
                raise RadiographError("folder_not_a_radiograph", *ERRORS["folder_not_a_radiograph"])
            file.seek(0)
            try:
                radiograph = copy(file, self._intake, Source.FOLDER)
            except RadiographError:
                if signature_of(os.fstat(file.fileno())) != signature:  # written to meanwhile: a later round
                    return
                raise
        self._done[path] = signature
        self._mark(path)
        self._told = {(root, code) for root, code in self._told if root is not None}
        LOG.info("radiograph %s stored", radiograph)

    def _mark(self, path: Path) -> None:
        self._marks[mark(path, self._done[path])] = None
        self._marks_kept = False

    def _keep_marks(self, found: dict[Path, dict[Path, Signature]]) -> None:
        """Have the marks kept where there are new ones: of all that is there, and the latest of what is gone."""
        if self._marks_kept:
            return
        present = {mark(path, seen) for files in found.values() for path, seen in files.items()}
        gone = [each for each in self._marks if each not in present]
        for each in gone[:-GONE_MARKS]:
            del self._marks[each]
        self._remember(list(self._marks))
        self._marks_kept = True

    def _forget(self, found: dict[Path, dict[Path, Signature]]) -> None:
        """Forget what is gone, so that a stick plugged in again is looked at again."""
        present = {path for files in found.values() for path in files}
        self._still = {path: still for path, still in self._still.items() if path in present}
        self._done = {path: signature for path, signature in self._done.items() if path in present}
        self._told = {(root, code) for root, code in self._told if root is None or root in found}

    def _tell(self, code: str, root: Path) -> None:
        if (root, code) not in self._told:
            self._told.add((root, code))
            self._tell_error(FirstRayError(code, *ERRORS[code]), root)

    def _tell_error(self, error: FirstRayError, path: Path) -> None:
        LOG.warning("hot folder: %s", error.code)
        if self._on_problem is not None:
            self._on_problem(Problem(error, path))
