"""What :mod:`shared._guard` and its decoder process say to each other, and the limits both keep.

A message is a 4-byte big-endian length, that many bytes of JSON (one object), then as many raw bytes as the object
announces. Nothing is pickled: a decoder process taken over by a hostile file can only send text and numbers, which the
reading side checks.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any, Final

MAX_HEADER_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class Limits:
    """What one file may cost. A file that would cost more is refused with a coded error.

    Attributes:
        seconds: wall-clock time of decoding.
        memory_bytes: address space of the decoder process (about 130 MB of it are the interpreter and its libraries;
            enforced on Linux).
        pixels: rows x columns, checked before the pixels are decoded.
        smallest_side: the smaller of rows and columns must be at least this many pixels.
        file_bytes: size of the file, and of a deflated DICOM data set once inflated.
        sequence_depth: sequences within sequences of a DICOM data set.
        elements: data elements of a DICOM data set, those in sequences included.
    """

    seconds: float = 20.0
    memory_bytes: int = 2 << 30
    pixels: int = 64_000_000
    smallest_side: int = 64
    file_bytes: int = 256 << 20
    sequence_depth: int = 32
    elements: int = 100_000


DEFAULT_LIMITS: Final = Limits()


class Failure(Exception):
    """A file was refused for the reason ``code``, a key of ``shared.radiograph.ERRORS``.

    ``detail`` is a few words for support (a number, a name of the standard), never text out of the file.
    """

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail


def write_message(stream: io.RawIOBase, header: dict[str, Any], payload: bytes | memoryview = b"") -> None:
    """Write one message. Raises OSError when the other side is gone."""
    text = json.dumps(header).encode()
    for part in (len(text).to_bytes(4, "big") + text, payload):
        rest = memoryview(part).cast("B")
        while rest:
            rest = rest[stream.write(rest) or 0 :]


def read_header(stream: io.RawIOBase | io.BufferedReader) -> dict[str, Any]:
    """Read the JSON object of the next message. Raises EOFError at the end, ValueError when it is not a message."""
    prefix = bytearray(4)
    read_into(stream, memoryview(prefix))
    length = int.from_bytes(prefix, "big")
    if length > MAX_HEADER_BYTES:
        raise ValueError("the header of a message is too long")
    text = bytearray(length)
    read_into(stream, memoryview(text))
    header = json.loads(text)
    if not isinstance(header, dict):
        raise ValueError("the header of a message is not an object")
    return header


def read_into(stream: io.RawIOBase | io.BufferedReader, rest: memoryview) -> None:
    """Fill ``rest`` (bytes). Raises EOFError when the stream ends before."""
    while rest:
        count = stream.readinto(rest)
        if not count:
            raise EOFError("the other side closed the pipe")
        rest = rest[count:]
