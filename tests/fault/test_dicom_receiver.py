"""The DICOM receiver against peers that break off, lie, flood or stand still, and a store that refuses."""

import random
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from edge_app.capture.dicom import DicomReceiver, DicomSettings, ReceiverStatus
from edge_app.capture.dicom._upper_layer import ReceivingAssociation
from shared.errors import FirstRayError
from tests.unit.edge_app.capture.plain_store import PlainStore
from tests.unit.edge_app.capture.raw_peer import (
    ABORT,
    RawPeer,
    associate_rq,
    command,
    data_set,
    p_data,
    pdu,
)

PATIENT = DicomSettings(host="127.0.0.1", port=0, object_bytes=20 << 20)
HASTY = replace(PATIENT, acse_seconds=0.5, idle_seconds=0.6, object_seconds=2.0)
"""Only where time itself is tested: elsewhere a busy machine would pass for a peer that stands still."""
COMPUTED_TOMOGRAPHY = "1.2.840.10008.5.1.4.1.1.2"
T = TypeVar("T")


@pytest.fixture
def store(tmp_path: Path) -> PlainStore:
    return PlainStore(tmp_path / "store")


@pytest.fixture
def receiver(store: PlainStore) -> Iterator[DicomReceiver]:
    with DicomReceiver(store, PATIENT) as receiver:
        yield receiver


@pytest.fixture
def hasty(store: PlainStore) -> Iterator[DicomReceiver]:
    with DicomReceiver(store, HASTY) as receiver:
        yield receiver


def until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for something that must become true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.01)


def still_receives(receiver: DicomReceiver, store: PlainStore) -> None:
    """A sound object is taken and answered, and nothing but it is left."""
    before = receiver.status.received

    def send() -> None:
        with RawPeer(receiver.address) as peer:
            peer.associate().send(command() + p_data(data_set(size=64), 2))
            assert peer.status() == (0, "")

    in_time(receiver, send)
    assert receiver.status.received == before + 1
    until(lambda: store.open_spools == 0)
    assert store.leftovers == []


def in_time(receiver: DicomReceiver, act: Callable[[], T]) -> T:
    """What ``act`` gives; to a receiver in haste a busy machine is slow now and then, and tries again."""
    for _ in range(9 if receiver.settings is HASTY else 0):
        with suppress(AssertionError, ConnectionError):
            return act()
    return act()


def associated(receiver: DicomReceiver) -> RawPeer:
    """A peer with an association."""
    return in_time(receiver, lambda: RawPeer(receiver.address).associate())


def connections(receiver: DicomReceiver) -> int:
    assert receiver._server is not None
    return len(receiver._server.active_associations)


def refusal(status: ReceiverStatus) -> str | None:
    happening = status.last_refused
    return happening.error.code if happening and happening.error else None


def storescu(receiver: DicomReceiver, path: Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("storescu")
    if program is None:
        pytest.skip("DCMTK is not installed (Debian package dcmtk)")
    host, port = receiver.address
    return subprocess.run(
        [program, "-d", "-aec", "FIRSTRAY", host, str(port), str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


PARTS = {
    "connected": b"",
    "half an A-ASSOCIATE-RQ": associate_rq()[:90],
}
"""What arrived before the peer went away without an association."""

CUTS = {
    "associated": b"",
    "after the command": command(),
    "between fragments": command() + p_data(data_set(), 0),
    "within a PDU": command() + p_data(data_set(size=4096), 0)[:2000],
    "within the command": p_data(command()[12:40], 1),
}


@pytest.mark.parametrize("part", PARTS)
def test_peer_that_goes_away_before_it_associates(receiver: DicomReceiver, store: PlainStore, part: str) -> None:
    with RawPeer(receiver.address) as peer:
        peer.send(PARTS[part])
    still_receives(receiver, store)
    assert len(store.files) == 1


def test_connections_that_come_and_go_take_no_place(store: PlainStore) -> None:
    settings = DicomSettings(host="127.0.0.1", port=0, associations=1, acse_seconds=90)  # for an A-ASSOCIATE-RQ
    with DicomReceiver(store, settings) as receiver:
        for _ in range(4):
            peers = [RawPeer(receiver.address) for _ in range(8)]
            for peer in peers:
                peer.socket.close()
            until(lambda: connections(receiver) == 0)
        still_receives(receiver, store)


@pytest.mark.parametrize("cut", CUTS)
def test_connection_cut_in_the_middle_leaves_nothing(receiver: DicomReceiver, store: PlainStore, cut: str) -> None:
    with RawPeer(receiver.address) as peer:
        peer.associate().send(CUTS[cut])
        if CUTS[cut].startswith(command()):
            until(lambda: store.open_spools == 1)
    if CUTS[cut].startswith(command()):
        until(lambda: refusal(receiver.status) == "dicom_cut_off")
    still_receives(receiver, store)
    assert len(store.files) == 1


def test_killed_sender_leaves_nothing(receiver: DicomReceiver, store: PlainStore, chest: Path) -> None:
    with RawPeer(receiver.address) as peer:
        peer.associate().send(command() + p_data(chest.read_bytes()[1024:60_000], 0))
        until(lambda: store.open_spools == 1)
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, not a close
    until(lambda: store.open_spools == 0)
    assert store.files == store.leftovers == []
    still_receives(receiver, store)


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        bytes(1000),
        b"\xff" * 1000,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(512),  # a TLS ClientHello
        pdu(1, b""),
        pdu(1, b"\0\1\0\0" + bytes(64)),
        associate_rq()[:6] + bytes(len(associate_rq()) - 6),
        associate_rq(calling=" "),
        struct.pack(">BBL", 1, 0, 0xFFFFFFFF) + bytes(1000),
    ],
    ids=["http", "zeros", "ones", "tls", "empty", "no items", "zeroed", "no title", "4 GiB"],
)
def test_garbage_on_the_port(hasty: DicomReceiver, store: PlainStore, garbage: bytes) -> None:
    with RawPeer(hasty.address) as peer:
        peer.send(garbage)
        while (answer := peer.read()) is not None:
            assert answer[0] in (3, ABORT)
    still_receives(hasty, store)
    assert hasty.status.received == 1


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (p_data(data_set(), 2), "dicom_protocol"),
        (command() + command(), "dicom_protocol"),
        (command() + p_data(data_set(), 2, context=3), "dicom_protocol"),
        (command(has_data=False), "dicom_protocol"),
        (command(field=0x20), "dicom_protocol"),
        (command(field=0x7777), "dicom_protocol"),
        (command(sop_class=COMPUTED_TOMOGRAPHY), "dicom_protocol"),
        (command(instance="../../../etc/passwd"), "dicom_protocol"),
        (command(instance="1." * 60 + "1"), "dicom_protocol"),
        (p_data(bytes(20_000), 1), "dicom_protocol"),
        (p_data(b"\xff" * 100, 3), "dicom_protocol"),
        (pdu(4, struct.pack(">LB", 1, 1)), "dicom_protocol"),
    ],
    ids=[
        "data without command",
        "command within a message",
        "another context",
        "no data set",
        "C-FIND",
        "unknown command",
        "class of another context",
        "path as UID",
        "long UID",
        "endless command",
        "damaged command",
        "empty fragment",
    ],
)
def test_invalid_message_aborts_the_association(
    receiver: DicomReceiver, store: PlainStore, message: bytes, code: str
) -> None:
    with RawPeer(receiver.address) as peer:
        peer.associate().send(message)
        answer = peer.read()
        assert answer is not None
        assert answer[0] == ABORT
    until(lambda: refusal(receiver.status) == code)
    still_receives(receiver, store)


def test_second_request_before_the_answer_aborts(receiver: DicomReceiver, store: PlainStore) -> None:
    store.hold.clear()
    with RawPeer(receiver.address) as peer:
        peer.associate().send(command() + p_data(data_set(), 2))
        assert store.committing.wait(60)
        peer.send(command())
        answer = peer.read()
        assert answer is not None
        assert answer[0] == ABORT
        store.hold.set()
    until(lambda: receiver.status.received == 1)  # the first one was whole
    assert refusal(receiver.status) == "dicom_protocol"
    still_receives(receiver, store)


def test_half_open_connections_are_closed_and_do_not_block_others(hasty: DicomReceiver, store: PlainStore) -> None:
    peers = [RawPeer(hasty.address) for _ in range(12)]
    still_receives(hasty, store)
    for peer in peers:
        with peer:
            assert peer.read() is None  # closed by the receiver


def test_silent_peer_is_aborted(hasty: DicomReceiver, store: PlainStore) -> None:
    with associated(hasty) as peer:
        peer.send(command() + p_data(data_set(), 0))
        answer = peer.read()
        assert answer is not None
        assert answer[0] == ABORT
    until(lambda: refusal(hasty.status) == "dicom_cut_off")
    still_receives(hasty, store)


def trickle(peer: RawPeer, pieces: Iterator[bytes]) -> bool:
    """Send the pieces slowly; whether the receiver ended it."""
    try:
        for piece in pieces:
            peer.send(piece)
            time.sleep(0.05)
    except ConnectionError:
        return True
    return False


def test_peer_that_trickles_a_pdu_is_cut_off(hasty: DicomReceiver, store: PlainStore) -> None:
    message = p_data(data_set(size=4096), 2)
    with associated(hasty) as peer:
        peer.send(command())
        assert trickle(peer, (message[at : at + 1] for at in range(len(message))))
    still_receives(hasty, store)


def test_peer_that_trickles_an_object_is_aborted(store: PlainStore) -> None:
    with DicomReceiver(store, replace(PATIENT, object_seconds=2.0)) as receiver:
        with RawPeer(receiver.address) as peer:
            peer.associate().send(command())
            assert trickle(peer, (p_data(b"\0\0", 0) for _ in range(400)))
        until(lambda: refusal(receiver.status) == "dicom_too_slow")
        still_receives(receiver, store)


def test_object_too_large_is_aborted_while_it_arrives(receiver: DicomReceiver, store: PlainStore) -> None:
    piece, sent = p_data(bytes(100_000), 0), 0
    with RawPeer(receiver.address) as peer:
        peer.associate().send(command())
        try:
            for _ in range(2000):
                peer.send(piece)
                sent += len(piece)
                if refusal(receiver.status):
                    break
        except ConnectionError:
            pass
    until(lambda: refusal(receiver.status) == "dicom_object_too_large")
    assert sent < 2 * PATIENT.object_bytes
    still_receives(receiver, store)
    assert len(store.files) == 1


@pytest.mark.parametrize("step", ["spool", "write", "commit"])
@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("disk_full", "disk is full"),
        ("store_locked", "locked"),
        ("disk_read_only", "cannot write"),
        ("store_damaged", "damaged"),
        ("disk_failed", "disk failed"),
        ("something_new", "fault in FirstRay"),
        ("bug", "fault in FirstRay"),
    ],
)
def test_store_that_refuses_is_told_to_the_sender(
    receiver: DicomReceiver, store: PlainStore, step: str, code: str, words: str
) -> None:
    store.refuse = {step: code}
    with RawPeer(receiver.address) as peer:
        peer.associate().send(command() + p_data(data_set(), 0) + p_data(bytes(500), 2))
        status, comment = peer.status()
        assert status == 0xA700
        assert words in comment
        assert len(comment) <= 64
        store.refuse = {}
        peer.send(command() + p_data(data_set(), 2))  # on the same association
        assert peer.status() == (0, "")
    assert refusal(receiver.status) == ("dicom_not_stored" if code == "bug" else code)
    assert len(store.files) == 1
    still_receives(receiver, store)


def test_storescu_sees_why_its_image_was_refused(receiver: DicomReceiver, store: PlainStore, chest: Path) -> None:
    store.refuse = {"write": "disk_full"}
    sent = storescu(receiver, chest)
    assert "0xa700" in sent.stdout + sent.stderr
    assert store.files == store.leftovers == []


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (data_set(COMPUTED_TOMOGRAPHY), 0xA900),
        (b"\x00\xff" * 400, 0xC000),
        (bytes(1), 0xC000),
        (b"", 0xC000),
        (struct.pack("<HH", 8, 6) + b"SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff" * 4000, 0xC000),
    ],
    ids=["another class", "noise", "one byte", "nothing", "deep sequences"],
)
def test_data_set_that_is_not_what_was_announced(
    receiver: DicomReceiver, store: PlainStore, content: bytes, status: int
) -> None:
    with RawPeer(receiver.address) as peer:
        peer.associate().send(command() + p_data(content, 2))
        answered, comment = peer.status()
    assert answered == status
    assert comment
    still_receives(receiver, store)
    assert len(store.files) == 1


def test_plain_bytes_are_nowhere_but_in_the_spool(
    receiver: DicomReceiver, store: PlainStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    store.hold.clear()
    with RawPeer(receiver.address) as peer:
        peer.associate().send(command() + p_data(data_set(size=100_000), 2))
        assert store.committing.wait(60)
        assert list(temporary.iterdir()) == []
        store.hold.set()
        assert peer.status() == (0, "")


def test_stop_waits_for_a_running_commit_and_its_answer(store: PlainStore) -> None:
    receiver = DicomReceiver(store, PATIENT)
    receiver.start()
    store.hold.clear()
    with RawPeer(receiver.address) as peer:
        peer.associate().send(command() + p_data(data_set(), 2))
        assert store.committing.wait(60)
        stopping = threading.Thread(target=receiver.stop)
        stopping.start()
        time.sleep(0.3)
        assert stopping.is_alive()
        store.hold.set()
        assert peer.status() == (0, "")
        stopping.join(60)
        assert not stopping.is_alive()
    assert len(store.files) == 1
    assert not receiver.status.listening


def test_stop_throws_away_what_is_arriving_and_can_start_again(store: PlainStore) -> None:
    receiver = DicomReceiver(store, PATIENT)
    receiver.start()
    with RawPeer(receiver.address) as peer:
        peer.associate().send(command() + p_data(data_set(), 0))
        until(lambda: store.open_spools == 1)
        receiver.stop()
    assert store.open_spools == 0
    assert store.files == store.leftovers == []
    with receiver:
        still_receives(receiver, store)


def test_stop_ends_whole_while_a_connection_begins(store: PlainStore, monkeypatch: pytest.MonkeyPatch) -> None:
    beginning, go = threading.Event(), threading.Event()

    def slowly(association: ReceivingAssociation) -> None:
        beginning.set()
        assert go.wait(60)
        threading.Thread._bootstrap_inner(association)  # type: ignore[attr-defined]

    monkeypatch.setattr(ReceivingAssociation, "_bootstrap_inner", slowly, raising=False)
    receiver = DicomReceiver(store, PATIENT)
    receiver.start()
    with RawPeer(receiver.address):
        assert beginning.wait(60)
        threading.Timer(0.3, go.set).start()
        receiver.stop()
    assert receiver.status.problem is not None
    assert receiver.status.problem.code == "dicom_not_listening"
    monkeypatch.undo()
    with receiver:
        still_receives(receiver, store)


def test_one_association_too_many_is_rejected(store: PlainStore) -> None:
    settings = DicomSettings(host="127.0.0.1", port=0, associations=2)
    with DicomReceiver(store, settings) as receiver:
        with RawPeer(receiver.address) as one, RawPeer(receiver.address) as two, RawPeer(receiver.address) as three:
            one.associate()
            two.associate()
            three.send(associate_rq())
            assert three.read() == (3, b"\0\x02\x03\x02")  # transient, presentation, local limit exceeded
        until(lambda: refusal(receiver.status) == "dicom_associations_full")
        until(lambda: connections(receiver) == 0)
        still_receives(receiver, store)


def test_port_in_use_is_said(receiver: DicomReceiver, store: PlainStore) -> None:
    second = DicomReceiver(store, DicomSettings(host="127.0.0.1", port=receiver.address[1]))
    with pytest.raises(FirstRayError) as caught:
        second.start()
    assert caught.value.code == "dicom_port_in_use"
    assert second.status.error is caught.value
    assert not second.status.listening
    second.stop()


def test_address_of_another_machine_is_said(store: PlainStore) -> None:
    with pytest.raises(FirstRayError) as caught:
        DicomReceiver(store, DicomSettings(host="192.0.2.1")).start()
    assert caught.value.code == "dicom_address_unavailable"


def test_listener_that_fails_costs_no_image(store: PlainStore) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("a mistake in a listener")

    with DicomReceiver(store, PATIENT, on_event=fail) as receiver:
        still_receives(receiver, store)


def test_mutated_messages_leave_nothing_and_stop_nothing(receiver: DicomReceiver, store: PlainStore) -> None:
    chance = random.Random(20261127)
    whole = associate_rq() + command() + p_data(data_set(size=200), 0) + p_data(bytes(50), 2)
    for _ in range(120):
        message = bytearray(whole)
        for _ in range(chance.randint(1, 6)):
            message[chance.randrange(len(message))] = chance.randrange(256)
        if chance.random() < 0.3:
            del message[chance.randrange(len(message)) :]
        with RawPeer(receiver.address) as peer:
            peer.send(bytes(message))
    until(lambda: connections(receiver) == 0)
    assert store.open_spools == 0
    assert store.leftovers == []
    still_receives(receiver, store)
