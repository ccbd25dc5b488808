"""Runs with their images as one ZIP, written while it is sent."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Generator, Iterable, Iterator
from datetime import datetime
from typing import IO, Any, Final

from sync_server.domain.images import ImageStore
from sync_server.domain.whole_runs import Film, Run
from sync_server.interop import fhir, table

CHUNK: Final = 256 * 1024


def package(runs: Iterable[Run], images: ImageStore, now: datetime) -> Iterator[bytes]:
    """A ZIP: ``runs/RUN.json`` (a FHIR bundle each), ``runs.csv``, ``images/SHA256.ENDING``, and ``images.csv``.

    ``images.csv`` says which image is whose and which the hospital does not hold. Images are stored as they are. In
    memory are one run, a part of one image, and the lines of the two tables so far.
    """
    sink = _Sink()
    runs_table, index = io.BytesIO(), io.BytesIO()
    runs_table.write(table.MARK + table.line(table.COLUMNS))
    index.write(table.line(("run", "film", "kind", "file", "sha256", "held")))
    written: dict[str, str] = {}
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive_file:
        for run in runs:
            runs_table.write(table.lines(run))
            archive_file.writestr(_entry(f"runs/{run.id}.json", now), b"".join(fhir.bundle([run], now)))
            yield from sink.taken()
            for film, kind, sha256 in _images(run):
                if sha256 not in written and images.exists(sha256):
                    with images.open(sha256) as file:
                        name = yield from _stored(archive_file, sink, file, sha256, now)
                    written[sha256] = name
                index.write(table.line((run.id, film.id, kind, written.get(sha256, ""), sha256, sha256 in written)))
        archive_file.writestr(_entry("runs.csv", now), runs_table.getvalue())
        archive_file.writestr(_entry("images.csv", now), index.getvalue())
        yield from sink.taken()
    yield from sink.taken()


def _images(run: Run) -> Iterator[tuple[Film, str, str]]:
    for film in run.films:
        if film.fields.sha256:
            yield film, "original", film.fields.sha256
        if film.fields.preview_sha256:
            yield film, "preview", film.fields.preview_sha256


def _stored(
    archive_file: zipfile.ZipFile, sink: _Sink, file: IO[bytes], sha256: str, now: datetime
) -> Generator[bytes, None, str]:
    first = file.read(CHUNK)
    entry = _entry(f"images/{sha256}.{_ending(first)}", now)
    entry.compress_type = zipfile.ZIP_STORED
    with archive_file.open(entry, "w", force_zip64=True) as target:
        chunk = first
        while chunk:
            target.write(chunk)
            yield from sink.taken()
            chunk = file.read(CHUNK)
    return entry.filename


def _entry(name: str, now: datetime) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, now.astimezone().timetuple()[:6])
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o600 << 16
    return entry


def _ending(first: bytes) -> str:
    if first[128:132] == b"DICM":
        return "dcm"
    if first.startswith(b"\xff\xd8\xff"):
        return "jpg"
    return "png" if first.startswith(b"\x89PNG") else "bin"


class _Sink(io.RawIOBase):
    """Where the ZIP is written: what has gathered is taken away and sent."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(self._parts[-1])

    def taken(self) -> Iterator[bytes]:
        parts, self._parts = self._parts, []
        yield from parts
