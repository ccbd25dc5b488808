"""Radiographs as they come from devices and exports, against other decoders and against the standard's formulas."""

import hashlib
import io
import os
import shutil
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_charset_files, get_testdata_file
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.sequence import Sequence

from shared.errors import RadiographError
from shared.radiograph import ERRORS, DeviceLabels, View, decode_radiograph, load_radiograph, warm_up


def sample(name: str) -> Path:
    """A file of pydicom or pydicom-data."""
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str), f"{name} is missing"
    return Path(path)


def difference(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> int:
    """Largest difference of two images."""
    assert one.shape == other.shape
    return int(np.abs(one.astype(np.int64) - other.astype(np.int64)).max())


def write_dicom(path: Path, cells: npt.NDArray[Any], **attributes: Any) -> Path:
    """An uncompressed grey DICOM image of ``cells``, made from a small real one."""
    dataset = pydicom.dcmread(sample("MR_small.dcm"))
    for keyword in ("WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept", "PixelPaddingValue"):
        if keyword in dataset:
            delattr(dataset, keyword)
    dataset.Rows, dataset.Columns = cells.shape
    dataset.BitsAllocated = dataset.BitsStored = 8 * cells.dtype.itemsize
    dataset.PixelRepresentation = int(cells.dtype.kind == "i")
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
        if keyword.startswith("PixelPadding"):
            dataset[keyword].VR = "SS" if cells.dtype.kind == "i" else "US"
    dataset.HighBit = attributes.get("HighBit", dataset.BitsStored - 1)
    dataset.PixelData = cells.tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.save_as(path)
    return path


def ramp(bits: int, signed: bool = False) -> npt.NDArray[Any]:
    """A 64 x 64 image that goes evenly through all values of ``bits`` bits."""
    values = np.linspace(0, (1 << bits) - 1, 64 * 64).astype(np.int64).reshape(64, 64)
    return (values - (1 << (bits - 1))).astype(np.int16) if signed else values.astype("u1" if bits <= 8 else "u2")


class TestRealFiles:
    def test_a_real_chest_radiograph_and_what_its_file_says(self, chest: Path) -> None:
        radiograph = load_radiograph(chest)
        assert radiograph.pixels.shape == (1955, 1841)
        assert radiograph.pixels.dtype == np.uint16
        assert radiograph.bits == 15
        assert radiograph.source_format == "dicom"
        assert radiograph.view is View.PA
        assert radiograph.modality == "CR"
        assert radiograph.body_part == "CHEST"
        assert radiograph.photometric == "MONOCHROME1"
        assert radiograph.laterality is None
        assert radiograph.pixel_spacing_mm is None, "its file says 0.000 mm, which is no spacing"
        assert radiograph.sha256 == hashlib.sha256(chest.read_bytes()).hexdigest()

    def test_bone_is_bright_and_lung_dark(self, chest: Path) -> None:
        pixels = load_radiograph(chest).pixels
        spine, lung = pixels[900:1100, 880:960].mean(), pixels[350:550, 430:560].mean()
        assert spine > lung * 1.3

    @pytest.mark.parametrize(
        ("name", "same_as", "tolerance"),
        [
            ("RG1_J2KR.dcm", "RG1_UNCR.dcm", 0),
            ("RG1_J2KI.dcm", "RG1_UNCI.dcm", 0),
            ("RG3_J2KR.dcm", "RG3_UNCR.dcm", 0),
            ("693_J2KR.dcm", "693_UNCR.dcm", 0),
            ("MR2_J2KR.dcm", "MR2_UNCR.dcm", 0),
            ("US1_J2KR.dcm", "US1_UNCR.dcm", 0),
            ("JPEG2000.dcm", "JPEG2000_UNC.dcm", 0),
            ("MR_small_implicit.dcm", "MR_small.dcm", 0),
            ("MR_small_bigendian.dcm", "MR_small.dcm", 0),
            ("MR_small_padded.dcm", "MR_small.dcm", 0),
            ("MR_small_RLE.dcm", "MR_small.dcm", 0),
            ("MR_small_jp2klossless.dcm", "MR_small.dcm", 0),
            ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm", 0),
            ("OBXXXX1A_expb.dcm", "OBXXXX1A.dcm", 0),
            ("OBXXXX1A_rle.dcm", "OBXXXX1A.dcm", 0),
            ("gdcm-US-ALOKA-16_big.dcm", "gdcm-US-ALOKA-16.dcm", 0),
            ("color-pl.dcm", "color-px.dcm", 0),
            ("SC_rgb_expb.dcm", "SC_rgb.dcm", 0),
            ("SC_rgb_rle.dcm", "SC_rgb.dcm", 0),
            ("SC_rgb_jpeg_gdcm.dcm", "SC_rgb.dcm", 0),
            ("SC_rgb_rle_16bit.dcm", "SC_rgb_16bit.dcm", 0),
            ("SC_ybr_full_uncompressed.dcm", "SC_rgb.dcm", 2),
            ("SC_ybr_full_422_uncompressed.dcm", "SC_rgb.dcm", 2),
            ("SC_rgb_dcmtk_+eb+cy+np.dcm", "SC_rgb_dcmtk_ebcynp_dcmd.dcm", 2),
            ("SC_rgb_jpeg_lossy_gdcm.dcm", "SC_rgb.dcm", 8),
            ("SC_rgb_jls_lossy_line.dcm", "SC_rgb.dcm", 8),
        ],
    )
    def test_one_image_in_two_encodings_is_one_image(self, name: str, same_as: str, tolerance: int) -> None:
        assert difference(load_radiograph(sample(name)).pixels, load_radiograph(sample(same_as)).pixels) <= tolerance

    def test_a_deflated_file(self) -> None:
        name = sample("image_dfl.dcm")
        stored = pydicom.dcmread(name).pixel_array
        pixels = load_radiograph(name).pixels
        assert (int(stored.min()), int(stored.max())) == (0, 255), "so that stretching changes nothing"
        assert difference(pixels, stored) == 0

    @pytest.mark.parametrize("name", ["JPEG-LL.dcm", "JPGExtended.dcm", "bad_sequence.dcm", "CT_small.dcm"])
    def test_other_real_files_are_read(self, name: str) -> None:
        radiograph = load_radiograph(sample(name))
        assert radiograph.pixels.std() > 1000

    def test_the_lookup_tables_of_a_test_pattern(self) -> None:
        for name in ("mlut_18.dcm", "vlut_04.dcm"):
            dataset = pydicom.dcmread(sample(name))
            expected = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset)
            radiograph = load_radiograph(sample(name))
            scaled = expected if radiograph.pixels.dtype == np.uint16 else np.rint(expected / 257)
            assert difference(radiograph.pixels, scaled) == 0


DCMTK = shutil.which("dcmj2pnm") and shutil.which("dcmcjpeg") and shutil.which("dcmcrle") and shutil.which("dcmcjpls")


@pytest.mark.skipif(not DCMTK, reason="DCMTK (Debian package dcmtk) is not installed")
class TestAgainstDcmtk:
    @staticmethod
    def displayed(path: Path, tmp_path: Path, *options: str) -> npt.NDArray[np.int64]:
        """What DCMTK would show: 16-bit grey."""
        output = tmp_path / "shown.pgm"
        subprocess.run(["dcmj2pnm", "--write-16-bit-pnm", *options, path, output], check=True, capture_output=True)
        _, size, top, values = output.read_bytes().split(b"\n", 3)
        width, height = map(int, size.split())
        return np.array(values.split(), np.int64).reshape(height, width) * (65535 // int(top))

    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("RG1_UNCR.dcm", ["+Wi", "1"]),
            ("RG3_UNCR.dcm", ["+Wi", "1"]),
            ("693_UNCR.dcm", ["+Wi", "1"]),
            ("MR-SIEMENS-DICOM-WithOverlays.dcm", ["+Wi", "1", "-O"]),
            ("MR_small_bigendian.dcm", ["+Wi", "1"]),
            ("bad_sequence.dcm", ["+Wi", "1"]),
            ("CT_small.dcm", ["+Wm"]),
            ("mlut_18.dcm", ["+Wm"]),
            ("vlut_04.dcm", ["+Wl", "1"]),
        ],
    )
    def test_the_same_picture(self, name: str, options: list[str], tmp_path: Path) -> None:
        pixels = load_radiograph(sample(name)).pixels.astype(np.int64)
        expected = self.displayed(sample(name), tmp_path, *options)
        assert difference(pixels if pixels.max() > 255 else pixels * 257, expected) <= 1

    @pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
    @pytest.mark.parametrize("shape", [None, "IDENTITY", "INVERSE"])
    def test_the_same_polarity(self, photometric: str, shape: str | None, tmp_path: Path) -> None:
        attributes = {"PhotometricInterpretation": photometric, "WindowCenter": 2048, "WindowWidth": 4096}
        if shape:
            attributes["PresentationLUTShape"] = shape
        path = write_dicom(tmp_path / "a.dcm", ramp(12), BitsStored=12, **attributes)
        assert difference(load_radiograph(path).pixels, self.displayed(path, tmp_path, "+Wi", "1")) <= 1

    @pytest.mark.parametrize(
        "command",
        [
            ["dcmcjpeg", "+e1"],  # JPEG lossless, first-order prediction
            ["dcmcjpeg", "+el"],  # JPEG lossless, any predictor
            ["dcmcjpls"],
            ["dcmcrle"],
            ["dcmconv", "+ti"],
            ["dcmconv", "+tb"],
            ["dcmconv", "+td"],
        ],
        ids=" ".join,
    )
    def test_encoded_by_dcmtk_and_read_back(self, command: list[str], chest: Path, tmp_path: Path) -> None:
        encoded = tmp_path / "encoded.dcm"
        subprocess.run([*command, chest, encoded], check=True, capture_output=True)
        assert difference(load_radiograph(encoded).pixels, load_radiograph(chest).pixels) == 0

    @pytest.mark.parametrize(("option", "step"), [("+eb", 257), ("+ee", 16)], ids=["8 bits", "12 bits"])
    def test_lossy_jpeg_decodes_as_in_dcmtk(self, option: str, step: int, chest: Path, tmp_path: Path) -> None:
        encoded, decoded = tmp_path / "encoded.dcm", tmp_path / "decoded.dcm"
        subprocess.run(["dcmcjpeg", option, chest, encoded], check=True, capture_output=True)
        subprocess.run(["dcmdjpeg", encoded, decoded], check=True, capture_output=True)
        ours, theirs, original = (load_radiograph(path).pixels.astype(np.int64) for path in (encoded, decoded, chest))
        if option == "+eb":
            ours, theirs = ours * 257, theirs * 257
        assert difference(ours, theirs) <= 2 * step
        assert np.abs(ours - original).mean() < 400


class TestGreyscale:
    """PS3.3 C.11.1, C.11.2, C.7.6.3, on images made to show one rule each."""

    @pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
    @pytest.mark.parametrize(("centre", "width"), [(1000, 1200), (40, 400), (0, 1), (-20, 9000)])
    @pytest.mark.parametrize("signed", [False, True])
    def test_windows(self, function: str, centre: int, width: int, signed: bool, tmp_path: Path) -> None:
        cells = ramp(12, signed)
        path = write_dicom(
            tmp_path / "a.dcm",
            cells,
            BitsStored=12,
            RescaleSlope="0.5",
            RescaleIntercept="-300",
            WindowCenter=centre,
            WindowWidth=width,
            VOILUTFunction=function,
        )
        values = cells * 0.5 - 300
        if function == "LINEAR" and width > 1:
            shown = np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)
        elif function == "LINEAR":
            shown = np.where(values > centre - 0.5, 1.0, 0.0)
        elif function == "LINEAR_EXACT":
            shown = np.clip((values - centre) / width + 0.5, 0, 1)
        else:
            shown = 0.5 * (1 + np.tanh(2 * (values - centre) / width))
        assert difference(load_radiograph(path).pixels, np.rint(shown * 65535)) <= 1

    def test_the_first_of_several_windows_counts(self, tmp_path: Path) -> None:
        both = write_dicom(tmp_path / "a.dcm", ramp(12), BitsStored=12, WindowCenter=[99, 9], WindowWidth=[50, 5])
        first = write_dicom(tmp_path / "b.dcm", ramp(12), BitsStored=12, WindowCenter=99, WindowWidth=50)
        assert difference(load_radiograph(both).pixels, load_radiograph(first).pixels) == 0

    @pytest.mark.parametrize(("centre", "width"), [(None, None), (100, 0), (100, -5), ("", 5), (100, None)])
    def test_without_a_usable_window_the_data_fill_the_range(self, centre: Any, width: Any, tmp_path: Path) -> None:
        cells = (ramp(12) // 4 + 500).astype(np.uint16)
        path = write_dicom(tmp_path / "a.dcm", cells, BitsStored=12, WindowCenter=centre, WindowWidth=width)
        pixels = load_radiograph(path).pixels
        assert difference(pixels, np.rint((cells - 500.0) / (cells.max() - 500.0) * 65535)) <= 1

    @pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
    def test_padding_is_black_and_does_not_count(self, photometric: str, tmp_path: Path) -> None:
        cells = (ramp(10) + 1000).astype(np.uint16)
        cells[:, :10] = 65535
        path = write_dicom(tmp_path / "a.dcm", cells, PixelPaddingValue=65535, PhotometricInterpretation=photometric)
        pixels = load_radiograph(path).pixels
        assert pixels[:, :10].max() == 0
        assert pixels[:, 10:].min() == 0
        assert pixels[:, 10:].max() == 65535

    def test_a_range_of_padding(self, tmp_path: Path) -> None:
        cells = (ramp(10, signed=True)).astype(np.int16)
        path = write_dicom(tmp_path / "a.dcm", cells, PixelPaddingValue=-512, PixelPaddingRangeLimit=-400)
        pixels = load_radiograph(path).pixels
        assert pixels[cells <= -400].max() == 0
        assert pixels[cells == -399].min() == 0, "the darkest value that counts"
        assert pixels[cells > 300].min() > 50_000

    def test_bits_beyond_those_stored_do_not_count(self, tmp_path: Path) -> None:
        cells = ramp(12)
        dirty = cells | np.uint16(0xA000)
        clean = write_dicom(tmp_path / "a.dcm", cells, BitsStored=12)
        overlaid = write_dicom(tmp_path / "b.dcm", dirty, BitsStored=12)
        shifted = write_dicom(tmp_path / "c.dcm", cells << 4, BitsStored=12, HighBit=15)
        expected = load_radiograph(clean).pixels
        assert difference(load_radiograph(overlaid).pixels, expected) == 0
        assert difference(load_radiograph(shifted).pixels, expected) == 0

    def test_eight_bits_stay_eight(self, tmp_path: Path) -> None:
        radiograph = load_radiograph(write_dicom(tmp_path / "a.dcm", ramp(8)))
        assert radiograph.pixels.dtype == np.uint8
        assert radiograph.bits == 8
        assert difference(radiograph.pixels, ramp(8)) == 0

    def test_a_flat_image_is_black(self, tmp_path: Path) -> None:
        pixels = load_radiograph(write_dicom(tmp_path / "a.dcm", np.full((64, 64), 700, np.uint16))).pixels
        assert pixels.max() == 0


class TestDescription:
    def test_spacing_view_and_side(self, tmp_path: Path) -> None:
        view = Dataset()
        view.CodeValue, view.CodingSchemeDesignator, view.CodeMeaning = "399348003", "SCT", "antero-posterior"
        path = write_dicom(
            tmp_path / "a.dcm",
            ramp(12),
            BitsStored=12,
            PixelSpacing=None,
            ImagerPixelSpacing=["0.15", "0.2"],
            ViewPosition="",
            ViewCodeSequence=Sequence([view]),
            ImageLaterality="U",
            Modality="DX",
            BodyPartExamined="CHEST",
        )
        radiograph = load_radiograph(path)
        assert radiograph.pixel_spacing_mm == (0.15, 0.2)
        assert radiograph.view is View.AP
        assert radiograph.laterality == "U"
        assert radiograph.modality == "DX"
        assert radiograph.body_part == "CHEST"

    @pytest.mark.parametrize(
        ("position", "view"), [("LL", View.LATERAL), ("AP", View.AP), ("LLO", View.UNKNOWN), ("", View.UNKNOWN)]
    )
    def test_views(self, position: str, view: View, tmp_path: Path) -> None:
        path = write_dicom(tmp_path / "a.dcm", ramp(8), ViewPosition=position)
        assert load_radiograph(path).view is view

    def test_a_malformed_spacing_is_no_reason_to_refuse_an_image(self, tmp_path: Path) -> None:
        path = write_dicom(tmp_path / "a.dcm", ramp(8), PixelSpacing=["0.15", "0.15"])
        path.write_bytes(path.read_bytes().replace(b"0.15\\0.15", b"0.1x\\0.15"))
        assert load_radiograph(path).pixel_spacing_mm is None


def write_tiff(path: Path, values: npt.NDArray[Any], photometric: int, order: str = "<", orientation: int = 1) -> Path:
    """A plain grey TIFF 6.0 with one strip."""
    data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    height, width = values.shape
    tags = [
        (256, width), (257, height), (258, 8 * values.dtype.itemsize), (259, 1), (262, photometric), (273, 8),
        (274, orientation), (277, 1), (278, height), (279, len(data)),
    ]  # fmt: skip
    directory = struct.pack(order + "H", len(tags))
    for tag, value in tags:
        directory += struct.pack(order + "HHLL", tag, 4, 1, value)
    start = b"II*\0" if order == "<" else b"MM\0*"
    path.write_bytes(start + struct.pack(order + "L", 8 + len(data)) + data + directory + bytes(4))
    return path


class TestPictures:
    def test_png_of_8_and_of_16_bits(self, tmp_path: Path) -> None:
        for cells, bits in ((ramp(8), 8), (ramp(16), 16)):
            Image.fromarray(cells).save(tmp_path / "a.png")
            radiograph = load_radiograph(tmp_path / "a.png")
            assert difference(radiograph.pixels, cells) == 0
            assert radiograph.pixels.dtype == cells.dtype
            assert (radiograph.bits, radiograph.source_format) == (bits, "png")
            assert radiograph.photometric == "MONOCHROME2"
            assert radiograph.view is View.UNKNOWN

    def test_jpeg(self, tmp_path: Path) -> None:
        Image.fromarray(ramp(8)).save(tmp_path / "a.jpg", quality=98)
        radiograph = load_radiograph(tmp_path / "a.jpg")
        assert difference(radiograph.pixels, ramp(8)) <= 4
        assert radiograph.source_format == "jpeg"

    @pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
    def test_grey_kept_as_colour_is_the_same_grey(self, mode: str, tmp_path: Path) -> None:
        Image.fromarray(ramp(8)).convert(mode).save(tmp_path / "a.png")
        assert difference(load_radiograph(tmp_path / "a.png").pixels, ramp(8)) == 0

    def test_transparent_parts_are_black(self, tmp_path: Path) -> None:
        image = np.dstack([np.full((64, 64, 3), 200, np.uint8), np.full((64, 64), 255, np.uint8)])
        image[:, :32, 3] = 0
        Image.fromarray(image).save(tmp_path / "a.png")
        pixels = load_radiograph(tmp_path / "a.png").pixels
        assert pixels[:, :32].max() == 0
        assert pixels[:, 32:].min() == 200

    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("bits", [8, 16])
    def test_tiff_of_either_byte_order_and_polarity(self, order: str, bits: int, tmp_path: Path) -> None:
        cells = ramp(bits)
        black_is_zero = load_radiograph(write_tiff(tmp_path / "a.tif", cells, 1, order))
        white_is_zero = load_radiograph(write_tiff(tmp_path / "b.tif", cells, 0, order))
        assert difference(black_is_zero.pixels, cells) == 0
        assert difference(white_is_zero.pixels, ((1 << bits) - 1) - cells) == 0
        assert (black_is_zero.photometric, white_is_zero.photometric) == ("MONOCHROME2", "MONOCHROME1")
        assert black_is_zero.source_format == "tiff"

    def test_a_compressed_16_bit_tiff(self, tmp_path: Path) -> None:
        Image.fromarray(ramp(16)).save(tmp_path / "a.tif", compression="tiff_lzw")
        assert difference(load_radiograph(tmp_path / "a.tif").pixels, ramp(16)) == 0

    def test_12_bits_in_a_16_bit_tiff_fill_the_range(self, tmp_path: Path) -> None:
        radiograph = load_radiograph(write_tiff(tmp_path / "a.tif", ramp(12), 1))
        assert radiograph.bits == 12
        assert difference(radiograph.pixels, ramp(12) << 4) == 0

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_exif_orientation(self, orientation: int, tmp_path: Path) -> None:
        upright = np.zeros((96, 64), np.uint8)
        upright[:48, :32] = 250
        stored = {
            1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.T,
            6: np.rot90(upright), 7: upright[::-1, ::-1].T, 8: np.rot90(upright, -1),
        }[orientation]  # fmt: skip
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = np.ascontiguousarray(stored)
        Image.fromarray(stored).save(tmp_path / "a.jpg", exif=exif)
        Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
        write_tiff(tmp_path / "a.tif", stored, 1, orientation=orientation)
        write_tiff(tmp_path / "b.tif", stored.astype(np.uint16) * 257, 1, ">", orientation=orientation)
        for name in ("a.jpg", "a.png", "a.tif", "b.tif"):
            pixels = load_radiograph(tmp_path / name).pixels
            assert pixels.shape == upright.shape, name
            assert np.array_equal(pixels > pixels.max() / 2, upright > 125), name

    def test_a_photograph_of_a_film_is_read_in_colour(self, tmp_path: Path) -> None:
        Image.new("RGB", (80, 70), (255, 0, 0)).save(tmp_path / "a.png")
        radiograph = load_radiograph(tmp_path / "a.png")
        assert radiograph.photometric == "RGB"
        assert radiograph.pixels.shape == (70, 80)
        assert int(radiograph.pixels[0, 0]) == 76


class TestCalling:
    def test_content_decides_not_the_name(self, chest: Path, tmp_path: Path) -> None:
        (tmp_path / "a.jpg").write_bytes(chest.read_bytes())
        Image.fromarray(ramp(8)).save(tmp_path / "b.dcm", "PNG")
        assert load_radiograph(tmp_path / "a.jpg").source_format == "dicom"
        assert load_radiograph(tmp_path / "b.dcm").source_format == "png"

    def test_names_of_any_kind(self, tmp_path: Path) -> None:
        buffer = io.BytesIO()
        Image.fromarray(ramp(8)).save(buffer, "PNG")
        not_utf8 = os.fsencode(tmp_path) + b"/r\xf6ntgen \xff\n.png"
        Path(os.fsdecode(not_utf8)).write_bytes(buffer.getvalue())
        (tmp_path / "흉부.png").write_bytes(buffer.getvalue())
        for path in (not_utf8, os.fsdecode(not_utf8), Path(os.fsdecode(not_utf8)), str(tmp_path / "흉부.png")):
            assert load_radiograph(path).pixels.shape == (64, 64)

    def test_several_threads_get_their_own_pictures(self, tmp_path: Path) -> None:
        for value in range(16):
            Image.new("L", (100 + value, 90), value).save(tmp_path / f"{value}.png")

        def read(value: int) -> tuple[int, int, str]:
            radiograph = load_radiograph(tmp_path / f"{value}.png")
            return radiograph.pixels.shape[1] - 100, int(radiograph.pixels[5, 5]), radiograph.sha256

        with ThreadPoolExecutor(6) as pool:
            results = list(pool.map(read, list(range(16)) * 4))
        for value, result in zip(list(range(16)) * 4, results, strict=True):
            digest = hashlib.sha256((tmp_path / f"{value}.png").read_bytes()).hexdigest()
            assert result == (value, value, digest)

    def test_pixels_can_be_changed_by_their_owner(self, tmp_path: Path) -> None:
        Image.fromarray(ramp(8)).save(tmp_path / "a.png")
        pixels = load_radiograph(tmp_path / "a.png").pixels
        pixels[0, 0] = 77
        assert load_radiograph(tmp_path / "a.png").pixels[0, 0] == 0

    def test_warming_up_is_allowed_at_any_time(self, chest: Path) -> None:
        warm_up()
        warm_up()
        assert load_radiograph(chest).bits == 15

    def test_the_reading_program_stays_small(self) -> None:
        code = "import sys, shared.radiograph; print([m for m in ('pydicom', 'PIL', 'pylibjpeg') if m in sys.modules])"
        root = Path(__file__).parents[3]
        answer = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
        assert answer.stdout.strip() == "[]"

    def test_a_forked_program_reads_with_a_decoder_of_its_own(self, chest: Path) -> None:
        code = (
            "import os, sys; from shared.radiograph import load_radiograph as load\n"
            "load(sys.argv[1]); child = os.fork(); ok = load(sys.argv[1]).bits == 15\n"
            "if not child: os._exit(0 if ok else 1)\n"
            "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) or load(sys.argv[1]).bits != 15)"
        )
        if not hasattr(os, "fork"):
            pytest.skip("this system cannot fork")
        root = Path(__file__).parents[3]
        subprocess.run([sys.executable, "-c", code, chest], cwd=root, timeout=120, check=True)

    def test_every_error_says_what_happened_and_what_to_do(self) -> None:
        for code, (message, action) in ERRORS.items():
            assert code == code.lower().replace(" ", "_")
            assert message.endswith("."), code
            assert action.endswith("."), code


def test_bytes_decode_as_the_file_does(chest: Path) -> None:
    from_file, from_bytes = load_radiograph(chest), decode_radiograph(chest.read_bytes())
    assert (from_file.pixels == from_bytes.pixels).all()
    assert from_file.sha256 == from_bytes.sha256


def test_no_bytes_are_an_empty_file() -> None:
    with pytest.raises(RadiographError) as caught:
        decode_radiograph(b"")
    assert caught.value.code == "file_empty"


def test_what_the_device_wrote_about_the_patient_is_told(chest: Path) -> None:
    assert load_radiograph(chest).labels == DeviceLabels(
        name="CompressedSamples RG1",
        patient_id="9RG1",
        birth_date="19400305",
        sex="F",
        acquired_at="19950926 125130",
    )


def test_a_korean_name_is_told_in_hangul(tmp_path: Path) -> None:
    """Specific Character Set ISO 2022 IR 149 (PS3.5 annex I), the name as its ideographic group."""
    source = pydicom.dcmread(next(iter(get_charset_files("chrKoreanMulti.dcm"))))
    path = write_dicom(
        tmp_path / "korean.dcm",
        ramp(12),
        SpecificCharacterSet=source.SpecificCharacterSet,
        PatientName=source.PatientName,
    )
    assert load_radiograph(path).labels.name == "김희중"


def test_labels_are_one_printable_line_each(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "long.dcm", ramp(12), PatientID="A\nB\x07" + "C" * 300, PatientName="")
    labels = load_radiograph(path).labels
    assert labels.patient_id == ("A B " + "C" * 300)[:120]
    assert labels.name is None


def test_a_picture_carries_no_labels(tmp_path: Path) -> None:
    Image.new("L", (80, 80)).save(tmp_path / "picture.png")
    assert load_radiograph(tmp_path / "picture.png").labels == DeviceLabels()
