"""The server's own secrets: made at its first start, in files that only its user can read."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from shared.errors import FirstRayError

SECRET_BYTES: Final = 32


def load_secret(file: Path) -> bytes:
    """The secret in ``file``, made if there is none; raises ``key_damaged`` or ``key_unsafe``."""
    return _load(file, lambda: secrets.token_bytes(SECRET_BYTES))


def load_receipt_key(file: Path) -> Ed25519PrivateKey:
    """The key in ``file`` (32 raw bytes, RFC 8032), made if there is none; raises ``key_damaged`` or ``key_unsafe``.

    Devices learn its public half at enrolment: where it is lost, every device must be enrolled again.
    """
    return Ed25519PrivateKey.from_private_bytes(_load(file, _new_receipt_key))


def _new_receipt_key() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())


def _load(file: Path, make: Callable[[], bytes]) -> bytes:
    if not file.exists():
        _write_once(file, make())
    if file.stat().st_mode & 0o077:
        raise FirstRayError("key_unsafe", f"Others than the server can read {file}.", f"chmod 600 {file}")
    content = file.read_bytes()
    if len(content) != SECRET_BYTES:
        raise FirstRayError(
            "key_damaged",
            f"{file} has not the {SECRET_BYTES} bytes that were written.",
            "Restore it from a backup.",
        )
    return content


def _write_once(file: Path, content: bytes) -> None:
    """Write durably; where two processes start at once, the first one's file stays."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    try:
        with contextlib.suppress(FileExistsError):
            os.link(draft, file)
    finally:
        draft.unlink()
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
