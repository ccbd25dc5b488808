"""Damaged, hostile and mistaken files: each ends in an error with a code, and the next file is read."""

import io
import json
import os
import signal
import stat
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from shared import _guard
from shared.errors import RadiographError
from shared.radiograph import ERRORS, Limits, Radiograph, load_radiograph, warm_up

ROOT = Path(__file__).parents[2]
UNDEFINED = 0xFFFFFFFF


def sample(name: str) -> Path:
    """A file of pydicom or pydicom-data."""
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str), f"{name} is missing"
    return Path(path)


def refusal(path: Path | str | bytes, limits: Limits | None = None) -> str:
    """The code of the error that reading ``path`` ends in; the error is complete, and the next file is read."""
    with pytest.raises(RadiographError) as caught:
        load_radiograph(path, limits or Limits())
    assert caught.value.code in ERRORS
    assert caught.value.action
    assert "\n" not in str(caught.value)
    assert load_radiograph(sample("MR_small.dcm")).pixels.shape == (64, 64)
    return caught.value.code


@pytest.fixture
def file(tmp_path: Path) -> Callable[[bytes], Path]:
    """Writes bytes to a file called .dcm."""

    def write(data: bytes) -> Path:
        (tmp_path / "file.dcm").write_bytes(data)
        return tmp_path / "file.dcm"

    return write


def dicom(syntax: str = ExplicitVRLittleEndian, body: bytes = b"") -> bytes:
    """A DICOM file of a transfer syntax, with a data set given as bytes."""
    uid = syntax.encode() + b"\0" * (len(syntax) % 2)
    element = struct.pack("<HH2sH", 2, 0x10, b"UI", len(uid)) + uid
    return bytes(128) + b"DICM" + struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(element)) + element + body


def image_body(rows: int = 64, columns: int = 64, before: bytes = b"", pixels: bytes | None = None) -> bytes:
    """The data set of an 8-bit image, explicit VR little endian, with ``before`` in front of group 0028."""
    body = before
    for element, value in ((0x02, 1), (0x10, rows), (0x11, columns), (0x100, 8), (0x101, 8), (0x102, 7), (0x103, 0)):
        body += struct.pack("<HH2sHH", 0x28, element, b"US", 2, value)
        if element == 0x02:
            body += struct.pack("<HH2sH", 0x28, 0x04, b"CS", 12) + b"MONOCHROME2 "
    data = bytes(range(256)) * (rows * columns // 256) if pixels is None else pixels
    return body + struct.pack("<HH2sHL", 0x7FE0, 0x10, b"OB", 0, len(data)) + data


def deflated(*parts: bytes) -> bytes:
    """A raw deflate stream."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    return b"".join(stream.compress(part) for part in parts) + stream.flush()


def png(width: int, height: int, bits: int = 8) -> bytes:
    """A PNG that claims a size and holds hardly any pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))

    header = struct.pack(">LLBBBBB", width, height, bits, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def encoded(kind: str, size: tuple[int, int] = (400, 300), **options: Any) -> bytes:
    """A picture file of noise."""
    noise = np.random.default_rng(1).integers(0, 256, (size[1], size[0]), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, kind, **options)
    return buffer.getvalue()


class TestPaths:
    def test_a_missing_file(self, tmp_path: Path) -> None:
        assert refusal(tmp_path / "none.dcm") == "file_missing"
        assert refusal(sample("MR_small.dcm") / "below-a-file.dcm") == "file_missing"
        assert refusal(b"/no/such/\xff") == "file_missing"

    def test_a_folder(self, tmp_path: Path) -> None:
        assert refusal(tmp_path) == "file_not_regular"

    def test_an_empty_file(self, file: Callable[[bytes], Path]) -> None:
        assert refusal(file(b"")) == "file_empty"

    def test_a_name_no_file_can_have(self) -> None:
        assert refusal("a\0b") == "file_unreadable"
        assert refusal("a" * 5000) == "file_unreadable"

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
    def test_a_fifo_and_a_device(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "fifo.dcm")
        assert refusal(tmp_path / "fifo.dcm") == "file_not_regular"
        assert refusal("/dev/zero") == "file_not_regular"

    @pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system has no POSIX permissions")
    def test_a_file_without_permission(self, file: Callable[[bytes], Path]) -> None:
        path = file(dicom(body=image_body()))
        path.chmod(0)
        code = (
            "import os, sys; from shared.radiograph import load_radiograph; from shared.errors import RadiographError\n"
            "if os.geteuid() == 0: os.seteuid(65534)\n"
            "try: load_radiograph(sys.argv[1])\n"
            "except RadiographError as error: print(error.code)"
        )
        answer = subprocess.run(
            [sys.executable, "-c", code, path], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert answer.stdout.strip() == "file_unreadable"
        path.chmod(stat.S_IRWXU)

    def test_a_file_that_is_too_large(self, file: Callable[[bytes], Path]) -> None:
        path = file(dicom())
        os.truncate(path, 300 << 20)
        assert refusal(path) == "file_too_large"


class TestFormats:
    @pytest.mark.parametrize(
        "data",
        [
            b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<< >>\nendobj\n",
            b"GIF89a" + bytes(500),
            b"BM" + bytes(500),
            b"\0",
            b"<html>",
        ],
        ids=["pdf", "gif", "bmp", "one byte", "html"],
    )
    def test_other_files_called_dcm(self, data: bytes, file: Callable[[bytes], Path]) -> None:
        assert refusal(file(data)) == "format_unknown"

    def test_a_real_gif_is_not_opened(self, file: Callable[[bytes], Path]) -> None:
        assert refusal(file(encoded("GIF"))) == "format_unknown"

    @pytest.mark.parametrize(
        ("name", "code"),
        [
            ("test-SR.dcm", "dicom_no_pixels"),
            ("waveform_ecg.dcm", "dicom_no_pixels"),
            ("rtplan.dcm", "dicom_no_pixels"),
            ("MR_truncated.dcm", "dicom_truncated"),
            ("emri_small_jpeg_2k_lossless_too_short.dcm", "dicom_truncated"),
            ("emri_small.dcm", "dicom_multiframe"),
            ("color3d_jpeg_baseline.dcm", "dicom_multiframe"),
            ("SC_rgb_32bit.dcm", "dicom_unsupported_pixels"),
            ("liver_1frame.dcm", "dicom_unsupported_pixels"),
            ("SC_rgb_small_odd.dcm", "too_small"),
            ("meta_missing_tsyntax.dcm", "dicom_invalid"),
            ("JPEG2000-embedded-sequence-delimiter.dcm", "dicom_invalid"),
            ("JPEG-lossy.dcm", "dicom_invalid"),
        ],
    )
    def test_real_files_that_are_no_single_whole_image(self, name: str, code: str) -> None:
        assert refusal(sample(name)) == code


class TestDicom:
    @pytest.mark.parametrize("share", [0.0, 0.02, 0.1, 0.3, 0.7, 0.97])
    @pytest.mark.parametrize("name", ["MR_small.dcm", "MR_small_RLE.dcm", "RG1_J2KR.dcm", "image_dfl.dcm"])
    def test_cut_off(self, name: str, share: float, file: Callable[[bytes], Path]) -> None:
        data = sample(name).read_bytes()
        code = refusal(file(data[: 140 + int((len(data) - 140) * share)]))
        assert code in (
            {"dicom_truncated"} if share >= 0.7 else {"dicom_truncated", "dicom_no_pixels", "dicom_invalid"}
        )

    def test_no_pixels(self, file: Callable[[bytes], Path]) -> None:
        assert refusal(file(dicom(body=image_body(pixels=b"")))) == "dicom_no_pixels"
        assert refusal(file(dicom())) == "dicom_no_pixels"
        assert refusal(file(dicom()[:132])) == "dicom_invalid"

    def test_fewer_pixels_than_announced(self, file: Callable[[bytes], Path]) -> None:
        assert refusal(file(dicom(body=image_body(pixels=bytes(4000))))) == "dicom_truncated"

    @pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGBaseline8Bit, RLELossless])
    def test_said_to_be_compressed_but_is_not(self, syntax: str, file: Callable[[bytes], Path]) -> None:
        assert refusal(file(dicom(syntax, image_body()))) == "dicom_invalid"

    def test_said_to_be_uncompressed_but_is_not(self, file: Callable[[bytes], Path]) -> None:
        data = sample("MR_small_jp2klossless.dcm").read_bytes()
        uid = b"1.2.840.10008.1.2.4.90"
        assert uid in data
        assert refusal(file(data.replace(uid, b"1.2.840.10008.1.2.1\0\0\0"))) == "dicom_invalid"

    def test_said_to_be_deflated_but_is_not(self, file: Callable[[bytes], Path]) -> None:
        assert refusal(file(dicom(DeflatedExplicitVRLittleEndian, image_body()))) == "dicom_invalid"

    def test_the_wrong_codec(self, file: Callable[[bytes], Path]) -> None:
        data = sample("MR_small_jp2klossless.dcm").read_bytes()
        for syntax in (b"1.2.840.10008.1.2.4.70", b"1.2.840.10008.1.2.4.50", b"1.2.840.10008.1.2.5\0\0\0"):
            assert refusal(file(data.replace(b"1.2.840.10008.1.2.4.90", syntax))) == "dicom_invalid"

    @pytest.mark.parametrize(
        "syntax", [MPEG2MPML, "1.2.3.4.5.6.7", "1.2.840.113619.5.2", "not a uid", "1.2.840.10008.1.1"]
    )
    def test_a_transfer_syntax_that_is_not_read(self, syntax: str, file: Callable[[bytes], Path]) -> None:
        assert refusal(file(dicom(syntax, image_body()))) == "dicom_unsupported_transfer_syntax"

    def test_explicit_data_said_to_be_implicit_are_read_all_the_same(self, file: Callable[[bytes], Path]) -> None:
        radiograph = load_radiograph(file(dicom(ImplicitVRLittleEndian, image_body())))
        assert radiograph.pixels[0, :4].tolist() == [0, 1, 2, 3]

    def test_sizes(self, file: Callable[[bytes], Path]) -> None:
        assert refusal(file(dicom(body=image_body(1, 1, pixels=b"\0\0")))) == "too_small"
        assert refusal(file(dicom(body=image_body(0, 64, pixels=b"\0\0")))) == "too_small"
        assert refusal(file(dicom(body=image_body(30_000, 30_000, pixels=bytes(99))))) == "too_many_pixels"

    def test_a_small_header_before_a_huge_codestream(self, file: Callable[[bytes], Path]) -> None:
        dataset = pydicom.dcmread(sample("RG1_J2KR.dcm"))
        dataset.Rows = dataset.Columns = 100
        buffer = io.BytesIO()
        dataset.save_as(buffer)
        assert refusal(file(buffer.getvalue())) == "dicom_invalid"

    def test_a_deflate_bomb(self, file: Callable[[bytes], Path]) -> None:
        path = file(dicom(DeflatedExplicitVRLittleEndian, deflated(*[bytes(1 << 20)] * 64)))
        assert path.stat().st_size < 80_000
        assert refusal(path, Limits(file_bytes=8 << 20)) == "dicom_bomb"

    def test_a_deflated_stream_that_breaks_off(self, file: Callable[[bytes], Path]) -> None:
        assert refusal(file(dicom(DeflatedExplicitVRLittleEndian, deflated(image_body())[:-9]))) == "dicom_truncated"

    @pytest.mark.parametrize("depth", [40, 300, 100_000])
    def test_sequences_in_sequences(self, depth: int, file: Callable[[bytes], Path]) -> None:
        level = struct.pack("<HH2sHL", 0x08, 0x1140, b"SQ", 0, UNDEFINED) + struct.pack(
            "<HHL", 0xFFFE, 0xE000, UNDEFINED
        )
        end = struct.pack("<HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
        assert refusal(file(dicom(body=image_body(before=level * depth + end * depth)))) == "dicom_too_deep"
        assert refusal(file(dicom(body=level * depth))) == "dicom_too_deep"

    def test_a_few_levels_are_normal(self, file: Callable[[bytes], Path]) -> None:
        level = struct.pack("<HH2sHL", 0x08, 0x1140, b"SQ", 0, UNDEFINED) + struct.pack(
            "<HHL", 0xFFFE, 0xE000, UNDEFINED
        )
        end = struct.pack("<HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
        assert load_radiograph(file(dicom(body=image_body(before=level * 20 + end * 20)))).bits == 8

    def test_a_deep_sequence_of_known_length_where_the_table_is_looked_for(self, file: Callable[[bytes], Path]) -> None:
        nested = b""
        for _ in range(3000):
            item = struct.pack("<HHL", 0xFFFE, 0xE000, len(nested)) + nested
            nested = struct.pack("<HH2sHL", 0x28, 0x3010, b"SQ", 0, len(item)) + item
        with_pixels = image_body().replace(struct.pack("<HH2sHL", 0x7FE0, 0x10, b"OB", 0, 4096), b"PIXELS")
        header, pixels = with_pixels.split(b"PIXELS")
        body = header + nested + struct.pack("<HH2sHL", 0x7FE0, 0x10, b"OB", 0, 4096) + pixels
        assert refusal(file(dicom(body=body))) in ("dicom_invalid", "dicom_too_deep")

    def test_endless_elements(self, file: Callable[[bytes], Path]) -> None:
        empty = struct.pack("<HH2sH", 0x09, 0x10, b"LO", 0)
        assert refusal(file(dicom(body=image_body(before=empty * 200_000)))) == "dicom_too_many_elements"

    @pytest.mark.parametrize("name", ["MR_small.dcm", "MR_small_RLE.dcm", "MR_small_implicit.dcm"])
    def test_what_follows_the_pixels_does_not_matter(self, name: str, file: Callable[[bytes], Path]) -> None:
        expected = load_radiograph(sample(name)).pixels
        for tail in (bytes(1000), b"\n", b"garbage that is no element", bytes(range(256)) * 9):
            assert np.array_equal(load_radiograph(file(sample(name).read_bytes() + tail)).pixels, expected)

    def test_an_element_longer_than_the_file(self, file: Callable[[bytes], Path]) -> None:
        lie = struct.pack("<HH2sHL", 0x09, 0x10, b"OB", 0, 0x7FFFFFFF)
        assert refusal(file(dicom(body=image_body(before=lie)))) == "dicom_truncated"

    @pytest.mark.parametrize(
        "attributes",
        [
            {"PixelRepresentation": None, "BitsStored": None},
            {"BitsStored": 0},
            {"BitsStored": 40},
            {"SamplesPerPixel": 3},
            {"PhotometricInterpretation": "HSV"},
            {"PhotometricInterpretation": None},
            {"PhotometricInterpretation": "PALETTE COLOR"},
            {"NumberOfFrames": "1A"},
            {"RescaleSlope": "abc", "RescaleIntercept": "0"},
        ],
        ids=str,
    )
    def test_contradictions(self, attributes: dict[str, Any], file: Callable[[bytes], Path]) -> None:
        dataset = pydicom.dcmread(sample("MR_small.dcm"))
        for keyword, value in attributes.items():
            if value == "abc":
                dataset.add_new(keyword, "LO", value)
                dataset[keyword].VR = "LO"
            elif value == "1A":
                dataset.add_new(keyword, "LO", value)
            else:
                setattr(dataset, keyword, value)
        buffer = io.BytesIO()
        dataset.save_as(buffer)
        assert refusal(file(buffer.getvalue())) in ("dicom_invalid", "dicom_unsupported_pixels", "dicom_truncated")


class TestPictures:
    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
    @pytest.mark.parametrize("share", [0.005, 0.3, 0.9])
    def test_cut_off(self, kind: str, share: float, file: Callable[[bytes], Path]) -> None:
        data = encoded(kind)
        code = refusal(file(data[: int(len(data) * share)]))
        assert code in ("image_truncated", "image_invalid")

    @pytest.mark.parametrize("size", [(1, 1), (63, 500), (500, 2)])
    def test_too_small(self, size: tuple[int, int], file: Callable[[bytes], Path]) -> None:
        assert refusal(file(encoded("PNG", size))) == "too_small"

    @pytest.mark.parametrize("bits", [1, 8, 16])
    def test_a_png_that_claims_30_000_x_30_000(self, bits: int, file: Callable[[bytes], Path]) -> None:
        assert refusal(file(png(30_000, 30_000, bits))) == "too_many_pixels"

    def test_a_jpeg_and_a_tiff_that_claim_30_000_x_30_000(self, file: Callable[[bytes], Path]) -> None:
        jpeg = encoded("JPEG")
        at = jpeg.index(b"\xff\xc0") + 5
        assert refusal(file(jpeg[:at] + struct.pack(">HH", 30_000, 30_000) + jpeg[at + 4 :])) == "too_many_pixels"
        tiff = encoded("TIFF")
        for tag, value in ((256, 400), (257, 300)):
            entry = struct.pack("<HHLL", tag, 4, 1, value)
            assert entry in tiff
            tiff = tiff.replace(entry, struct.pack("<HHLL", tag, 4, 1, 30_000))
        assert refusal(file(tiff)) == "too_many_pixels"

    def test_a_png_whose_text_unpacks_to_gigabytes(self, file: Callable[[bytes], Path]) -> None:
        data = b"note\0\0" + zlib.compress(bytes(50 << 20), 9)
        text = struct.pack(">L", len(data)) + b"zTXt" + data + struct.pack(">L", zlib.crc32(b"zTXt" + data))
        plain = encoded("PNG")
        assert refusal(file(plain[:33] + text * 3 + plain[33:])) == "image_invalid"

    def test_several_pages(self, file: Callable[[bytes], Path]) -> None:
        page = Image.new("L", (80, 80))
        assert refusal(file(encoded("TIFF", save_all=True, append_images=[page]))) == "image_multiframe"

    def test_values_that_are_no_grey_levels(self, file: Callable[[bytes], Path]) -> None:
        buffer = io.BytesIO()
        Image.fromarray(np.zeros((80, 80), np.float32)).save(buffer, "TIFF")
        assert refusal(file(buffer.getvalue())) == "image_unsupported"


def workers() -> list[int]:
    """Process ids of the decoders that wait."""
    return [worker.process.pid for worker in _guard._pool._idle]


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.fixture
def worker() -> Iterator[int]:
    """The process id of the only waiting decoder."""
    _guard._pool.close()
    warm_up()
    load_radiograph(sample("MR_small.dcm"))
    (pid,) = workers()
    yield pid
    _guard._pool.close()


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
class TestProcess:
    def test_it_is_kept_between_files_good_and_bad(self, worker: int) -> None:
        refusal(sample("MR_truncated.dcm"))
        refusal(sample("JPEG-lossy.dcm"))
        load_radiograph(sample("MR_small.dcm"))
        assert workers() == [worker]

    def test_it_may_neither_write_files_nor_grow_without_end(self, worker: int) -> None:
        limits = Path(f"/proc/{worker}/limits").read_text()
        table = {line[:26].strip(): line[26:].split()[:2] for line in limits.splitlines()}
        assert table["Max file size"] == ["0", "0"]
        assert table["Max core file size"] == ["0", "0"]
        assert table["Max address space"] == [str(Limits().memory_bytes)] * 2
        assert table["Max open files"] == ["32", "32"]

    def test_one_that_hangs_is_stopped(self, worker: int) -> None:
        os.kill(worker, signal.SIGSTOP)
        assert refusal(sample("RG1_UNCR.dcm"), Limits(seconds=0.5)) == "decode_timeout"
        assert not alive(worker)

    def test_a_file_that_takes_too_long(self, worker: int) -> None:
        assert refusal(sample("RG1_J2KR.dcm"), Limits(seconds=0.02)) == "decode_timeout"
        assert not alive(worker)

    def test_one_that_is_killed_at_work(self, worker: int) -> None:
        os.kill(worker, signal.SIGSTOP)

        def kill_it_at_work() -> None:
            """Once it has been given the file: until then it would only be replaced."""
            while workers():
                time.sleep(0.01)
            time.sleep(0.3)
            os.kill(worker, signal.SIGKILL)

        killer = threading.Thread(target=kill_it_at_work)
        killer.start()
        assert refusal(sample("RG1_UNCR.dcm")) == "decode_crashed"
        killer.join()

    def test_one_that_died_while_waiting_costs_no_file(self, worker: int) -> None:
        os.kill(worker, signal.SIGKILL)
        while alive(worker):
            time.sleep(0.01)
        assert load_radiograph(sample("MR_small.dcm")).bits == 16

    def test_a_picture_that_needs_too_much_memory(self, worker: int, file: Callable[[bytes], Path]) -> None:
        buffer = io.BytesIO()
        Image.new("RGBA", (5000, 5000)).save(buffer, "PNG", compress_level=1)
        assert refusal(file(buffer.getvalue()), Limits(memory_bytes=200 << 20)) == "decode_memory"

    @pytest.mark.parametrize("end", ["pass", "os.kill(os.getpid(), 9)", "sys.exit(3)", "1 / 0"])
    def test_it_ends_with_the_program(self, end: str) -> None:
        code = (
            "import os, sys; from shared import _guard; from shared.radiograph import load_radiograph\n"
            "load_radiograph(sys.argv[1]); print(_guard._pool._idle[0].process.pid, flush=True)\n" + end
        )
        command = [sys.executable, "-c", code, sample("MR_small.dcm")]
        answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        pid = int(answer.stdout)
        deadline = time.monotonic() + 60
        while alive(pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not alive(pid)


HELLO = {"ready": True}
FIELDS = {"format": "dicom", "bits": 8, "photometric": "MONOCHROME2", "dtype": "uint8", "height": 64, "width": 64}


@pytest.mark.skipif(os.name != "posix", reason="the impostor is a script")
class TestImpostor:
    """A decoder process that a file has taken over can lie, but not harm."""

    @pytest.fixture
    def answer(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
        """Makes decoder processes say the given things, whatever they are asked."""

        def install(*messages: bytes | dict[str, Any]) -> None:
            said = b""
            for message in messages:
                text = message if isinstance(message, bytes) else json.dumps(message).encode()
                said += len(text).to_bytes(4, "big") + text if isinstance(message, dict) else text
            (tmp_path / "said").write_bytes(said)
            script = tmp_path / "impostor"
            script.write_text(f"#!/bin/sh\ncat '{tmp_path}/said'\nexec cat >/dev/null\n")
            script.chmod(0o755)
            _guard._pool.close()
            monkeypatch.setattr(sys, "executable", str(script))

        yield install
        _guard._pool.close()

    @pytest.mark.parametrize(
        "change",
        [
            {"height": 0},
            {"height": -64, "width": -64},
            {"height": 10**6, "width": 10**6},
            {"height": "64"},
            {"height": True},
            {"dtype": "object"},
            {"dtype": "float64"},
            {"bits": 99},
            {"bits": "8"},
            {"format": "exe"},
            {"view": "BEHIND"},
            {"photometric": 5},
            {"body_part": "X" * 5000},
            {"pixel_spacing_mm": [1]},
            {"pixel_spacing_mm": [1, -1]},
            {"pixel_spacing_mm": "ab"},
            {"error": "no such code"},
            {"error": None},
        ],
        ids=str,
    )
    def test_false_answers(self, change: dict[str, Any], answer: Callable[..., None]) -> None:
        answer(HELLO, {**FIELDS, **change}, bytes(64 * 64))
        with pytest.raises(RadiographError) as caught:
            load_radiograph(sample("MR_small.dcm"), Limits(seconds=60))
        assert caught.value.code == "decode_crashed"

    @pytest.mark.parametrize(
        "said", [b"\xff\xff\xff\xff", b"\0\0\0\2[]", b"\0\0\0\2\xff\xff", b"\0\0\0\1{", b"\0\0\0\2{}"], ids=str
    )
    def test_gibberish(self, said: bytes, answer: Callable[..., None]) -> None:
        answer(HELLO, said)
        with pytest.raises(RadiographError) as caught:
            load_radiograph(sample("MR_small.dcm"), Limits(seconds=60))
        assert caught.value.code == "decode_crashed"

    def test_fewer_pixels_than_announced(self, answer: Callable[..., None]) -> None:
        answer(HELLO, FIELDS, bytes(64 * 63))
        with pytest.raises(RadiographError) as caught:
            load_radiograph(sample("MR_small.dcm"), Limits(seconds=60))
        assert caught.value.code == "decode_crashed"

    def test_an_honest_answer_passes(self, answer: Callable[..., None]) -> None:
        answer(HELLO, FIELDS, bytes(64 * 64))
        assert load_radiograph(sample("MR_small.dcm")).pixels.shape == (64, 64)

    @pytest.mark.parametrize("program", ["/bin/false", "/no/such/python"])
    def test_a_decoder_that_does_not_start(self, program: str, monkeypatch: pytest.MonkeyPatch) -> None:
        _guard._pool.close()
        monkeypatch.setattr(sys, "executable", program)
        with pytest.raises(RadiographError) as caught:
            load_radiograph(sample("MR_small.dcm"))
        assert caught.value.code == "decoder_unavailable"


SMALL = {
    "dicom": sample("MR_small.dcm").read_bytes(),
    "rle": sample("MR_small_RLE.dcm").read_bytes(),
    "jpeg2000": sample("MR_small_jp2klossless.dcm").read_bytes(),
    "jpegls": sample("MR_small_jpeg_ls_lossless.dcm").read_bytes(),
    "jpeg lossless": sample("SC_rgb_jpeg_gdcm.dcm").read_bytes(),
    "deflated": sample("image_dfl.dcm").read_bytes(),
    "png": encoded("PNG", (80, 70)),
    "jpg": encoded("JPEG", (80, 70)),
    "tiff": encoded("TIFF", (80, 70), compression="tiff_lzw"),
}


class TestDamage:
    @pytest.mark.parametrize("kind", SMALL)
    @settings(
        max_examples=60,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
        database=None,
    )
    @given(data=st.data())
    def test_any_damage_gives_a_radiograph_or_a_coded_error(
        self, kind: str, tmp_path: Path, data: st.DataObject
    ) -> None:
        damaged = bytearray(SMALL[kind])
        for _ in range(data.draw(st.integers(1, 6), "flips")):
            at = data.draw(st.integers(0, len(damaged) - 1), "at")
            damaged[at] = data.draw(st.integers(0, 255), "byte")
        if data.draw(st.booleans(), "cut"):
            del damaged[data.draw(st.integers(1, len(damaged)), "length") :]
        path = tmp_path / "damaged"
        path.write_bytes(damaged)
        code = None
        try:
            assert isinstance(load_radiograph(path, Limits(seconds=60)), Radiograph)
        except RadiographError as error:
            code = error.code
        assert code is None or code in ERRORS
        assert code not in ("decoder_unavailable", "file_unreadable", "decode_timeout")
        assert load_radiograph(sample("MR_small.dcm")).pixels.shape == (64, 64)
