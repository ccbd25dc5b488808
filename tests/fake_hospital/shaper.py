"""A bad link as a TCP proxy: bandwidth shared by all connections, latency, outages, connections that die.

Bytes wait for their turn in the order in which they were read, a kilobyte at a time, as in a modem. Opening a
connection costs a round trip, as TCP's handshake does.
"""

import asyncio
import contextlib
import random
import socket
import threading
from collections.abc import Coroutine
from typing import Any, Self

PIECE = 1024


class Shaper:
    """Listens on loopback and forwards to ``port``.

    Args:
        port: of the server behind the link.
        bits_per_second: each way; None does not limit.
        round_trip_s: added latency, half each way.
        breaks: probability that a connection dies after some kilobytes.
    """

    def __init__(
        self, port: int, bits_per_second: float | None = None, round_trip_s: float = 0.0, breaks: float = 0.0
    ) -> None:
        self._to = port
        self.bits_per_second = bits_per_second
        self.round_trip_s = round_trip_s
        self.breaks = breaks
        self.port = 0
        self.bytes_up = 0
        self._free = {"up": 0.0, "down": 0.0}
        self._up = True
        self._random = random.Random(1)
        self._carried: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._refuse())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    @property
    def url(self) -> str:
        """Address of the near end, for plain HTTP."""
        return f"http://127.0.0.1:{self.port}"

    def cut(self, silent: bool = False) -> None:
        """The link is gone: connections break and are refused; with ``silent`` they just never deliver again."""
        self._up = False
        if not silent:
            self._do(self._refuse())

    def restore(self) -> None:
        """The link is back, for new connections."""
        self._do(self._refuse())
        self._up = True
        self._do(self._listen())

    def _do(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(5)

    async def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", self.port))
        self._server = await asyncio.start_server(self._serve, sock=listener, limit=2 * PIECE)
        self.port = listener.getsockname()[1]
        self._free = {"up": 0.0, "down": 0.0}

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        connections = list(self._carried)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._carried.add(task)
        writers = [writer]
        try:
            there, thither = await asyncio.open_connection("127.0.0.1", self._to, limit=2 * PIECE)
            writers.append(thither)
            dies_after = self._random.randint(1, 40) * PIECE if self._random.random() < self.breaks else None
            await asyncio.sleep(self.round_trip_s)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump("up", reader, thither, dies_after))
                both.create_task(self._pump("down", there, writer, dies_after))
        except (OSError, ExceptionGroup, asyncio.CancelledError):
            pass  # the connection has died, as connections do
        finally:
            self._carried.discard(task)
            for one in writers:
                one.transport.abort()

    async def _pump(
        self, way: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, dies_after: int | None
    ) -> None:
        loop = asyncio.get_running_loop()
        delivery: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        deliverer = asyncio.create_task(self._deliver(delivery, writer))
        carried = 0
        try:
            while piece := await reader.read(PIECE):
                if self.bits_per_second:
                    begin = max(loop.time(), self._free[way])
                    self._free[way] = begin + len(piece) * 8 / self.bits_per_second
                    await asyncio.sleep(self._free[way] - loop.time())
                carried += len(piece)
                self.bytes_up += len(piece) if way == "up" else 0
                if dies_after is not None and carried > dies_after:
                    raise ConnectionError
                delivery.put_nowait((loop.time() + self.round_trip_s / 2, piece))
            delivery.put_nowait((loop.time() + self.round_trip_s / 2, b""))
            await deliverer
        finally:
            deliverer.cancel()

    async def _deliver(self, delivery: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while True:
            at, piece = await delivery.get()
            await asyncio.sleep(at - loop.time())
            if not self._up:
                await asyncio.Event().wait()
            if not piece:
                with contextlib.suppress(OSError):
                    writer.write_eof()
                return
            writer.write(piece)
            await writer.drain()
