"""The network of the quality gate (:mod:`shared.quality`) and its training.

Training makes all its samples first (:mod:`training.gate_samples`), then fits the network on one CPU thread in minutes,
chooses the thresholds on validation radiographs and judges the result on patients and pictures it never met
(:mod:`training.gate_judge`).
"""

from __future__ import annotations

import csv
import json
import math
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from shared.quality import OUTPUTS, GateSpec
from training.gate_judge import Targets, choose_thresholds, judge, predict
from training.gate_material import load_pictures
from training.gate_samples import Counts, Material, Samples, load_exceptions
from training.splits import load_folds
from training.tables import load_table

WEIGHTS, SPEC, REPORT = "gate.safetensors", "gate.json", "report.json"
"""What :func:`fit` leaves in its output folder, beside ``log.csv``."""


class GateNet(nn.Module):
    """Plain convolutions, batch norm and ReLU, 150,000 parameters: small, and kind to int8.

    Args:
        side: side of the square images, a multiple of 48. The head looks at the whole square, so that it can tell
            which way up it is.
    """

    def __init__(self, side: int = 96) -> None:
        super().__init__()
        if side % 48:
            raise ValueError(f"the gate's side must be a multiple of 48, not {side}")
        widths = ((1, 16, 2), (16, 24, 2), (24, 24, 1), (24, 48, 2), (48, 48, 1), (48, 72, 2), (72, 72, 1))
        self.body = nn.Sequential(*(block(inputs, outputs, stride) for inputs, outputs, stride in widths))
        self.pool = nn.AvgPool2d(side // 48)
        self.head = nn.Sequential(
            nn.Conv2d(72, 48, 3), nn.ReLU(inplace=True), nn.Dropout(0.1), nn.Conv2d(48, len(OUTPUTS), 1)
        )

    def forward(self, image: Tensor) -> Tensor:
        """Logits ``[B, 7]`` in the order of :data:`shared.quality.OUTPUTS` of images ``[B, 1, side, side]`` in 0..1."""
        logits: Tensor = self.head(self.pool(self.body(image * 2 - 1)))
        return logits.flatten(1)


def block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """3x3 convolution, batch norm, ReLU."""
    convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def load_gate(folder: Path) -> GateNet:
    """The trained network of a folder that :func:`fit` wrote, ready to predict."""
    network = GateNet(load_spec(folder).side)
    network.load_state_dict(load_file(folder / WEIGHTS))
    return network.eval()


def load_spec(folder: Path) -> GateSpec:
    """The thresholds chosen for it."""
    return GateSpec.model_validate_json((folder / SPEC).read_text())


@dataclass(frozen=True)
class Recipe:
    """A recipe file (``training/recipes/gate.toml``), read."""

    split: Path
    validation_fold: int
    test_fold: int
    sets: list[str]
    seed: int
    epochs: int
    batch: int
    rate: float
    weight_decay: float
    warm_up: float
    samples: Counts
    targets: Targets

    @classmethod
    def read(cls, path: Path) -> Recipe:
        """Read a recipe; its split is a path relative to the recipe file."""
        raw = tomllib.loads(path.read_text())
        data = raw["data"] | {"split": path.parent / raw["data"]["split"]}
        return cls(**data, **raw["optimiser"], samples=Counts(**raw["samples"]), targets=Targets(**raw["targets"]))


def gate_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the turn plus binary cross-entropies of the rest, each over its known labels."""
    known, target = labels >= 0, labels.clamp(min=0)
    loss = logits.new_zeros(())
    for column, output in ((0, 0), (2, 5), (3, 6)):
        chosen = known[:, column]
        each = nn.functional.binary_cross_entropy_with_logits(
            logits[chosen, output], target[chosen, column].float(), reduction="sum"
        )
        loss = loss + each / chosen.sum().clamp(min=1)
    chosen = known[:, 1]
    turns = nn.functional.cross_entropy(logits[chosen, 1:5], target[chosen, 1].long(), reduction="sum")
    return loss + turns / chosen.sum().clamp(min=1)


def train(recipe: Recipe, samples: Samples, watched: Samples, out: Path) -> GateNet:
    """Fit the network; every epoch's losses go to ``log.csv``."""
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    network = GateNet(recipe.samples.side).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.rate, weight_decay=recipe.weight_decay)
    steps = len(samples.pixels) // recipe.batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.rate, total_steps=steps * recipe.epochs, pct_start=recipe.warm_up
    )
    with (out / "log.csv").open("w", newline="") as file:
        log = csv.writer(file)
        log.writerow(["epoch", "loss", "validation_loss", "seconds"])
        for epoch in range(recipe.epochs):
            started, losses = time.monotonic(), []
            network.train()
            order = rng.permutation(len(samples.pixels))[: steps * recipe.batch].reshape(steps, recipe.batch)
            for rows in tqdm(order, desc=f"gate {epoch + 1}/{recipe.epochs}", mininterval=5):
                image = torch.from_numpy(samples.pixels[rows])[:, None].float() / 255
                loss = gate_loss(network(image), torch.from_numpy(samples.labels[rows]))
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
                schedule.step()
                losses.append(loss.item())
            with torch.inference_mode():
                judged = gate_loss(torch.from_numpy(predict(network, watched.pixels)), torch.from_numpy(watched.labels))
            log.writerow([epoch, f"{np.mean(losses):.5f}", f"{judged.item():.5f}", f"{time.monotonic() - started:.1f}"])
            file.flush()
            if not math.isfinite(losses[-1]):
                raise FloatingPointError(f"the loss is {losses[-1]} after epoch {epoch}")
    return network.eval()


def fit(recipe_file: Path, data: Path, out: Path, picture_folders: list[Path]) -> dict[str, object]:
    """Train, choose thresholds, judge.

    Args:
        recipe_file: ``training/recipes/gate.toml`` or another of its layout.
        data: data folder (:func:`training.tables.data_folder`).
        out: where weights, thresholds (a :class:`shared.quality.GateSpec`), log and report go.
        picture_folders: folders of pictures that are not radiographs (:mod:`training.gate_material`); may be empty.

    Returns:
        The report, as written to ``report.json``.
    """
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    recipe = Recipe.read(recipe_file)
    everything, exceptions = load_table(data), load_exceptions()
    listed = [key in exceptions for key in zip(everything.rows["set"], everything.rows["image"], strict=True)]
    table = everything.where(everything.rows["set"].isin(recipe.sets).to_numpy() | np.array(listed))
    folds = load_folds(recipe.split, table)
    pictures = load_pictures(picture_folders)
    held = {"validation": folds == recipe.validation_fold, "test": folds == recipe.test_fold}
    material = Material(data, table.where(~held["validation"] & ~held["test"]), pictures, "train")
    validation = Material(data, table.where(held["validation"]), pictures, "validation")
    watched = validation.samples(recipe.samples, 0.08, recipe.seed + 1)
    network = train(recipe, material.samples(recipe.samples, 1.0, recipe.seed), watched, out)
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, out / WEIGHTS)
    spec = choose_thresholds(network, recipe.samples.side, recipe.targets, validation)
    (out / SPEC).write_text(spec.model_dump_json(indent=2) + "\n")
    test = Material(data, table.where(held["test"]), pictures, "test")
    report = judge(network, spec, recipe.samples, test, recipe.seed + 2)
    (out / REPORT).write_text(json.dumps(report, indent=2) + "\n")
    return report
