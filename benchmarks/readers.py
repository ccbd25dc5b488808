"""One way of reading a radiograph, in a process of its own.

A reader is made once (everything it keeps warm is loaded then) and called once a reading.
``python -m benchmarks.readers KIND SETTING`` makes one, reads once and ends: the whole life of a fresh process.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

Kind = Literal["firstray", "torch", "ancestor"]


@dataclass(frozen=True)
class Setting:
    """What all readers are given alike. Paths are strings, so that a setting travels as JSON.

    Attributes:
        dicom: the radiograph's file.
        work: folder for boxed images and the peers' weights.
        release: folder of FirstRay's model release.
        classifier_side, detector_side: input sides in pixels, those of the release.
        threads: threads of every model.
        precision, runtime: FirstRay's variant.
    """

    dicom: str
    work: str
    release: str
    classifier_side: int
    detector_side: int
    threads: int
    precision: str = "int8"
    runtime: str = "auto"


class Reader(Protocol):
    """Attributes: ``facts``, what a report says about it."""

    facts: dict[str, Any]

    def __call__(self) -> dict[str, float]:
        """Read the radiograph once, file to boxed image on disk; milliseconds of each stage."""
        ...


class Clock:
    """Times the stages of one reading."""

    def __init__(self) -> None:
        self.stages: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.stages[stage] = (time.perf_counter() - started) * 1000


def make(kind: Kind, setting: Setting) -> Reader:
    """Open a reader.

    Raises:
        ModuleNotFoundError: what it needs is not installed.
    """
    if kind == "firstray":
        from benchmarks.stages import FirstRay

        return FirstRay(setting)
    if kind == "torch":
        from benchmarks.peers import TorchEager

        return TorchEager(setting)
    from benchmarks.peers import Ancestor

    return Ancestor(setting)


def boxed_image(setting: Setting, name: str) -> Path:
    """Where a reader writes its boxed image; JPEG for all."""
    return Path(setting.work) / f"{name}.jpg"


if __name__ == "__main__":
    make(sys.argv[1], Setting(**json.loads(sys.argv[2])))()  # type: ignore[arg-type]
