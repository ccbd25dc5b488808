from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the extra tensorflow is not installed")

import keras
from keras import layers

from converters.keras_route import convert_keras, load_keras, rgb, run_litert
from shared.errors import FirstRayError

SIDE = 64


def small_net(uneven: float = 1.0) -> Any:
    """Convolutions with swish and squeeze-and-excitation; ``uneven`` blows one half of the features up."""
    keras.utils.set_random_seed(0)
    image = keras.Input((SIDE, SIDE, 3))
    x = layers.Rescaling(1 / 255)(image)
    for width in (8, 16):
        x = layers.Conv2D(width, 3, 2, "same", activation="swish")(x)
    gate = layers.Dense(16, "sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    x = layers.Multiply()([x, gate])
    x = layers.Flatten()(layers.AveragePooling2D(4)(x))
    x = layers.Concatenate()([x, layers.Rescaling(uneven)(x)])
    spread = np.random.default_rng(0).normal(0, 2, (x.shape[1], 13)).astype(np.float32)
    spread[x.shape[1] // 2 :] /= uneven
    if uneven > 1:
        spread[x.shape[1] // 2 :] *= 0.01  # what is large matters little
    head = layers.Dense(13, "sigmoid")
    model = keras.Model(image, head(x))
    head.set_weights([spread, np.zeros(13, np.float32)])
    return model


@pytest.fixture(scope="module")
def images(films: np.ndarray) -> np.ndarray:
    return rgb(np.round(films[:, 0] * 255).astype(np.uint8))


def test_a_keras_file_becomes_a_small_file_that_agrees(images: np.ndarray, tmp_path: Path) -> None:
    small_net().save(tmp_path / "net.keras")
    model = load_keras(tmp_path / "net.keras")
    rows = convert_keras(model, images[:24], images, tmp_path / "net.tflite")
    assert [row.variant for row in rows] == ["int8"]
    content = (tmp_path / "net.tflite").read_bytes()
    np.testing.assert_allclose(run_litert(content, images), model.predict(images, verbose=0), atol=0.1)


def test_what_collapses_in_int8_gets_a_better_scheme(images: np.ndarray, tmp_path: Path) -> None:
    rows = convert_keras(small_net(uneven=2000), images[:24], images, tmp_path / "net.tflite")
    assert rows[0].variant == "int8"
    assert rows[0].losses
    assert not rows[-1].losses
    assert (tmp_path / "net.tflite").stat().st_size == rows[-1].bytes


def test_a_file_that_is_no_keras_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "not.keras").write_bytes(b"not a model")
    with pytest.raises(FirstRayError) as caught:
        load_keras(tmp_path / "not.keras")
    assert caught.value.code == "keras_unreadable"


def test_a_grey_network_is_refused(tmp_path: Path) -> None:
    image = keras.Input((SIDE, SIDE, 1))
    keras.Model(image, layers.Dense(13)(layers.Flatten()(image))).save(tmp_path / "grey.keras")
    with pytest.raises(FirstRayError) as caught:
        load_keras(tmp_path / "grey.keras")
    assert caught.value.code == "keras_unsuitable"
