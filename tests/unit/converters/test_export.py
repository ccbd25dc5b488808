from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from converters.export import (
    Network,
    detector_network,
    export_litert,
    export_onnx,
    export_onnx_fp16,
    gate_network,
    torch_outputs,
)
from shared.runtime import open_model
from training.detector import RawHeads, build
from training.gate import GateNet


@pytest.fixture(scope="module")
def onnx_file(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "classifier.onnx"
    export_onnx(network, path)
    return path


def test_onnx_gives_what_torch_gives(network: Network, films: np.ndarray, onnx_file: Path) -> None:
    expected = torch_outputs(network, films[:3])["maps"]
    model = open_model(onnx_file, threads=1)
    maps = np.concatenate([model(film[None])["maps"] for film in films[:3]])
    assert maps.shape == (3, 13, 2, 2)
    np.testing.assert_allclose(maps, expected, atol=1e-3)


def test_onnx_takes_batches(network: Network, films: np.ndarray, onnx_file: Path) -> None:
    (maps,) = ort.InferenceSession(str(onnx_file)).run(["maps"], {"image": films[:5]})
    np.testing.assert_allclose(maps, torch_outputs(network, films[:5])["maps"], atol=1e-3)


def test_half_precision_keeps_float_ends_and_values(
    network: Network, films: np.ndarray, onnx_file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "half.onnx"
    export_onnx_fp16(onnx_file, path)
    assert path.stat().st_size < 0.55 * onnx_file.stat().st_size
    maps = open_model(path, threads=1)(films[:1])["maps"]
    assert maps.dtype == np.float32
    expected = torch_outputs(network, films[:1])["maps"]
    assert np.abs(maps - expected).max() < 0.02 * np.abs(expected).max()
    batch = ort.InferenceSession(str(path)).run(["maps"], {"image": films[:4]})[0]
    assert batch.shape == (4, 13, 2, 2)


def test_litert_gives_what_torch_gives(network: Network, films: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "classifier.tflite"
    export_litert(network, path)
    model = open_model(path, threads=1)
    maps = np.concatenate([model(film[None])["maps"] for film in films[:3]])
    np.testing.assert_allclose(maps, torch_outputs(network, films[:3])["maps"], atol=1e-3)


def test_both_runtimes_tell_the_detectors_outputs_apart(films: np.ndarray, tmp_path: Path) -> None:
    torch.manual_seed(0)
    detector = detector_network(RawHeads(build("n")).eval(), 64)
    expected = torch_outputs(detector, films[:1])
    export_onnx(detector, tmp_path / "detector.onnx", dynamic_batch=False)
    export_litert(detector, tmp_path / "detector.tflite")
    for suffix in ("onnx", "tflite"):
        outputs = open_model(tmp_path / f"detector.{suffix}", threads=1)(films[:1])
        assert outputs.keys() == {"boxes", "scores"}
        assert outputs["boxes"].shape == (1, 64, 84)
        assert outputs["scores"].shape == (1, 13, 84)
        for name, values in outputs.items():
            np.testing.assert_allclose(values, expected[name], atol=1e-4)


def test_the_gate_takes_batches_too(tmp_path: Path) -> None:
    gate = gate_network(GateNet(96).eval(), 96)
    images = np.random.default_rng(0).random((4, 1, 96, 96), np.float32)
    export_onnx(gate, tmp_path / "gate.onnx")
    (logits,) = ort.InferenceSession(str(tmp_path / "gate.onnx")).run(["gate"], {"image": images})
    np.testing.assert_allclose(logits, torch_outputs(gate, images)["gate"], atol=1e-4)
    assert onnx.load(str(tmp_path / "gate.onnx")).opset_import[0].version >= 18


def test_a_file_does_not_say_where_it_was_made(network: Network, tmp_path: Path) -> None:
    export_onnx(network, tmp_path / "net.onnx")
    content = (tmp_path / "net.onnx").read_bytes()
    assert str(Path(__file__).parents[3]).encode() not in content
    assert b"stack_trace" not in content
