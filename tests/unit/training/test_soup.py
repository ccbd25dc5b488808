"""A soup is the mean of its networks, and only of equal ones."""

import pytest

pytest.importorskip("torch")
import torch
from safetensors.torch import load_file, save_file

from shared.errors import FirstRayError
from training.soup import average_weights


def test_weights_are_averaged_and_others_refused(tmp_path):
    for name, value in (("a", 1.0), ("b", 2.0)):
        save_file({"w": torch.full((2, 2), value), "count": torch.tensor(7)}, tmp_path / name)
    average_weights([tmp_path / "a", tmp_path / "b"], tmp_path / "out" / "soup")
    mean = load_file(tmp_path / "out" / "soup")
    assert torch.equal(mean["w"], torch.full((2, 2), 1.5))
    assert mean["count"] == 7
    save_file({"w": torch.zeros(3)}, tmp_path / "c")
    with pytest.raises(FirstRayError, match="not weights of one network"):
        average_weights([tmp_path / "a", tmp_path / "c"], tmp_path / "no")
