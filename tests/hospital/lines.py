"""A TCP line to a PostgreSQL on this machine whose connections can go dead without a word."""

import ctypes
import socket
import struct
import threading
from contextlib import suppress
from typing import Self

from sqlalchemy import make_url

_SO_ATTACH_FILTER = 26
_NOTHING = struct.pack("HBBI", 0x06, 0, 0, 0)
"""Of what comes to a socket, this filter (classic BPF, Linux) lets nothing through: not even TCP's own packets."""


class Line:
    """Listens on loopback and forwards to the UNIX socket of a database's URL.

    Attributes:
        url: of the same database, through the line.
    """

    def __init__(self, database: str) -> None:
        direct = make_url(database)
        self._server = f"{direct.query['host']}/.s.PGSQL.5432"
        self._listener = socket.create_server(("127.0.0.1", 0))
        through = direct.set(host="127.0.0.1", port=self._listener.getsockname()[1], query={})
        self.url = through.render_as_string(hide_password=False)
        self._ends: list[socket.socket] = []
        self._stalled: set[socket.socket] = set()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for end in (self._listener, *self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def stall(self) -> None:
        """Present connections deliver nothing any more; as with a proxy that hangs, their bytes are acknowledged."""
        self._stalled.update(self._ends)

    def vanish(self) -> None:
        """Present connections don't even acknowledge, as if the other machine had lost its power."""
        self.stall()
        program = ctypes.create_string_buffer(_NOTHING)
        for end in self._ends:
            if end.family == socket.AF_INET:
                end.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(program)))

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                near, _ = self._listener.accept()
                far = socket.socket(socket.AF_UNIX)
                self._ends += [near, far]
                far.connect(self._server)
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._forward, args=ends, daemon=True).start()

    def _forward(self, here: socket.socket, there: socket.socket) -> None:
        with suppress(OSError):  # closed
            while piece := here.recv(65536):
                if here not in self._stalled:
                    there.sendall(piece)
            if here not in self._stalled:
                there.shutdown(socket.SHUT_WR)
