"""What every training here shares: processes, stages, epochs, averaged weights, checkpoints, resuming after a kill.

Stages run one after the other, each from the averaged weights of the one before. After every epoch the whole state is
written; a run started again with the same output folder goes on from there. ``torchrun`` starts one process a GPU.
"""

from __future__ import annotations

import csv
import ctypes
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler
from tqdm import tqdm

from training.images import square_images
from training.tables import Table

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
"""Parameters of glibc's ``mallopt`` (malloc.h)."""


class Stage(Protocol):
    """What the mechanics need to know of a recipe's stage."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def epochs(self) -> int: ...  # noqa: D102
    @property
    def rate(self) -> float: ...  # noqa: D102
    @property
    def warm_up(self) -> float: ...  # noqa: D102


@dataclass(frozen=True)
class Work:
    """One stage of one training.

    Attributes:
        loader: batches for this process; its sampler and its data set have an ``epoch`` to set.
        optimiser: a parameter group may have a ``factor`` of the stage's rate.
        loss: network and batch to loss.
        judge: averaged network to the row that is logged after an epoch, by column.
        clip: largest norm of the gradient.
    """

    loader: DataLoader[Any]
    optimiser: torch.optim.Optimizer
    loss: Callable[[nn.Module, Any], Tensor]
    judge: Callable[[nn.Module], dict[str, float]]
    clip: float


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


def one_cycle(done: float, warm_up: float) -> float:
    """Learning-rate factor at ``done`` (0..1) of a stage: linear up over ``warm_up``, then cosine down to 0.01."""
    if done < warm_up:
        return 0.05 + 0.95 * done / warm_up
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (done - warm_up) / (1 - warm_up)))


def keep_freed_memory() -> None:
    """Let glibc keep the memory that tensors leave, instead of returning it and fetching it anew every step.

    Fetching fresh pages costs a third of a training step on a CPU. Other C libraries are left as they are.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        for parameter, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 2**29)):
            library.mallopt(parameter, value)


class Run:
    """One training in one process, of one or several.

    Args:
        data, cache: data folder, and where its decoded squares are kept.
        out: folder of checkpoint and log.
        seed: of dropout and the like; each epoch starts from a seed of its own, so a resumed run repeats itself.
        ema_decay: of the averaged weights.
    """

    def __init__(self, data: Path, cache: Path, out: Path, seed: int, ema_decay: float) -> None:
        self.data, self.cache, self.out, self.seed, self.ema_decay = data, cache, out, seed, ema_decay
        self.rank, self.world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        cuda = torch.cuda.is_available()
        if self.world > 1:
            dist.init_process_group("nccl" if cuda else "gloo")
        self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else torch.device("cpu")
        self._state = out / "state.pt"
        if not cuda:
            keep_freed_memory()

    def squares(self, table: Table, side: int) -> npt.NDArray[np.uint8]:
        """Squares ``[N, side, side]`` of a table: the first process decodes, the others wait and map its file."""
        if self.rank == 0:
            square_images(self.data, table, side, self.cache)
        if self.world > 1:
            dist.barrier()
        return square_images(self.data, table, side, self.cache)

    def train(
        self,
        model: nn.Module,
        stages: Sequence[Stage],
        prepare: Callable[[int], Work],
        finished: Callable[[Stage], None] = lambda stage: None,
    ) -> None:
        """Run all stages.

        Args:
            model: ends as the averaged one.
            stages: in their order.
            prepare: makes the work of the stage of a number.
            finished: called by the first process after each stage, when ``model`` is that stage's averaged one.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        saved = torch.load(self._state, map_location=self.device, weights_only=True) if self._state.exists() else None
        for number, stage in enumerate(stages):
            if saved and number < saved["stage"]:
                continue
            self._run_stage(
                model, number, stage, prepare(number), saved if saved and number == saved["stage"] else None
            )
            saved = None
            if self.rank == 0:
                finished(stage)

    def finish(self, save: Callable[[], None]) -> None:
        """The first process saves the result; all part."""
        if self.rank == 0:
            save()
        if self.world > 1:
            dist.destroy_process_group()

    def _run_stage(
        self, model: nn.Module, number: int, stage: Stage, work: Work, resumed: dict[str, Any] | None
    ) -> None:
        if resumed:
            model.load_state_dict(resumed["model"])
        average = ModelEmaV3(model, decay=self.ema_decay, use_warmup=True, warmup_power=0.75)
        if resumed:
            average.module.load_state_dict(resumed["average"])
            work.optimiser.load_state_dict(resumed["optimiser"])
        network = nn.parallel.DistributedDataParallel(model) if self.world > 1 else model
        for epoch in range(resumed["epoch"] + 1 if resumed else 0, stage.epochs):
            started = time.monotonic()
            torch.manual_seed(self.seed + 100 * number + epoch)
            loss = self._run_epoch(model, network, average, stage, epoch, work)
            trained = len(work.loader) * (work.loader.batch_size or 1) * self.world / (time.monotonic() - started)
            if self.rank == 0:
                figures = {"loss": loss, **work.judge(average.module)}
                self._log(stage, epoch, figures, time.monotonic() - started, trained)
                self._save(number, epoch, model, average, work.optimiser)
        model.load_state_dict(average.module.state_dict())

    def _run_epoch(
        self, model: nn.Module, network: nn.Module, average: ModelEmaV3, stage: Stage, epoch: int, work: Work
    ) -> float:
        """One pass over the stage's images; returns the mean training loss."""
        for follower in (work.loader.sampler, work.loader.dataset):
            follower.epoch = epoch  # type: ignore[union-attr]
        network.train()
        losses, steps = [], max(1, len(work.loader))
        title = f"{stage.name} {epoch + 1}/{stage.epochs}"
        bar = tqdm(work.loader, total=steps, desc=title, disable=self.rank > 0, mininterval=5)
        for step, batch in enumerate(bar):
            factor = one_cycle((epoch + step / steps) / stage.epochs, stage.warm_up)
            for group in work.optimiser.param_groups:
                group["lr"] = stage.rate * group.get("factor", 1.0) * factor
            loss = work.loss(network, batch)
            work.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), work.clip)
            work.optimiser.step()
            average.update(model, step=epoch * steps + step)
            losses.append(loss.item())
            bar.set_postfix(loss=f"{np.mean(losses[-50:]):.4f}", refresh=False)
        return float(np.mean(losses))

    def _log(self, stage: Stage, epoch: int, figures: dict[str, float], seconds: float, rate: float) -> None:
        """Append an epoch to the log; ``rate`` is in images a second of all processes, judging left out."""
        path = self.out / "log.csv"
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["stage", "epoch", *figures, "seconds"])
            writer.writerow([stage.name, epoch + 1, *(f"{value:.4f}" for value in figures.values()), f"{seconds:.0f}"])
        first = ", ".join(f"{name} {value:.4f}" for name, value in list(figures.items())[:3])
        tqdm.write(f"{stage.name} {epoch + 1}: {first}, {seconds:.0f} s, {rate:.0f} images/s")

    def _save(
        self, stage: int, epoch: int, model: nn.Module, average: ModelEmaV3, optimiser: torch.optim.Optimizer
    ) -> None:
        """Write the whole state beside the old one and swap, so a kill never leaves half a file."""
        state = {
            "stage": stage,
            "epoch": epoch,
            "model": model.state_dict(),
            "average": average.module.state_dict(),
            "optimiser": optimiser.state_dict(),
        }
        part = self._state.with_suffix(".part")
        torch.save(state, part)
        os.replace(part, self._state)
