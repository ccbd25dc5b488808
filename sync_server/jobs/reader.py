"""One reader process: takes jobs, fetches and decodes the images, reads them, stores what comes of it; again and again.

What an image does to it, it does to this process alone: decoding happens in a process of its own again
(:mod:`shared.radiograph`), and a reader that dies or hangs is replaced by the worker (:mod:`sync_server.jobs.worker`).
"""

from __future__ import annotations

import ctypes
import faulthandler
import hashlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from shared.diagnosis import Diagnoser
from shared.errors import FirstRayError, RadiographError
from shared.radiograph import Radiograph, decode_radiograph
from sync_server import logs
from sync_server.domain.readings import LOST
from sync_server.hospital import Hospital, open_hospital
from sync_server.jobs import queue
from sync_server.jobs.models import Models, check_up
from sync_server.jobs.queue import Answer, Due, Job
from sync_server.settings import Settings

POLL_S: Final = 0.2
"""Between two looks for work while there is none."""
REST_S: Final = 5.0
"""After a failure of the store, the decoder or the database."""
LEAVE_S: Final = 60.0
"""So long a release that cannot be opened here is left to others."""
HANGS_S: Final = queue.LEASE.total_seconds() - 30
"""A process that works longer on one batch ends itself: before somebody else may take its jobs."""
OURS: Final = frozenset({"decode_timeout", "decode_memory", "decode_crashed"})
"""Errors that may be the machine's fault; another try follows."""
UNFIT: Final = (DataError, IntegrityError)
"""What the database says of values that it never takes, however well it is."""
NOBODYS: Final = frozenset({"decoder_unavailable"})
"""Errors that are no image's fault."""
BROKEN: Final = "models_broken"
BROKEN_EXIT: Final = 3
KEPT_BYTES: Final = 256 << 20
"""Of memory that a reading has freed."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Numbers of malloc.h."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """How one reader uses the machine.

    Attributes:
        batch: images read at once; on a CPU more than one gains nothing.
        decoders: images decoded at once.
        threads: of a model on the CPU.
    """

    batch: int = 1
    decoders: int = 1
    threads: int = 1


class ModelsBroken(Exception):
    """The models read nothing any more: the process must be replaced."""


class Reader:
    """Does jobs, one batch a :meth:`step`.

    Args:
        hospital: whose jobs.
        name: of this reader, never given to another one.
        plan: how it uses the machine.
    """

    def __init__(self, hospital: Hospital, name: str, plan: Plan) -> None:
        self._hospital = hospital
        self._name = name
        self._plan = plan
        self._models = Models(hospital, plan.threads)
        self._decoders = ThreadPoolExecutor(plan.decoders, thread_name_prefix="decoding")
        self._left: dict[str, float] = {}
        self._holding = False

    def step(self) -> float:
        """Do what is due, at most a batch; gives the seconds to rest before the next step.

        Raises:
            ModelsBroken: see there; its jobs were put back.
            DBAPIError: of the database; the next step puts back what this one had taken.
        """
        database = self._hospital.database
        if self._holding:
            self._let_go()
        now = time.monotonic()
        self._left = {release: until for release, until in self._left.items() if until > now}
        with database.reading() as session:
            due = queue.next_due(session, self._left)
        if due is None:
            return POLL_S
        # Before anything is taken: models that fail, or end the process, when they are opened are no image's fault.
        if (diagnoser := self._open(due, now)) is None:
            return REST_S
        self._holding = True
        jobs = database.write(partial(queue.take, worker=self._name, most=self._plan.batch, release=due.release))
        rest = self._do(jobs, diagnoser) if jobs else POLL_S
        self._holding = False
        return rest

    def close(self) -> None:
        """End the threads."""
        self._decoders.shutdown(wait=False, cancel_futures=True)

    def _open(self, due: Due, now: float) -> Diagnoser | None:
        """The models of what is due; None where others may have more luck with them."""
        try:
            return self._models.open(due.release)
        except DBAPIError:
            raise
        except FirstRayError as error:
            log.error("release %s cannot be used here: %s", due.release, error.code)
            self._hospital.database.write(partial(queue.hold_up, due=due, code=error.code))
            self._left[due.release] = now + LEAVE_S
            return None
        except Exception as error:
            self._hospital.database.write(partial(queue.hold_up, due=due, code=BROKEN))
            raise ModelsBroken(type(error).__name__) from error

    def _let_go(self) -> None:
        """Put back what a step had taken that the database broke off."""
        with self._hospital.database.reading() as session:
            jobs = queue.held_by(session, self._name)
        self._put_back(jobs, "database_failing")
        self._holding = False

    def _do(self, jobs: Sequence[Job], diagnoser: Diagnoser) -> float:
        began = time.perf_counter()
        rest = 0.0
        read: list[tuple[Job, Radiograph]] = []
        for job, found in zip(jobs, self._decoders.map(self._fetch, jobs), strict=True):
            if isinstance(found, Radiograph):
                read.append((job, found))
            elif isinstance(found, RadiographError) and found.code not in OURS | NOBODYS:
                self._finish(job, Answer(None, found.code, time.perf_counter() - began))
            elif found.code in OURS or found.code in LOST:
                self._fail(job, found.code)
            else:
                log.error("an image cannot be fetched or decoded: %s", found.code)
                self._put_back([job], found.code)
                rest = REST_S
        self._read(read, diagnoser, began)
        return rest

    def _fetch(self, job: Job) -> Radiograph | FirstRayError:
        """The decoded image, corrected as asked, or what kept it."""
        try:
            data = self._hospital.images.read(job.sha256)
            if hashlib.sha256(data).hexdigest() != job.sha256:
                raise FirstRayError(
                    "image_damaged", "The store holds other bytes than it was given.", "Put them back from a backup."
                )
            radiograph = decode_radiograph(data)
        except FirstRayError as error:
            return error
        return radiograph.corrected(job.manner.correction) if job.manner.correction else radiograph

    def _read(self, read: Sequence[tuple[Job, Radiograph]], diagnoser: Diagnoser, began: float) -> None:
        if not read:
            return
        try:
            results = diagnoser.diagnose_many([(radiograph, job.manner.forced) for job, radiograph in read])
        except Exception as error:  # noqa: BLE001  the runtimes raise what they like; whose fault it is is found out
            log.error("reading failed: %s\n%s", type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))
            self._find_culprit(read, diagnoser, began)
            return
        seconds = (time.perf_counter() - began) / len(read)
        for (job, _), result in zip(read, results, strict=True):
            self._finish(job, Answer(result.model_dump(mode="json"), None, round(seconds, 3)))

    def _find_culprit(self, read: Sequence[tuple[Job, Radiograph]], diagnoser: Diagnoser, began: float) -> None:
        """Reading failed: is it one of the images, or can nothing be read any more?"""
        try:
            check_up(diagnoser)
        except Exception as error:
            self._put_back([job for job, _ in read], BROKEN)
            raise ModelsBroken(type(error).__name__) from error
        if len(read) == 1:
            self._fail(read[0][0], "internal_error")
            return
        for one in read:
            self._read([one], diagnoser, began)

    def _finish(self, job: Job, answer: Answer) -> None:
        try:
            stored = self._hospital.database.write(partial(queue.finish, job=job, answer=answer))
        except Exception as error:  # what follows from a reading must not stop the others
            if isinstance(error, DBAPIError) and not isinstance(error, UNFIT):
                raise
            place = "".join(traceback.format_tb(error.__traceback__))
            log.error("a reading could not be stored: %s\n%s", type(error).__name__, place)
            self._fail(job, "internal_error")
            return
        if not stored:
            log.warning("job %s was given to somebody else meanwhile; its answer is dropped", job.id)

    def _fail(self, job: Job, code: str) -> None:
        log.warning("job %s failed at try %d: %s", job.id, job.attempt, code)
        self._hospital.database.write(partial(queue.fail, job=job, code=code))

    def _put_back(self, jobs: Sequence[Job], code: str) -> None:
        for job in jobs:
            self._hospital.database.write(partial(queue.put_back, job=job, code=code))


def main(values: dict[str, Any], name: str, plan: Plan) -> None:
    """Work until SIGTERM, or until the worker that started this process is gone; ``values`` are those of Settings."""
    settings = Settings(**values)
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the worker, which stops us
    logs.set_up(settings.log_level)
    with suppress(OSError):
        os.nice(5)  # the server answers before anything is read
    _keep_memory()
    hospital = open_hospital(settings, listen=False)
    reader = Reader(hospital, name, plan)
    parent = multiprocessing.parent_process()
    try:
        while not stopped.is_set() and (parent is None or parent.is_alive()):
            stopped.wait(watched(reader))
    except ModelsBroken as error:
        log.error("the models cannot be used any more: %s", error)
        sys.exit(BROKEN_EXIT)
    finally:
        reader.close()
        hospital.close()


def _keep_memory() -> None:
    """Let glibc keep what one reading frees for the next (mallopt(3)): fetching it anew took a tenth of the time."""
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        for option in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
            mallopt(option, KEPT_BYTES)


def watched(reader: Reader) -> float:
    """A step that ends the process, if it must, from a thread outside Python: even where the runtime hangs.

    Raises:
        ModelsBroken: see there.
    """
    faulthandler.dump_traceback_later(HANGS_S, exit=True)
    try:
        return reader.step()
    except DBAPIError as error:
        log.error("the database does not answer: %s", type(error.orig).__name__)
        return REST_S
    finally:
        faulthandler.cancel_dump_traceback_later()
