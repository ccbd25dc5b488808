"""A DICOM sender made by hand (PS3.8 9.3, PS3.7 9.3), for what no real one would send."""

from __future__ import annotations

import socket
import struct
from typing import Self

CR = "1.2.840.10008.5.1.4.1.1.1"
EXPLICIT = "1.2.840.10008.1.2.1"
ABORT = 7


class RawPeer:
    """One connection; read() returns (PDU type, rest), or None when the receiver closed it."""

    def __init__(self, address: tuple[str, int], seconds: float = 60.0) -> None:
        self.socket = socket.create_connection(address, seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def associate(self) -> Self:
        self.socket.sendall(associate_rq())
        answer = self.read()
        assert answer is not None
        assert answer[0] == 2
        return self

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self) -> tuple[int, bytes] | None:
        try:
            head = self.exactly(6)
            return head[0], self.exactly(struct.unpack(">L", head[2:])[0])
        except (EOFError, ConnectionError):
            return None

    def exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def status(self) -> tuple[int, str]:
        """Status and Error Comment of the next response."""
        answer = self.read()
        assert answer is not None
        assert answer[0] == 4
        elements = dict(command_elements(answer[1][6:]))
        return struct.unpack("<H", elements[0x0900])[0], elements.get(0x0902, b"").decode().strip()


def item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(body)) + body


def associate_rq(called: str = "FIRSTRAY", calling: str = "XRAY") -> bytes:
    context = b"\x01\0\0\0" + item(0x30, CR.encode()) + item(0x40, EXPLICIT.encode())
    user = item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.3.4")
    body = b"\0\1\0\0" + called.ljust(16).encode() + calling.ljust(16).encode() + bytes(32)
    body += item(0x10, b"1.2.840.10008.3.1.1.1") + item(0x20, context) + item(0x50, user)
    return pdu(1, body)


def pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBL", kind, 0, len(body)) + body


def p_data(fragment: bytes, control: int, context: int = 1) -> bytes:
    """A P-DATA-TF with one fragment. Control: 1 command, 2 last (PS3.8 E.2)."""
    return pdu(4, struct.pack(">LBB", len(fragment) + 2, context, control) + fragment)


def command(field: int = 1, sop_class: str = CR, instance: str = "1.2.3.4.5", has_data: bool = True) -> bytes:
    """A command set, C-STORE-RQ unless told otherwise, as one P-DATA-TF."""
    elements = b"".join(
        (
            element(0x0002, padded(sop_class)),
            element(0x0100, struct.pack("<H", field)),
            element(0x0110, struct.pack("<H", 7)),
            element(0x0700, struct.pack("<H", 0)),
            element(0x0800, struct.pack("<H", 1 if has_data else 0x0101)),
            element(0x1000, padded(instance)),
        )
    )
    return p_data(element(0x0000, struct.pack("<L", len(elements))) + elements, 3)


def padded(text: str) -> bytes:
    return text.encode() + b"\0" * (len(text) % 2)


def element(number: int, value: bytes) -> bytes:
    return struct.pack("<HHL", 0, number, len(value)) + value


def command_elements(data: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 0
    while at < len(data):
        _, number, length = struct.unpack_from("<HHL", data, at)
        found.append((number, data[at + 8 : at + 8 + length]))
        at += 8 + length
    return found


def data_set(sop_class: str = CR, size: int = 0) -> bytes:
    """The start of a data set in explicit VR little endian, with pixel data of ``size`` zero bytes."""
    start = b"".join(
        struct.pack("<HH", 8, number) + b"UI" + struct.pack("<H", len(padded(uid))) + padded(uid)
        for number, uid in ((0x0016, sop_class), (0x0018, "1.2.3.4.5"))
    )
    return start + struct.pack("<HH", 0x7FE0, 0x10) + b"OW\0\0" + struct.pack("<L", size) + bytes(size)
