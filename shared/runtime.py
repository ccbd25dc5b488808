"""Inference runtimes behind one protocol: LiteRT for ``.tflite`` files, ONNX Runtime for ``.onnx`` files.

A runtime module is imported only when a model of its kind is opened.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from shared.errors import RuntimeUnavailable

Floats = npt.NDArray[np.float32]

LITERT_MODULES = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")
"""``tflite_runtime`` is the predecessor, kept for boards that have nothing newer."""


class Runtime(Protocol):
    """One opened model.

    Attributes:
        name: ``"litert"`` or ``"onnx"``.
    """

    name: str

    def __call__(self, image: Floats) -> dict[str, Floats]:
        """Run the model on ``image`` ``[1, 1, S, S]``, grey 0..1; float32 outputs by name."""
        ...


class LiteRt:
    """A ``.tflite`` file in the LiteRT interpreter (XNNPACK, CPU). Not safe to call from several threads at once."""

    name = "litert"

    def __init__(self, path: Path, threads: int) -> None:
        interpreter = _litert_module().Interpreter(model_path=str(path), num_threads=threads)
        interpreter.allocate_tensors()
        self._run = interpreter.get_signature_runner()
        self._input = next(iter(self._run.get_input_details()))

    def __call__(self, image: Floats) -> dict[str, Floats]:
        """See :class:`Runtime`."""
        outputs: dict[str, Floats] = self._run(**{self._input: image})
        return outputs


class OnnxRuntime:
    """An ``.onnx`` file in ONNX Runtime, on CUDA where that provider is installed, else on the CPU."""

    name = "onnx"

    def __init__(self, path: Path, threads: int) -> None:
        ort = _onnx_module()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = ort.InferenceSession(str(path), options, providers=_providers(ort))
        self._input = self._session.get_inputs()[0].name
        self._outputs = [output.name for output in self._session.get_outputs()]

    def __call__(self, image: Floats) -> dict[str, Floats]:
        """See :class:`Runtime`."""
        return dict(zip(self._outputs, self._session.run(self._outputs, {self._input: image}), strict=True))


def open_model(path: Path, threads: int = 2) -> Runtime:
    """Open a model file with the runtime of its kind.

    Raises:
        RuntimeUnavailable: ``runtime_missing`` where that runtime is not installed, ``model_unusable`` where it cannot
            open the file.
    """
    name = {".tflite": "litert", ".onnx": "onnx"}[path.suffix]
    if not available(name):
        package = {"litert": "ai-edge-litert", "onnx": "onnxruntime"}[name]
        raise RuntimeUnavailable(
            "runtime_missing", f"{path.name} needs {package}, which is not installed.", f"pip install {package}"
        )
    try:
        return LiteRt(path, threads) if name == "litert" else OnnxRuntime(path, threads)
    except Exception as error:  # the runtimes raise many unrelated types; all mean the file cannot be run here
        raise RuntimeUnavailable(
            "model_unusable", f"{path.name} cannot be opened: {error}.", "Install a release made for this version."
        ) from error


def available(name: str) -> bool:
    """Whether the runtime ``"litert"`` or ``"onnx"`` is installed."""
    modules = LITERT_MODULES if name == "litert" else ("onnxruntime",)
    return any(importlib.util.find_spec(module.partition(".")[0]) is not None for module in modules)


def has_gpu() -> bool:
    """Whether ONNX Runtime can use a GPU here; does not load it where its build has no CUDA provider."""
    spec = importlib.util.find_spec("onnxruntime")
    folders = list(spec.submodule_search_locations or []) if spec else []
    if not any(path for folder in folders for path in (Path(folder) / "capi").glob("*onnxruntime_providers_cuda*")):
        return False
    return "CUDAExecutionProvider" in _onnx_module().get_available_providers()


def _litert_module() -> ModuleType:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    for module in LITERT_MODULES:
        if importlib.util.find_spec(module.partition(".")[0]) is not None:
            return importlib.import_module(module)
    raise ModuleNotFoundError("ai_edge_litert")


def _onnx_module() -> ModuleType:
    """ONNX Runtime, kept from writing a device id and a database of events for its maker into the home folder."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return importlib.import_module("onnxruntime")


def _providers(ort: ModuleType) -> list[Any]:
    """Full precision means full precision: TF32 is off on CUDA."""
    cpu = "CPUExecutionProvider"
    if "CUDAExecutionProvider" in ort.get_available_providers():
        return [("CUDAExecutionProvider", {"use_tf32": "0"}), cpu]
    return [cpu]
