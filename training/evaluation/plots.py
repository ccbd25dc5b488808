"""The report's plots, each as an SVG in a data URI, so that the report is one file that works offline."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from shared.findings import BY_KEY, KEYS
from training import decision_metrics as metrics
from training.evaluation.classification import Cases
from training.evaluation.figures import Figure

STYLE = {
    "font.size": 8.5,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e7eb",
    "grid.linewidth": 0.6,
    "axes.edgecolor": "#8a94a0",
    "xtick.color": "#4a5560",
    "ytick.color": "#4a5560",
    "svg.fonttype": "path",
}
MODEL, TRIVIAL, TRUTH = "#0b5fa5", "#8a94a0", "#1a7f4b"
COLUMNS = 5


def roc(cases: Cases) -> str:
    """ROC curve of every finding, beside that of view, sex and age."""

    def draw(axes: Axes, finding: int) -> None:
        label, known = _labels(cases, finding)
        axes.plot([0, 1], [0, 1], color=TRIVIAL, lw=0.7, ls=":")
        if cases.stated:
            axes.plot(*metrics.roc_curve(label, cases.shortcut[known, finding]), color=TRIVIAL, lw=1)
        axes.plot(*metrics.roc_curve(label, cases.answers.logits[known, finding]), color=MODEL, lw=1.6)
        axes.set(xlim=(0, 1), ylim=(0, 1.01), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))

    return _grid(cases, draw, "1 - specificity", "sensitivity")


def precision_recall(cases: Cases) -> str:
    """Precision-recall curve of every finding; the line is the prevalence, which is what guessing reaches."""

    def draw(axes: Axes, finding: int) -> None:
        label, known = _labels(cases, finding)
        axes.axhline(label.mean(), color=TRIVIAL, lw=1)
        axes.step(
            *metrics.precision_recall_curve(label, cases.answers.logits[known, finding]),
            color=MODEL,
            lw=1.4,
            where="pre",
        )
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))

    return _grid(cases, draw, "recall", "precision")


def reliability(cases: Cases) -> str:
    """Stated against observed share in ten bins of equally many films, with Wilson intervals."""

    def draw(axes: Axes, finding: int) -> None:
        label, known = _labels(cases, finding)
        stated, observed, low, high = metrics.reliability(label, cases.here[known, finding])
        top = float(min(1, max(stated.max(), high.max()) * 1.05))
        axes.plot([0, top], [0, top], color=TRIVIAL, lw=0.9)
        bars = np.maximum(np.stack([observed - low, high - observed]), 0)
        axes.errorbar(
            stated, observed, yerr=bars, fmt="o-", ms=3, lw=0.9, color=MODEL, ecolor="#a9c6de", elinewidth=1.4
        )
        axes.set(xlim=(0, top), ylim=(0, top))
        axes.locator_params(nbins=3)

    return _grid(cases, draw, "stated probability", "observed share")


def decision(cases: Cases) -> str:
    """Net benefit of acting on the probability, on everybody and on nobody."""

    def draw(axes: Axes, finding: int) -> None:
        label, known = _labels(cases, finding)
        prevalence = float(label.mean())
        at = np.linspace(0.01, min(0.9, max(0.2, 3 * prevalence)), 60)
        one = np.ones((1, len(label)), np.float32)
        mine = [metrics.net_benefit(label, cases.here[known, finding], one, t)[0] for t in at]
        everybody = prevalence - (1 - prevalence) * at / (1 - at)
        axes.axhline(0, color="#4a5560", lw=0.9)
        axes.plot(at, everybody, color=TRIVIAL, lw=1)
        axes.plot(at, mine, color=MODEL, lw=1.6)
        axes.set(xlim=(0, at[-1]), ylim=(-0.35 * prevalence, 1.05 * prevalence))
        axes.locator_params(nbins=3)

    return _grid(cases, draw, "threshold probability", "net benefit")


def forest(rows: Sequence[tuple[str, Figure, Figure | float | None]], label: str, chance: float | None = None) -> str:
    """Figures with their intervals one below the other, each beside its trivial baseline (grey)."""
    with mpl.rc_context(STYLE):
        canvas = Canvas(figsize=(7.4, 0.5 + 0.27 * len(rows)))
        axes = canvas.add_subplot()
        for place, (_, mine, trivial) in enumerate(rows):
            axes.plot([mine.low, mine.high], [place, place], color=MODEL, lw=2, solid_capstyle="butt")
            axes.plot(mine.value, place, "o", ms=5, color=MODEL)
            if isinstance(trivial, Figure):
                axes.plot([trivial.low, trivial.high], [place + 0.27] * 2, color=TRIVIAL, lw=1.2)
            if trivial is not None:
                value = trivial.value if isinstance(trivial, Figure) else trivial
                axes.plot(value, place + 0.27, "D", ms=3.2, color=TRIVIAL)
        if chance is not None:
            axes.axvline(chance, color=TRIVIAL, lw=0.8, ls=":")
        axes.set_yticks(range(len(rows)), [name for name, *_ in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlabel(label)
        return _uri(canvas)


def froc(by_source: dict[str, list[dict[str, Any]]]) -> str:
    """Share of reader boxes found against wrong boxes a film."""
    with mpl.rc_context(STYLE):
        canvas = Canvas(figsize=(7.4, 2.9))
        axes = canvas.add_subplot()
        colours = [MODEL, TRUTH, "#b35900", "#7a3fa0"]
        for number, (source, points) in enumerate(by_source.items()):
            x = [point["false_per_film"] for point in points]
            y, low, high = ([getattr(p["found"], name) for p in points] for name in ("value", "low", "high"))
            colour = colours[number % len(colours)]
            axes.fill_between(x, low, high, color=colour, alpha=0.12, lw=0)
            axes.plot(x, y, "o-", ms=3.5, color=colour, label=source)
            if number == 0:
                fixed = [point["found_by_fixed_box"].value for point in points]
                axes.plot(x, fixed, "D--", ms=3, lw=1, color=TRIVIAL, label=f"a fixed box a finding ({source})")
        axes.set_xscale("log", base=2)
        axes.set_xticks(x, [f"{value:g}" for value in x])
        axes.set(xlabel="wrong boxes a film", ylabel="reader boxes found", ylim=(0, None))
        axes.legend(frameon=False)
        return _uri(canvas)


def _labels(cases: Cases, finding: int) -> tuple[Any, Any]:
    known = ~np.isnan(cases.labels[:, finding])
    return cases.labels[known, finding].astype(np.float64), known


def _grid(cases: Cases, draw: Callable[[Axes, int], None], x: str, y: str) -> str:
    """One small plot a finding; one with too few films says so instead."""
    rows = -(-len(KEYS) // COLUMNS)
    with mpl.rc_context(STYLE):
        canvas = Canvas(figsize=(10.6, 2.15 * rows), layout="constrained")
        grid = canvas.subplots(rows, COLUMNS)
        for place, axes in enumerate(grid.ravel()):
            if place >= len(KEYS):
                axes.set_axis_off()
                continue
            label, _ = _labels(cases, place)
            axes.set_title(f"{BY_KEY[KEYS[place]].english} ({int(label.sum())} of {len(label)})")
            if place in cases.enough:
                draw(axes, place)
            else:
                axes.text(0.5, 0.5, "too few films", ha="center", va="center", color=TRIVIAL)
                axes.set(xticks=(), yticks=())
        canvas.supxlabel(x, fontsize=9)
        canvas.supylabel(y, fontsize=9)
        return _uri(canvas)


def _uri(canvas: Canvas) -> str:
    file = io.BytesIO()
    canvas.savefig(file, format="svg", bbox_inches="tight", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(file.getvalue()).decode()
