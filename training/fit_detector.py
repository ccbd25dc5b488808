"""Train the detector by its recipe: on a CPU, one GPU, or many (``torchrun``), resuming where a kill left it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from shared.boxes import Detections, locate
from shared.findings import KEYS
from training.augment import augmented
from training.detection_metrics import average_precisions
from training.detector import RawHeads, build, detection_loss, load_coco, save_detector
from training.detector_data import DetectionTable, load_detection_table
from training.run import EpochSampler, Run, Work
from training.splits import load_folds

MIN_SCORE = 0.01
"""Candidates below it are not judged: they cost time and add nothing to average precision."""


@dataclass(frozen=True)
class Stage:
    """One stage of a recipe: which images at which size, for how long, how fast.

    ``mix`` is the chance (0..1) that an image is mixed with another one.
    """

    name: str
    sets: list[str]
    background: float
    side: int
    epochs: int
    batch: int
    rate: float
    warm_up: float
    mix: float = 0.0


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
Floats = npt.NDArray[np.float32]

MIX = 8.0
"""Both parameters of the Beta distribution of two mixed images' weights: near a half each (Zhang et al., ICLR 2018)."""


class BoxedSquares(Dataset[Item]):
    """Square images with boxes, augmented by a generator seeded per image and epoch, so a resumed run repeats itself.

    Items are float32 ``[1, S, S]`` in 0..1, targets ``[n, 5]`` (finding, centre x, centre y, width, height; fractions
    of the square) and the certainties ``[13]``.
    """

    def __init__(
        self, pixels: npt.NDArray[np.uint8], table: DetectionTable, augment: dict[str, float], mix: float, seed: int
    ) -> None:
        self.pixels, self.table, self.augment, self.mix, self.seed = pixels, table, augment, mix, seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> Item:
        rng = np.random.default_rng((self.seed, self.epoch, index))
        image, targets, certainty = self._one(index, rng)
        if rng.random() < self.mix:
            other, more, also = self._one(int(rng.integers(len(self))), rng)
            weight = rng.beta(MIX, MIX)
            image = np.float32(weight) * image + np.float32(1 - weight) * other
            targets, certainty = np.concatenate([targets, more]), np.minimum(certainty, also)
        low, high = targets[:, 1:3], targets[:, 3:5]
        centred = np.column_stack([targets[:, 0], (low + high) / 2, high - low]).astype(np.float32)
        return torch.from_numpy(image)[None], torch.from_numpy(centred), torch.from_numpy(certainty)

    def _one(self, index: int, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
        """An augmented image, its boxes ``[n, 5]`` (finding, corners in fractions of the square) and certainties."""
        side = self.pixels.shape[1]
        image, targets = augmented(self.pixels[index], self.table.targets(index, side), self.augment, rng)
        targets[:, 1:] /= side
        return image, targets, self.table.certainty[index]


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
        self.recipe, self.workers, self.limit = recipe, workers, limit
        self.execution = Run(data, cache, out, recipe.seed, recipe.ema_decay)
        torch.manual_seed(recipe.seed)
        self.model = build(recipe.scale)
        load_coco(self.model, init)
        self.model.to(self.execution.device).to(memory_format=torch.channels_last)
        self.loss = detection_loss(self.model)

    def run(self) -> Path:
        """Train all stages; returns the file of the final weights."""
        final = self.execution.out / "detector.safetensors"
        self.execution.train(self.model, self.recipe.stages, self._prepare)
        self.execution.finish(lambda: save_detector(self.model, self.recipe.scale, self.recipe.stages[-1].side, final))
        return final

    def _prepare(self, number: int) -> Work:
        recipe, run = self.recipe, self.execution
        stage = recipe.stages[number]
        train, judged = self._tables(stage)
        seed = recipe.seed + 1000 * number
        dataset = BoxedSquares(run.squares(train.table, stage.side), train, recipe.augment, stage.mix, seed)
        sampler = EpochSampler(np.ones(len(train)), seed, run.rank, run.world)
        loader = DataLoader(
            dataset, stage.batch, sampler=sampler, num_workers=self.workers, drop_last=True, collate_fn=collate
        )
        judged_squares = run.squares(judged.table, stage.side)

        def judge_average(average: nn.Module) -> dict[str, float]:
            return judge(judged, predict(average, judged_squares, judged, run.device))

        return Work(loader, self._optimiser(stage.rate), self._loss, judge_average, clip=10.0)

    def _tables(self, stage: Stage) -> tuple[DetectionTable, DetectionTable]:
        """Training images, and the full-size boxed images of the validation fold."""
        everything = load_detection_table(self.execution.data, tuple(stage.sets), stage.background, self.recipe.seed)
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

    def _loss(self, network: nn.Module, batch: Item) -> Tensor:
        device = self.execution.device
        image, targets, certainty = (part.to(device) for part in batch)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            raw = network(image.contiguous(memory_format=torch.channels_last))
        heads = {"boxes": raw["boxes"].float(), "scores": raw["scores"].float(), "feats": raw["feats"]}
        return self.loss(heads, targets, certainty)


def judge(judged: DetectionTable, found: list[Detections]) -> dict[str, float]:
    """mAP of each source (findings with support), and VinDr's average precision of each finding."""
    figures: dict[str, float] = {}
    per_finding: dict[str, float] = {}
    for source in ("VinDr", "NIH"):
        mask = (judged.table.rows["source"] == source).to_numpy()
        truth = judged.where(mask).truth
        precisions = average_precisions(truth, [found[row] for row in np.flatnonzero(mask)])[0]
        figures[f"map_{source.lower()}"] = float(precisions[truth.supported()].mean())
        if source == "VinDr":
            per_finding = dict(zip(KEYS, precisions.tolist(), strict=True))
    return figures | per_finding


def fit(
    recipe: Path, data: Path, init: Path, out: Path, cache: Path, workers: int = 0, limit: int | None = None
) -> Path:
    """Train by the recipe file from COCO weights ``init``; ``limit`` keeps about so many images of each stage."""
    return Trainer(Recipe.read(recipe), data, init, out, cache, workers, limit).run()
