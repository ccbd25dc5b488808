"""Train the classifier by its recipe: on a CPU, one GPU, or many (``torchrun``), resuming where a kill left it."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from shared.findings import KEYS
from training.classifier import Classifier, load_imagenet
from training.metrics import auc_per_finding
from training.run import EpochSampler, Run, Work
from training.splits import load_folds
from training.tables import Table, load_table


@dataclass(frozen=True)
class Stage:
    """One stage of a recipe: which images at which size, for how long, how fast.

    ``sets`` names the image sets with the share of each (0..1) that an epoch draws anew.
    """

    name: str
    sets: dict[str, float]
    side: int
    epochs: int
    batch: int
    rate: float
    body_factor: float
    warm_up: float


@dataclass(frozen=True)
class Recipe:
    """A recipe file (``training/recipes/*.toml``), read."""

    backbone: str
    drop: float
    drop_path: float
    split: Path
    validation_fold: int
    weight_decay: float
    ema_decay: float
    seed: int
    stages: list[Stage]
    augment: dict[str, float]

    @classmethod
    def read(cls, path: Path) -> Recipe:
        """Read a recipe; its split is a path relative to the recipe file."""
        raw = tomllib.loads(path.read_text())
        return cls(
            **raw["model"],
            split=path.parent / raw["data"]["split"],
            validation_fold=raw["data"]["validation_fold"],
            **raw["optimiser"],
            stages=[Stage(**stage) for stage in raw["stage"]],
            augment=raw["augment"],
        )


class Squares(Dataset[tuple[Tensor, Tensor]]):
    """Square images with labels, augmented by a generator seeded per image and epoch, so a resumed run repeats itself.

    Items are float32 ``[1, S, S]`` in 0..1 and labels ``[13]`` with NaN for unknown.
    """

    def __init__(
        self,
        pixels: npt.NDArray[np.uint8],
        labels: npt.NDArray[np.float32],
        augment: dict[str, float] | None,
        seed: int,
    ) -> None:
        self.pixels, self.labels, self.augment, self.seed = pixels, labels, augment, seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = self.pixels[index]
        if self.augment:
            image = augmented(image, self.augment, np.random.default_rng((self.seed, self.epoch, index)))
        else:
            image = image.astype(np.float32) / 255
        return torch.from_numpy(image)[None], torch.from_numpy(self.labels[index])


def augmented(image: npt.NDArray[np.uint8], by: dict[str, float], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """A randomly moved, scaled, flipped and re-exposed copy of a square image, float32 0..1."""
    side = image.shape[0]
    angle = rng.uniform(-1, 1) * by["rotate_degrees"]
    scale = math.exp(rng.uniform(-1, 1) * by["scale"])
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), angle, scale)
    matrix[:, 2] += rng.uniform(-1, 1, 2) * by["shift"] * side
    if rng.random() < by["flip"]:
        matrix = matrix @ np.array([[-1, 0, side - 1], [0, 1, 0], [0, 0, 1]], np.float64)
    moved = cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR)
    grey = np.arange(256, dtype=np.float32) / 255
    grey = grey ** math.exp(rng.uniform(-1, 1) * by["gamma"])
    grey = (grey - 0.5) * math.exp(rng.uniform(-1, 1) * by["contrast"]) + 0.5 + rng.uniform(-1, 1) * by["brightness"]
    return np.clip(grey, 0, 1).astype(np.float32)[moved]


def masked_bce(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean binary cross-entropy over the known labels; NaN labels have no gradient."""
    known = ~torch.isnan(labels)
    loss = nn.functional.binary_cross_entropy_with_logits(logits, labels.nan_to_num(), reduction="none")
    return (loss * known).sum() / known.sum().clamp(min=1)


def predict(
    model: nn.Module, pixels: npt.NDArray[np.uint8], device: torch.device, batch: int = 64, flip: bool = True
) -> npt.NDArray[np.float32]:
    """Logits ``[N, 13]`` in full precision, averaged over the image and its mirror image if ``flip``."""
    model.eval()
    out = []
    with torch.inference_mode():
        for start in range(0, len(pixels), batch):
            image = torch.from_numpy(pixels[start : start + batch].astype(np.float32) / 255)[:, None].to(device)
            image = image.contiguous(memory_format=torch.channels_last)
            logits = model(image)
            if flip:
                logits = (logits + model(image.flip(3))) / 2
            out.append(logits.float().cpu().numpy())
    return np.concatenate(out)


class Trainer:
    """Runs the stages of one recipe in one process (of one or several)."""

    def __init__(self, recipe: Recipe, data: Path, out: Path, cache: Path, workers: int, limit: int | None) -> None:
        self.recipe, self.workers, self.limit = recipe, workers, limit
        self.execution = Run(data, cache, out, recipe.seed, recipe.ema_decay)
        self.model = Classifier(recipe.backbone, recipe.drop, recipe.drop_path)
        load_imagenet(self.model, recipe.backbone)
        self.model.to(self.execution.device).to(memory_format=torch.channels_last)

    def run(self) -> Path:
        """Train all stages; returns the file of the final weights."""
        final = self.execution.out / "classifier.safetensors"
        self.execution.train(self.model, self.recipe.stages, self._prepare)
        state = {name: tensor.contiguous().cpu() for name, tensor in self.model.state_dict().items()}
        self.execution.finish(lambda: save_file(state, final))
        return final

    def _prepare(self, number: int) -> Work:
        recipe, run = self.recipe, self.execution
        stage = recipe.stages[number]
        train, judged = self._tables(stage)
        seed = recipe.seed + 1000 * number
        dataset = Squares(run.squares(train, stage.side), train.labels, recipe.augment, seed)
        sampler = EpochSampler(train.rows["set"].map(stage.sets).to_numpy(float), seed, run.rank, run.world)
        judged_squares = run.squares(judged, stage.side)

        def judge(average: nn.Module) -> dict[str, float]:
            aucs = auc_per_finding(judged.labels, predict(average, judged_squares, run.device))
            return {"mean_auc": float(np.nanmean(aucs)), **dict(zip(KEYS, aucs.tolist(), strict=True))}

        body: dict[str, Any] = {"params": list(self.model.body.parameters()), "factor": stage.body_factor}
        head: dict[str, Any] = {"params": list(self.model.head.parameters())}
        return Work(
            DataLoader(dataset, stage.batch, sampler=sampler, num_workers=self.workers, drop_last=True),
            torch.optim.AdamW([body, head], lr=stage.rate, weight_decay=recipe.weight_decay),
            self._loss,
            judge,
            clip=5.0,
        )

    def _loss(self, network: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        device = self.execution.device
        with torch.autocast(device.type, dtype=torch.bfloat16):
            logits = network(batch[0].to(device, memory_format=torch.channels_last))
        return masked_bce(logits.float(), batch[1].to(device))

    def _tables(self, stage: Stage) -> tuple[Table, Table]:
        """Training images of the stage, and the full-size NIH images of the validation patients."""
        everything = load_table(self.execution.data, tuple(stage.sets))
        validation = load_folds(self.recipe.split, everything) == self.recipe.validation_fold
        train = everything.where(~validation)
        full_size_nih = (everything.rows["set"] == "images") & (everything.rows["source"] == "NIH")
        if self.limit:
            train = train.where(np.arange(len(train)) < self.limit)
        return train, everything.where(validation & full_size_nih)


def fit(recipe: Path, data: Path, out: Path, cache: Path, workers: int = 0, limit: int | None = None) -> Path:
    """Train by the recipe file; ``limit`` keeps the first images of each stage only (for a dry run)."""
    return Trainer(Recipe.read(recipe), data, out, cache, workers, limit).run()
