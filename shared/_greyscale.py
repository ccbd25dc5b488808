"""From the stored values of a DICOM image to the values a display shows. Runs in the decoder process only.

Grey images go through one table with an entry for every pattern a pixel cell can hold (256 or 65,536), so that sign,
unused bits, modality LUT, VOI LUT, polarity and padding cost one look-up a pixel.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.pixels import apply_color_lut, apply_modality_lut
from pydicom.pixels.processing import apply_voi

Grey = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
Values = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

BLOCK_PIXELS: Final = 1 << 16

LUMA: Final = np.array([0.299, 0.587, 0.114])
"""Luminance of R, G, B (ITU-R BT.601), the Y of DICOM's YBR_FULL (PS3.3 C.7.6.3.1.2)."""


def grey_table(array: npt.NDArray[Any], dataset: Dataset, photometric: str) -> Grey:
    """The presentation value of every pattern of a pixel cell: modality LUT, VOI LUT, polarity, padding.

    MONOCHROME1 shows its lowest value white, after the VOI LUT (PS3.3 C.7.6.3.1.2). Presentation LUT Shape (C.11.6)
    says the same with INVERSE, so the two do not cancel out (C.8.11.3.1.2); where they contradict each other, the shape
    counts, as in DCMTK and dcm4che.
    """
    patterns = np.arange(1 << int(dataset.BitsAllocated))
    padding = padding_patterns(patterns, dataset)
    values = np.asarray(apply_modality_lut(stored_values(patterns, dataset), dataset), np.float64)
    levels = voi_levels(values, dataset)
    if levels is None:
        used = patterns_used(array, len(patterns)) & ~padding
        low, high = (values[used].min(), values[used].max()) if used.any() else (0.0, 0.0)
        levels = np.clip((values - low) / (high - low), 0.0, 1.0) if high > low else np.zeros_like(values)
    polarity = text(dataset, "PresentationLUTShape")
    if polarity == "INVERSE" or (polarity != "IDENTITY" and photometric == "MONOCHROME1"):
        levels = 1.0 - levels
    levels[padding] = 0.0
    return full_range(levels, int(dataset.BitsStored))


def palette_table(dataset: Dataset) -> Grey:
    """The luminance of every pattern of a pixel cell that stands for a colour (PS3.3 C.7.6.3.1.5, C.7.9)."""
    values = stored_values(np.arange(1 << int(dataset.BitsAllocated)), dataset)
    colours = apply_color_lut(values, dataset)[:, :3]
    if not dataset.original_encoding[1] and "RedPaletteColorLookupTableData" in dataset:
        colours = colours.byteswap()  # big endian (PS3.5 7.3), which pydicom leaves to the caller
    bits = 8 * colours.dtype.itemsize
    return full_range(colours @ LUMA / ((1 << bits) - 1), bits)


def stored_values(patterns: npt.NDArray[np.int64], dataset: Dataset) -> npt.NDArray[np.int64]:
    """The stored value of each pattern of a pixel cell: Bits Stored up to High Bit, signed or not (PS3.5 8.1.1)."""
    stored = int(dataset.BitsStored)
    lowest = min(max(int(dataset.get("HighBit", stored - 1)) - (stored - 1), 0), int(dataset.BitsAllocated) - stored)
    values = (patterns >> lowest) & ((1 << stored) - 1)
    return signed(values, stored) if dataset.get("PixelRepresentation") == 1 else values


def signed(values: npt.NDArray[np.int64], bits: int) -> npt.NDArray[np.int64]:
    """Two's complement of ``bits`` bits."""
    half = 1 << (bits - 1)
    return ((values + half) & ((1 << bits) - 1)) - half


def padding_patterns(patterns: npt.NDArray[np.int64], dataset: Dataset) -> Mask:
    """Which patterns stand for padding around the image, to be shown as background (PS3.3 C.7.5.1.1.2).

    Pixel Padding Value (0028,0120) fills the whole cell; some writers give it unsigned where pixels are signed.
    """
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return np.zeros(len(patterns), np.bool_)
    limit = dataset.get("PixelPaddingRangeLimit")
    ends = np.array([int(value), int(value if limit is None else limit)])
    bits = int(dataset.BitsAllocated)
    if dataset.get("PixelRepresentation") == 1:
        patterns, ends = signed(patterns, bits), signed(ends, bits)
    inside: Mask = (patterns >= ends.min()) & (patterns <= ends.max())
    return inside


def voi_levels(values: Values, dataset: Dataset) -> Values | None:
    """Values after the modality LUT -> 0..1 by the first VOI LUT, else the first window; None where there is neither.

    PS3.3 C.11.2.1.1 (table), C.11.2.1.2.1 (LINEAR), C.11.2.1.3.1 (SIGMOID), C.11.2.1.3.2 (LINEAR_EXACT). Where a file
    offers both, either may be used (C.11.2); the table is what the maker of the detector tuned.
    """
    if dataset.get("VOILUTSequence"):
        depth = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        return np.clip(apply_voi(np.rint(values).astype(np.int64), dataset) / ((1 << depth) - 1), 0.0, 1.0)
    window = numbers(dataset, "WindowCenter"), numbers(dataset, "WindowWidth")
    if not all(window):
        return None
    centre, width = window[0][0], window[1][0]
    function = text(dataset, "VOILUTFunction")
    if width <= 0 or (width < 1 and function not in ("LINEAR_EXACT", "SIGMOID")):
        return None
    if function == "SIGMOID":
        return 1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - centre) / width, -700.0, 700.0)))
    if function != "LINEAR_EXACT":
        centre, width = centre - 0.5, width - 1.0
    if width == 0:
        return (values > centre).astype(np.float64)
    return np.clip((values - centre) / width + 0.5, 0.0, 1.0)


def full_range(levels: Values, bits: int) -> Grey:
    """0..1 -> 0..255 (uint8) for up to 8 bits, else 0..65535 (uint16)."""
    if bits <= 8:
        return np.rint(levels * 255.0).astype(np.uint8)
    return np.rint(levels * 65535.0).astype(np.uint16)


def row_blocks(array: npt.NDArray[Any]) -> list[slice]:
    """Slices of some rows each: work on one stays within the processor's cache."""
    step = max(1, BLOCK_PIXELS // array.shape[1])
    return [slice(start, start + step) for start in range(0, len(array), step)]


def patterns_used(array: npt.NDArray[Any], count: int) -> Mask:
    """Which of the ``count`` patterns of a pixel cell occur in ``array`` [H, W]."""
    used = np.zeros(count, np.bool_)
    for rows in row_blocks(array):
        used[array[rows]] = True
    return used


def look_up(array: npt.NDArray[Any], table: Grey) -> Grey:
    """``table`` at every cell of ``array`` [H, W]."""
    pixels = np.empty(array.shape, table.dtype)
    for rows in row_blocks(array):
        np.take(table, array[rows], out=pixels[rows], mode="clip")
    return pixels


def luma(array: npt.NDArray[Any], bits: int) -> Grey:
    """RGB [H, W, 3] of ``bits`` bits -> its luminance [H, W]."""
    pixels = np.empty(array.shape[:2], np.uint8 if bits <= 8 else np.uint16)
    for rows in row_blocks(array):
        pixels[rows] = full_range(np.clip(array[rows] @ LUMA / ((1 << bits) - 1), 0.0, 1.0), bits)
    return pixels


def unsigned(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The cells of ``array`` as patterns of bits."""
    return array.view(array.dtype.str.replace("i", "u"))


def text(dataset: Dataset, keyword: str) -> str | None:
    """A code string of the data set, upper case, at most 16 characters (PS3.5 6.2, CS); None where there is none."""
    value = dataset.get(keyword)
    return (value.strip().upper()[:16] or None) if isinstance(value, str) else None


def numbers(dataset: Dataset, keyword: str) -> list[float]:
    """The numbers of a decimal string (PS3.5 6.2, DS); empty where it is absent or not all finite numbers."""
    try:
        value = dataset.get(keyword)
        values = [float(item) for item in (value if isinstance(value, MultiValue) else [value])]
    except (TypeError, ValueError, ArithmeticError):
        return []
    return values if all(map(math.isfinite, values)) else []
