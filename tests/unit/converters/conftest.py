"""A classifier with real ImageNet weights and real radiograph crops: what rounding does to noise says little."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from converters.export import Network, classifier_network
from shared.preprocess import model_image
from shared.radiograph import load_radiograph
from training.classifier import Classifier, load_imagenet

SIDE = 64


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def films(chest: Path) -> npt.NDArray[np.float32]:
    """Crops of a real radiograph, ``[48, 1, 64, 64]``."""
    pixels = load_radiograph(chest).pixels
    rng = np.random.default_rng(0)
    images = []
    for _ in range(48):
        top, left = rng.integers(0, 600, 2)
        size = int(rng.integers(900, 1200))
        images.append(model_image(pixels[top : top + size, left : left + size], SIDE)[0])
    return np.stack(images)[:, None]


@pytest.fixture(scope="session")
def network() -> Network:
    """EfficientNet-Lite0 with ImageNet weights and an untrained head that tells the crops apart."""
    torch.manual_seed(0)
    classifier = Classifier("tf_efficientnet_lite0")
    load_imagenet(classifier, "tf_efficientnet_lite0")
    torch.nn.init.normal_(classifier.head.weight, std=0.1)
    return classifier_network(classifier.eval(), SIDE)
