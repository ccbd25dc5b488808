"""Reads one DICOM file. Runs in the decoder process only (it imports pydicom)."""

from __future__ import annotations

import io
import zlib
from struct import Struct
from typing import Any, Final, Literal

import pydicom.config
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.filereader import read_dataset
from pydicom.pixels import get_decoder
from pydicom.pixels.utils import get_expected_length
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, RLELossless

from shared._format import PREAMBLE_BYTES
from shared._greyscale import Grey, grey_table, look_up, luma, numbers, palette_table, text, unsigned
from shared._wire import Failure, Limits

MAX_LINE: Final = 120
UNDEFINED_LENGTH: Final = 0xFFFFFFFF
LONG_FORM: Final = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)
OPAQUE: Final = frozenset((b"OB", b"OW"))
PIXEL_DATA: Final = 0x7FE00010
ITEM: Final = 0xFFFEE000
DELIMITERS: Final = (0xFFFEE00D, 0xFFFEE0DD)

VIEW_POSITIONS: Final = {
    "PA": "PA",
    "AP": "AP",
    "LL": "LATERAL",
    "RL": "LATERAL",
    "LAT": "LATERAL",
    "LATERAL": "LATERAL",
}
"""View Position (0018,5101), PS3.3 C.8.1.1 and C.8.11.5; oblique and decubitus views count as unknown."""
VIEW_CODES: Final = {
    **dict.fromkeys(("272479007", "R-10214"), "PA"),
    **dict.fromkeys(("399348003", "R-10206"), "AP"),
    **dict.fromkeys(("399067008", "399173006", "399198007", "R-102CD", "R-10236", "R-10232"), "LATERAL"),
}
"""View Code Sequence (0054,0220), PS3.16 CID 4010, SNOMED CT and the older SNOMED RT codes."""

pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE


def read_dicom(data: bytes, limits: Limits) -> tuple[Grey, dict[str, Any]]:
    """Decode a DICOM file (PS3.10) with one frame.

    Args:
        data: the whole file, "DICM" at byte 128.
        limits: what it may cost.

    Returns:
        Presentation values [H, W], uint8 for up to 8 bits stored, else uint16 over 0..65535, high is bright; and the
        fields of ``shared.radiograph.Radiograph`` that the file gives.

    Raises:
        Failure: ``dicom_*``, ``too_many_pixels`` or ``too_small``. Damaged files may raise anything else.
    """
    dataset, syntax = read_data_set(data, limits)
    check_image(dataset, syntax, limits)
    array, properties = get_decoder(syntax).as_array(
        dataset, index=0, view_only=True, correct_unused_bits=False, decoding_plugin=plugin(syntax)
    )
    photometric = text(dataset, "PhotometricInterpretation") or ""
    bits = min(max(int(dataset.BitsStored), 8), 16)
    if array.ndim == 2 and photometric in ("MONOCHROME1", "MONOCHROME2"):
        cells = unsigned(array)
        pixels = look_up(cells, grey_table(cells, dataset, photometric))
    elif array.ndim == 2 and photometric == "PALETTE COLOR":
        pixels = look_up(unsigned(array), palette_table(dataset))
        bits = 8 * pixels.dtype.itemsize
    elif array.ndim == 3 and properties["photometric_interpretation"] == "RGB":
        pixels = luma(array, int(dataset.BitsStored))
    else:
        raise Failure("dicom_unsupported_pixels", f"{array.ndim - 1} planes")
    return pixels, {"format": "dicom", "bits": bits, "photometric": photometric, **describe(dataset)}


def read_data_set(data: bytes, limits: Limits) -> tuple[Dataset, UID]:
    """Read the file meta information (PS3.10 7.1) and the data set after it, inflating it if need be (PS3.5 A.5)."""
    source = io.BytesIO(data)
    source.seek(PREAMBLE_BYTES)
    meta = read_dataset(source, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    syntax = meta.get("TransferSyntaxUID")
    if not isinstance(syntax, UID):
        raise Failure("dicom_invalid", "no transfer syntax")
    if not is_decodable(syntax):
        detail = syntax.name if syntax.is_valid and not syntax.is_private else "private"
        raise Failure("dicom_unsupported_transfer_syntax", detail)
    if syntax == DeflatedExplicitVRLittleEndian:
        data = inflate(data[source.tell() :], limits.file_bytes)
        source = io.BytesIO(data)
    end = check_structure(data, source.tell(), syntax.is_little_endian, limits)
    dataset = read_dataset(
        source, syntax.is_implicit_VR, syntax.is_little_endian, stop_when=lambda tag, vr, length: source.tell() > end
    )
    return dataset, syntax


def plugin(syntax: UID) -> str:
    """The one decoder for a transfer syntax, so that a stream refused by it is not tried on others."""
    if not syntax.is_encapsulated:
        return ""
    return "pydicom" if syntax == RLELossless else "pylibjpeg"


def is_decodable(syntax: UID) -> bool:
    """Whether the decoder for this transfer syntax is installed."""
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        return False
    return decoder.is_native or plugin(syntax) in decoder.available_plugins


def inflate(deflated: bytes, most: int) -> bytes:
    """Inflate a raw deflate stream (RFC 1951) to at most ``most`` bytes."""
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    body = stream.decompress(deflated, most)
    if stream.unconsumed_tail:
        raise Failure("dicom_bomb", f"more than {most} bytes")
    if not stream.eof:
        raise Failure("dicom_truncated", "deflated data")
    return body


def check_structure(body: bytes, position: int, little: bool, limits: Limits) -> int:
    """Walk the data set from ``position`` on (PS3.5 7.1 to 7.5), to find out whether it is safe and whole.

    Sequences and items of undefined length are entered, for pydicom would recurse into them; values of defined length
    are stepped over. Whatever else is wrong is left to pydicom.

    Returns:
        Where the pixel data end; nothing after them matters.

    Raises:
        Failure: ``dicom_too_deep``, ``dicom_too_many_elements``, ``dicom_truncated``.
    """
    implicit = not is_vr(body[position + 4 : position + 6])
    open_ends: list[int] = []  # where each open sequence and item ends, UNDEFINED_LENGTH until its delimiter
    fragments = False  # whether the items now stepped through are fragments of compressed pixel data (PS3.5 A.4)
    elements = outer = 0  # outer: tag of the last element that lies in no sequence
    while position + 8 <= len(body):
        start = position
        tag, vr, length, position = element_header(body, start, little, implicit)
        while open_ends and start >= open_ends[-1]:
            open_ends.pop()
        if not open_ends:
            if outer == PIXEL_DATA:
                return start
            outer = tag
        elements += 1
        if elements > limits.elements:
            raise Failure("dicom_too_many_elements", f"more than {limits.elements}")
        if tag in DELIMITERS:
            fragments = False
            del open_ends[-1:]
        elif length == UNDEFINED_LENGTH:
            fragments = vr in OPAQUE or tag == PIXEL_DATA
            open_ends.append(UNDEFINED_LENGTH)
        elif tag == ITEM and not fragments:
            open_ends.append(position + length)
        else:
            position += length
        if len(open_ends) > 2 * limits.sequence_depth:
            raise Failure("dicom_too_deep", f"more than {limits.sequence_depth} levels")
    if position > len(body) or UNDEFINED_LENGTH in open_ends:
        raise Failure("dicom_truncated")
    return len(body)


def element_header(body: bytes, position: int, little: bool, implicit: bool) -> tuple[int, bytes, int, int]:
    """Tag, VR (empty where implicit), length and start of the value of the data element at ``position`` (PS3.5 7.1)."""
    order: Literal["little", "big"] = "little" if little else "big"
    group, element = (int.from_bytes(body[at : at + 2], order) for at in (position, position + 2))
    vr = body[position + 4 : position + 6]
    if implicit or group == 0xFFFE or not is_vr(vr):
        return group << 16 | element, b"", int.from_bytes(body[position + 4 : position + 8], order), position + 8
    if vr not in LONG_FORM:
        return group << 16 | element, vr, int.from_bytes(body[position + 6 : position + 8], order), position + 8
    return group << 16 | element, vr, int.from_bytes(body[position + 8 : position + 12], order), position + 12


def is_vr(letters: bytes) -> bool:
    """Whether two bytes look like a value representation (two capital letters)."""
    return letters.isalpha() and letters.isupper()


def check_image(dataset: Dataset, syntax: UID, limits: Limits) -> None:
    """Check the Image Pixel module (PS3.3 C.7.6.3) against ``limits`` and against itself, before decoding."""
    if any(keyword in dataset for keyword in ("FloatPixelData", "DoubleFloatPixelData")):
        raise Failure("dicom_unsupported_pixels", "floating point")
    if "PixelData" not in dataset or not dataset["PixelData"].value:
        raise Failure("dicom_no_pixels")
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    if rows * columns > limits.pixels:
        raise Failure("too_many_pixels", f"{columns} x {rows}")
    if min(rows, columns) < limits.smallest_side:
        raise Failure("too_small", f"{columns} x {rows}")
    if int(dataset.get("NumberOfFrames") or 1) != 1:
        raise Failure("dicom_multiframe", f"{int(dataset.NumberOfFrames)} frames")
    if dataset.BitsAllocated not in (8, 16) or not 1 <= dataset.BitsStored <= dataset.BitsAllocated:
        raise Failure("dicom_unsupported_pixels", f"{dataset.BitsStored} of {dataset.BitsAllocated} bits")
    compressed = dataset["PixelData"].is_undefined_length
    if compressed != syntax.is_encapsulated:
        raise Failure("dicom_invalid", "the transfer syntax does not fit the pixel data")
    if not compressed and len(dataset.PixelData) < get_expected_length(dataset):
        raise Failure("dicom_truncated", "pixel data")
    if compressed and syntax != RLELossless:
        frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
        if codestream_size(frame) not in (None, (rows, columns)):
            raise Failure("dicom_invalid", "the compressed image has another size than the header says")


def codestream_size(frame: bytes) -> tuple[int, int] | None:
    """Rows and columns that a JPEG (ITU-T T.81 B.2.2), JPEG-LS (T.87) or JPEG 2000 (T.800 A.5.1) codestream declares.

    None when there is no such header: the decoder will say what is wrong.
    """
    if frame[:4] == b"\xff\x4f\xff\x51":
        width, height, left, top = Struct(">4L").unpack_from(frame, 8)
        return height - top, width - left
    position = 2
    while frame[:2] == b"\xff\xd8" and position + 9 <= len(frame) and frame[position] == 0xFF:
        marker = frame[position + 1]
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            height, width = Struct(">HH").unpack_from(frame, position + 5)
            return height, width
        position += 1 if marker == 0xFF else 2 + int.from_bytes(frame[position + 2 : position + 4], "big")
    return None


def describe(dataset: Dataset) -> dict[str, Any]:
    """What the file says about the picture; an attribute that is absent or malformed is None.

    Pixel Spacing (0028,0030), else Imager Pixel Spacing (0018,1164) (PS3.3 10.7.1.3); View Position (0018,5101), else
    View Code Sequence (0054,0220); Image Laterality (0020,0062), else Laterality (0020,0060).
    """
    spacings = [numbers(dataset, keyword) for keyword in ("PixelSpacing", "ImagerPixelSpacing")]
    spacing = next((pair for pair in spacings if len(pair) == 2 and min(pair) > 0), None)
    codes = dataset.get("ViewCodeSequence")
    view = VIEW_POSITIONS.get(text(dataset, "ViewPosition") or "")
    return {
        "pixel_spacing_mm": spacing,
        "view": view or VIEW_CODES.get((codes and text(codes[0], "CodeValue")) or "", "UNKNOWN"),
        "laterality": text(dataset, "ImageLaterality") or text(dataset, "Laterality"),
        "modality": text(dataset, "Modality"),
        "body_part": text(dataset, "BodyPartExamined"),
        "labels": labels(dataset),
    }


def labels(dataset: Dataset) -> dict[str, str | None]:
    """What the device calls the patient (PS3.3 C.7.1.1) and when it exposed (C.7.3.1, C.7.6.1), as one line each.

    A name is given as its ideographic group where there is one, else the alphabetic (PS3.5 6.2.1.1).
    """
    return {
        "name": person(dataset),
        "patient_id": line(dataset, "PatientID"),
        "birth_date": line(dataset, "PatientBirthDate"),
        "sex": line(dataset, "PatientSex"),
        "acquired_at": " ".join(filter(None, (line(dataset, "AcquisitionDate"), line(dataset, "AcquisitionTime"))))
        or " ".join(filter(None, (line(dataset, "ContentDate"), line(dataset, "ContentTime"))))
        or None,
    }


def person(dataset: Dataset) -> str | None:
    """The patient's name in the order it is written."""
    try:
        name = dataset["PatientName"].value
        groups = [part.replace("^", " ") for part in (name.ideographic, name.alphabetic) if part]
    except (KeyError, AttributeError, LookupError, ValueError):
        return None
    return one_line(groups[0]) if groups else None


def line(dataset: Dataset, keyword: str) -> str | None:
    """One value as text; None where it is absent or cannot be decoded."""
    try:
        value = dataset[keyword].value
    except (KeyError, LookupError, ValueError):
        return None
    return one_line(str(value)) if value is not None else None


def one_line(words: str) -> str | None:
    """Printable characters only, at most :data:`MAX_LINE`; None where nothing is left."""
    printable = "".join(letter if letter.isprintable() else " " for letter in words)
    return " ".join(printable.split())[:MAX_LINE] or None
