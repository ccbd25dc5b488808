"""Chooses the gate's thresholds on validation material, and judges the whole gate on material it never met."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from shared.quality import OUTPUT, Gate, GateSpec, Network
from training.gate_material import Grey
from training.gate_samples import Counts, Material, square

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Targets:
    """What the thresholds must keep to on validation radiographs as they are.

    Attributes:
        kept: share that passes as chest radiographs.
        false_alarms: share called inverted, and share called turned.
        cut_off_warned: share warned of as cut off.
        cut_off_refused: share refused as cut off after losing a tenth on every side, which is only worth a warning.
    """

    kept: float
    false_alarms: float
    cut_off_warned: float
    cut_off_refused: float


def predict(network: nn.Module, pixels: npt.NDArray[np.uint8], batch: int = 256) -> npt.NDArray[np.float32]:
    """Logits ``[N, 7]`` of squares uint8 ``[N, side, side]``."""
    network.eval()
    with torch.inference_mode():
        parts = [
            network(torch.from_numpy(pixels[start : start + batch])[:, None].float() / 255).numpy()
            for start in range(0, len(pixels), batch)
        ]
    return np.concatenate(parts)


def as_runtime(network: nn.Module) -> Network:
    """The torch network as the gate calls a runtime."""

    def call(image: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float32]]:
        with torch.inference_mode():
            return {OUTPUT: network(torch.from_numpy(image)).numpy()}

    network.eval()
    return call


def choose_thresholds(network: nn.Module, side: int, targets: Targets, validation: Material) -> GateSpec:
    """Thresholds that just keep to the targets on the untouched validation radiographs, kept within 0.02 .. 0.98."""
    radiographs = [grey for greys in validation.radiographs.values() for grey in greys]
    logits = predict(network, np.stack([square(grey, side) for grey in radiographs])).astype(np.float64)
    sigmoid = 1 / (1 + np.exp(-logits))
    tighter = predict(network, np.stack([square(_middle(grey, 0.1), side) for grey in radiographs]))[:, 6]
    turns = np.exp(logits[:, 1:5] - logits[:, 1:5].max(1, keepdims=True))
    turned = (turns[:, 1:] / turns.sum(1, keepdims=True)).max(1)

    def between(scores: Floats, quantile: float) -> float:
        return round(float(np.clip(np.quantile(scores, quantile), 0.02, 0.98)), 4)

    return GateSpec(
        side=side,
        chest=between(sigmoid[:, 0], 1 - targets.kept),
        turned=max(0.5, between(turned, 1 - targets.false_alarms)),
        inverted=max(0.5, between(sigmoid[:, 5], 1 - targets.false_alarms)),
        cut_off_warn=max(0.2, between(sigmoid[:, 6], 1 - targets.cut_off_warned)),
        cut_off_refuse=round(1 / (1 + math.exp(-float(np.quantile(tighter, 1 - targets.cut_off_refused)))), 6),
    )


def share(hits: int, of: int) -> dict[str, float | int]:
    """A share with its 95 % Wilson score interval (Wilson, JASA 1927)."""
    z, p = 1.96, hits / max(of, 1)
    middle = (p + z * z / (2 * of)) / (1 + z * z / of)
    half = z * math.sqrt(p * (1 - p) / of + z * z / (4 * of * of)) / (1 + z * z / of)
    return {
        "share": round(p, 5),
        "low": round(middle - half, 5),
        "high": round(middle + half, 5),
        "hits": hits,
        "of": of,
    }


def judge(network: nn.Module, spec: GateSpec, counts: Counts, test: Material, seed: int) -> dict[str, object]:
    """Judge the whole gate, measurements and network, on test radiographs and pictures.

    Returns:
        Shares with intervals: ``accepted`` radiographs by set and what was said of the others; ``detected`` by
        transformation, the share refused with the right code; ``refused`` by kind of picture (as ``whole``, or through
        the samplers of :mod:`training.gate_samples`).
    """
    gate = Gate(as_runtime(network), spec)
    accepted: dict[str, object] = {}
    for image_set, greys in test.radiographs.items():
        verdicts = [gate(grey) for grey in greys]
        accepted[image_set] = share(sum(verdict.accepted for verdict in verdicts), len(greys))
        said = Counter(f"{problem.code} ({problem.severity})" for verdict in verdicts for problem in verdict.problems)
        accepted[f"{image_set} problems"] = dict(said)
    everything = [grey for greys in test.radiographs.values() for grey in greys]
    detected = {
        "inverted": _found(gate, "inverted", (255 - grey for grey in everything)),
        **{
            f"rotated_{90 * turn}": _found(gate, f"rotated_{90 * turn}", (np.rot90(grey, -turn) for grey in everything))
            for turn in (1, 2, 3)
        },
        "cut_off, half of each side": _found(gate, "cut_off", (_middle(grey, 0.25) for grey in everything)),
    }
    whole = {
        "other views": test.other_views,
        "medical pictures": [grey for greys in test.pictures[True].values() for grey in greys],
        "other pictures": [grey for greys in test.pictures[False].values() for grey in greys],
    }
    refused = {
        f"{kind}, whole": share(sum(not gate(grey).accepted for grey in greys), len(greys))
        for kind, greys in whole.items()
        if greys
    }
    for kind in ("broken", "pictures", "made_up"):
        only = Counts(counts.side, 0, 0, 0, 0, 0, counts.medical_share)
        asked = Counts(**(vars(only) | {kind: getattr(counts, kind)}))
        logits = predict(network, test.samples(asked, 0.15, seed).pixels)
        refused[f"{kind}, sampled"] = share(int((1 / (1 + np.exp(-logits[:, 0])) < spec.chest).sum()), len(logits))
    return {"accepted": accepted, "detected": detected, "refused": refused}


def _found(gate: Gate, code: str, images: Iterable[Grey]) -> dict[str, float | int]:
    found = [code in {problem.code for problem in gate(np.ascontiguousarray(image)).problems} for image in images]
    return share(sum(found), len(found))


def _middle(grey: Grey, lost: float) -> Grey:
    """The radiograph without a share ``lost`` at each of its four sides."""
    down, across = (round(length * lost) for length in grey.shape)
    return grey[down : grey.shape[0] - down, across : grey.shape[1] - across]
