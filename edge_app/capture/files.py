"""Takes in a file that someone picked."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Final
from uuid import UUID

from edge_app.capture.intake import Arrival, Intake, Source
from edge_app.capture.scan import signature_of
from shared.errors import RadiographError
from shared.radiograph import ERRORS, Limits, open_image

CHUNK_BYTES: Final = 1 << 20


def take_file(path: Path, intake: Intake, limits: Limits | None = None) -> UUID:
    """Copy a file into the store if it begins like an image. Whether it can be decoded is not looked at here.

    Args:
        path: the file; it is only read.
        intake: the store.
        limits: what the file may cost; ``file_bytes`` counts here.

    Returns:
        The radiograph's id.

    Raises:
        RadiographError: ``file_missing``, ``file_not_regular``, ``file_unreadable``, ``file_empty``,
            ``file_too_large``, ``format_unknown``.
        FirstRayError: of the store, see :class:`~edge_app.capture.intake.Spool`.
    """
    file, _ = open_image(path, limits or Limits())
    with file:
        return copy(file, intake, Source.FILE)


def copy(file: FileIO, intake: Intake, source: Source) -> UUID:
    """Copy an open file, as long as it is now, into the store. Raises as :func:`take_file`.

    A file that is written to meanwhile is ``file_unreadable``: half of each state is an image that never was.
    """
    before = signature_of(os.fstat(file.fileno()))
    rest = os.fstat(file.fileno()).st_size - file.tell()
    with intake.spool() as spool:
        while rest:
            chunk = _read(file, min(rest, CHUNK_BYTES))
            rest -= len(chunk)
            spool.write(chunk)
        if signature_of(os.fstat(file.fileno())) != before:
            raise RadiographError("file_unreadable", *ERRORS["file_unreadable"])
        return spool.commit(Arrival(source, None, datetime.now(UTC)))


def _read(file: FileIO, most: int) -> bytes:
    try:
        chunk = file.read(most)
    except OSError as error:
        raise RadiographError("file_unreadable", *ERRORS["file_unreadable"]) from error
    if not chunk:  # it became shorter while it was read
        raise RadiographError("file_unreadable", *ERRORS["file_unreadable"])
    return chunk
