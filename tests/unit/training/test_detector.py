"""The detector's network: its raw heads, decoded in NumPy, against ultralytics' own output."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image, UnidentifiedImageError
from pydicom.data import get_testdata_file

pytest.importorskip("ultralytics")
import torch
from safetensors.torch import save_file

from shared.boxes import decode
from shared.errors import FirstRayError
from shared.preprocess import model_image
from training.detector import STEM, RawHeads, build, detection_loss, load_coco, load_detector, save_detector

SIDE = 128


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    built = build("n").eval()
    for level in range(3):  # an untrained head scores everything 1e-5: lift it so that there is something to compare
        built.model[-1].cv3[level][-1].bias.data.uniform_(-4, 0)
        built.model[-1].cv2[level][-1].weight.data.normal_(std=0.3)
    return built


@pytest.fixture(scope="module")
def radiograph() -> torch.Tensor:
    pixels = pydicom.dcmread(str(get_testdata_file("RG1_UNCR.dcm"))).pixel_array
    return torch.from_numpy(model_image(pixels.astype(np.uint16), SIDE)[0])[None, None]


def test_raw_heads_decode_to_what_ultralytics_decodes(network: torch.nn.Module, radiograph: torch.Tensor) -> None:
    with torch.no_grad():
        theirs = network(radiograph)[0][0].numpy()  # [4 + 13, A]: centre, size, scores
        boxes, scores = (part.numpy() for part in RawHeads(network)(radiograph))
    found = decode(boxes, scores, SIDE, 0.3)
    assert len(found.score) > 20
    expected = {}
    for finding, anchor in zip(*np.nonzero(theirs[4:] >= 0.3), strict=True):
        x, y, w, h = theirs[:4, anchor]
        expected[(int(finding), float(theirs[4 + finding, anchor]))] = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
    decoded = dict(zip(zip(found.finding.tolist(), found.score.tolist(), strict=True), found.corners, strict=True))
    assert decoded.keys() == expected.keys()
    for key, corners in expected.items():
        np.testing.assert_allclose(decoded[key], corners, atol=1e-3)


def test_coco_weights_give_a_grey_network_the_answer_to_a_grey_colour_image(tmp_path: Path) -> None:
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(1)
    colour = DetectionModel("yolov5n.yaml", ch=3, nc=13, verbose=False).eval()
    save_file({name: t.contiguous() for name, t in colour.state_dict().items()}, tmp_path / "coco.safetensors")
    grey = build("n").eval()
    load_coco(grey, tmp_path / "coco.safetensors")
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        theirs, ours = colour(image.expand(1, 3, 64, 64))[0], grey(image)[0]
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_missing_and_foreign_initial_weights_are_refused(tmp_path: Path) -> None:
    grey = build("n")
    with pytest.raises(FirstRayError) as missing:
        load_coco(grey, tmp_path / "none.safetensors")
    assert missing.value.code == "initial_weights_missing"
    larger = build("s").state_dict()
    save_file({name: t.contiguous() for name, t in larger.items() if name != STEM}, tmp_path / "s.safetensors")
    with pytest.raises(FirstRayError) as foreign:
        load_coco(grey, tmp_path / "s.safetensors")
    assert foreign.value.code == "initial_weights_differ"


def test_a_saved_detector_answers_as_before(network: torch.nn.Module, radiograph: torch.Tensor, tmp_path: Path) -> None:
    save_detector(network, "n", SIDE, tmp_path / "detector.safetensors")
    loaded = load_detector(tmp_path / "detector.safetensors")
    with torch.no_grad():
        for ours, theirs in zip(loaded(radiograph), RawHeads(network)(radiograph), strict=True):
            torch.testing.assert_close(ours, theirs)


def test_what_nobody_looked_for_teaches_nothing(network: torch.nn.Module, radiograph: torch.Tensor) -> None:
    loss = detection_loss(network)
    network.train()
    raw = network(radiograph)
    raw["scores"].retain_grad()
    certainty = torch.ones(1, 13)
    certainty[0, 6] = 0
    loss(raw, torch.tensor([[0.0, 4, 0.5, 0.5, 0.3, 0.3]]), certainty).backward()
    network.eval()
    gradient = raw["scores"].grad.abs().sum((0, 2))
    assert gradient[6] == 0
    assert (gradient[torch.arange(13) != 6] > 0).all()


def test_training_on_one_image_finds_its_box() -> None:
    torch.manual_seed(2)
    network = build("n")
    loss, optimiser = detection_loss(network), torch.optim.AdamW(network.parameters(), lr=2e-3)
    square = np.zeros((64, 64), np.float32)
    square[16:40, 24:56] = 1
    image = torch.from_numpy(square)[None, None].repeat(2, 1, 1, 1)
    targets = torch.tensor([[row, 2, 40 / 64, 28 / 64, 32 / 64, 24 / 64] for row in (0.0, 1.0)])
    for _ in range(60):
        optimiser.zero_grad()
        loss(network(image), targets, torch.ones(2, 13)).backward()
        optimiser.step()
    network.train()  # batch statistics: sixty steps are too few for the running ones
    with torch.no_grad():
        raw = network(image)
    found = decode(raw["boxes"][:1].numpy(), raw["scores"][:1].sigmoid().numpy(), 64, 0.0)
    assert found.finding[0] == 2
    np.testing.assert_allclose(found.corners[0], [24, 16, 56, 40], atol=4)


def test_ultralytics_leaves_pillow_as_it_was(tmp_path: Path) -> None:
    build("n")
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(UnidentifiedImageError):
        Image.open(tmp_path / "broken.jpg")
