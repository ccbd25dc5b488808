"""Which variant of a release to run on this machine."""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path
from typing import Literal

import numpy as np

from shared.errors import RuntimeUnavailable
from shared.release import Precision, Release, RuntimeName, Variant
from shared.runtime import available, has_gpu, open_model

RuntimeChoice = Literal["auto", "litert", "onnx"]

PROBE_RUNS = 9
"""Runs of each model; the median counts, and the variants take turns, so that a busy moment does not decide."""


def choose_variant(
    release: Release, precision: Precision | None = None, runtime: RuntimeChoice = "auto", threads: int = 2
) -> Variant:
    """The variant of the wanted precision whose runtime is installed; of several, the one measured faster here.

    Raises:
        RuntimeUnavailable: ``variant_missing`` where the release has no such variant, ``runtime_missing`` where it has
            one but nothing installed can run it.
    """
    wanted = precision or ("fp16" if has_gpu() else "int8")
    offered = [v for v in release.manifest.variants if v.precision == wanted and runtime in ("auto", v.runtime)]
    if not offered:
        ids = ", ".join(v.id for v in release.manifest.variants)
        raise RuntimeUnavailable(
            "variant_missing",
            f"Release {release.id} has no {wanted} models for the runtime {runtime!r}.",
            f"It has: {ids}.",
        )
    usable = [v for v in offered if available(v.runtime)]
    if not usable:
        package = {"litert": "ai-edge-litert", "onnx": "onnxruntime"}[offered[0].runtime]
        raise RuntimeUnavailable(
            "runtime_missing", f"The {wanted} models need {package}, which is not installed.", f"pip install {package}"
        )
    if len(usable) == 1:
        return usable[0]
    fastest = _remembered(release, wanted, threads) or _measure(release, usable, wanted, threads)
    return next((v for v in usable if v.runtime == fastest), usable[0])


def cache_folder() -> Path:
    """Where FirstRay keeps what it can measure again (XDG Base Directory Specification)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "firstray"


def _probe_file(release: Release, precision: Precision, threads: int) -> Path:
    return cache_folder() / "probe" / f"{release.id}-{precision}-{threads}-{platform.node()}.json"


def _remembered(release: Release, precision: Precision, threads: int) -> RuntimeName | None:
    try:
        fastest: RuntimeName = json.loads(_probe_file(release, precision, threads).read_text())["fastest"]
    except (OSError, ValueError, KeyError):
        return None
    return fastest


def _measure(release: Release, variants: list[Variant], precision: Precision, threads: int) -> RuntimeName:
    """Time classifier plus detector of each variant (median of a few runs, by turns) and remember the fastest."""
    sides = {name: spec.side for name, spec in release.manifest.inputs.items()}
    models = [
        (variant.runtime, open_model(release.path(file), threads), np.zeros((1, 1, side, side), np.float32))
        for variant in variants
        for file, side in ((variant.classifier, sides["classifier"]), (variant.detector, sides["detector"]))
    ]
    rounds = [[_seconds(model, image) for _, model, image in models] for _ in range(PROBE_RUNS)]
    figures: dict[RuntimeName, float] = {}
    for (runtime, _, _), seconds in zip(models, np.median(rounds, axis=0), strict=True):
        figures[runtime] = figures.get(runtime, 0.0) + float(seconds)
    fastest = min(figures, key=lambda name: figures[name])
    path = _probe_file(release, precision, threads)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"fastest": fastest, "seconds": figures}))
    except OSError:  # a read-only home only costs measuring again next time
        return fastest
    return fastest


def _seconds(model: object, image: np.ndarray) -> float:
    started = time.perf_counter()
    model(image)  # type: ignore[operator]
    return time.perf_counter() - started
