"""The detector: YOLOv5 with the anchor-free head of ultralytics, seen as raw heads.

ultralytics (AGPL-3.0) supplies the network and its loss; only this module imports it, and keeps it offline. What ships
are the raw heads, decoded by :func:`shared.boxes.decode`: with boxes and scores in one tensor, as the stock export has
them, int8 gives both one scale and every score becomes 0.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from shared.errors import FirstRayError
from shared.findings import KEYS

STEM = "model.0.conv.weight"
LOSS_GAINS = {"box": 7.5, "cls": 0.5, "dfl": 1.5}
"""Weights of the loss's parts: overlap of boxes (CIoU), findings (BCE), distances (DFL); defaults of ultralytics."""

Loss = Callable[[dict[str, Tensor], Tensor, Tensor], Tensor]


def _keep_offline() -> None:
    """Before the first import of ultralytics: no update check, no installs, no telemetry, own settings folder.

    Its own ``Image.open`` is taken out again: a file that is no image makes it look for another package, and fail.
    """
    os.environ.setdefault("YOLO_OFFLINE", "true")
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    os.environ.setdefault("YOLO_VERBOSE", "false")
    os.environ.setdefault("YOLO_CONFIG_DIR", os.path.join(tempfile.gettempdir(), "firstray-ultralytics"))
    from ultralytics.utils import SETTINGS, patches

    Image.open = patches._image_open
    if SETTINGS["sync"]:
        SETTINGS["sync"] = False


def build(scale: str) -> nn.Module:
    """An untrained YOLOv5 of ``scale`` n, s, m, l or x for one grey channel and the 13 findings.

    In training mode it maps images to ``{"boxes", "scores", "feats"}`` with logits as in :class:`RawHeads`.
    """
    _keep_offline()
    from ultralytics.nn.tasks import DetectionModel, yaml_model_load

    layers = yaml_model_load(f"yolov5{scale}.yaml") | {"nc": len(KEYS)}
    network: nn.Module = DetectionModel(layers, ch=1, verbose=False)
    network.args = SimpleNamespace(**LOSS_GAINS)  # type: ignore[assignment]  # its loss reads them here
    return network


def detection_loss(network: nn.Module) -> Loss:
    """The task-aligned detection loss of ultralytics (Feng et al., ICCV 2021), with a weight per image and finding.

    Returns:
        A function of the network's training output in float32, the targets ``[T, 6]`` (row in the batch, finding,
        centre x, centre y, width, height; fractions of the square) and the weights ``[B, 13]`` of the findings' part
        of the loss: 0 where nobody looked for a finding, so that its absence among the boxes teaches nothing.
    """
    _keep_offline()
    from ultralytics.utils.loss import v8DetectionLoss

    criterion = v8DetectionLoss(network)

    def loss(raw: dict[str, Tensor], targets: Tensor, weights: Tensor) -> Tensor:
        criterion.class_weights = weights[:, None, :]
        batch = {"batch_idx": targets[:, 0], "cls": targets[:, 1], "bboxes": targets[:, 2:]}
        parts, _ = criterion(raw, batch)
        return parts.sum() / len(weights)

    return loss


def load_coco(network: nn.Module, path: Path) -> int:
    """Fill ``network`` with the tensors of a COCO state dict (safetensors) that fit by name and shape.

    The three input channels of the stem are summed: the same network shown a grey image.

    Returns:
        How many tensors were loaded (all but the head's).

    Raises:
        FirstRayError: ``initial_weights_missing`` where there is no such file, ``initial_weights_differ`` where the
            stem or more than a tenth of the tensors do not fit (weights of another network or scale).
    """
    if not path.is_file():
        raise FirstRayError(
            "initial_weights_missing",
            f"There are no initial detector weights at {path}.",
            "Pass --init FILE with YOLOv5 COCO weights as safetensors.",
        )
    source = load_file(path)
    if STEM in source:
        source[STEM] = source[STEM].float().sum(1, keepdim=True)
    own = network.state_dict()
    fitting = {name: t.float() for name, t in source.items() if name in own and own[name].shape == t.shape}
    if STEM not in fitting or len(fitting) < 0.9 * len(source):
        raise FirstRayError(
            "initial_weights_differ",
            f"Only {len(fitting)} of {len(source)} tensors of {path.name} fit the detector.",
            "Use weights of the same YOLOv5 scale as the recipe's.",
        )
    network.load_state_dict(fitting, strict=False)
    return len(fitting)


class RawHeads(nn.Module):
    """The detector as it is exported.

    Takes grey images ``[B, 1, S, S]`` in 0..1 (S a multiple of 32) and returns ``boxes`` ``[B, 64, A]`` (logits of the
    distance bins) and ``scores`` ``[B, 13, A]`` (0..1), anchors in the order of :func:`shared.boxes.anchor_points`.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """``boxes`` and ``scores`` of images."""
        outputs: list[Tensor] = []
        layers: Any = self.network.model
        *body, head = layers
        for layer in body:
            sources = [layer.f] if isinstance(layer.f, int) else layer.f
            inputs = [outputs[source] if outputs else image for source in sources]
            outputs.append(layer(inputs[0] if isinstance(layer.f, int) else inputs))
        raw = head.forward_head([outputs[source] for source in head.f], **head.one2many)
        return raw["boxes"], raw["scores"].sigmoid()


def save_detector(network: nn.Module, scale: str, side: int, path: Path) -> None:
    """Write the weights with what is needed to rebuild the network: its scale and the side it was trained at."""
    tensors = {name: tensor.contiguous().cpu() for name, tensor in network.state_dict().items()}
    save_file(tensors, path, metadata={"scale": scale, "side": str(side)})


def detector_shape(path: Path) -> tuple[str, int]:
    """Scale (n, s, m, l or x) and input side in pixels of the detector in a file of :func:`save_detector`."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    return metadata["scale"], int(metadata["side"])


def load_detector(path: Path) -> RawHeads:
    """The trained detector of a file of :func:`save_detector`, in evaluation mode on the CPU."""
    network = build(detector_shape(path)[0])
    network.load_state_dict(load_file(path))
    return RawHeads(network).eval()
