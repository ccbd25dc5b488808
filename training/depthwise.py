"""Faster gradients of depthwise convolutions on a CPU; on a GPU, or without a C++ compiler, PyTorch's own remain.

PyTorch's CPU gradients of 5x5 and of strided depthwise convolutions take 10 to 30 times the forward pass in bfloat16:
half of the time of training an EfficientNet. ``depthwise.cpp`` brings them to its order.
"""

from __future__ import annotations

import functools
import logging
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import ninja
import torch
from timm.layers import Conv2dSame, pad_same
from torch import Tensor, nn
from torch.utils.cpp_extension import load

_LANE = 16


@functools.cache
def _gradients() -> ModuleType:
    """The compiled gradients: 20 s the first time on a machine.

    Raises:
        RuntimeError, OSError: they cannot be built here, e.g. without a C++ compiler.
    """
    source = Path(__file__).with_suffix(".cpp")
    path = os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join([ninja.BIN_DIR, path])  # torch calls it by name, from any shell
    try:
        return load("firstray_depthwise", [str(source)], extra_cflags=["-O3", "-march=native", "-fopenmp"])
    finally:
        os.environ["PATH"] = path


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, image: Tensor, weight: Tensor, stride: int, pad: int) -> Tensor:
        """Depthwise convolution in the precision of ``image``."""
        context.save_for_backward(image, weight)
        context.stride, context.pad = stride, pad
        return nn.functional.conv2d(image, weight.to(image.dtype), None, stride, pad, groups=weight.shape[0])

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """Gradients of image and weight; the weight's in float."""
        image, weight = context.saved_tensors
        above = gradients[0].contiguous(memory_format=torch.channels_last)
        by_weight = _gradients().weight_gradient(image, above, weight.shape[2], context.stride, context.pad)
        return _by_image(above, image, weight.to(image.dtype), context.stride, context.pad), by_weight, None, None


def _by_image(above: Tensor, image: Tensor, weight: Tensor, stride: int, pad: int) -> Tensor:
    """Gradient of the image: that of a convolution with stride 1 whose results between the strides nobody used."""
    if stride > 1:
        spread = image.shape[2] + 2 * pad - weight.shape[2] + 1, image.shape[3] + 2 * pad - weight.shape[3] + 1
        full = above.new_zeros((*above.shape[:2], *spread)).contiguous(memory_format=torch.channels_last)
        full[:, :, ::stride, ::stride] = above
        above = full
    result: Tensor = torch.ops.aten.convolution_backward(
        above, image, weight, None, [1, 1], [pad, pad], [1, 1], False, [0, 0], weight.shape[0], [True, False, False]
    )[0]
    return result


def _forward(convolution: nn.Conv2d, image: Tensor, pad: int) -> Tensor:
    if torch.is_autocast_enabled("cpu"):
        image = image.to(torch.get_autocast_dtype("cpu"))
    image = image.contiguous(memory_format=torch.channels_last)
    return _Depthwise.apply(image, convolution.weight, convolution.stride[0], pad)


def _applies(image: Tensor) -> bool:
    return torch.is_grad_enabled() and image.device.type == "cpu"


class _Fast(nn.Conv2d):
    """A depthwise convolution whose gradients are ours while it trains on a CPU."""

    def forward(self, image: Tensor) -> Tensor:
        return _forward(self, image, self.kernel_size[0] // 2) if _applies(image) else super().forward(image)


class _FastSame(Conv2dSame):
    """The same with TensorFlow's padding, which is uneven where the stride is 2."""

    def forward(self, image: Tensor) -> Tensor:
        if not _applies(image):
            return super().forward(image)
        return _forward(self, pad_same(image, list(self.kernel_size), list(self.stride)), 0)


_FASTER: dict[type[nn.Conv2d], type[nn.Conv2d]] = {nn.Conv2d: _Fast, Conv2dSame: _FastSame}


def hasten(model: nn.Module) -> int:
    """Give the depthwise convolutions of ``model`` the faster gradients, in place; returns how many it changed."""
    ours = [
        module
        for module in model.modules()
        if isinstance(module, nn.Conv2d)
        and type(module) in _FASTER
        and module.groups == module.in_channels == module.out_channels
        and module.in_channels % _LANE == 0
        and module.kernel_size in {(3, 3), (5, 5)}
        and (type(module) is Conv2dSame or module.padding == (module.kernel_size[0] // 2, module.kernel_size[1] // 2))
        and module.stride[0] == module.stride[1]
        and module.dilation == (1, 1)
        and module.bias is None
    ]
    try:
        _gradients()
    except (RuntimeError, OSError) as error:
        logging.getLogger(__name__).warning("depthwise gradients not built, training takes twice as long: %s", error)
        return 0
    for module in ours:
        module.__class__ = _FASTER[type(module)]
    return len(ours)
