"""The same radiograph read as one would without FirstRay: DICOM file in, boxed JPEG out, the same number of threads.

Weights are random: they cost the same time. Nets and input sides of :class:`TorchEager` are those of the release, so
that the difference is the way, not the model; its untrained detector draws no boxes, which favours it.
:class:`Ancestor` does what FirstRay's ancestor, a Django view, did at each request: load both models, then read.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.readers import Clock, Setting, boxed_image
from shared.findings import KEYS

os.environ.update(
    YOLO_OFFLINE="true",
    YOLO_AUTOINSTALL="false",
    YOLO_VERBOSE="false",
    KERAS_BACKEND="tensorflow",
    TF_CPP_MIN_LOG_LEVEL="3",
)

ANCESTOR_CLASSIFIER_SIDE = 224
ANCESTOR_DETECTOR_SIDE = 640
MIN_SCORE = 0.25
JPEG_QUALITY = 90

Grey = npt.NDArray[np.uint8]


class TorchEager:
    """timm EfficientNet-Lite0 and ``YOLO.predict`` of YOLOv5n, PyTorch eager fp32, both kept loaded."""

    def __init__(self, setting: Setting) -> None:
        import torch

        from training.classifier import Classifier

        torch.set_num_threads(setting.threads)
        self._torch = torch
        self._side = setting.classifier_side
        self._setting = setting
        self._classifier = Classifier("tf_efficientnet_lite0").eval()
        self._detector = _open_yolo(_yolo_file(setting, "n"), setting)
        self.facts: dict[str, Any] = {
            "what": f"timm tf_efficientnet_lite0 at {self._side} px, ultralytics yolov5n at {setting.detector_side} px"
        }

    def __call__(self) -> dict[str, float]:
        torch = self._torch
        clock = Clock()
        with clock("total"):
            with clock("decode"):
                grey = windowed(Path(self._setting.dicom))
            with clock("prepare"):
                small = torch.from_numpy(_resize(grey, self._side)).float()[None, None] / 255
            with clock("classifier"), torch.inference_mode():
                self._classifier(small).sigmoid().numpy()
            _detect(self._detector, grey, self._setting.detector_side, clock, boxed_image(self._setting, "torch"))
        return clock.stages


class Ancestor:
    """Keras EfficientNetB0 and YOLOv5s, both loaded from disk for every reading; the frameworks stay imported."""

    def __init__(self, setting: Setting) -> None:
        import torchvision  # noqa: F401  # it loads triton, which crashes the process if TensorFlow is there before

        import tensorflow as tf  # isort: skip
        import keras  # isort: skip

        tf.config.threading.set_intra_op_parallelism_threads(setting.threads)
        self._keras = keras
        self._setting = setting
        self._classifier_file = _keras_file(setting)
        self._detector_file = _yolo_file(setting, "s")
        self.facts: dict[str, Any] = {
            "what": f"Keras EfficientNetB0 at {ANCESTOR_CLASSIFIER_SIDE} px, ultralytics yolov5s at "
            f"{ANCESTOR_DETECTOR_SIDE} px"
        }

    def __call__(self) -> dict[str, float]:
        clock = Clock()
        with clock("total"):
            with clock("load"):
                classifier = self._keras.models.load_model(self._classifier_file, compile=False)
                detector = _open_yolo(self._detector_file, self._setting)
            with clock("decode"):
                grey = windowed(Path(self._setting.dicom))
            with clock("prepare"):
                small = _resize(grey, ANCESTOR_CLASSIFIER_SIDE).astype(np.float32)
                colour = np.repeat(small[None, :, :, None], 3, axis=3)
            with clock("classifier"):
                classifier.predict(colour, verbose=0)
            _detect(detector, grey, ANCESTOR_DETECTOR_SIDE, clock, boxed_image(self._setting, "ancestor"))
        return clock.stages


def windowed(dicom: Path) -> Grey:
    """A DICOM file's pixels ``[H, W]``, uint8, as the usual pydicom lines give them: modality, window, 8 bits."""
    from pydicom import dcmread
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    dataset = dcmread(dicom)
    pixels = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset).astype(np.float32)
    pixels -= pixels.min()
    pixels *= 255 / max(float(pixels.max()), 1.0)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        pixels = 255 - pixels
    grey: Grey = pixels.astype(np.uint8)
    return grey


def _resize(grey: Grey, side: int) -> Grey:
    import cv2

    resized: Grey = cv2.resize(grey, (side, side), interpolation=cv2.INTER_AREA)
    return resized


def _detect(detector: Any, grey: Grey, side: int, clock: Clock, out: Path) -> None:
    """``YOLO.predict`` (letterbox, network, NMS), ``plot`` and the JPEG: OpenCV is there, ultralytics needs it."""
    import cv2

    with clock("detector"):
        colour = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
        found = detector.predict(colour, imgsz=side, conf=MIN_SCORE, device="cpu", verbose=False)[0]
    with clock("draw"):
        boxed = found.plot()
    with clock("save"):
        cv2.imwrite(str(out), boxed, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])


def _yolo_file(setting: Setting, scale: str) -> Path:
    """An untrained YOLOv5 for the 13 findings as an ultralytics checkpoint, made once.

    ultralytics takes a file called ``yolov5n.pt`` for its own and downloads it, wherever it lies.
    """
    path = Path(setting.work) / f"detector-{scale}.pt"
    if not path.exists():
        _quiet_ultralytics(setting)
        from ultralytics import YOLO
        from ultralytics.nn.tasks import DetectionModel

        model = YOLO(f"yolov5{scale}.yaml", task="detect")
        model.model = DetectionModel(f"yolov5{scale}.yaml", nc=len(KEYS), verbose=False)
        model.model.names = dict(enumerate(KEYS))
        model.save(path)
    return path


def _keras_file(setting: Setting) -> Path:
    """An untrained Keras EfficientNetB0 with 13 sigmoids as a ``.keras`` file, made once."""
    path = Path(setting.work) / "efficientnetb0.keras"
    if not path.exists():
        from keras.applications import EfficientNetB0

        side = ANCESTOR_CLASSIFIER_SIDE
        EfficientNetB0(
            weights=None, input_shape=(side, side, 3), classes=len(KEYS), classifier_activation="sigmoid"
        ).save(path)
    return path


def _open_yolo(path: Path, setting: Setting) -> Any:
    _quiet_ultralytics(setting)
    from ultralytics import YOLO

    return YOLO(path, task="detect")


def _quiet_ultralytics(setting: Setting) -> None:
    """Own settings folder, no messages, and the threads all contenders get.

    ultralytics sets PyTorch to the machine's cores less one whenever it opens a model on a CPU.
    """
    os.environ["YOLO_CONFIG_DIR"] = setting.work
    from ultralytics.utils import LOGGER, torch_utils

    LOGGER.setLevel(logging.ERROR)
    torch_utils.NUM_THREADS = setting.threads
