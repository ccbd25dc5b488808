"""Threads of one kind of work: who gets one, who is turned away, and what has begun."""

import asyncio
import threading

import pytest

from shared.errors import FirstRayError
from sync_server.threads import Lane


def test_what_has_begun_is_waited_for_however_long_it_takes() -> None:
    async def act() -> str:
        lane, over = Lane(1, patience_s=0.1), threading.Event()
        asyncio.get_running_loop().call_later(0.5, over.set)
        return await lane.run(lambda: "done" if over.wait(60) else "in vain")

    assert asyncio.run(act()) == "done"


def test_who_waits_too_long_is_turned_away_and_nothing_was_done() -> None:
    done: list[str] = []

    async def act() -> None:
        lane, began, over = Lane(1, patience_s=0.1), asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def first() -> None:
            loop.call_soon_threadsafe(began.set)
            over.wait(60)

        running = asyncio.create_task(lane.run(first))
        await began.wait()
        with pytest.raises(FirstRayError) as caught:
            await lane.run(done.append, "second")
        assert caught.value.code == "images_busy"
        over.set()
        await running
        await lane.run(done.append, "third")

    asyncio.run(act())
    assert done == ["third"]


def test_an_error_of_what_runs_is_its_own() -> None:
    def fail() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        asyncio.run(Lane(1, patience_s=60).run(fail))


def test_pieces_come_in_their_order_empty_ones_too() -> None:
    async def act() -> list[bytes]:
        return [piece async for piece in Lane(1, patience_s=60).each(iter([b"a", b"", b"b"]))]

    assert asyncio.run(act()) == [b"a", b"", b"b"]
