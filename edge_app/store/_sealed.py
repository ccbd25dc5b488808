"""Encrypted image files, written and read piece by piece.

A file has its own key, HKDF of the store's image key and 32 random bytes at its start. Then come a label (what the
file is, JSON, padded) and the content in chunks, each sealed with AES-256-GCM. The nonce of a chunk is its number and
whether it is the last: the STREAM construction of Hoang et al. (CRYPTO 2015), which finds chunks dropped, swapped or
cut off.
"""

from __future__ import annotations

import io
import json
import secrets
from typing import IO, Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from edge_app.store.errors import StoreError

CHUNK: Final = 64 * 1024
SALT: Final = 32
TAG: Final = 16
LABEL: Final = 512
START: Final = SALT + LABEL + TAG
_LABEL_NONCE: Final = b"\xff" * 12


def _cipher(key: bytes, salt: bytes) -> AESGCM:
    return AESGCM(HKDF(SHA256(), 32, salt=salt, info=b"FirstRay image 1").derive(key))


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


class SealedWriter:
    """Writes one sealed file; the label is known only at the end, its place is kept free."""

    def __init__(self, file: IO[bytes], key: bytes) -> None:
        salt = secrets.token_bytes(SALT)
        self._file = file
        self._cipher = _cipher(key, salt)
        self._rest = bytearray()
        self._number = 0
        file.write(salt + bytes(LABEL + TAG))

    def write(self, data: bytes) -> None:
        """Add content; at least one byte is always kept back, because the last chunk is sealed as the last."""
        self._rest += data
        whole = max(len(self._rest) - 1, 0) // CHUNK * CHUNK
        for start in range(0, whole, CHUNK):
            self._seal(bytes(self._rest[start : start + CHUNK]), last=False)
        del self._rest[:whole]

    def finish(self, label: dict[str, Any]) -> None:
        """Seal the last chunk and the label."""
        self._seal(bytes(self._rest), last=True)
        self._rest.clear()
        text = json.dumps(label).encode()
        if len(text) > LABEL:
            raise ValueError("the label of a sealed file is too long")
        self._file.seek(SALT)
        self._file.write(self._cipher.encrypt(_LABEL_NONCE, text.ljust(LABEL), None))

    def _seal(self, chunk: bytes, last: bool) -> None:
        self._file.write(self._cipher.encrypt(_nonce(self._number, last), chunk, None))
        self._number += 1


class SealedReader(io.RawIOBase):
    """Reads one sealed file from any place, a chunk at a time; closing it closes the file.

    Raises:
        StoreError: ``image_damaged`` as soon as a read meets a byte that is not what was written.
    """

    def __init__(self, file: IO[bytes], key: bytes) -> None:
        super().__init__()
        self._file = file
        sealed = file.seek(0, io.SEEK_END) - START
        self._last = max(sealed - 1, 0) // (CHUNK + TAG)
        self.size = sealed - (self._last + 1) * TAG
        self._place = 0
        self._chunk: tuple[int, bytes] = (-1, b"")
        if self.size < 0:
            raise StoreError("image_damaged")
        file.seek(0)
        self._cipher = _cipher(key, file.read(SALT))
        self.label: dict[str, Any] = json.loads(self._opened(_LABEL_NONCE, file.read(LABEL + TAG)))

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Place of the next byte."""
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As :meth:`io.IOBase.seek`."""
        self._place = max(0, {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self.size}[whence] + offset)
        return self._place

    def readinto(self, buffer: Any) -> int:
        """As :meth:`io.RawIOBase.readinto`; at most to the end of a chunk."""
        number, within = divmod(self._place, CHUNK)
        if self._place >= self.size:
            number, within = self._last, CHUNK
        part = self._opened_chunk(number)[within : within + len(buffer)]
        buffer[: len(part)] = part
        self._place += len(part)
        return len(part)

    def close(self) -> None:
        """Close the file too."""
        self._file.close()
        super().close()

    def _opened_chunk(self, number: int) -> bytes:
        if self._chunk[0] != number:
            self._file.seek(START + number * (CHUNK + TAG))
            sealed = self._file.read(CHUNK + TAG)
            self._chunk = (number, self._opened(_nonce(number, number == self._last), sealed))
        return self._chunk[1]

    def _opened(self, nonce: bytes, sealed: bytes) -> bytes:
        try:
            return self._cipher.decrypt(nonce, sealed, None)
        except (InvalidTag, ValueError):
            raise StoreError("image_damaged") from None
