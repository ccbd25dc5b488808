"""Train the detector by its recipe: on a CPU, one GPU, or many (``torchrun``), resuming where a kill left it.

The same shape as :mod:`training.fit_classifier`: stages one after the other, each from the averaged weights of the one
before, the whole state written after every epoch.
"""

from __future__ import annotations

import csv
import os
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler
from tqdm import tqdm

from shared.boxes import Detections, locate
from shared.findings import KEYS
from training.detection_metrics import average_precisions
from training.detector import RawHeads, build, detection_loss, load_coco, save_detector
from training.detector_data import DetectionTable, augmented, load_detection_table
from training.fit_classifier import one_cycle
from training.images import square_images
from training.splits import load_folds

MIN_SCORE = 0.01
"""Candidates below it are not judged: they cost time and add nothing to average precision."""


@dataclass(frozen=True)
class Stage:
    """One stage of a recipe: which images at which size, for how long, how fast."""

    name: str
    sets: list[str]
    background: float
    side: int
    epochs: int
    batch: int
    rate: float
    warm_up: float


@dataclass(frozen=True)
class Recipe:
    """A recipe file (``training/recipes/detector.toml``), read."""

    scale: str
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


Item = tuple[Tensor, Tensor, Tensor]


class BoxedSquares(Dataset[Item]):
    """Square images with boxes, augmented by a generator seeded per image and epoch, so a resumed run repeats itself.

    Items are float32 ``[1, S, S]`` in 0..1, targets ``[n, 5]`` (finding, centre x, centre y, width, height; fractions
    of the square) and the certainties ``[13]``.
    """

    def __init__(
        self, pixels: npt.NDArray[np.uint8], table: DetectionTable, augment: dict[str, float], seed: int
    ) -> None:
        self.pixels, self.table, self.augment, self.seed = pixels, table, augment, seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> Item:
        side = self.pixels.shape[1]
        rng = np.random.default_rng((self.seed, self.epoch, index))
        image, targets = augmented(self.pixels[index], self.table.targets(index, side), self.augment, rng)
        low, high = targets[:, 1:3] / side, targets[:, 3:5] / side
        centred = np.column_stack([targets[:, 0], (low + high) / 2, high - low]).astype(np.float32)
        return torch.from_numpy(image)[None], torch.from_numpy(centred), torch.from_numpy(self.table.certainty[index])


def collate(items: list[Item]) -> Item:
    """A batch: images ``[B, 1, S, S]``, targets ``[T, 6]`` with the row in the batch first, certainties ``[B, 13]``."""
    images, targets, certainties = zip(*items, strict=True)
    rows = [torch.cat([torch.full((len(t), 1), float(row)), t], 1) for row, t in enumerate(targets)]
    return torch.stack(images), torch.cat(rows), torch.stack(certainties)


def predict(
    model: nn.Module,
    pixels: npt.NDArray[np.uint8],
    table: DetectionTable,
    device: torch.device,
    min_score: float = MIN_SCORE,
    batch: int = 16,
) -> list[Detections]:
    """Boxes of every image in fractions of it, full precision; ``pixels`` ``[N, S, S]`` belong to the table's rows."""
    heads = RawHeads(model).eval()
    found = []
    with torch.inference_mode():
        for start in range(0, len(pixels), batch):
            image = torch.from_numpy(pixels[start : start + batch].astype(np.float32) / 255)[:, None].to(device)
            boxes, scores = (part.float().cpu().numpy() for part in heads(image))
            for row in range(len(image)):
                square = table.square(start + row, pixels.shape[1])
                found.append(locate(boxes[row : row + 1], scores[row : row + 1], square, min_score))
    return found


class Trainer:
    """Runs the stages of one recipe in one process (of one or several)."""

    def __init__(
        self, recipe: Recipe, data: Path, init: Path, out: Path, cache: Path, workers: int, limit: int | None
    ) -> None:
        self.recipe, self.data, self.out, self.cache = recipe, data, out, cache
        self.workers, self.limit = workers, limit
        self.rank, self.world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        cuda = torch.cuda.is_available()
        if self.world > 1:
            dist.init_process_group("nccl" if cuda else "gloo")
        self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else torch.device("cpu")
        torch.manual_seed(recipe.seed)
        self.model = build(recipe.scale)
        load_coco(self.model, init)
        self.model.to(self.device).to(memory_format=torch.channels_last)
        self.loss = detection_loss(self.model)
        self.state = out / "state.pt"

    def run(self) -> Path:
        """Train all stages; returns the file of the final weights."""
        self.out.mkdir(parents=True, exist_ok=True)
        saved = torch.load(self.state, map_location=self.device, weights_only=True) if self.state.exists() else None
        for number, stage in enumerate(self.recipe.stages):
            if saved and number < saved["stage"]:
                continue
            self._run_stage(number, stage, saved if saved and number == saved["stage"] else None)
            saved = None
        final = self.out / "detector.safetensors"
        if self.rank == 0:
            save_detector(self.model, self.recipe.scale, self.recipe.stages[-1].side, final)
        if self.world > 1:
            dist.destroy_process_group()
        return final

    def _pixels(self, table: DetectionTable, side: int) -> npt.NDArray[np.uint8]:
        """The first process decodes, the others wait and map its file."""
        if self.rank == 0:
            square_images(self.data, table.table, side, self.cache)
        if self.world > 1:
            dist.barrier()
        return square_images(self.data, table.table, side, self.cache)

    def _tables(self, stage: Stage) -> tuple[DetectionTable, DetectionTable]:
        """Training images, and the full-size boxed images of the validation fold."""
        everything = load_detection_table(self.data, tuple(stage.sets), stage.background, self.recipe.seed)
        folds = load_folds(self.recipe.split, everything.table)
        train = everything.where(folds != self.recipe.validation_fold)
        if self.limit:
            train = train.where(np.arange(len(train)) % max(1, len(train) // self.limit) == 0)
        boxed = np.array([len(boxes.score) > 0 for boxes in everything.boxes])
        full_size = (everything.table.rows["set"] == "images").to_numpy()
        return train, everything.where((folds == self.recipe.validation_fold) & full_size & boxed)

    def _optimiser(self, rate: float) -> torch.optim.Optimizer:
        """AdamW; normalisation and biases do not decay."""
        kernels = [p for p in self.model.parameters() if p.requires_grad and p.ndim > 1]
        others = [p for p in self.model.parameters() if p.requires_grad and p.ndim <= 1]
        groups = [
            {"params": kernels, "weight_decay": self.recipe.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=rate)

    def _run_stage(self, number: int, stage: Stage, resumed: dict[str, Any] | None) -> None:
        recipe = self.recipe
        train, judged = self._tables(stage)
        seed = recipe.seed + 1000 * number
        dataset = BoxedSquares(self._pixels(train, stage.side), train, recipe.augment, seed)
        sampler: DistributedSampler[Any] = DistributedSampler(
            dataset, self.world, self.rank, shuffle=True, seed=recipe.seed, drop_last=True
        )
        loader = DataLoader(
            dataset, stage.batch, sampler=sampler, num_workers=self.workers, drop_last=True, collate_fn=collate
        )
        judged_pixels = self._pixels(judged, stage.side)
        optimiser = self._optimiser(stage.rate)
        first = 0
        if resumed:
            self.model.load_state_dict(resumed["model"])
        average = ModelEmaV3(self.model, decay=recipe.ema_decay, use_warmup=True, warmup_power=0.75)
        if resumed:
            average.module.load_state_dict(resumed["average"])
            optimiser.load_state_dict(resumed["optimiser"])
            first = resumed["epoch"] + 1
        network: nn.Module = self.model
        if self.world > 1:
            network = nn.parallel.DistributedDataParallel(self.model)
        steps = max(1, len(loader))
        for epoch in range(first, stage.epochs):
            started, losses = time.monotonic(), []
            sampler.set_epoch(epoch)
            dataset.epoch = epoch
            network.train()
            bar = tqdm(loader, desc=f"{stage.name} {epoch + 1}/{stage.epochs}", disable=self.rank > 0, mininterval=5)
            for step, batch in enumerate(bar):
                factor = one_cycle((epoch * steps + step) / (stage.epochs * steps), stage.warm_up)
                for group in optimiser.param_groups:
                    group["lr"] = stage.rate * factor
                losses.append(self._step(network, optimiser, batch))
                average.update(self.model, step=epoch * steps + step)
                bar.set_postfix(loss=f"{np.mean(losses[-50:]):.4f}", refresh=False)
            if self.rank == 0:
                found = predict(average.module, judged_pixels, judged, self.device)
                self._log(stage, epoch, float(np.mean(losses)), judged, found, time.monotonic() - started)
                state = {
                    "stage": number,
                    "epoch": epoch,
                    "model": self.model.state_dict(),
                    "average": average.module.state_dict(),
                    "optimiser": optimiser.state_dict(),
                }
                torch.save(state, self.state.with_suffix(".part"))
                os.replace(self.state.with_suffix(".part"), self.state)
        self.model.load_state_dict(average.module.state_dict())

    def _step(self, network: nn.Module, optimiser: torch.optim.Optimizer, batch: Item) -> float:
        image, targets, certainty = (part.to(self.device) for part in batch)
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            raw = network(image.contiguous(memory_format=torch.channels_last))
        heads = {"boxes": raw["boxes"].float(), "scores": raw["scores"].float(), "feats": raw["feats"]}
        loss = self.loss(heads, targets, certainty)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 10.0)
        optimiser.step()
        return float(loss.item())

    def _log(
        self, stage: Stage, epoch: int, loss: float, judged: DetectionTable, found: list[Detections], seconds: float
    ) -> None:
        """One line of the log: mAP of each source (findings with support), and VinDr's average precisions."""
        figures: list[float] = [loss]
        for source in ("VinDr", "NIH"):
            mask = (judged.table.rows["source"] == source).to_numpy()
            truth = judged.where(mask).truth
            precisions = average_precisions(truth, [found[row] for row in np.flatnonzero(mask)])[0]
            figures.append(float(precisions[truth.supported()].mean()))
            if source == "VinDr":
                per_finding = precisions
        path = self.out / "log.csv"
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["stage", "epoch", "loss", "map_vindr", "map_nih", *KEYS, "seconds"])
            texts = [f"{value:.4f}" for value in (*figures, *per_finding)]
            writer.writerow([stage.name, epoch + 1, *texts, f"{seconds:.0f}"])
        tqdm.write(f"{stage.name} {epoch + 1}: loss, mAP VinDr, NIH {' '.join(texts[:3])}, {seconds:.0f} s")


def fit(
    recipe: Path, data: Path, init: Path, out: Path, cache: Path, workers: int = 0, limit: int | None = None
) -> Path:
    """Train by the recipe file from COCO weights ``init``; ``limit`` keeps about so many images of each stage."""
    return Trainer(Recipe.read(recipe), data, init, out, cache, workers, limit).run()
