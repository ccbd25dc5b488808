"""Several trained classifiers as one: the mean of their weights (model soup, Wortsman et al., ICML 2022).

Works for networks that were fine-tuned from the same weights, and costs nothing at run time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from shared.errors import FirstRayError


def average_weights(files: Sequence[Path], out: Path) -> None:
    """Write the mean of the weights of ``files`` (safetensors of one architecture).

    Raises:
        FirstRayError: ``weights_differ`` where the files do not hold the same tensors.
    """
    states = [load_file(path) for path in files]
    for path, state in zip(files, states, strict=True):
        if {name: t.shape for name, t in state.items()} != {name: t.shape for name, t in states[0].items()}:
            raise FirstRayError(
                "weights_differ", f"{path} and {files[0]} are not weights of one network.", "Average equal networks."
            )
    mean = {
        name: torch.stack([state[name].double() for state in states]).mean(0).to(tensor.dtype)
        for name, tensor in states[0].items()
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file(mean, out)
