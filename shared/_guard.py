"""Runs the image decoders in a process of their own, so that no file can harm the program that reads it.

A decoder process (:mod:`shared._decode`) is kept between files, because starting one takes a fifth of a second. It is
killed and forgotten when it passes its time, breaks off, or runs out of memory; the next file gets a new one. Each
thread that decodes has a process to itself while it does.
"""

from __future__ import annotations

import atexit
import hashlib
import io
import os
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt

from shared._wire import Failure, Limits, read_header, read_into, write_message

START_SECONDS: Final = 60.0
MOST_IDLE: Final = 2
PIPE_BYTES: Final = 1 << 20

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Decoded:
    """``pixels`` [H, W], what the decoder says about them (unchecked but for their shape), and the file's SHA-256."""

    pixels: Pixels
    header: dict[str, Any]
    sha256: str


class _Deadline:
    """Kills ``process`` unless the ``with`` block ends within ``seconds``; ``passed`` tells whether it did."""

    def __init__(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        self.passed = False
        self._process = process
        self._over = False
        self._lock = threading.Lock()
        self._timer = threading.Timer(seconds, self._expire)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._timer.cancel()
        with self._lock:
            self._over = True

    def _expire(self) -> None:
        with self._lock:
            if not self._over:
                self.passed = True
                self._process.kill()


class _Worker:
    """One decoder process. ``usable`` is False from the start of a file until its whole answer has been read."""

    def __init__(self, memory_bytes: int) -> None:
        self.memory_bytes = memory_bytes
        self.usable = True
        self._ready = False
        root = str(Path(__file__).resolve().parents[1])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "shared._decode", str(memory_bytes)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                env={**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except OSError as error:
            raise Failure("decoder_unavailable", type(error).__name__) from error
        self._requests = cast(io.RawIOBase, self.process.stdin)
        self._replies = cast(io.RawIOBase, self.process.stdout)
        if sys.platform == "linux":
            _widen(self._requests)
            _widen(self._replies)

    def decode(self, data: bytes, limits: Limits) -> Decoded:
        """Have ``data`` decoded. Raises Failure."""
        self.usable = False
        self._await_start()
        deadline = _Deadline(self.process, limits.seconds)
        try:
            with deadline:
                write_message(self._requests, {"length": len(data), "limits": asdict(limits)}, data)
                sha256 = hashlib.sha256(data).hexdigest()
                header = read_header(self._replies)
                pixels = None if "error" in header else self._receive(header, limits)
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            if not deadline.passed:
                raise Failure("decode_crashed", self._ending()) from error
        if deadline.passed:
            raise Failure("decode_timeout", f"more than {limits.seconds:g} s")
        if pixels is None:
            code = str(header["error"])
            self.usable = code != "decode_memory"
            raise Failure(code, str(header.get("detail", "")))
        self.usable = True
        return Decoded(pixels, header, sha256)

    def stop(self) -> None:
        """End the process now."""
        self.process.kill()
        self.process.wait()
        self._requests.close()
        self._replies.close()

    def _await_start(self) -> None:
        """Wait until the process has loaded its decoders, which no file has to pay for."""
        if self._ready:
            return
        try:
            with _Deadline(self.process, START_SECONDS):
                read_header(self._replies)
        except (OSError, EOFError, ValueError) as error:
            raise Failure("decoder_unavailable", self._ending()) from error
        self._ready = True

    def _receive(self, header: dict[str, Any], limits: Limits) -> Pixels:
        """Read the pixels that ``header`` announces, once their shape and type are known to be sound."""
        height, width, dtype = header["height"], header["width"], header["dtype"]
        if type(height) is not int or type(width) is not int or dtype not in ("uint8", "uint16"):
            raise ValueError("not an image")
        if min(height, width) < limits.smallest_side or height * width > limits.pixels:
            raise ValueError("an image outside the limits")
        pixels = np.empty((height, width), dtype)
        read_into(self._replies, memoryview(pixels.data).cast("B"))
        return pixels

    def _ending(self) -> str:
        """How the process ended, for support."""
        try:
            return f"exit {self.process.wait(0.2)}"
        except subprocess.TimeoutExpired:
            return "bad answer"


def _widen(pipe: io.RawIOBase) -> None:
    """Let ``pipe`` hold a megabyte, so that seven of them cross in a few steps. A wish: the system may grant less."""
    import fcntl

    try:
        fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    except OSError:
        return


class _Pool:
    """The decoder processes that wait for a file, at most ``MOST_IDLE``."""

    def __init__(self) -> None:
        self._idle: list[_Worker] = []
        self._lock = threading.Lock()

    def take(self, memory_bytes: int) -> _Worker:
        """A waiting process with this memory limit, or a new one."""
        while True:
            with self._lock:
                worker = next((worker for worker in self._idle if worker.memory_bytes == memory_bytes), None)
                if worker is not None:
                    self._idle.remove(worker)
            if worker is None:
                return _Worker(memory_bytes)
            if worker.process.poll() is None:
                return worker
            worker.stop()

    def put_back(self, worker: _Worker) -> None:
        """Keep the process for the next file, or end it if it can't be trusted or enough are waiting."""
        surplus = worker
        if worker.usable:
            with self._lock:
                self._idle.append(worker)
                if len(self._idle) <= MOST_IDLE:
                    return
                surplus = self._idle.pop(0)
        surplus.stop()

    def close(self) -> None:
        """End the waiting processes."""
        with self._lock:
            workers, self._idle = self._idle, []
        for worker in workers:
            worker.stop()

    def forget(self) -> None:
        """Leave the waiting processes to the parent, after a fork."""
        self._idle = []
        self._lock = threading.Lock()


_pool = _Pool()
atexit.register(_pool.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.forget)


def decode(data: bytes, limits: Limits) -> Decoded:
    """Decode the bytes of one file in a decoder process.

    Args:
        data: the whole file, not empty.
        limits: what it may cost.

    Returns:
        Its pixels with height, width and type checked against ``limits``, and the SHA-256 of ``data``.

    Raises:
        Failure: with a code of ``shared.radiograph.ERRORS``.
    """
    worker = _pool.take(limits.memory_bytes)
    try:
        return worker.decode(data, limits)
    finally:
        _pool.put_back(worker)


def warm_up(limits: Limits) -> None:
    """Start a decoder process unless one is waiting. Returns at once; raises Failure if none can be started."""
    _pool.put_back(_pool.take(limits.memory_bytes))
