"""The DICOM receiver with real senders: DCMTK's and Orthanc."""

import concurrent.futures
import hashlib
import http.client
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from edge_app.capture.dicom import DicomReceiver, DicomSettings, Happening, Occasion
from edge_app.capture.intake import Source
from shared.radiograph import load_radiograph
from tests.fake_hospital import until
from tests.unit.edge_app.capture.plain_store import PlainStore

LOOPBACK = DicomSettings(host="127.0.0.1", port=0)
AT_ONCE = 20
PADDING = 0xFFFCFFFC


@pytest.fixture
def store(tmp_path: Path) -> PlainStore:
    return PlainStore(tmp_path / "store")


@pytest.fixture
def receiver(store: PlainStore) -> Iterator[DicomReceiver]:
    with DicomReceiver(store, LOOPBACK) as receiver:
        yield receiver


def dcmtk(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one of DCMTK's programs to its end."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed (Debian package dcmtk)")
    return subprocess.run([found, *arguments], capture_output=True, text=True, timeout=120, check=False)


def send(
    receiver: DicomReceiver, path: Path, *options: str, called: str = "FIRSTRAY"
) -> subprocess.CompletedProcess[str]:
    host, port = receiver.address
    return dcmtk("storescu", "-v", "-aet", "MOBILE_XRAY", "-aec", called, *options, host, str(port), str(path))


def same_pixels(stored: Path, sent: Path) -> bool:
    return np.array_equal(load_radiograph(stored).pixels, load_radiograph(sent).pixels)


def test_echo(receiver: DicomReceiver) -> None:
    host, port = receiver.address
    assert dcmtk("echoscu", "-aec", "FIRSTRAY", host, str(port)).returncode == 0


def test_uncompressed_radiograph_is_stored_as_a_dicom_file(
    receiver: DicomReceiver, store: PlainStore, chest: Path
) -> None:
    sent = send(receiver, chest)
    assert sent.returncode == 0, sent.stderr
    (stored,) = store.files
    assert same_pixels(stored, chest)
    meta, original = pydicom.dcmread(stored), pydicom.dcmread(chest)
    assert list(meta) == [element for element in original if element.tag != PADDING]  # which storescu leaves out
    assert meta.file_meta.MediaStorageSOPClassUID == original.SOPClassUID
    assert meta.file_meta.MediaStorageSOPInstanceUID == original.SOPInstanceUID
    assert meta.file_meta.TransferSyntaxUID == original.file_meta.TransferSyntaxUID
    assert meta.preamble == bytes(128)
    assert b"MOBILE_XRAY" not in stored.read_bytes()
    (arrival,) = store.arrivals
    assert (arrival.source, arrival.station) == (Source.DICOM, "MOBILE_XRAY")
    assert dcmtk("dcmftest", str(stored)).returncode == 0


def test_jpeg2000_radiograph_stays_compressed(receiver: DicomReceiver, store: PlainStore, chest_jpeg2000: Path) -> None:
    sent = send(receiver, chest_jpeg2000, "-xv")
    assert sent.returncode == 0, sent.stderr
    (stored,) = store.files
    assert stored.stat().st_size < 1.01 * chest_jpeg2000.stat().st_size
    assert same_pixels(stored, chest_jpeg2000)


@pytest.mark.parametrize(
    ("program", "options"),
    [
        ("dcmconv", ["+td"]),  # deflated
        ("dcmcjpeg", ["+e1"]),  # JPEG lossless
        ("dcmcjpls", ["+el"]),  # JPEG-LS lossless
        ("dcmcrle", []),
    ],
)
def test_other_transfer_syntaxes_by_dcmsend(
    receiver: DicomReceiver, store: PlainStore, legs: Path, tmp_path: Path, program: str, options: list[str]
) -> None:
    converted = tmp_path / "converted.dcm"
    assert dcmtk(program, *options, str(legs), str(converted)).returncode == 0
    host, port = receiver.address
    sent = dcmtk("dcmsend", "-v", "--decompress-never", "-aec", "FIRSTRAY", host, str(port), str(converted))
    assert sent.returncode == 0, sent.stderr
    (stored,) = store.files
    syntax = pydicom.dcmread(converted, stop_before_pixels=True).file_meta.TransferSyntaxUID
    assert pydicom.dcmread(stored, stop_before_pixels=True).file_meta.TransferSyntaxUID == syntax
    assert same_pixels(stored, legs)


def test_implicit_vr(receiver: DicomReceiver, store: PlainStore, chest: Path) -> None:
    assert send(receiver, chest, "-xi").returncode == 0
    (stored,) = store.files
    assert pydicom.dcmread(stored, stop_before_pixels=True).file_meta.TransferSyntaxUID == "1.2.840.10008.1.2"
    assert same_pixels(stored, chest)


def test_same_object_from_two_devices_gives_the_same_bytes(
    receiver: DicomReceiver, store: PlainStore, chest: Path
) -> None:
    assert send(receiver, chest).returncode == 0
    assert send(receiver, chest, "-aet", "ANOTHER").returncode == 0
    assert [arrival.station for arrival in store.arrivals] == ["MOBILE_XRAY", "ANOTHER"]
    (stored,) = store.files
    assert stored.name == hashlib.sha256(stored.read_bytes()).hexdigest()
    assert receiver.status.received == 2


def test_called_by_another_title(receiver: DicomReceiver, store: PlainStore, chest: Path) -> None:
    sent = send(receiver, chest, called="ANYSCP")
    assert sent.returncode != 0
    assert "Called AE Title Not Recognized" in sent.stdout + sent.stderr
    until(lambda: code_of(receiver) == "dicom_called_ae_title")
    assert store.files == []


def test_device_not_on_the_list(store: PlainStore, chest: Path) -> None:
    settings = DicomSettings(host="127.0.0.1", port=0, calling_ae_titles=frozenset({"MOBILE_XRAY"}))
    with DicomReceiver(store, settings) as receiver:
        sent = send(receiver, chest, "-aet", "STRANGER")
        assert "Calling AE Title Not Recognized" in sent.stdout + sent.stderr
        until(lambda: code_of(receiver) == "dicom_calling_ae_title")
        assert send(receiver, chest).returncode == 0


def test_network_not_allowed(store: PlainStore, chest: Path) -> None:
    settings = DicomSettings(host="127.0.0.1", port=0, peers=(ip_network("192.168.7.0/24"),))
    with DicomReceiver(store, settings) as receiver:
        assert send(receiver, chest).returncode != 0
        until(lambda: code_of(receiver) == "dicom_peer_not_allowed")
    assert store.files == []


def test_computed_tomography_is_not_taken(receiver: DicomReceiver, store: PlainStore) -> None:
    slice_of_ct = get_testdata_file("CT_small.dcm")
    assert isinstance(slice_of_ct, str)
    assert send(receiver, Path(slice_of_ct), "-R").returncode != 0
    until(lambda: code_of(receiver) == "dicom_class_not_supported")
    assert store.files == []


def test_what_happens_is_told(store: PlainStore, chest: Path) -> None:
    told: list[Happening] = []
    with DicomReceiver(store, LOOPBACK, on_event=told.append) as receiver:
        assert receiver.status.listening
        assert send(receiver, chest).returncode == 0
        assert send(receiver, chest, called="ANYSCP").returncode != 0
        until(lambda: len(told) == 3)
        status = receiver.status
    assert [each.occasion for each in told] == [Occasion.ASSOCIATED, Occasion.RECEIVED, Occasion.REFUSED]
    assert [status.last_associated, status.last_received, status.last_refused] == told
    assert (status.received, status.refused) == (1, 1)
    assert all(each.station == "MOBILE_XRAY" for each in told)
    assert not receiver.status.listening


def code_of(receiver: DicomReceiver) -> str | None:
    happening = receiver.status.last_refused
    return happening.error.code if happening and happening.error else None


def test_twenty_associations_at_once(receiver: DicomReceiver, store: PlainStore, chest: Path, legs: Path) -> None:
    """Each sends an object of its own; all are open at the same time, for none is answered before the last is here."""
    store.hold.clear()
    files = [chest, legs] * (AT_ONCE // 2)
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        sending = [pool.submit(send, receiver, path, "+II") for path in files]
        end = time.monotonic() + 90
        while store.open_spools < AT_ONCE and time.monotonic() < end:
            time.sleep(0.02)
        assert store.open_spools == AT_ONCE
        store.hold.set()
        assert [each.result().returncode for each in sending] == [0] * AT_ONCE
    assert receiver.status.received == len(store.files) == AT_ONCE
    assert store.leftovers == []
    assert same_pixels(store.files[0], chest) or same_pixels(store.files[0], legs)


class Orthanc:
    """An Orthanc on loopback that knows the receiver as the modality 'firstray'."""

    def __init__(self, program: str, folder: Path, target: tuple[str, int]) -> None:
        self.port = free_port()
        config = {
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "HttpPort": self.port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomServerEnabled": False,
            "DicomAet": "ORTHANC",
            "DicomModalities": {"firstray": ["FIRSTRAY", *target]},
            "HttpThreadsCount": AT_ONCE,
            "OverwriteInstances": True,
            "Plugins": [],
        }
        (folder / "storage").mkdir()
        (folder / "orthanc.json").write_text(json.dumps(config))
        self.process = subprocess.Popen(
            [program, str(folder / "orthanc.json")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def wait(self) -> None:
        for _ in range(1200):
            assert self.process.poll() is None, "Orthanc ended"
            try:
                if self.request("GET", "/system")[0] == 200:
                    return
            except OSError:
                time.sleep(0.1)
        raise AssertionError("Orthanc does not answer")

    def store(self, instance: str) -> int:
        return self.request("POST", "/modalities/firstray/store", json.dumps([instance]).encode())[0]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def orthanc(receiver: DicomReceiver, tmp_path: Path) -> Iterator[Orthanc]:
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
    if program is None:
        pytest.skip("Orthanc is not installed (Debian package orthanc)")
    orthanc = Orthanc(program, tmp_path, receiver.address)
    try:
        orthanc.wait()
        yield orthanc
    finally:
        orthanc.process.terminate()
        orthanc.process.wait(30)


def test_orthanc_sends_uncompressed_and_jpeg2000(
    orthanc: Orthanc, receiver: DicomReceiver, store: PlainStore, chest: Path, chest_jpeg2000: Path
) -> None:
    for path in (chest, chest_jpeg2000):
        instance = json.loads(orthanc.request("POST", "/instances", path.read_bytes())[1])["ID"]
        assert orthanc.store(instance) == 200
    assert [arrival.station for arrival in store.arrivals] == ["ORTHANC", "ORTHANC"]
    assert len(store.files) == 2
    syntaxes = {pydicom.dcmread(file, stop_before_pixels=True).file_meta.TransferSyntaxUID for file in store.files}
    assert syntaxes == {"1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.90"}
    assert all(same_pixels(file, chest) for file in store.files)


def test_orthanc_is_told_of_a_refusal_and_succeeds_afterwards(
    orthanc: Orthanc, receiver: DicomReceiver, store: PlainStore, chest: Path
) -> None:
    instance = json.loads(orthanc.request("POST", "/instances", chest.read_bytes())[1])["ID"]
    store.refuse = {"spool": "store_locked"}
    assert orthanc.store(instance) != 200
    assert code_of(receiver) == "store_locked"
    store.refuse = {}
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        assert list(pool.map(orthanc.store, [instance] * AT_ONCE)) == [200] * AT_ONCE
    assert receiver.status.received == AT_ONCE
    assert len(store.files) == 1
