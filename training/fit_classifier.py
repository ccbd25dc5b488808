"""Train the classifier by its recipe: on a CPU, one GPU, or many (``torchrun``), resuming where a kill left it.

Stages run one after the other, each from the averaged weights of the one before. After every epoch the whole state is
written; a run started again with the same output folder goes on from there.
"""

from __future__ import annotations

import csv
import math
import os
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from safetensors.torch import save_file
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

from shared.findings import KEYS
from training.classifier import Classifier, load_imagenet
from training.images import square_images
from training.metrics import auc_per_finding
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


class EpochSampler(Sampler[int]):
    """The images of one epoch for one of ``world`` processes: each kept with its share, shuffled, the same number each.

    Args:
        shares: ``[N]``, chance of each image to be in an epoch, 0..1.
        seed: with :attr:`epoch` decides the draw, alike in every process.
        rank, world: which process this is, of how many.
    """

    def __init__(self, shares: npt.NDArray[np.float64], seed: int, rank: int, world: int) -> None:
        self.shares, self.seed, self.rank, self.world = shares, seed, rank, world
        self.epoch = 0

    def _drawn(self) -> npt.NDArray[np.int64]:
        rng = np.random.default_rng((self.seed, self.epoch))
        kept = rng.permutation(np.flatnonzero(rng.random(len(self.shares)) < self.shares))
        return kept[: len(kept) // self.world * self.world][self.rank :: self.world]

    def __iter__(self) -> Iterator[int]:
        return iter(self._drawn().tolist())

    def __len__(self) -> int:
        return len(self._drawn())


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
        self.recipe, self.data, self.out, self.cache = recipe, data, out, cache
        self.workers, self.limit = workers, limit
        self.rank, self.world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        cuda = torch.cuda.is_available()
        if self.world > 1:
            dist.init_process_group("nccl" if cuda else "gloo")
        self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else torch.device("cpu")
        self.model = Classifier(recipe.backbone, recipe.drop, recipe.drop_path)
        load_imagenet(self.model, recipe.backbone)
        self.model.to(self.device).to(memory_format=torch.channels_last)
        self.state = out / "state.pt"

    def run(self) -> Path:
        """Train all stages; returns the file of the final weights."""
        self.out.mkdir(parents=True, exist_ok=True)
        saved = torch.load(self.state, map_location=self.device, weights_only=True) if self.state.exists() else None
        for number, stage in enumerate(self.recipe.stages):
            if saved and number < saved["stage"]:
                continue
            resumed = saved if saved and number == saved["stage"] else None
            self._run_stage(number, stage, resumed)
            saved = None
        final = self.out / "classifier.safetensors"
        if self.rank == 0:
            save_file({k: v.contiguous().cpu() for k, v in self.model.state_dict().items()}, final)
        if self.world > 1:
            dist.destroy_process_group()
        return final

    def _pixels(self, table: Table, side: int) -> npt.NDArray[np.uint8]:
        """The first process decodes, the others wait and map its file."""
        if self.rank == 0:
            square_images(self.data, table, side, self.cache)
        if self.world > 1:
            dist.barrier()
        return square_images(self.data, table, side, self.cache)

    def _run_stage(self, number: int, stage: Stage, resumed: dict[str, Any] | None) -> None:
        recipe = self.recipe
        train, judged = self._tables(stage)
        dataset = Squares(self._pixels(train, stage.side), train.labels, recipe.augment, recipe.seed + 1000 * number)
        shares = train.rows["set"].map(stage.sets).to_numpy(float)
        sampler = EpochSampler(shares, recipe.seed + 1000 * number, self.rank, self.world)
        loader = DataLoader(dataset, stage.batch, sampler=sampler, num_workers=self.workers, drop_last=True)
        judged_pixels = self._pixels(judged, stage.side)
        optimiser, average, first = self._start(stage, resumed)
        network: nn.Module = self.model
        if self.world > 1:
            network = nn.parallel.DistributedDataParallel(self.model)
        for epoch in range(first, stage.epochs):
            started = time.monotonic()
            sampler.epoch = dataset.epoch = epoch
            torch.manual_seed(recipe.seed + 100 * number + epoch)
            loss = self._run_epoch(stage, epoch, loader, network, optimiser, average)
            if self.rank == 0:
                scores = predict(average.module, judged_pixels, self.device)
                self._log(stage, epoch, loss, auc_per_finding(judged.labels, scores), time.monotonic() - started)
                self._save(number, epoch, optimiser, average)
        self.model.load_state_dict(average.module.state_dict())

    def _tables(self, stage: Stage) -> tuple[Table, Table]:
        """Training images of the stage, and the full-size NIH images of the validation patients."""
        everything = load_table(self.data, tuple(stage.sets))
        validation = load_folds(self.recipe.split, everything) == self.recipe.validation_fold
        train = everything.where(~validation)
        full_size_nih = (everything.rows["set"] == "images") & (everything.rows["source"] == "NIH")
        if self.limit:
            train = train.where(np.arange(len(train)) < self.limit)
        return train, everything.where(validation & full_size_nih)

    def _start(self, stage: Stage, resumed: dict[str, Any] | None) -> tuple[torch.optim.Optimizer, ModelEmaV3, int]:
        """Optimiser, averaged weights and first epoch: new, or as the checkpoint left them."""
        if resumed:
            self.model.load_state_dict(resumed["model"])
        body = {"params": list(self.model.body.parameters()), "factor": stage.body_factor}
        head = {"params": list(self.model.head.parameters()), "factor": 1.0}
        optimiser = torch.optim.AdamW([body, head], lr=stage.rate, weight_decay=self.recipe.weight_decay)
        average = ModelEmaV3(self.model, decay=self.recipe.ema_decay, use_warmup=True, warmup_power=0.75)
        if resumed is None:
            return optimiser, average, 0
        average.module.load_state_dict(resumed["average"])
        optimiser.load_state_dict(resumed["optimiser"])
        return optimiser, average, resumed["epoch"] + 1

    def _run_epoch(
        self,
        stage: Stage,
        epoch: int,
        loader: DataLoader[tuple[Tensor, Tensor]],
        network: nn.Module,
        optimiser: torch.optim.Optimizer,
        average: ModelEmaV3,
    ) -> float:
        """One pass over the stage's images; returns the mean training loss."""
        network.train()
        losses, steps = [], len(loader)
        bar = tqdm(
            loader, total=steps, desc=f"{stage.name} {epoch + 1}/{stage.epochs}", disable=self.rank > 0, mininterval=5
        )
        for step, (image, label) in enumerate(bar):
            done = (epoch + step / steps) / stage.epochs
            for group in optimiser.param_groups:
                group["lr"] = stage.rate * group["factor"] * one_cycle(done, stage.warm_up)
            moved = image.to(self.device, memory_format=torch.channels_last)
            with torch.autocast(self.device.type, dtype=torch.bfloat16):
                logits = network(moved)
            loss = masked_bce(logits.float(), label.to(self.device))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
            optimiser.step()
            average.update(self.model, step=epoch * steps + step)
            losses.append(loss.item())
            bar.set_postfix(loss=f"{np.mean(losses[-50:]):.4f}", refresh=False)
        return float(np.mean(losses))

    def _save(self, stage: int, epoch: int, optimiser: torch.optim.Optimizer, average: ModelEmaV3) -> None:
        """Write the whole state beside the old one and swap, so a kill never leaves half a file."""
        state = {
            "stage": stage,
            "epoch": epoch,
            "model": self.model.state_dict(),
            "average": average.module.state_dict(),
            "optimiser": optimiser.state_dict(),
        }
        part = self.state.with_suffix(".part")
        torch.save(state, part)
        os.replace(part, self.state)

    def _log(self, stage: Stage, epoch: int, loss: float, aucs: npt.NDArray[np.floating], seconds: float) -> None:
        path = self.out / "log.csv"
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["stage", "epoch", "loss", "mean_auc", *KEYS, "seconds"])
            figures = [f"{value:.4f}" for value in (loss, float(np.nanmean(aucs)), *aucs)]
            writer.writerow([stage.name, epoch + 1, *figures, f"{seconds:.0f}"])
        tqdm.write(f"{stage.name} {epoch + 1}: loss {loss:.4f}, mean AUC {np.nanmean(aucs):.4f}, {seconds:.0f} s")


def one_cycle(done: float, warm_up: float) -> float:
    """Learning-rate factor at ``done`` (0..1) of a stage: linear up over ``warm_up``, then cosine down to 0.01."""
    if done < warm_up:
        return 0.05 + 0.95 * done / warm_up
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (done - warm_up) / (1 - warm_up)))


def fit(recipe: Path, data: Path, out: Path, cache: Path, workers: int = 0, limit: int | None = None) -> Path:
    """Train by the recipe file; ``limit`` keeps the first images of each stage only (for a dry run)."""
    return Trainer(Recipe.read(recipe), data, out, cache, workers, limit).run()
