"""``firstray train``: from labelled radiographs to weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

train_app = typer.Typer(help="Train the models (needs the extra 'train').", no_args_is_help=True)

DataOption = Annotated[
    Optional[Path],
    typer.Option("--data", help="Training data folder; FIRSTRAY_DATA if not given.", envvar="FIRSTRAY_DATA"),
]
CacheOption = Annotated[Path, typer.Option("--cache", help="Where decoded training images are kept.")]
DEFAULT_CACHE = Path(".cache/images")


@train_app.command("split")
def train_split(
    data: DataOption = None,
    folds: Annotated[int, typer.Option(min=2)] = 7,
    seed: Annotated[int, typer.Option()] = 20261124,
    out: Annotated[Path, typer.Option(help="The file of folds to write.")] = Path("training/folds/cxr.csv"),
) -> None:
    """Divide the patients of all image sets into stratified folds, once."""
    from training.splits import make_folds, save_folds
    from training.tables import data_folder, load_table

    made = make_folds(load_table(data_folder(data)), folds, seed)
    save_folds(made, out)
    print(f"{len(made)} patients in {folds} folds: {out}")


@train_app.command("classifier")
def train_classifier(
    data: DataOption = None,
    recipe: Annotated[Path, typer.Option()] = Path("training/recipes/classifier.toml"),
    out: Annotated[Path, typer.Option(help="Checkpoints, log and weights; run again to resume.")] = Path(
        "runs/classifier"
    ),
    cache: CacheOption = DEFAULT_CACHE,
    workers: Annotated[int, typer.Option(help="Loader processes; 0 on a small CPU.")] = 0,
    limit: Annotated[Optional[int], typer.Option(help="Use the first N images of a stage only: a dry run.")] = None,
    teacher: Annotated[
        Optional[list[Path]], typer.Option(help="Weights of a trained classifier that a distilling recipe learns from.")
    ] = None,
    start: Annotated[Optional[Path], typer.Option(help="Weights to start from; ImageNet's if not given.")] = None,
) -> None:
    """Train the classifier. On several GPUs: torchrun --nproc-per-node N -m firstray train classifier ..."""
    from training.fit_classifier import fit
    from training.tables import data_folder

    print(fit(recipe, data_folder(data), out, cache, workers, limit, teacher or (), start))


@train_app.command("detector")
def train_detector(
    init: Annotated[Path, typer.Option(help="YOLOv5 COCO weights of the recipe's scale, as safetensors.")],
    data: DataOption = None,
    recipe: Annotated[Path, typer.Option()] = Path("training/recipes/detector.toml"),
    out: Annotated[Path, typer.Option(help="Checkpoints, log, weights; run again to resume.")] = Path("runs/detector"),
    cache: CacheOption = DEFAULT_CACHE,
    workers: Annotated[int, typer.Option(help="Loader processes; 0 on a small CPU.")] = 0,
    limit: Annotated[Optional[int], typer.Option(help="Use about N images of a stage only: a dry run.")] = None,
) -> None:
    """Train the detector. On several GPUs: torchrun --nproc-per-node N -m firstray train detector ..."""
    from training.fit_detector import fit
    from training.tables import data_folder

    print(fit(recipe, data_folder(data), init, out, cache, workers, limit))


@train_app.command("soup")
def train_soup(
    weights: Annotated[list[Path], typer.Argument(help="Classifiers fine-tuned from the same weights.")],
    out: Annotated[Path, typer.Option(help="The file to write.")],
) -> None:
    """Average the weights of several classifiers into one that costs no more to run."""
    from training.soup import average_weights

    average_weights(weights, out)
    print(out)


@train_app.command("nih")
def train_nih(
    entries: Annotated[Path, typer.Argument(help="NIH's Data_Entry_2017 table, CSV or CSV.gz.")],
    out: Annotated[Path, typer.Argument(help="Data folder; its images/ holds the published images.")],
    boxes: Annotated[Optional[Path], typer.Option(help="NIH's BBox_List_2017, CSV or CSV.gz.")] = None,
) -> None:
    """Write the whole of NIH ChestX-ray14 (112,120 images) in the layout that training reads."""
    from training.official import write_nih

    print(f"{write_nih(entries, boxes, out)} images: {out / 'labels.csv'}")


@train_app.command("synthetic")
def train_synthetic(
    out: Annotated[Path, typer.Argument(help="Data folder to write.")],
    images: Annotated[int, typer.Option(min=28)] = 2000,
) -> None:
    """Make up a data set, to see how fast a machine trains: then run 'train classifier --data' on it."""
    from training.synthetic import write_synthetic

    write_synthetic(out, images)
    print(out)


@train_app.command("gate")
def train_gate(
    data: DataOption = None,
    recipe: Annotated[Path, typer.Option()] = Path("training/recipes/gate.toml"),
    out: Annotated[Path, typer.Option(help="Weights, thresholds, log and report.")] = Path("runs/gate"),
    pictures: Annotated[
        Optional[list[Path]], typer.Option(help="Folder of pictures that are not chest radiographs; may be repeated.")
    ] = None,
) -> None:
    """Train the quality gate's network and choose its thresholds."""
    from training.gate import fit
    from training.tables import data_folder

    fit(recipe, data_folder(data), out, list(pictures or []))
    print(out)
