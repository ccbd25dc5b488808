"""Ids of deleted records, kept beside the database, so that a restored backup brings none of them back.

A file of entries of one length, each sealed with AES-256-GCM, appended to before the deletion is committed.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from edge_app.store.errors import coded
from shared.records import RecordType

NONCE: Final = 12
ENTRY: Final = NONCE + 17 + 16
_TYPES: Final = tuple(RecordType)


class Graves:
    """The list in ``file``."""

    def __init__(self, file: Path, key: bytes) -> None:
        self._file = file
        self._cipher = AESGCM(key)

    def add(self, records: Iterable[tuple[RecordType, UUID]]) -> None:
        """Append, durably."""
        entries = b"".join(self._sealed(type, id) for type, id in records)
        with coded(), open(os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
            whole = file.seek(0, os.SEEK_END) // ENTRY * ENTRY  # an entry cut off by a lost power supply is overwritten
            file.seek(whole)
            file.write(entries)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> dict[UUID, RecordType]:
        """All of them; entries that are damaged are left out."""
        with coded():
            data = self._file.read_bytes() if self._file.exists() else b""
        graves = {}
        for start in range(0, len(data) - ENTRY + 1, ENTRY):
            entry = data[start : start + ENTRY]
            try:
                plain = self._cipher.decrypt(entry[:NONCE], entry[NONCE:], None)
            except InvalidTag:
                continue
            graves[UUID(bytes=plain[1:])] = _TYPES[plain[0]]
        return graves

    def _sealed(self, type: RecordType, id: UUID) -> bytes:
        nonce = secrets.token_bytes(NONCE)
        return nonce + self._cipher.encrypt(nonce, bytes([_TYPES.index(type)]) + id.bytes, None)
