"""The decoder process: reads files from its standard input, writes pixels to its standard output, keeps no state.

Started as ``python -m shared._decode MEMORY_BYTES`` by :mod:`shared._guard`, which also sets the wall-clock limit. It
ends when its standard input does, and of itself when a file takes longer than its limit and nobody came to stop it.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from typing import Any, Final

import numpy as np
import numpy.typing as npt

sys.modules["requests"] = None  # type: ignore[assignment]  # pydicom would load it, and the network with it, for nothing
from PIL import Image, ImageOps, TiffImagePlugin  # noqa: E402

from shared._dicom import read_dicom  # noqa: E402
from shared._format import sniff  # noqa: E402
from shared._wire import Failure, Limits, read_header, write_message  # noqa: E402

Grey = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

WHITE_IS_ZERO: Final = 0
PHOTOMETRIC: Final = {**dict.fromkeys(("1", "L", "LA", "I;16", "I;16B", "I;16L"), "MONOCHROME2"), "P": "PALETTE COLOR"}
"""DICOM's term for what a Pillow mode holds; every other mode is colour."""

Image.MAX_IMAGE_PIXELS = None  # Limits.pixels is checked instead
TiffImagePlugin.OPEN_INFO[(TiffImagePlugin.MM, WHITE_IS_ZERO, (1,), 1, (16,), ())] = ("I;16B", "I;16B")


def main() -> None:
    """Answer requests until standard input ends."""
    requests, replies = private_pipes()
    limit_process(int(sys.argv[1]))
    write_message(replies, {"ready": True})
    while True:
        try:
            request = read_header(requests)
        except EOFError:
            return
        limits = Limits(**request["limits"])
        set_alarm(limits.seconds + 1.0)
        header, payload = answer(requests, request["length"], limits)
        write_message(replies, header, payload)
        set_alarm(0.0)


def answer(requests: io.BufferedReader, length: int, limits: Limits) -> tuple[dict[str, Any], memoryview | bytes]:
    """Read one file and decode it: the header of the answer, and the pixels."""
    try:
        pixels, header = decode(requests.read(length), limits)
    except Failure as failure:
        return {"error": failure.code, "detail": failure.detail}, b""
    except MemoryError:
        return {"error": "decode_memory"}, b""
    header.update(height=pixels.shape[0], width=pixels.shape[1], dtype=pixels.dtype.name)
    return header, memoryview(np.ascontiguousarray(pixels).data).cast("B")


def decode(data: bytes, limits: Limits) -> tuple[Grey, dict[str, Any]]:
    """Decode a file by what it holds, whatever its name. Raises Failure or MemoryError, nothing else."""
    kind = sniff(data)
    if kind is None:
        raise Failure("format_unknown")
    try:
        return read_dicom(data, limits) if kind == "dicom" else read_picture(data, kind, limits)
    except (Failure, MemoryError):
        raise
    except RecursionError as error:
        raise Failure("dicom_too_deep") from error
    except Exception as error:  # what decoders raise on damaged bytes is not a closed list
        raise Failure(reason(error, kind), type(error).__name__) from error


def reason(error: Exception, kind: str) -> str:
    """The code for what a decoder raised, as far as its words tell."""
    words = str(error).lower()
    if "memory" in words:
        return "decode_memory"
    return ("dicom" if kind == "dicom" else "image") + ("_truncated" if "truncated" in words else "_invalid")


def read_picture(data: bytes, kind: str, limits: Limits) -> tuple[Grey, dict[str, Any]]:
    """Decode a JPEG, PNG or TIFF, turned upright by its EXIF orientation."""
    with Image.open(io.BytesIO(data), formats=[kind.upper()]) as image:
        if image.width * image.height > limits.pixels:
            raise Failure("too_many_pixels", f"{image.width} x {image.height}")
        if min(image.size) < limits.smallest_side:
            raise Failure("too_small", f"{image.width} x {image.height}")
        if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
            raise Failure("image_multiframe")
        inverted = kind == "tiff" and image.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == WHITE_IS_ZERO
        photometric = PHOTOMETRIC.get(image.mode, "RGB")
        ImageOps.exif_transpose(image, in_place=True)
        pixels, bits = wide_levels(image, inverted) if image.mode.startswith("I;16") else (levels(image), 8)
    return pixels, {"format": kind, "bits": bits, "photometric": "MONOCHROME1" if inverted else photometric}


def wide_levels(image: Image.Image, inverted: bool) -> tuple[Grey, int]:
    """16-bit grey as it is, and how many of its bits are used.

    Where only the lower ones are (the TIFF of a 12-bit detector), the values are shifted up to fill 16.
    """
    values = np.asarray(image).astype(np.uint16)
    bits = max(8, int(values.max()).bit_length())
    if inverted:
        values = np.uint16((1 << bits) - 1) - values
    return values << np.uint16(16 - bits), bits


def levels(image: Image.Image) -> Grey:
    """8-bit grey as it is, colours as their luminance (ITU-R BT.601), on black where the image is transparent.

    Of colours and of grey with transparency Pillow reads the upper 8 bits only.
    """
    if image.mode in ("I", "F"):
        raise Failure("image_unsupported", "32-bit or signed values")
    if image.has_transparency_data:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        return np.asarray(Image.alpha_composite(black, image.convert("RGBA")).convert("L"))
    return np.asarray(image.convert("L"))


def private_pipes() -> tuple[io.BufferedReader, io.RawIOBase]:
    """Standard input and output for this module alone: what a library prints goes nowhere."""
    requests, replies = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    os.close(nowhere)
    return os.fdopen(requests, "rb"), os.fdopen(replies, "wb", buffering=0)


def limit_process(memory_bytes: int) -> None:
    """Take away from this process what a decoder does not need: memory, core dumps, writing files, Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "win32":
        return
    import resource

    limits = {resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_NOFILE: 32}
    if sys.platform == "linux":  # elsewhere the address space can't be limited
        limits[resource.RLIMIT_AS] = memory_bytes
    for kind, most in limits.items():
        allowed = resource.getrlimit(kind)[1]
        value = most if allowed == resource.RLIM_INFINITY else min(most, allowed)
        resource.setrlimit(kind, (value, value))


def set_alarm(seconds: float) -> None:
    """Let the system end this process in ``seconds`` (0: not at all), should the parent have died meanwhile."""
    if sys.platform != "win32":
        signal.setitimer(signal.ITIMER_REAL, seconds)


if __name__ == "__main__":
    main()
