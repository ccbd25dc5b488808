"""A Keras EfficientNet (``.keras``) -> 8-bit LiteRT through TFLiteConverter, with the same parity report.

For classifiers trained elsewhere: RGB images in, one sigmoid per finding out. EfficientNet B0 to B7 lose far more in
8 bits than the Lite family, through swish and squeeze-and-excitation. So three schemes are tried, fastest first, until
one keeps within the limits of :mod:`converters.parity`:

``int8``            weights per channel, activations per tensor;
``int8-selective``  the same, but the operations that lose most by TensorFlow's quantisation debugger stay in float;
``int16x8``         activations in 16 bits: accurate, but several times slower than float.

Needs the extra ``tensorflow``.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from converters.parity import Answers, Labelled, Parity, compare, parity_markdown, require_parity
from converters.quiet import quiet
from shared.errors import FirstRayError
from shared.findings import KEYS
from training.images import square_images
from training.splits import load_folds
from training.tables import load_table

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

Floats = npt.NDArray[np.float32]
Scheme = Literal["int8", "int8-selective", "int16x8"]

FLOAT_SHARE = 0.2
"""Share of the operations, the worst first, that ``int8-selective`` leaves in float."""

CALIBRATION_IMAGES = 128
"""Training radiographs that calibrate the activations' ranges."""

DEBUG_IMAGES = 32
"""Images the quantisation debugger compares every operation on; it is slow."""


def load_keras(path: Path) -> Any:
    """The Keras model of a ``.keras`` file, without its training state.

    Raises:
        FirstRayError: ``keras_unreadable`` where the file is no Keras model or needs custom code,
            ``keras_unsuitable`` where it does not take one RGB image or does not return one row of probabilities.
    """
    import keras

    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except (OSError, TypeError, ValueError) as error:
        raise FirstRayError(
            "keras_unreadable",
            f"{path.name} cannot be read as a Keras 3 model.",
            "Save it again with model.save('NAME.keras'); custom layers are not supported.",
        ) from error
    shapes = [tuple(tensor.shape) for tensor in (*model.inputs, *model.outputs)]
    if len(shapes) != 2 or len(shapes[0]) != 4 or shapes[0][3] != 3 or None in shapes[0][1:] or len(shapes[1]) != 2:
        raise FirstRayError(
            "keras_unsuitable",
            f"{path.name} maps {shapes[0]} to {shapes[1:]}; expected one RGB image of fixed size and one row of "
            "probabilities.",
            "Convert a classifier such as EfficientNetB0 with a Dense sigmoid head.",
        )
    return model


def rgb(squares: npt.NDArray[np.uint8], white: float = 255.0) -> Floats:
    """Grey squares ``[N, S, S]`` as ``[N, S, S, 3]`` with ``white`` for 255 (Keras' EfficientNets rescale inside)."""
    return np.repeat((squares.astype(np.float32) * np.float32(white / 255))[..., None], 3, axis=3)


def convert_keras(
    model: Any, calibration: Floats, images: Floats, path: Path, known: Labelled | None = None
) -> list[Parity]:
    """Write ``model`` as 8-bit LiteRT with float32 input and output.

    Args:
        model: of :func:`load_keras`.
        calibration: training radiographs ``[K, S, S, 3]`` in the model's own range (:func:`rgb`); a hundred do.
        images: validation radiographs ``[N, S, S, 3]`` the parity is measured on.
        path: of the file.
        known: labels of ``images``, for AUC.

    Returns:
        The parity of every scheme tried; the last one was written.

    Raises:
        FirstRayError: ``parity_failed`` where no scheme keeps within the limits; nothing is written then.
    """
    reference = Answers("keras", 0, model.predict(images, batch_size=16, verbose=0))
    rows = []
    for scheme in get_args(Scheme):
        content = quantise_keras(model, calibration, scheme)
        rows.append(compare(Answers(scheme, len(content), run_litert(content, images)), reference, known))
        if not rows[-1].losses:
            path.write_bytes(content)
            return rows
    require_parity(rows)
    raise AssertionError("a variant with losses passed")


def quantise_keras(model: Any, calibration: Floats, scheme: Scheme) -> bytes:
    """One scheme's LiteRT file."""
    if scheme == "int8-selective":
        return _selective(model, calibration)
    with quiet():
        return bytes(_converter(model, calibration, scheme).convert())


def run_litert(content: bytes, images: Floats) -> Floats:
    """Outputs ``[N, F]`` of a LiteRT model on ``images`` ``[N, S, S, 3]``, one by one."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=1)
    run = interpreter.get_signature_runner()
    (name,) = run.get_input_details()
    return np.concatenate([next(iter(run(**{name: image[None]}).values())) for image in images])


def _converter(model: Any, calibration: Floats, scheme: Scheme) -> Any:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = _feed(calibration)
    if scheme == "int16x8":
        sixteen = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        converter.target_spec.supported_ops = [sixteen, tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter


def _selective(model: Any, calibration: Floats) -> bytes:
    """The worst operations by their error relative to one quantisation step stay in float.

    An ideally rounded operation has a root mean square error of 0.29 steps.
    """
    import tensorflow as tf

    with quiet(), tempfile.TemporaryDirectory() as folder:
        debugger = tf.lite.experimental.QuantizationDebugger(
            converter=_converter(model, calibration, "int8"), debug_dataset=_feed(calibration[:DEBUG_IMAGES])
        )
        debugger.run()
        statistics = Path(folder) / "statistics.csv"
        with statistics.open("w") as file:
            debugger.layer_statistics_dump(file)
        table = pd.read_csv(statistics)
        steps = np.sqrt(table["mean_squared_error"]) / table["scale"]
        worst = table.loc[steps.sort_values(ascending=False).index[: round(FLOAT_SHARE * len(table))], "tensor_name"]
        debugger.options = tf.lite.experimental.QuantizationDebugOptions(denylisted_nodes=worst.tolist())
        return bytes(debugger.get_nondebug_quantized_model())


def _feed(images: Floats) -> Callable[[], Iterator[Sequence[Floats]]]:
    return lambda: ([image[None]] for image in images)


def convert_keras_file(source: Path, data: Path, split: Path, fold: int, cache: Path, out: Path, white: float) -> Path:
    """Convert a ``.keras`` file with the radiographs of a data folder; the parity report lands beside ``out``.

    Args:
        source: the Keras model; 13 outputs are taken as the vocabulary's findings and judged by AUC as well.
        data: data folder (:func:`training.tables.data_folder`).
        split, fold: patients of ``fold`` judge, the others calibrate.
        cache: where decoded squares are kept.
        out: the ``.tflite`` file to write.
        white: what the model expects for white, 255 or 1.

    Returns:
        The parity report, Markdown.

    Raises:
        FirstRayError: as :func:`load_keras` and :func:`convert_keras`.
    """
    model = load_keras(source)
    side = int(model.inputs[0].shape[1])
    table = load_table(data, ("images",))
    held = load_folds(split, table) == fold
    films = table.where(held & (table.rows["source"] == "NIH").to_numpy())
    shown = np.random.default_rng(0).permutation(np.flatnonzero(~held))[:CALIBRATION_IMAGES]
    calibration = table.where(np.isin(np.arange(len(table)), shown))
    known = None
    if model.outputs[0].shape[1] == len(KEYS):
        known = Labelled(films.labels, films.rows["patient_id"].to_numpy())
    images, shown_images = (rgb(square_images(data, part, side, cache), white) for part in (films, calibration))
    out.parent.mkdir(parents=True, exist_ok=True)
    rows = convert_keras(model, shown_images, images, out, known)
    report = out.with_suffix(".parity.md")
    report.write_text(parity_markdown(rows))
    return report
