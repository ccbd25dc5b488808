"""The DICOM receiver's parts by themselves: settings, file start, errors, limits of an object."""

import io
import subprocess
import sys
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import UID

from edge_app.capture.dicom.errors import ANSWERS, ERRORS, answer, as_error, dicom_error
from edge_app.capture.dicom.incoming import Incoming
from edge_app.capture.dicom.part10 import HEAD_BYTES, TRANSFER_SYNTAXES, Label, check_head, file_start
from edge_app.capture.dicom.settings import DicomSettings
from edge_app.capture.intake import Arrival, Source
from edge_app.capture.sop_classes import RADIOGRAPH_CLASSES, sop_class
from shared._dicom import is_decodable
from shared.errors import FirstRayError
from tests.unit.edge_app.capture.plain_store import PlainStore
from tests.unit.edge_app.capture.raw_peer import CR, EXPLICIT, data_set

LABEL = Label(CR, "1.2.3.4.5", EXPLICIT)


def code_of(caught: pytest.ExceptionInfo[FirstRayError]) -> str:
    return caught.value.code


@pytest.mark.parametrize("syntax", TRANSFER_SYNTAXES)
def test_what_is_taken_can_be_decoded(syntax: str) -> None:
    assert UID(syntax).is_transfer_syntax
    assert is_decodable(UID(syntax))


@pytest.mark.parametrize("uid", RADIOGRAPH_CLASSES)
def test_classes_are_image_storage(uid: str) -> None:
    assert UID(uid).name.endswith(("Image Storage", "For Presentation", "For Processing"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": -1},
        {"port": 65536},
        {"ae_title": ""},
        {"ae_title": "SEVENTEEN_LETTERS"},
        {"ae_title": "A\\B"},
        {"ae_title": " A"},
        {"ae_title": "구급차"},
        {"calling_ae_titles": frozenset({"GOOD", "\n"})},
        {"associations": 0},
        {"object_bytes": 0},
        {"idle_seconds": 0.0},
    ],
    ids=str,
)
def test_settings_that_cannot_be(wrong: dict[str, object]) -> None:
    with pytest.raises(FirstRayError) as caught:
        DicomSettings(**wrong)  # type: ignore[arg-type]
    assert code_of(caught) == "dicom_settings_invalid"


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("127.0.0.1", True),
        ("10.20.30.40", True),
        ("172.31.0.1", True),
        ("172.32.0.1", False),
        ("192.168.1.5", True),
        ("169.254.7.7", True),
        ("8.8.8.8", False),
        ("::1", True),
        ("fe80::1%eth0", True),
        ("2001:db8::1", False),
        ("::ffff:192.168.1.5", True),
        ("::ffff:8.8.8.8", False),
    ],
)
def test_private_networks_may_connect_unless_told_otherwise(address: str, allowed: bool) -> None:
    assert DicomSettings().allows(address) is allowed


def test_only_the_networks_named_may_connect() -> None:
    settings = DicomSettings(peers=(ip_network("192.168.7.5"),))
    assert settings.allows("192.168.7.5")
    assert not settings.allows("192.168.7.6")


@pytest.mark.parametrize("uid", [CR, CR + "1"])
def test_file_start_is_a_part_10_header(uid: str) -> None:
    start = file_start(Label(uid, "1.2.3.4.5", EXPLICIT))
    file = pydicom.dcmread(io.BytesIO(start + data_set(uid)))
    assert file.preamble == bytes(128)
    assert file.file_meta.FileMetaInformationGroupLength == len(start) - 144
    assert file.file_meta.FileMetaInformationVersion == b"\x00\x01"
    assert file.file_meta.MediaStorageSOPClassUID == uid
    assert file.file_meta.MediaStorageSOPInstanceUID == "1.2.3.4.5"
    assert file.file_meta.TransferSyntaxUID == EXPLICIT
    assert UID(file.file_meta.ImplementationClassUID).is_valid
    assert "SourceApplicationEntityTitle" not in file.file_meta
    assert file.SOPClassUID == uid
    assert sop_class(start) == uid


@pytest.mark.parametrize("uid", ["", "1.2.3/4", "1" * 65, "../1", "1.2\n", "None"])
def test_label_takes_uids_only(uid: str) -> None:
    with pytest.raises(FirstRayError) as caught:
        Label(CR, uid, EXPLICIT)
    assert code_of(caught) == "dicom_protocol"


def test_head_of_another_class() -> None:
    check_head(data_set(), LABEL)
    with pytest.raises(FirstRayError) as caught:
        check_head(data_set(RADIOGRAPH_CLASSES[1]), LABEL)
    assert code_of(caught) == "dicom_class_mismatch"


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99"])
def test_head_in_another_transfer_syntax(syntax: str) -> None:
    with pytest.raises(FirstRayError) as caught:
        check_head(b"\xff" + data_set(), Label(CR, "1.2", syntax))
    assert code_of(caught) == "dicom_not_understood"


def test_every_answer_fits_its_field_and_every_error_says_what_to_do() -> None:
    for status, comment in ANSWERS.values():
        assert status in (0xA700, 0xA900, 0xC000)
        assert comment.isascii()
        assert 0 < len(comment) <= 64
    for code, (message, action) in ERRORS.items():
        assert code.startswith("dicom_")
        assert message.endswith(".")
        assert action.endswith(".")
    assert answer(FirstRayError("unheard_of", "x")) == ANSWERS["dicom_not_stored"]
    locked = FirstRayError("store_locked", "x")
    assert as_error(locked) is locked
    assert as_error(ValueError("patient's name")).code == "dicom_not_stored"
    assert dicom_error("dicom_cut_off").action


def test_arrival_is_checked() -> None:
    with pytest.raises(ValueError, match="AE title"):
        Arrival(Source.DICOM, "x" * 17, datetime.now(UTC))
    with pytest.raises(ValueError, match="UTC"):
        Arrival(Source.DICOM, None, datetime.now())


def test_incoming_counts_the_file_start_too(tmp_path: Path) -> None:
    store = PlainStore(tmp_path / "store")
    start = len(file_start(LABEL))
    incoming = Incoming(store, LABEL, None, DicomSettings(object_bytes=start + 10))
    incoming.write(bytes(10))
    with pytest.raises(FirstRayError) as caught:
        incoming.write(b"1")
    assert code_of(caught) == "dicom_object_too_large"
    incoming.discard()
    incoming.discard()
    assert store.files == store.leftovers == []


def test_incoming_keeps_only_the_head_in_memory(tmp_path: Path) -> None:
    store = PlainStore(tmp_path / "store")
    incoming = Incoming(store, LABEL, "XRAY", DicomSettings())
    whole = data_set(size=300_000)
    for at in range(0, len(whole), 1000):
        incoming.write(whole[at : at + 1000])
    assert len(incoming._head) == HEAD_BYTES
    incoming.commit()
    assert store.files[0].read_bytes() == file_start(LABEL) + whole
    with pytest.raises(FirstRayError) as caught:
        incoming.commit()
    assert code_of(caught) == "dicom_cut_off"


def test_what_a_peer_sent_is_not_told_to_the_log() -> None:
    """A name where the character set should be: pydicom would write it to standard error."""
    code = (
        "from edge_app.capture.dicom.part10 import Label, check_head\n"
        "from edge_app.capture.sop_classes import RADIOGRAPH_CLASSES\n"
        "uid = RADIOGRAPH_CLASSES[0]\n"
        "head = b'\\x08\\0\\x05\\0CS\\x0a\\0SECRET^KIM'\n"
        "head += b'\\x08\\0\\x16\\0UI' + len(uid + 'x').to_bytes(2, 'little') + uid.encode() + b'\\0'\n"
        "check_head(head, Label(uid, '1.2', '1.2.840.10008.1.2.1'))\n"
        "print('checked')"
    )
    told = subprocess.run([sys.executable, "-W", "default", "-c", code], check=True, capture_output=True, text=True)
    assert (told.stdout, told.stderr) == ("checked\n", "")
