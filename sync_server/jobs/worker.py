"""The worker: keeps reader processes at work on one machine, and finds out what those that ended were doing.

``firstray serve`` has one inside; ``firstray worker`` is one alone, on any number of machines with the same database
and image store.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Final, Self

from sqlalchemy.exc import DBAPIError
from uuid6 import uuid7

from shared.errors import FirstRayError
from shared.runtime import has_gpu
from sync_server import logs
from sync_server.domain import readings, releases
from sync_server.hospital import Hospital, open_hospital
from sync_server.jobs import queue
from sync_server.jobs.reader import BROKEN, BROKEN_EXIT, Plan, main
from sync_server.settings import Settings

STOP_S: Final = 20.0
"""A reader that is told to end finishes its batch within this, or is killed; its jobs come due again."""
LOOK_S: Final = 0.5
LEAST_LIFE_S: Final = 60.0
"""A reader that lived so long is replaced at once; one that did not, after a rest that grows."""
MOST_REST_S: Final = 60.0
PREPARE_AGAIN_S: Final = 60.0
GPU_PLAN: Final = Plan(batch=16, decoders=2, threads=1)
CPU_PLAN: Final = Plan()
log = logging.getLogger(__name__)


def usual_readers(gpu: bool, cores: int) -> int:
    """Reader processes of a machine: one a core, or, with a GPU, one for three cores, which feed it."""
    return max(1, cores // 3) if gpu else max(1, cores)


class _Slot:
    """A place for one reader, which is replaced when it ends."""

    def __init__(self, settings: Settings, plan: Plan) -> None:
        self._settings = settings
        self._plan = plan
        self._began = 0.0
        self._short_lives = 0
        self._not_before = 0.0
        self.name = ""
        self.process: BaseProcess | None = None

    def start_if_due(self) -> None:
        """Start a reader unless there is one or it is too early."""
        if self.process is not None or time.monotonic() < self._not_before:
            return
        self.name = f"{socket.gethostname()}:{os.getpid()}:{uuid7().hex[-8:]}"
        context = multiprocessing.get_context("spawn")
        work = (self._settings.model_dump(), self.name, self._plan)
        process = context.Process(target=main, args=work, name="reader", daemon=True)
        process.start()
        self.process = process
        self._began = time.monotonic()

    def ended(self) -> int | None:
        """The exit code of a reader that has ended, once; None where it runs or there is none."""
        if self.process is None or self.process.is_alive():
            return None
        self.process.join()
        code = self.process.exitcode
        self.process = None
        now = time.monotonic()
        self._short_lives = 0 if now - self._began >= LEAST_LIFE_S else self._short_lives + 1
        self._not_before = now + (min(2.0 ** (self._short_lives - 1), MOST_REST_S) if self._short_lives else 0.0)
        return code

    def stop(self, until: float) -> None:
        """End the reader: kindly until then, else by force."""
        if self.process is None:
            return
        self.process.join(max(0.0, until - time.monotonic()))
        if self.process.is_alive():
            log.warning("reader %s does not end and is killed; its jobs come due again", self.name)
            self.process.kill()
            self.process.join()


class Worker:
    """Readers of one machine; a context manager: entering starts them, leaving ends them.

    Args:
        settings: of the server.
        readers: how many; None means as the machine has cores or a GPU.
    """

    def __init__(self, settings: Settings, readers: int | None = None) -> None:
        gpu = has_gpu()
        self._settings = settings
        count = readers if readers is not None else usual_readers(gpu, os.cpu_count() or 1)
        self._slots = [_Slot(settings, GPU_PLAN if gpu else CPU_PLAN) for _ in range(count)]
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        hospital = open_hospital(self._settings, listen=False)
        self._thread = threading.Thread(target=self._run, args=(hospital,), name="worker", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(STOP_S + 10)

    def _run(self, hospital: Hospital) -> None:
        try:
            self._prepare_until_done(hospital)
            while not self._stopped.is_set():
                try:
                    self._look_after(hospital)
                except Exception as error:
                    log.exception("the worker met an error of its own: %s", type(error).__name__)
                    self._stopped.wait(LOOK_S)
        finally:
            self._stop_all()
            hospital.close()

    def _prepare_until_done(self, hospital: Hospital) -> None:
        while not self._stopped.is_set():
            try:
                prepare(hospital)
                return
            except FirstRayError as error:
                log.error("nothing is read: %s %s", error.code, error)
            except DBAPIError as error:
                log.error("the database does not answer: %s", type(error.orig).__name__)
            except Exception as error:
                log.exception("nothing is read; the worker met an error of its own: %s", type(error).__name__)
            self._stopped.wait(PREPARE_AGAIN_S)

    def _look_after(self, hospital: Hospital) -> None:
        for slot in self._slots:
            slot.start_if_due()
        wait([slot.process.sentinel for slot in self._slots if slot.process is not None], LOOK_S)
        for slot in self._slots:
            name, code = slot.name, slot.ended()
            if code is not None:
                self._reader_ended(hospital, name, code)

    def _reader_ended(self, hospital: Hospital, name: str, code: int) -> None:
        """What it was doing has failed once more, so that an image that ends readers is set aside."""
        log.error("reader %s ended (exit code %d) and is replaced", name, code)
        try:
            with hospital.database.reading() as session:
                jobs = queue.held_by(session, name)
            for job in jobs:
                hospital.database.write(
                    partial(queue.put_back, job=job, code=BROKEN)
                    if code == BROKEN_EXIT
                    else partial(queue.fail, job=job, code="reader_died")
                )
        except DBAPIError as error:  # the jobs come due again when their lease ends
            log.error("the database does not answer: %s", type(error.orig).__name__)

    def _stop_all(self) -> None:
        for slot in self._slots:
            if slot.process is not None and slot.process.is_alive():
                slot.process.terminate()
        until = time.monotonic() + STOP_S
        for slot in self._slots:
            slot.stop(until)


def prepare(hospital: Hospital) -> None:
    """Know what release to read with, and have read what nobody has asked for yet.

    Raises:
        FirstRayError: there is no release, or it is not to be trusted.
    """
    release = releases.ensure_server_release(hospital)
    with hospital.database.reading() as session:
        unread = readings.unread(session)
    for sha256 in unread:
        hospital.database.write(partial(readings.original_held, sha256=sha256))
    log.info("readings are made with release %s; %d images were waiting for it", release, len(unread))


def run(settings: Settings, readers: int | None = None) -> None:
    """``firstray worker``: work until SIGTERM or SIGINT."""
    logs.set_up(settings.log_level)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with Worker(settings, readers):
        ended.wait()
