"""Reads radiographs: DICOM, JPEG, PNG and TIFF files become one kind of picture.

What a file is, its content decides, never its name. Decoding runs in a process of its own with limits on time, memory,
pixels and file size (:class:`Limits`), so that a damaged or hostile file gives an error with a code and nothing worse.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import stat
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from shared import _guard
from shared._format import PREAMBLE_BYTES, sniff
from shared._wire import DEFAULT_LIMITS, Failure, Limits
from shared.correction import Correction
from shared.errors import RadiographError

__all__ = [
    "ERRORS",
    "DeviceLabels",
    "Limits",
    "Radiograph",
    "View",
    "decode_radiograph",
    "load_radiograph",
    "open_image",
    "warm_up",
]

SEND_AGAIN: Final = "Send or export the image again from the X-ray device."
EXPORT_OTHERWISE: Final = "Export it as an uncompressed DICOM file or as PNG."
CHOOSE_ANOTHER: Final = "Choose a single frontal chest radiograph."
TRY_AGAIN: Final = "Try once more; if it happens again, export the image from the X-ray device in another format."

ERRORS: Final[dict[str, tuple[str, str]]] = {
    "file_missing": ("There is no such file.", "Check the name and whether the drive is connected."),
    "file_not_regular": ("This is a folder or a device, not a file.", "Choose a file."),
    "file_unreadable": ("The file can't be opened.", "Check its permissions and the drive it is on."),
    "file_empty": ("The file is empty.", SEND_AGAIN),
    "file_too_large": ("The file is larger than a radiograph can be.", "Choose another file."),
    "format_unknown": (
        "The file holds no DICOM, JPEG, PNG or TIFF image, whatever its name says.",
        "Choose the image file itself, or export it as DICOM.",
    ),
    "dicom_truncated": ("The DICOM file breaks off: part of the image is missing.", SEND_AGAIN),
    "dicom_no_pixels": ("The DICOM file holds no image (it may be a report or a directory).", CHOOSE_ANOTHER),
    "dicom_unsupported_transfer_syntax": ("The DICOM image is compressed in a way not known here.", EXPORT_OTHERWISE),
    "dicom_unsupported_pixels": ("The DICOM image has a kind of pixels not known here.", EXPORT_OTHERWISE),
    "dicom_multiframe": ("The DICOM file holds more than one image.", CHOOSE_ANOTHER),
    "dicom_too_deep": ("The DICOM file is nested deeper than any real one.", "Don't trust the file. " + SEND_AGAIN),
    "dicom_too_many_elements": ("The DICOM file has more entries than any real one.", "Don't trust it. " + SEND_AGAIN),
    "dicom_bomb": ("The DICOM file would unpack to more than the limit.", "Don't trust the file. " + SEND_AGAIN),
    "dicom_invalid": ("The DICOM file is damaged or contradicts itself.", SEND_AGAIN),
    "image_truncated": ("The image file breaks off: part of the image is missing.", SEND_AGAIN),
    "image_invalid": ("The image file is damaged.", SEND_AGAIN),
    "image_unsupported": ("The image has a kind of pixels not known here.", "Export it with 8 or 16 bits of grey."),
    "image_multiframe": ("The image file holds more than one image.", CHOOSE_ANOTHER),
    "too_many_pixels": ("The image has more pixels than a radiograph can have.", "Choose another file."),
    "too_small": ("The image is too small to be read.", "Export it in full size from the X-ray device."),
    "decode_timeout": ("Reading the image took too long and was stopped.", TRY_AGAIN),
    "decode_memory": ("Reading the image needed too much memory and was stopped.", TRY_AGAIN),
    "decode_crashed": ("Reading the image broke off.", TRY_AGAIN),
    "decoder_unavailable": (
        "The image decoder could not be started.",
        "Install FirstRay again; it needs pydicom, pylibjpeg, Pillow and NumPy.",
    ),
}
"""Every code of this module's errors: (what happened, what to do next). The codes never change their meaning."""

MAX_TEXT: Final = 16
"""Longest text field taken over from a file: a DICOM code string (PS3.5 6.2)."""
MAX_LINE: Final = 120
"""Longest line of :class:`DeviceLabels`."""


class View(StrEnum):
    """From where the X-rays came. Only the frontal views, PA and AP, can be read."""

    PA = "PA"
    AP = "AP"
    LATERAL = "LATERAL"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class DeviceLabels:
    """What the X-ray device wrote beside the image; each a printable line of at most 120 characters, or None.

    Attributes:
        name, patient_id, birth_date, sex: of the patient, as text of the file (PS3.3 C.7.1.1).
        acquired_at: date and time of the exposure in the device's own clock, as text of the file.
    """

    name: str | None = None
    patient_id: str | None = None
    birth_date: str | None = None
    sex: str | None = None
    acquired_at: str | None = None


@dataclass(frozen=True, eq=False)
class Radiograph:
    """One radiograph as a display would show it, and what its file says about it.

    Attributes:
        pixels: presentation values [H, W], high is bright (MONOCHROME1 is already inverted): uint8 0..255 for up to 8
            bits, else uint16 over 0..65535. From DICOM after modality and VOI LUT (PS3.3 C.11.1, C.11.2).
        bits: significant bits of the source, 8..16.
        source_format: "dicom", "jpeg", "png" or "tiff".
        sha256: of the file's bytes, hexadecimal.
        pixel_spacing_mm: (between rows, between columns), or None where the file does not say.
        view: from View Position or View Code Sequence; UNKNOWN where the file does not say.
        laterality: "L", "R", "B" or "U", or None.
        modality: DICOM modality ("CR", "DX", ...), or None.
        body_part: Body Part Examined ("CHEST", ...), or None.
        photometric: DICOM photometric interpretation of the source, e.g. "MONOCHROME1" (also TIFF WhiteIsZero).
        correction: how ``pixels`` (and with them the spacing) were turned or inverted after decoding, or None.
        labels: what the device wrote about patient and time; empty for formats that carry none. Patient data.
    """

    pixels: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
    bits: int
    source_format: str
    sha256: str
    pixel_spacing_mm: tuple[float, float] | None
    view: View
    laterality: str | None
    modality: str | None
    body_part: str | None
    photometric: str
    correction: Correction | None = None
    labels: DeviceLabels = DeviceLabels()

    def corrected(self, correction: Correction) -> Radiograph:
        """The same radiograph, turned or inverted as the gate offered or a person asked; this one stays as it is."""
        spacing = self.pixel_spacing_mm
        return replace(
            self,
            pixels=correction.apply(self.pixels),
            pixel_spacing_mm=spacing[::-1] if spacing and correction.quarter_turns % 2 else spacing,
            correction=(self.correction or Correction()).then(correction) or None,
        )


def load_radiograph(path: Path | str | bytes, limits: Limits = DEFAULT_LIMITS) -> Radiograph:
    """Read one file. Safe to call from several threads.

    Args:
        path: the file; its name may have any extension and any bytes.
        limits: what it may cost.

    Returns:
        The radiograph; its pixels belong to the caller.

    Raises:
        RadiographError: with a code of :data:`ERRORS`; nothing else because of what a file holds.
    """
    try:
        decoded = _guard.decode(_read(path, limits), limits)
        return _radiograph(decoded)
    except Failure as failure:
        raise _error(failure) from failure


def decode_radiograph(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Radiograph:
    """:func:`load_radiograph` for the bytes of a file."""
    try:
        if not data:
            raise Failure("file_empty")
        if len(data) > limits.file_bytes:
            raise Failure("file_too_large")
        return _radiograph(_guard.decode(data, limits))
    except Failure as failure:
        raise _error(failure) from failure


def warm_up(limits: Limits = DEFAULT_LIMITS) -> None:
    """Start the decoder process in the background, so that the first file need not wait for it. Returns at once.

    Raises:
        RadiographError: ``decoder_unavailable``.
    """
    try:
        _guard.warm_up(limits)
    except Failure as failure:
        raise _error(failure) from failure


def open_image(path: Path | str | bytes, limits: Limits = DEFAULT_LIMITS) -> tuple[io.FileIO, str]:
    """Open a file that begins like an image, to keep its bytes without decoding them.

    Args:
        path: the file; its name may have any extension and any bytes.
        limits: ``file_bytes`` counts here.

    Returns:
        The file, at its start, for the caller to close; and what it holds: "dicom", "jpeg", "png" or "tiff".

    Raises:
        RadiographError: ``file_*`` or ``format_unknown``.
    """
    try:
        with contextlib.ExitStack() as on_failure:
            file = on_failure.enter_context(_open(path, limits))
            start = file.read(PREAMBLE_BYTES)
            kind = sniff(start)
            if kind is None:
                raise Failure("format_unknown" if start else "file_empty")
            file.seek(0)
            on_failure.pop_all()
            return file, kind
    except OSError as error:
        raise _error(Failure("file_unreadable", type(error).__name__)) from error
    except Failure as failure:
        raise _error(failure) from failure


def _open(path: Path | str | bytes, limits: Limits) -> io.FileIO:
    """A regular file, open for reading. Neither a FIFO nor a device is opened, for that could block or act."""
    try:
        _check_file(os.stat(path), limits)
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Failure("file_missing") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise Failure("file_unreadable", type(error).__name__) from error
    file = io.FileIO(descriptor)
    try:
        _check_file(os.fstat(descriptor), limits)
    except Failure:
        file.close()
        raise
    return file


def _read(path: Path | str | bytes, limits: Limits) -> bytes:
    """The bytes of a regular file."""
    try:
        with _open(path, limits) as file:
            data = file.read(os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise Failure("file_unreadable", type(error).__name__) from error
    if not data:
        raise Failure("file_empty")
    return data


def _check_file(status: os.stat_result, limits: Limits) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise Failure("file_not_regular")
    if status.st_size > limits.file_bytes:
        raise Failure("file_too_large", f"{status.st_size} bytes")


def _radiograph(decoded: _guard.Decoded) -> Radiograph:
    """Check what the decoder process said about the picture, as little trusted as the file."""
    header = decoded.header
    try:
        bits, source_format, view = header["bits"], header["format"], View(header.get("view", View.UNKNOWN))
        if type(bits) is not int or not 8 <= bits <= 16 or source_format not in ("dicom", "jpeg", "png", "tiff"):
            raise ValueError("not the header of an image")
        return Radiograph(
            pixels=decoded.pixels,
            bits=bits,
            source_format=source_format,
            sha256=decoded.sha256,
            pixel_spacing_mm=_spacing(header.get("pixel_spacing_mm")),
            view=view,
            laterality=_text(header.get("laterality")),
            modality=_text(header.get("modality")),
            body_part=_text(header.get("body_part")),
            photometric=_text(header["photometric"]) or "",
            labels=_labels(header.get("labels")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Failure("decode_crashed", "bad answer") from error


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise ValueError("not a code string")
    return "".join(filter(str.isprintable, value)) or None


def _labels(value: Any) -> DeviceLabels:
    if value is None:
        return DeviceLabels()
    lines = {name: value.get(name) for name in DeviceLabels.__slots__}
    if not all(line is None or (isinstance(line, str) and len(line) <= MAX_LINE) for line in lines.values()):
        raise ValueError("not labels")
    return DeviceLabels(**{name: line and "".join(filter(str.isprintable, line)) for name, line in lines.items()})


def _spacing(value: Any) -> tuple[float, float] | None:
    if value is None:
        return None
    rows, columns = (float(number) for number in value)
    if not (0 < rows < math.inf and 0 < columns < math.inf):
        raise ValueError("not a pixel spacing")
    return rows, columns


def _error(failure: Failure) -> RadiographError:
    code = failure.code if failure.code in ERRORS else "decode_crashed"
    message, action = ERRORS[code]
    detail = "".join(filter(str.isprintable, failure.detail))[:80]
    return RadiographError(code, f"{message[:-1]} ({detail})." if detail else message, action)
