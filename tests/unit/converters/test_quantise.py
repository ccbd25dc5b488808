import copy
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from torch import nn

from converters.export import Network, torch_outputs
from converters.quantise import correct_biases, fold_batch_norms, quantise_litert, quantise_onnx, rounded
from shared.runtime import open_model
from training.detector import RawHeads, build


@pytest.fixture(scope="module", params=["onnx", "tflite"])
def int8_file(
    request: pytest.FixtureRequest, network: Network, films: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("int8") / f"classifier.{request.param}"
    (quantise_onnx if request.param == "onnx" else quantise_litert)(network, films[:32], path)
    return path


def test_int8_ranks_radiographs_it_never_saw_like_torch(int8_file: Path, network: Network, films: np.ndarray) -> None:
    model = open_model(int8_file, threads=1)
    logits = np.concatenate([model(film[None])["maps"] for film in films[32:]]).mean((2, 3))
    expected = torch_outputs(network, films[32:])["maps"].mean((2, 3))
    assert np.corrcoef(logits.ravel(), expected.ravel())[0, 1] > 0.99
    assert np.mean(logits.argmax(1) == expected.argmax(1)) >= 0.8
    assert int8_file.stat().st_size < 4.5 * 2**20


def test_only_the_ends_stay_in_float(int8_file: Path) -> None:
    assert int8_convolutions(int8_file) == 40  # of 50: all but the stem, two groups of blocks and the head


def int8_convolutions(path: Path) -> int:
    if path.suffix == ".onnx":
        nodes = onnx.load(str(path)).graph.node
        dequantised = {node.output[0] for node in nodes if node.op_type == "DequantizeLinear"}
        return sum(node.op_type == "Conv" and node.input[1] in dequantised for node in nodes)
    interpreter = Interpreter(str(path))
    weights = [op["inputs"][1] for op in interpreter._get_ops_details() if "CONV_2D" in op["op_name"]]
    return sum(interpreter._get_tensor_details(weight, 0)["dtype"] is np.int8 for weight in weights)


def test_folding_batch_norms_changes_no_answer(network: Network, films: np.ndarray) -> None:
    folded = copy.deepcopy(network.module)
    fold_batch_norms(folded)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in folded.modules())
    expected = torch_outputs(network, films[:4])["maps"]
    np.testing.assert_allclose(torch_outputs(network.with_module(folded), films[:4])["maps"], expected, atol=1e-3)


def test_folding_reaches_the_detectors_convolutions(films: np.ndarray) -> None:
    torch.manual_seed(0)
    heads = RawHeads(build("n")).eval()
    for part in heads.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.1, 0.1)
            nn.init.uniform_(part.running_var, 0.5, 2)
    expected = heads(torch.from_numpy(films[:2]))
    fold_batch_norms(heads)
    for value, other in zip(heads(torch.from_numpy(films[:2])), expected, strict=True):
        torch.testing.assert_close(value, other, atol=1e-4, rtol=1e-3)


def test_bias_correction_takes_the_mean_error_of_rounding_away(films: np.ndarray) -> None:
    torch.manual_seed(0)
    exact = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3)).eval()
    corrected = copy.deepcopy(exact)
    correct_biases(corrected, films[:32], float_modules=("0",))

    def mean_error(module: nn.Sequential) -> float:
        module = copy.deepcopy(module)
        module[2].weight = nn.Parameter(rounded(module[2].weight))
        images = torch.from_numpy(films[32:])
        with torch.no_grad():
            return float((module(images) - exact(images)).mean((0, 2, 3)).abs().max())

    assert mean_error(corrected) < 0.3 * mean_error(exact)
    assert torch.equal(corrected[0].bias, exact[0].bias)


def test_rounding_lands_on_the_levels_of_an_int8_file() -> None:
    weight = torch.randn(4, 3, 3, 3)
    weight[2] = 0  # a dead channel
    levels = rounded(weight) / weight.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12) * 127
    torch.testing.assert_close(levels, levels.round(), atol=1e-3, rtol=0)
    assert levels.abs().max() <= 127
