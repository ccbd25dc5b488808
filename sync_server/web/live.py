"""What open pages hear without being loaded again: server-sent events (WHATWG HTML, 9.2).

The board is drawn once a change and language and the same text goes to every board that is open. Whoever connects
again gets all of it first, so that nothing is missed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Final
from uuid import UUID

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import StreamingResponse

from shared.overlay import Language
from sync_server.domain import accounts
from sync_server.domain.changes import BOARD, run_of
from sync_server.hospital import Hospital
from sync_server.web.pages import HEADERS

QUIET_S: Final = 10.0
"""A stream says something at least this often, so that a browser notices a dead connection."""
CHECK_S: Final = 60.0
"""How often a stream looks whether its log-in still holds."""
REST_S: Final = 0.1
"""Between two drawings of the board, so that a burst of changes is drawn a few times only."""
RETRY: Final = b"retry: 1000\n\n"
"""A browser connects again one second after its connection was cut."""
STILL_HERE: Final = b": still here\n\n"
_log = logging.getLogger(__name__)


def sse(event: str, data: str = "") -> bytes:
    """One event as it is sent."""
    lines = "".join(f"data: {line}\n" for line in data.split("\n"))
    return f"event: {event}\n{lines}\n".encode()


class BoardFeed:
    """Draws the board for all who watch it. For one event loop.

    Args:
        hospital: whose.
        draw: gives the board in a language; called in a thread.
    """

    def __init__(self, hospital: Hospital, draw: Callable[[Language], str]) -> None:
        self._hospital = hospital
        self._draw = draw
        self._watchers: Counter[Language] = Counter()
        self._drawn: dict[Language, bytes] = {}
        self._version = 0
        self._news = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    @property
    def watchers(self) -> int:
        """Boards that are open."""
        return self._watchers.total()

    @property
    def _failed(self) -> bool:
        """The board could not be drawn: streams end, so that boards show that they are cut off, and come again."""
        return self._task is None or self._task.done()

    async def watch(self, language: Language) -> AsyncGenerator[bytes | None, None]:
        """The event of the board now and whenever it changes; None where nothing changed for :data:`QUIET_S`."""
        self._watchers[language] += 1
        if self._failed:
            self._task = asyncio.create_task(self._follow())
            self._task.add_done_callback(_log_failure)
        try:
            seen = self._version
            shown = await self._event(language)
            yield shown
            while not self._hospital.changes.closed and not self._failed:
                if await self._newer(seen):
                    seen = self._version
                    now = self._drawn.get(language)
                    if now is not None and now != shown:
                        shown = now
                        yield shown
                else:
                    yield None
        finally:
            self._watchers[language] -= 1
            if not self.watchers and self._task is not None:
                self._task.cancel()
                self._task = None

    async def _event(self, language: Language) -> bytes:
        return sse("board", await run_in_threadpool(self._draw, language))

    async def _newer(self, than: int) -> bool:
        try:
            async with asyncio.timeout(QUIET_S), self._news:
                await self._news.wait_for(lambda: self._version > than)
        except TimeoutError:
            return False
        return True

    async def _follow(self) -> None:
        changes = self._hospital.changes
        with changes.subscribe(BOARD) as heard:
            while not changes.closed:
                await heard.wait(CHECK_S)
                begun = time.monotonic()
                for language in [language for language, count in self._watchers.items() if count]:
                    self._drawn[language] = await self._event(language)
                async with self._news:
                    self._version += 1
                    self._news.notify_all()
                await asyncio.sleep(max(0.0, REST_S - (time.monotonic() - begun)))
        async with self._news:
            self._version += 1
            self._news.notify_all()


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("the board could not be drawn: %s", type(error).__name__, exc_info=error)


async def board_events(hospital: Hospital, feed: BoardFeed, language: Language, token: str) -> AsyncIterator[bytes]:
    """What a board hears: ``board`` with its text, ``ended`` once the log-in has ended."""
    yield RETRY
    checked = time.monotonic()
    async with contextlib.aclosing(feed.watch(language)) as boards:
        async for event in boards:
            yield event or STILL_HERE
            if time.monotonic() - checked >= CHECK_S:
                checked = time.monotonic()
                if await run_in_threadpool(accounts.person, hospital.database, token) is None:
                    yield sse("ended")
                    return


def run_events(hospital: Hospital, encounter: UUID, token: str) -> AsyncIterator[bytes]:
    """What a run's page hears: ``changed``, and ``ended`` once the log-in has ended."""
    return _page_events(hospital, run_of(encounter), token)


def film_events(hospital: Hospital, version: Callable[[], object], token: str) -> AsyncIterator[bytes]:
    """What the page of a radiograph without run hears: as a run's, whenever ``version`` gives something else.

    Such a radiograph has no topic of its own: what changes of it, the board hears.
    """
    return _page_events(hospital, BOARD, token, version)


async def _page_events(
    hospital: Hospital, topic: str, token: str, version: Callable[[], object] | None = None
) -> AsyncIterator[bytes]:
    yield RETRY
    checked = time.monotonic()
    with hospital.changes.subscribe(topic) as heard:
        seen = await run_in_threadpool(version) if version else None
        yield sse("changed")
        while not hospital.changes.closed:
            news = bool(await heard.wait(QUIET_S))
            if news and version:
                now = await run_in_threadpool(version)
                news, seen = now != seen, now
            yield sse("changed") if news else STILL_HERE
            if version:
                await asyncio.sleep(REST_S)
            if time.monotonic() - checked >= CHECK_S:
                checked = time.monotonic()
                if await run_in_threadpool(accounts.person, hospital.database, token) is None:
                    yield sse("ended")
                    return


def stream(events: AsyncIterator[bytes]) -> StreamingResponse:
    """Events as an answer that proxies neither keep nor hold back."""
    headers = {**HEADERS, "X-Accel-Buffering": "no"}
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)


def feed_of(request: Request, draw: Callable[[Language], str]) -> BoardFeed:
    """The application's one feed, made when the first board is opened."""
    state = request.app.state
    if not hasattr(state, "board_feed"):
        state.board_feed = BoardFeed(state.hospital, draw)
    feed: BoardFeed = state.board_feed
    return feed
