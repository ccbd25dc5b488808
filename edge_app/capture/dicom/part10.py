"""Makes of a data set as sent a DICOM file (PS3.10 7.1), and checks that the data set is what the sender says."""

from __future__ import annotations

import io
import logging
import re
import struct
import warnings
import zlib
from dataclasses import dataclass
from typing import Final

import pydicom.config
from pydicom.filereader import read_dataset
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from edge_app.capture.dicom.errors import dicom_error

IMPLEMENTATION_CLASS_UID: Final = "2.25.241565162758753146889629347993769841743"
"""FirstRay's, made from a random UUID (PS3.5 B.2). Written into every file, so never changed."""
IMPLEMENTATION_VERSION: Final = "FIRSTRAY"
"""The same in every release, for the same object must give the same file whenever it is sent."""

TRANSFER_SYNTAXES: Final = (
    "1.2.840.10008.1.2.1",  # Explicit VR Little Endian
    "1.2.840.10008.1.2",  # Implicit VR Little Endian
    "1.2.840.10008.1.2.1.99",  # Deflated Explicit VR Little Endian
    "1.2.840.10008.1.2.4.90",  # JPEG 2000, lossless only
    "1.2.840.10008.1.2.4.80",  # JPEG-LS lossless
    "1.2.840.10008.1.2.4.70",  # JPEG lossless, first-order prediction
    "1.2.840.10008.1.2.4.57",  # JPEG lossless
    "1.2.840.10008.1.2.5",  # RLE
    "1.2.840.10008.1.2.4.201",  # High-throughput JPEG 2000, lossless only
    "1.2.840.10008.1.2.4.202",  # High-throughput JPEG 2000 with RPCL, lossless only
    "1.2.840.10008.1.2.4.91",  # JPEG 2000
    "1.2.840.10008.1.2.4.81",  # JPEG-LS near-lossless
    "1.2.840.10008.1.2.4.203",  # High-throughput JPEG 2000
    "1.2.840.10008.1.2.4.50",  # JPEG baseline, 8 bits
    "1.2.840.10008.1.2.4.51",  # JPEG extended, 8 and 12 bits
)
"""What :mod:`shared.radiograph` decodes, the preferred first: as the device holds it, lossless before lossy."""

HEAD_BYTES: Final = 65_536
"""How much of a data set is looked at: the SOP Class UID is among its first elements (tags ascend, PS3.5 7.1)."""
SOP_CLASS_UID: Final = 0x00080016
UID_PATTERN: Final = re.compile(r"[0-9.]{1,64}")

# Warnings and log lines of pydicom carry what the peer sent, which may be a patient's name.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
warnings.filterwarnings("ignore", module=r"pydicom\.")
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)


@dataclass(frozen=True, slots=True)
class Label:
    """What a C-STORE-RQ says about its data set (PS3.7 9.3.1.1): three UIDs of at most 64 digits and dots."""

    sop_class: str
    sop_instance: str
    transfer_syntax: str

    def __post_init__(self) -> None:
        if not all(map(UID_PATTERN.fullmatch, (self.sop_class, self.sop_instance, self.transfer_syntax))):
            raise dicom_error("dicom_protocol")


def file_start(label: Label) -> bytes:
    """Preamble, prefix and file meta information (PS3.10 7.1), to be followed by the data set as it was sent.

    Nothing in it depends on sender, time or release: the same object gives the same bytes.
    """
    elements = b"".join(
        (
            _element(0x0001, b"OB", b"\x00\x01"),
            _element(0x0002, b"UI", label.sop_class.encode()),
            _element(0x0003, b"UI", label.sop_instance.encode()),
            _element(0x0010, b"UI", label.transfer_syntax.encode()),
            _element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID.encode()),
            _element(0x0013, b"SH", IMPLEMENTATION_VERSION.encode()),
        )
    )
    return bytes(128) + b"DICM" + _element(0x0000, b"UL", struct.pack("<L", len(elements))) + elements


def _element(number: int, vr: bytes, value: bytes) -> bytes:
    """An element of group 0002 in explicit VR little endian, padded to even length (PS3.5 7.1.2)."""
    value += (b" " if vr == b"SH" else b"\0") * (len(value) % 2)
    length = struct.pack("<HL", 0, len(value)) if vr == b"OB" else struct.pack("<H", len(value))
    return struct.pack("<HH", 2, number) + vr + length + value


def check_head(head: bytes, label: Label) -> None:
    """Check that a data set can be read in its transfer syntax and is of the SOP class that the sender announced.

    Args:
        head: the first :data:`HEAD_BYTES` of the data set as sent, or all of a shorter one.
        label: what the sender announced.

    Raises:
        FirstRayError: ``dicom_not_understood`` or ``dicom_class_mismatch``.
    """
    syntax = UID(label.transfer_syntax)
    try:
        if syntax == DeflatedExplicitVRLittleEndian:
            head = zlib.decompressobj(-zlib.MAX_WBITS).decompress(head, HEAD_BYTES)
        start = read_dataset(
            io.BytesIO(head),
            syntax.is_implicit_VR,
            syntax.is_little_endian,
            stop_when=lambda tag, vr, length: tag > SOP_CLASS_UID,
        )
        found = str(start.SOPClassUID)
    except Exception as error:  # what pydicom raises on damaged bytes is not a closed list
        raise dicom_error("dicom_not_understood") from error
    if found != label.sop_class:
        raise dicom_error("dicom_class_mismatch")
