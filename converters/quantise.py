"""8-bit files: static quantisation, calibrated on real radiographs, with biases corrected and the ends in float.

Weights are rounded per output channel, activations per tensor. Rounding a channel's weights shifts its mean output by
a constant, which is measured on the calibration radiographs and taken from the bias (Nagel et al., ICCV 2019,
"Data-Free Quantization through Weight Equalization and Bias Correction", section 4.2, with real inputs instead of
batch-norm statistics). The modules a network names in ``float_modules`` stay in float.
"""

from __future__ import annotations

import ast
import copy
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from converters.export import INPUT, Network, export_litert, export_onnx
from converters.quiet import quiet

Floats = npt.NDArray[np.float32]

LEVELS = 127
"""Both runtimes use weights from -127 to 127, symmetric."""

SIGNATURE = "serving_default"


def quantise_onnx(network: Network, calibration: Floats, path: Path) -> None:
    """Write ``network`` as 8-bit ONNX (QDQ, unsigned activations), batch 1.

    Args:
        network: float; left as it is.
        calibration: images ``[N, 1, S, S]`` in 0..1; a hundred training radiographs do.
        path: of the file.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._images: Iterator[Floats] = iter(calibration)

        def get_next(self) -> dict[str, Floats] | None:
            image = next(self._images, None)
            return None if image is None else {INPUT: image[None]}

    with tempfile.TemporaryDirectory() as folder:
        float_path = Path(folder) / "float.onnx"
        export_onnx(prepared(network, calibration), float_path, dynamic_batch=False)
        with quiet():
            quantize_static(
                str(float_path),
                str(path),
                Reader(),
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=onnx_float_nodes(onnx.load(str(float_path)), network.float_modules),
            )


def quantise_litert(network: Network, calibration: Floats, path: Path) -> None:
    """Write ``network`` as 8-bit LiteRT with float32 input and outputs, batch 1. Arguments as :func:`quantise_onnx`."""
    from ai_edge_quantizer import quantizer
    from ai_edge_quantizer.calibrator import Calibrator
    from ai_edge_quantizer.qtyping import TFLOperationName
    from ai_edge_quantizer.recipe_manager import RecipeManager
    from ai_edge_quantizer.utils.qsv_utils import min_max_update

    recipe = RecipeManager()
    everything = TFLOperationName.ALL_SUPPORTED
    recipe.add_static_config(".*", everything, activation_num_bits=8, weight_num_bits=8)
    for end in (TFLOperationName.INPUT, TFLOperationName.OUTPUT):
        recipe.add_quantization_config(".*", end, algorithm_key="no_quantize")
    ready = prepared(network, calibration)
    for scope in litert_float_scopes(ready):
        recipe.add_quantization_config(scope, everything, algorithm_key="no_quantize")
    with tempfile.TemporaryDirectory() as folder:
        float_path = Path(folder) / "float.tflite"
        export_litert(ready, float_path)
        with quiet():
            # Its default ranges are moving averages of each image's, which cut off bright outliers: take the widest.
            calibrator = Calibrator(float_path.read_bytes(), 1, qsv_update_func=min_max_update)
            calibrator.calibrate({SIGNATURE: [{INPUT: image[None]} for image in calibration]}, recipe)
            tool = quantizer.Quantizer(str(float_path), recipe.get_quantization_recipe())
            model = tool.quantize(calibrator.get_model_qsvs(), enable_progress_report=False).quantized_model
    path.write_bytes(model)


def prepared(network: Network, calibration: Floats) -> Network:
    """A copy with batch norms folded into their convolutions and the biases corrected for rounded weights."""
    module = copy.deepcopy(network.module).eval()
    fold_batch_norms(module)
    correct_biases(module, calibration, network.float_modules)
    return network.with_module(module)


def fold_batch_norms(module: nn.Module) -> None:
    """Replace each batch norm that follows a convolution among its parent's children; the function stays the same."""
    for parent in list(module.modules()):
        convolution: nn.Conv2d | None = None
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d) and convolution is not None:
                assert child.running_mean is not None  # noqa: S101
                assert child.running_var is not None  # noqa: S101
                convolution.weight, convolution.bias = fuse_conv_bn_weights(
                    convolution.weight, convolution.bias, child.running_mean, child.running_var, child.eps,
                    child.weight, child.bias,
                )  # fmt: skip
                activation = getattr(child, "act", None)  # timm's batch norm brings its activation along
                setattr(parent, name, activation if isinstance(activation, nn.Module) else nn.Identity())
            convolution = child if isinstance(child, nn.Conv2d) else None


def rounded(weight: Tensor) -> Tensor:
    """Weights ``[out, ...]`` as an 8-bit file stores them: per output channel, symmetric, to the nearest level."""
    scale = weight.abs().amax(tuple(range(1, weight.dim())), keepdim=True).clamp(min=1e-12) / LEVELS
    return (weight / scale).round() * scale


def correct_biases(module: nn.Module, images: Floats, float_modules: tuple[str, ...], batch: int = 8) -> None:
    """Add to each rounded convolution's bias the mean, over ``images``, of what rounding takes from its output."""
    convolutions = {
        name: part
        for name, part in module.named_modules()
        if isinstance(part, nn.Conv2d) and not _inside(name, float_modules)
    }
    lost: dict[str, list[Tensor]] = {name: [] for name in convolutions}

    def measure(name: str, convolution: nn.Conv2d) -> Callable[[nn.Module, Any, Any], None]:
        error = copy.deepcopy(convolution)
        error.weight.copy_(convolution.weight - rounded(convolution.weight))
        error.bias = None
        return lambda _, inputs, __: lost[name].append(error(inputs[0]).mean((0, 2, 3)))

    with torch.no_grad():
        hooks = [part.register_forward_hook(measure(name, part)) for name, part in convolutions.items()]
        for start in range(0, len(images), batch):
            module(torch.from_numpy(images[start : start + batch]))
        for hook in hooks:
            hook.remove()
        for name, convolution in convolutions.items():
            if lost[name]:  # empty: used in training only
                shift = torch.stack(lost[name]).mean(0)
                convolution.bias = nn.Parameter(shift if convolution.bias is None else convolution.bias + shift)


def _inside(path: str, prefixes: tuple[str, ...]) -> bool:
    return any(path == prefix or path.startswith(f"{prefix}.") for prefix in prefixes)


def onnx_float_nodes(model: onnx.ModelProto, float_modules: tuple[str, ...]) -> list[str]:
    """Names of the nodes that stay in float: those of ``float_modules``, and those outside every submodule.

    The exporter notes the modules a node comes from, outermost first, with the node itself last.
    """
    nodes = []
    for node in model.graph.node:
        notes = {entry.key: entry.value for entry in node.metadata_props}
        scopes = ast.literal_eval(notes.get("pkg.torch.onnx.name_scopes", "['', 'module', '']"))
        path = scopes[-2].removeprefix("module").removeprefix(".")
        if not path or _inside(path, float_modules):
            nodes.append(node.name)
    return nodes


def litert_float_scopes(network: Network) -> list[str]:
    """The same as expressions for LiteRT tensor names, ``...Named/package.Class_module/package.Class_body/...;1``.

    Such a name lists the modules that were being called, each as its class and the last part of its path. Two that are
    called alike, such as the last convolutions of a YOLO head's branches, can only be left in float together. After
    ``;;`` a name goes on with others that a fused operation shares constants with; only the first is its own.
    """
    start = r"^[^/]*/[^/;]*_module"
    inside = [f"{start}/{re.escape('/'.join(path))}[/;]" for path in call_paths(network)]
    return [r"^[^/]*$", f"{start};", *inside]


def call_paths(network: Network) -> list[tuple[str, ...]]:
    """For each of the float modules that is called, the names of the modules being called then, outermost first."""
    calling: list[str] = []
    paths: list[tuple[str, ...]] = []

    def enter(path: str, part: nn.Module) -> Callable[[nn.Module, Any], None]:
        kind = type(part)
        name = f"{kind.__module__}.{kind.__qualname__}_{path.rpartition('.')[2]}"

        def hook(_: nn.Module, __: Any) -> None:
            calling.append(name)
            if path in network.float_modules:
                paths.append(tuple(calling))

        return hook

    def leave(*_: Any) -> None:
        calling.pop()

    hooks = []
    for path, part in network.module.named_modules():
        if path:
            hooks += [part.register_forward_pre_hook(enter(path, part)), part.register_forward_hook(leave)]
    with torch.no_grad():
        network.module(torch.zeros(1, 1, network.side, network.side))
    for hook in hooks:
        hook.remove()
    return paths
