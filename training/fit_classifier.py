"""Train the classifier by its recipe: on a CPU, one GPU, or many (``torchrun``), resuming where a kill left it."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from shared.calibration import sigmoid
from shared.errors import FirstRayError
from shared.findings import KEYS
from training.augment import augmented
from training.classifier import STRIDE, Classifier, load_imagenet
from training.depthwise import hasten
from training.gate_samples import load_exceptions
from training.lessons import READS, Lessons, coverage, level, load_lessons, softened
from training.metrics import auc_per_finding
from training.run import EpochSampler, Run, Work
from training.run import Stage as AnyStage
from training.splits import load_folds
from training.tables import Table, load_table


@dataclass(frozen=True)
class Stage:
    """One stage of a recipe: which images at which size, for how long, how fast.

    ``sets`` names the image sets with the share of each (0..1) that an epoch draws anew. ``distil`` is the share
    (0..1) of the teachers' probabilities in the labels; ``level`` takes the sets' prevalences out of what is learnt.
    """

    name: str
    sets: dict[str, float]
    side: int
    epochs: int
    batch: int
    rate: float
    body_factor: float
    warm_up: float
    distil: float = 0.0
    level: bool = False


@dataclass(frozen=True)
class Recipe:
    """A recipe file (``training/recipes/*.toml``), read.

    ``second_reads`` and ``places`` weigh these lessons (:mod:`training.lessons`) against the labels' loss.
    """

    backbone: str
    drop: float
    drop_path: float
    split: Path
    validation_fold: int
    weight_decay: float
    ema_decay: float
    seed: int
    second_reads: float
    places: float
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
            **raw["lessons"],
            stages=[Stage(**stage) for stage in raw["stage"]],
            augment=raw["augment"],
        )


Item = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


class Squares(Dataset[Item]):
    """Square images with their lessons, augmented by a generator seeded per image and epoch, so a resumed run repeats.

    Items are float32 ``[1, S, S]`` in 0..1, labels ``[13]`` and second reads ``[R]`` with NaN for unknown, the cover of
    each cell of the activation maps by the boxes of each finding, ``[13, S/32, S/32]``, and offsets of the logits
    ``[13]``.
    """

    def __init__(self, pixels: npt.NDArray[np.uint8], lessons: Lessons, augment: dict[str, float], seed: int) -> None:
        self.pixels, self.lessons, self.augment, self.seed = pixels, lessons, augment, seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.lessons.labels)

    def __getitem__(self, index: int) -> Item:
        side = self.pixels.shape[1]
        rng = np.random.default_rng((self.seed, self.epoch, index))
        image, boxes = augmented(self.pixels[index], self.lessons.targets(index, side), self.augment, rng)
        lessons, cover = self.lessons, coverage(boxes, side, -(-side // STRIDE))
        parts = (image[None], lessons.labels[index], lessons.reads[index], cover, lessons.offsets[index])
        pixels, labels, reads, covered, offsets = (torch.from_numpy(part) for part in parts)
        return pixels, labels, reads, covered, offsets


class Pupil(nn.Module):
    """The classifier while it learns: beside its maps it answers the second readers' questions, ``[B, R]`` logits."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier
        self.second = nn.Linear(classifier.body.num_features, len(READS))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Maps ``[B, 13, S/32, S/32]`` and logits of the second reads ``[B, R]``."""
        features = self.classifier.features(image)
        return self.classifier.head(features), self.second(features.mean((2, 3)))


def masked_bce(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean binary cross-entropy over the known labels; NaN labels have no gradient."""
    known = ~torch.isnan(labels)
    if not known.any():
        return logits.sum() * 0
    loss = nn.functional.binary_cross_entropy_with_logits(logits, labels.nan_to_num(), reduction="none")
    return (loss * known).sum() / known.sum()


def place_loss(maps: Tensor, cover: Tensor) -> Tensor:
    """How little of each boxed finding's activation (softmax over the cells) falls into its boxes: mean -log share.

    Args:
        maps: ``[B, 13, g, g]``.
        cover: ``[B, 13, g, g]`` in 0..1; a finding without a box covers nothing and counts for nothing.
    """
    boxed = cover.sum((2, 3)) > 0
    if not boxed.any():
        return maps.sum() * 0
    share = (maps.flatten(2).softmax(2) * cover.flatten(2)).sum(2)
    return -torch.log(share[boxed].clamp(min=1e-4)).mean()


def predict(
    model: nn.Module, pixels: npt.NDArray[np.uint8], device: torch.device, batch: int = 64, flip: bool = True
) -> npt.NDArray[np.float32]:
    """Logits ``[N, 13]``, averaged over the image and its mirror image if ``flip``."""
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

    def __init__(
        self,
        recipe: Recipe,
        data: Path,
        out: Path,
        cache: Path,
        workers: int,
        limit: int | None,
        teachers: Sequence[Path] = (),
        start: Path | None = None,
    ) -> None:
        if not teachers and any(stage.distil for stage in recipe.stages):
            raise FirstRayError(
                "teachers_missing", "The recipe distils, but no teachers were named.", "Pass --teacher FILE."
            )
        self.recipe, self.workers, self.limit = recipe, workers, limit
        self.execution = Run(data, cache, out, recipe.seed, recipe.ema_decay)
        device = self.execution.device
        self.teachers = [
            load_classifier(path, recipe.backbone).to(device).to(memory_format=torch.channels_last) for path in teachers
        ]
        torch.manual_seed(recipe.seed)
        classifier = Classifier(recipe.backbone, recipe.drop, recipe.drop_path)
        if start:
            classifier.load_state_dict(load_file(start))
        else:
            load_imagenet(classifier, recipe.backbone)
        self.pupil = Pupil(classifier).to(self.execution.device).to(memory_format=torch.channels_last)
        if self.execution.device.type == "cpu":
            hasten(self.pupil)

    def run(self) -> Path:
        """Train all stages; returns the file of the final weights."""
        final = self.execution.out / "classifier.safetensors"
        self.execution.train(self.pupil, self.recipe.stages, self._prepare, self._keep)
        self.execution.finish(lambda: save_classifier(self.pupil.classifier, final))
        return final

    def _keep(self, stage: AnyStage) -> None:
        """Each stage's weights stay, to start other last stages from."""
        save_classifier(self.pupil.classifier, self.execution.out / f"{stage.name}.safetensors")

    def _prepare(self, number: int) -> Work:
        recipe, here = self.recipe, self.execution
        stage = recipe.stages[number]
        train, judged = self._tables(stage)
        seed = recipe.seed + 1000 * number
        squares, judged_squares = here.squares(train, stage.side), here.squares(judged, stage.side)
        lessons = self._lessons(train, squares, stage)
        sampler = EpochSampler(train.rows["set"].map(stage.sets).to_numpy(float), seed, here.rank, here.world)

        def judge(average: nn.Module) -> dict[str, float]:
            logits = predict(average.get_submodule("classifier"), judged_squares, here.device)
            aucs = auc_per_finding(judged.labels, logits)
            return {"mean_auc": float(np.nanmean(aucs)), **dict(zip(KEYS, aucs.tolist(), strict=True))}

        body: dict[str, Any] = {"params": list(self.pupil.classifier.body.parameters()), "factor": stage.body_factor}
        heads: dict[str, Any] = {"params": [*self.pupil.classifier.head.parameters(), *self.pupil.second.parameters()]}
        return Work(
            DataLoader(
                Squares(squares, lessons, recipe.augment, seed),
                stage.batch,
                sampler=sampler,
                num_workers=self.workers,
                drop_last=True,
            ),
            torch.optim.AdamW([body, heads], lr=stage.rate, weight_decay=recipe.weight_decay),
            self._loss,
            judge,
            clip=5.0,
        )

    def _lessons(self, train: Table, squares: npt.NDArray[np.uint8], stage: Stage) -> Lessons:
        lessons = load_lessons(self.execution.data, train)
        if stage.level:
            groups = (train.rows["set"] + " " + train.rows["source"]).to_numpy()
            lessons = replace(lessons, offsets=level(train.labels, groups))
        if not stage.distil:
            return lessons
        device = self.execution.device
        with torch.autocast(device.type, dtype=torch.bfloat16):
            logits = np.mean([predict(teacher, squares, device, flip=False) for teacher in self.teachers], axis=0)
        return replace(lessons, labels=softened(lessons.labels, sigmoid(logits), stage.distil))

    def _loss(self, network: nn.Module, batch: Item) -> Tensor:
        image, labels, reads, cover, offsets = (part.to(self.execution.device) for part in batch)
        with torch.autocast(image.device.type, dtype=torch.bfloat16):
            maps, second = network(image.contiguous(memory_format=torch.channels_last))
        maps = maps.float()
        return (
            masked_bce(maps.mean((2, 3)) + offsets, labels)
            + self.recipe.second_reads * masked_bce(second.float(), reads)
            + self.recipe.places * place_loss(maps, cover)
        )

    def _tables(self, stage: Stage) -> tuple[Table, Table]:
        """Training images of the stage, and the full-size NIH images of the validation patients.

        Images that are not upright frontal radiographs (:data:`training.gate_samples.EXCEPTIONS`) teach nothing.
        """
        everything = load_table(self.execution.data, tuple(stage.sets))
        validation = load_folds(self.recipe.split, everything) == self.recipe.validation_fold
        exceptions = load_exceptions()
        rows = everything.rows
        frontal = np.array([key not in exceptions for key in zip(rows["set"], rows["image"], strict=True)])
        train = everything.where(~validation & frontal)
        full_size_nih = (rows["set"] == "images") & (rows["source"] == "NIH")
        if self.limit:
            train = train.where(np.arange(len(train)) < self.limit)
        return train, everything.where(validation & full_size_nih)


def save_classifier(classifier: Classifier, path: Path) -> None:
    """Write the weights that ship."""
    save_file({name: tensor.contiguous().cpu() for name, tensor in classifier.state_dict().items()}, path)


def load_classifier(path: Path, backbone: str) -> Classifier:
    """A trained classifier of a file of :func:`save_classifier`, in evaluation mode on the CPU."""
    classifier = Classifier(backbone)
    classifier.load_state_dict(load_file(path))
    return classifier.eval()


def fit(
    recipe: Path,
    data: Path,
    out: Path,
    cache: Path,
    workers: int = 0,
    limit: int | None = None,
    teachers: Sequence[Path] = (),
    start: Path | None = None,
) -> Path:
    """Train by the recipe file.

    Args:
        recipe, data, out, cache: recipe file, data folder, folder of checkpoint and log, folder of decoded squares.
        workers: loader processes.
        limit: keep the first images of each stage only (for a dry run).
        teachers: trained classifiers of the same backbone, for stages that distil.
        start: weights to start from instead of ImageNet's, e.g. those of an earlier stage.
    """
    return Trainer(Recipe.read(recipe), data, out, cache, workers, limit, teachers, start).run()
