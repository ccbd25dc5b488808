"""Trained torch networks -> ONNX and LiteRT files in full and half precision.

A file takes ``image`` float32 ``[1, 1, S, S]`` (ONNX optionally ``[B, 1, S, S]``), grey 0..1, and returns the named
outputs of its network in NCHW order: ``maps`` (classifier), ``boxes`` and ``scores`` (detector), ``gate`` (gate).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor, nn

from converters.quiet import quiet
from training.classifier import Classifier

Floats = npt.NDArray[np.float32]

INPUT = "image"
OPSET = 20
STACK_TRACE = "pkg.torch.onnx.stack_trace"
"""Key of the exporter's notes on source files."""
MAX_BATCH = 1024
"""Largest batch a file with a dynamic batch axis is promised to take."""


class ClassifierMaps(nn.Module):
    """The classifier as it is exported: activation maps ``[B, 13, S/32, S/32]``, whose means are the logits."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.body, self.head, self._maps = classifier.body, classifier.head, classifier.maps

    def forward(self, image: Tensor) -> Tensor:
        """Maps of images ``[B, 1, S, S]`` in 0..1."""
        return self._maps(image)


@dataclass(frozen=True)
class Network:
    """A trained network and how it is exported.

    Attributes:
        module: takes images ``[B, 1, S, S]`` in 0..1, returns a tensor or a tuple of tensors.
        outputs: their names in the file.
        side: S in pixels.
        float_modules: dotted paths of modules inside ``module`` that 8-bit files compute in float. What ``module``
            computes outside its submodules (normalisation, joining of outputs) is float as well.
    """

    module: nn.Module
    outputs: tuple[str, ...]
    side: int
    float_modules: tuple[str, ...] = ()

    def with_module(self, module: nn.Module) -> Network:
        """The same network with other weights."""
        return replace(self, module=module)


FLOAT_IN_CLASSIFIER = ("body.conv_stem", "body.bn1", "body.blocks.0", "body.blocks.1", "head")
"""The first layers make most of an 8-bit file's error; the head decides between near-ties."""

FLOAT_IN_DETECTOR = ("network.model.0", "network.model.1", "network.model.2")
"""With these three layers in 8 bits its scores err ten times as much; no other layer matters as much."""


def classifier_network(classifier: Classifier, side: int) -> Network:
    """The classifier as it is exported, with the float modules that keep its ranking of findings in 8 bits."""
    return Network(ClassifierMaps(classifier), ("maps",), side, FLOAT_IN_CLASSIFIER)


def detector_network(heads: nn.Module, side: int) -> Network:
    """The detector (:class:`training.detector.RawHeads`) as it is exported, with the float modules that keep it."""
    return Network(heads, ("boxes", "scores"), side, FLOAT_IN_DETECTOR)


def gate_network(gate: nn.Module, side: int) -> Network:
    """The quality gate (:class:`training.gate.GateNet`)."""
    return Network(gate, ("gate",), side)


class Named(nn.Module):
    """Gives outputs their names. Its one child is called ``module``: names in exported graphs start there."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.module, self._outputs = network.module, network.outputs

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Outputs by name."""
        values = self.module(image)
        return dict(zip(self._outputs, values if isinstance(values, tuple) else (values,), strict=True))


def export_onnx(network: Network, path: Path, dynamic_batch: bool = True) -> None:
    """Write ``network`` as float32 ONNX. With ``dynamic_batch`` the file takes any number of images at once."""
    image = torch.zeros(2 if dynamic_batch else 1, 1, network.side, network.side)
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    with quiet():
        program = torch.onnx.export(
            Named(network).eval(),
            kwargs={INPUT: image},
            input_names=[INPUT],
            output_names=list(network.outputs),
            dynamic_shapes={INPUT: {0: batch}} if dynamic_batch else None,
            opset_version=OPSET,
            dynamo=True,
            optimize=True,
        )
    assert program is not None  # only the exporter without dynamo returns nothing  # noqa: S101
    program.save(str(path))
    forget_source(path)


def forget_source(path: Path) -> None:
    """Take out of an ONNX file where in which source file each node came from: it says whose machine made it."""
    model = onnx.load(str(path))
    for node in model.graph.node:
        kept = [entry for entry in node.metadata_props if entry.key != STACK_TRACE]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
    onnx.save(model, str(path))


def export_onnx_fp16(float_path: Path, path: Path) -> None:
    """Halve a float32 ONNX file's weights and arithmetic; input and outputs stay float32."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with quiet():
        half = convert_float_to_float16(onnx.load(str(float_path)), keep_io_types=True)
    onnx.save(half, str(path))


def export_litert(network: Network, path: Path) -> None:
    """Write ``network`` as float32 LiteRT with one signature, batch 1."""
    import litert_torch

    image = torch.zeros(1, 1, network.side, network.side)
    with quiet():
        signature = litert_torch.signature("serving_default", Named(network).eval(), sample_kwargs={INPUT: image})
        signature.convert().export(str(path))


def torch_outputs(network: Network, images: Floats, batch: int = 16) -> dict[str, Floats]:
    """Full-precision outputs by name of images ``[N, 1, S, S]``: what every file is measured against."""
    named = Named(network).eval()
    with torch.inference_mode():
        parts = [named(torch.from_numpy(images[at : at + batch])) for at in range(0, len(images), batch)]
    return {name: torch.cat([part[name] for part in parts]).numpy() for name in network.outputs}
