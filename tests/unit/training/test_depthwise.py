"""Our gradients of depthwise convolutions are those of double precision, for every shape an EfficientNet-Lite uses."""

import copy

import pytest

pytest.importorskip("torch")
import torch
from timm.layers import Conv2dSame
from torch import nn

from training.classifier import Classifier
from training.depthwise import _gradients, hasten


@pytest.fixture(autouse=True)
def _compiled() -> None:
    try:
        _gradients()
    except (RuntimeError, OSError) as error:
        pytest.skip(f"the gradients cannot be built here: {error}")


@pytest.mark.parametrize("same", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("size", [(7, 7), (20, 15)])
def test_gradients_equal_those_of_double_precision(kernel, stride, same, size):
    torch.manual_seed(0)
    kind, pad = (Conv2dSame, 0) if same else (nn.Conv2d, kernel // 2)
    plain = kind(48, 48, kernel, stride, padding=pad, groups=48, bias=False)
    ours = copy.deepcopy(plain)
    assert hasten(ours) == 1
    image = torch.randn(3, 48, *size).contiguous(memory_format=torch.channels_last)
    first, second = image.double().requires_grad_(), image.clone().requires_grad_()
    expected, result = plain.double()(first), ours(second)
    slope = torch.randn(result.shape)
    expected.backward(slope.double())
    result.backward(slope)
    torch.testing.assert_close(result.double(), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(second.grad.double(), first.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.weight.grad.double(), plain.weight.grad, rtol=1e-4, atol=1e-3)


def test_in_bfloat16_the_weights_gradient_is_added_up_in_float():
    torch.manual_seed(0)
    plain = nn.Conv2d(32, 32, 5, padding=2, groups=32, bias=False)
    ours = copy.deepcopy(plain)
    hasten(ours)
    image = torch.randn(8, 32, 28, 28).bfloat16().contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        ours(image).square().sum().backward()
    exact = image.double()
    weight = plain.weight.detach().bfloat16().double().requires_grad_()
    nn.functional.conv2d(exact, weight, padding=2, groups=32).square().sum().backward()
    error = (ours.weight.grad.double() - weight.grad).abs().max() / weight.grad.abs().max()
    assert error < 0.01


def test_a_whole_classifier_is_changed_and_answers_as_before():
    plain = Classifier("tf_efficientnet_lite0").eval()
    ours = copy.deepcopy(plain)
    assert hasten(ours) == 16
    image = torch.rand(1, 1, 64, 64)
    with torch.inference_mode():
        assert torch.equal(plain(image), ours(image))
    assert ours.state_dict().keys() == plain.state_dict().keys()
