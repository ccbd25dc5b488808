"""The key of the store, wrapped by the crew's PIN or passphrase.

A random master key of 32 bytes lies in ``keys.json`` only in wrapped form: AES-256-GCM under a key that Argon2id
(RFC 9106) makes of the PIN. Whoever copies the disk must run Argon2id for every guess: six digits then last days, not
for ever; a passphrase of ten characters lasts. What the store uses is derived from the master key (HKDF, RFC 5869).
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import BaseModel, Field

from edge_app.clocks import seconds_since_boot
from edge_app.store._disk import make_folder, sync_folder, write_durably
from edge_app.store._memory import forbid_core_dumps
from edge_app.store.errors import StoreError, coded
from shared.errors import FirstRayError

FILE: Final = "keys.json"
COST: Final = {"memory_kib": 128 * 1024, "iterations": 3, "lanes": 4}
"""Of Argon2id for new wraps; an older wrap keeps its own until the PIN is changed."""
WAITS: Final = (0, 0, 0, 5, 15, 60, 300, 900)
"""Seconds to wait after the first, second, ... wrong try; the last for every further one."""
_BOUND: Final = b"FirstRay master key 1"


class PinWrong(FirstRayError):
    """Wrong PIN, or tried too early.

    Attributes:
        wait_seconds: before the next try is looked at.
        tries: wrong ones since the last right one.
    """

    def __init__(self, code: str, wait_seconds: int, tries: int) -> None:
        message = "This PIN is wrong." if code == "pin_wrong" else "There were too many wrong PINs."
        action = f"Try again in {wait_seconds} seconds." if wait_seconds else "Try again."
        super().__init__(code, message, action)
        self.wait_seconds = wait_seconds
        self.tries = tries


class _Wrap(BaseModel):
    cost: dict[str, int]
    salt: str
    nonce: str
    sealed: str


class _State(BaseModel):
    """What ``keys.json`` holds; ``failed`` says when the last wrong try was, and how long to wait since."""

    version: int
    wrap: _Wrap
    tries: Annotated[int, Field(ge=0)]
    failed: dict[str, float | str | None] | None


class MasterKey:
    """The unlocked key; :meth:`close` forgets it."""

    def __init__(self, secret: bytes) -> None:
        forbid_core_dumps()
        self._secret = bytearray(secret)

    @property
    def database_key(self) -> str:
        """Raw key of SQLCipher, 64 hexadecimal digits."""
        return self._derived("database").hex()

    @property
    def blob_key(self) -> bytes:
        """Of which each image file's own key is derived, 32 bytes."""
        return self._derived("images")

    @property
    def name_key(self) -> bytes:
        """Of the HMAC that names image files, 32 bytes."""
        return self._derived("image names")

    @property
    def grave_key(self) -> bytes:
        """Of the list of deleted records kept beside the database, 32 bytes."""
        return self._derived("deleted records")

    def close(self) -> None:
        """Overwrite the key in memory; what it opened stays open."""
        for place in range(len(self._secret)):
            self._secret[place] = 0
        self._secret.clear()

    def _derived(self, purpose: str) -> bytes:
        if not self._secret:
            raise StoreError("key_closed")
        return HKDF(SHA256(), 32, salt=None, info=f"FirstRay store {purpose}".encode()).derive(bytes(self._secret))


class KeyRing:
    """The wrapped key of the store in ``folder``. Safe to call from several threads and processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / FILE
        self._lock = threading.Lock()

    @property
    def exists(self) -> bool:
        """Whether a PIN was set."""
        return self._file.is_file()

    def create(self, pin: str) -> MasterKey:
        """Make the key and wrap it by a first PIN.

        Raises:
            FirstRayError: ``pin_too_short``, ``pin_too_simple``; ``key_exists`` where there is a key already.
        """
        check_pin(pin)
        with coded():
            make_folder(self._folder)
        with self._alone():
            if self.exists:
                raise FirstRayError("key_exists", "This device already has a PIN.", "Unlock it, then change the PIN.")
            secret = secrets.token_bytes(32)
            self._write({"version": 1, "wrap": _wrap(secret, pin), "tries": 0, "failed": None})
        return MasterKey(secret)

    def unlock(self, pin: str) -> MasterKey:
        """Unwrap the key; takes a good part of a second on purpose.

        A try is counted on disk before it is looked at, so pulling the plug gives none back.

        Raises:
            PinWrong: ``pin_wrong``, or ``pin_wait`` before the wait is over (which does not count as a try).
            StoreError: ``store_missing`` where there is no key.
        """
        with self._alone():
            return MasterKey(self._unwrap(pin))

    def change_pin(self, old: str, new: str) -> None:
        """Wrap the same key by a new PIN; raises what :meth:`create` and :meth:`unlock` raise."""
        check_pin(new)
        with self._alone():
            secret = self._unwrap(old)
            self._write({"version": 1, "wrap": _wrap(secret, new), "tries": 0, "failed": None})

    def destroy(self) -> None:
        """Overwrite and remove the wrapped key: nothing of the store can be read again, backups included."""
        with self._alone():
            if not self.exists:
                return
            with open(self._file, "r+b", buffering=0) as file:
                file.write(secrets.token_bytes(self._file.stat().st_size))
                os.fsync(file.fileno())
            self._file.unlink()
            for draft in self._folder.glob(f"{FILE}.*"):  # of a change of PIN that was cut off: it wraps the key too
                draft.unlink()
            sync_folder(self._folder)

    def _unwrap(self, pin: str) -> bytes:
        state = self._read()
        if state["failed"] and (left := self._still_to_wait(state)):
            raise PinWrong("pin_wait", left, state["tries"])
        tries = state["tries"] + 1
        wait = WAITS[min(tries, len(WAITS)) - 1]
        state |= {"tries": tries, "failed": _moment() | {"wait": wait}}
        self._write(state)
        try:
            secret = _unwrap(state["wrap"], pin)
        except InvalidTag:
            self._write(state | {"failed": _moment() | {"wait": wait}})
            raise PinWrong("pin_wrong", wait, tries) from None
        self._write(state | {"tries": 0, "failed": None})
        return secret

    def _still_to_wait(self, state: dict[str, Any]) -> int:
        """Seconds left; a clock set back starts the wait again, once, so it neither shortens it nor lasts for ever."""
        failed, now = state["failed"], _moment()
        clock = "up" if failed["boot"] and failed["boot"] == now["boot"] else "wall"
        passed = now[clock] - failed[clock]
        if passed < 0:
            self._write(state | {"failed": now | {"wait": failed["wait"]}})
            passed = 0.0
        left = failed["wait"] - passed
        return max(1, round(left)) if left > 0 else 0

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._folder.is_dir():
            raise StoreError("store_missing")
        with coded(), self._lock:
            descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield
            finally:
                os.close(descriptor)

    def _read(self) -> dict[str, Any]:
        if not self.exists:
            raise StoreError("store_missing")
        try:
            state = json.loads(self._file.read_bytes())
            if state["version"] != 1:
                raise StoreError("store_newer")
            return _State.model_validate(state).model_dump()
        except (ValueError, KeyError, TypeError):
            raise StoreError(
                "store_damaged",
                "The file that holds the wrapped key is damaged: the records on this device cannot be opened.",
                "Have the file keys.json put back from a copy of the device, or set the device up anew.",
            ) from None

    def _write(self, state: dict[str, Any]) -> None:
        write_durably(self._file, json.dumps(state, indent=1).encode())


def check_pin(pin: str) -> None:
    """Whether it may protect patients: 6 to 12 digits, or a passphrase of at least 10 characters, and not trivial.

    Raises:
        FirstRayError: ``pin_too_short`` or ``pin_too_simple``.
    """
    if len(pin) < 6 or (len(pin) < 10 and not _digits(pin)):
        raise FirstRayError(
            "pin_too_short", "This PIN is too short.", "Use 6 to 12 digits, or a passphrase of at least 10 characters."
        )
    if _trivial(pin) or len(pin) > 200 or (_digits(pin) and len(pin) > 12):
        raise FirstRayError(
            "pin_too_simple",
            "This PIN is too easy to guess, or too long.",
            "Use 6 to 12 digits without a pattern, or a passphrase of 10 to 200 characters.",
        )


def _digits(pin: str) -> bool:
    return pin.isascii() and pin.isdigit()


def _trivial(pin: str) -> bool:
    """One piece over and over (also in mirrored halves), few letters, or a count up or down by any step."""
    if re.fullmatch(r"(.+?)\1+", pin) or re.fullmatch(r"(..)\1+.?", pin):
        return True
    if len(set(pin)) < 3 or re.fullmatch(r"(?:(.)\1)+", pin) or pin == pin[::-1]:
        return True
    steps = {(ord(after) - ord(before)) % (10 if _digits(pin) else 0x110000) for before, after in pairwise(pin)}
    return len(steps) == 1


def _moment() -> dict[str, Any]:
    """Now, by the wall clock and by the seconds since this start of the machine, which nobody can set."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return {"wall": time.time(), "boot": boot, "up": seconds_since_boot()}
    except OSError:
        return {"wall": time.time(), "boot": None, "up": 0.0}


def _wrap(secret: bytes, pin: str) -> dict[str, Any]:
    salt, nonce = secrets.token_bytes(16), secrets.token_bytes(12)
    sealed = AESGCM(_stretched(pin, salt, COST)).encrypt(nonce, secret, _BOUND)
    texts = {"salt": salt, "nonce": nonce, "sealed": sealed}
    return {"cost": dict(COST)} | {name: b64encode(value).decode() for name, value in texts.items()}


def _unwrap(wrap: dict[str, Any], pin: str) -> bytes:
    salt, nonce, sealed = (b64decode(wrap[name]) for name in ("salt", "nonce", "sealed"))
    return AESGCM(_stretched(pin, salt, wrap["cost"])).decrypt(nonce, sealed, _BOUND)


def _stretched(pin: str, salt: bytes, cost: dict[str, int]) -> bytes:
    return Argon2id(
        salt=salt, length=32, iterations=cost["iterations"], lanes=cost["lanes"], memory_cost=cost["memory_kib"]
    ).derive(pin.encode())
