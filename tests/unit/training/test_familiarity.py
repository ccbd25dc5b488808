"""Familiarity fitted as a release does it: real radiographs of kept-aside patients pass, spoilt ones are noticed."""

from pathlib import Path

import numpy as np
import pytest

from shared.familiarity import Familiarity
from shared.preprocess import model_image
from shared.release import default_release, load_release
from shared.runtime import Runtime, open_model
from training.familiarity import FamiliarFilms, fit_familiarity
from training.gate_samples import load_exceptions
from training.images import ImageReader
from training.splits import load_folds
from training.tables import load_table

SPLIT = Path("training/folds/cxr.csv")
FITTED, JUDGED = 400, 60


@pytest.fixture(scope="module")
def classifier() -> Runtime:
    release = load_release(default_release())
    variant = next(variant for variant in release.manifest.variants if variant.id == "int8-onnx")
    return open_model(release.path(variant.classifier), 1)


@pytest.fixture(scope="module")
def radiographs(training_data: Path) -> tuple[list[np.ndarray], np.ndarray]:
    """400 radiographs of other patients, and 60 of fold 1; and their folds."""
    table = load_table(training_data, ("images",))
    folds, reader = load_folds(SPLIT, table), ImageReader(training_data, ["images"])
    known = [key not in load_exceptions() for key in zip(table.rows["set"], table.rows["image"], strict=True)]
    rng, usable = np.random.default_rng(0), np.array(known)
    fitted = rng.permutation(np.flatnonzero((folds != 1) & usable))[:FITTED]
    judged = rng.permutation(np.flatnonzero((folds == 1) & usable))[:JUDGED]
    chosen = np.concatenate([fitted, judged])
    return [reader.grey("images", table.rows["image"][row]) for row in chosen], folds[chosen]


@pytest.fixture(scope="module")
def familiarity(classifier: Runtime, radiographs: tuple[list[np.ndarray], np.ndarray]) -> Familiarity:
    pixels, folds = radiographs
    squares = np.stack([np.round(model_image(image, 320)[0] * 255).astype(np.uint8) for image in pixels[:FITTED]])
    return fit_familiarity(classifier, FamiliarFilms(squares, folds[:FITTED] != 0))


def alarms(familiarity: Familiarity, classifier: Runtime, images: list[np.ndarray]) -> float:
    maps = [classifier(model_image(image, 320)[0][None, None])["maps"][0] for image in images]
    return float(np.mean([familiarity.unfamiliarity(one) >= 1 for one in maps]))


def test_kept_aside_radiographs_are_familiar_and_noisy_or_coarse_ones_are_not(
    familiarity: Familiarity, classifier: Runtime, radiographs: tuple[list[np.ndarray], np.ndarray]
):
    kept_aside = radiographs[0][FITTED:]
    rng = np.random.default_rng(1)
    noisy = [np.clip(image + rng.normal(0, 60, image.shape), 0, 255).astype(np.uint8) for image in kept_aside]
    coarse = [image[::16, ::16].repeat(16, 0).repeat(16, 1) for image in kept_aside]
    assert alarms(familiarity, classifier, kept_aside) <= 0.05
    assert alarms(familiarity, classifier, noisy) >= 0.9
    assert alarms(familiarity, classifier, coarse) >= 0.8
    assert "training patients" in familiarity.population
