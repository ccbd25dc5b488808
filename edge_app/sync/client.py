"""The sync client: one thread with an event loop, which talks to the hospital whenever it can be reached.

The outbox is asked on a second thread and the credentials on a third, so that the loop waits for neither disk nor
names. Nothing is remembered here that a restart needs.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from edge_app.sync.attendant import Attendant
from edge_app.sync.lane import Bell, Desk
from edge_app.sync.link import Link, LinkKind, LinkState
from edge_app.sync.pace import Pace
from edge_app.sync.ports import Credentials, Outbox, Shelf
from edge_app.sync.settings import Hospital
from edge_app.sync.wire import Wire
from shared.hospital import ReleaseOffer, Revocation

log = logging.getLogger(__name__)

STOP_S: Final = 2.0
CANCELLATIONS: Final = 4

Blocking = Callable[..., Awaitable[Any]]


def _nothing(_: Any) -> None:
    """For who does not listen."""


class SyncClient:
    """Sends what is in the outbox and takes what is in the inbox, until it is stopped.

    Args:
        outbox: of the store.
        hospital: whom to send it to.
        credentials: how the device shows who it is.
        on_state: called with each new :class:`LinkState`, on the sync's thread: it must return quickly.
        on_revoked: called once when the hospital has revoked the device, on a thread of the sync; with ``wipe`` the
            owner must destroy the key. Sending has ended then, and the owner must not begin it again.
        on_release: called with each model release offered, on a thread of the sync, possibly more than once.
        shelf: where releases that are wanted are kept; None fetches none.
    """

    def __init__(
        self,
        outbox: Outbox,
        hospital: Hospital,
        credentials: Credentials,
        *,
        on_state: Callable[[LinkState], None] = _nothing,
        on_revoked: Callable[[Revocation], None] = _nothing,
        on_release: Callable[[ReleaseOffer], None] = _nothing,
        shelf: Shelf | None = None,
    ) -> None:
        self._shelf = shelf
        self._outbox = outbox
        self._hospital = hospital
        self._credentials = credentials
        self._on_revoked = on_revoked
        self._on_release = on_release
        self._link = Link(on_state)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None
        self._bell: Bell | None = None
        self._guard = threading.Lock()

    @property
    def state(self) -> LinkState:
        """How things stand now; from any thread."""
        return self._link.state

    def start(self) -> None:
        """Begin; does nothing where it runs already or the device is revoked."""
        with self._guard:
            if self._thread is not None or self.state.kind is LinkKind.REVOKED:
                return
            self._loop = asyncio.new_event_loop()
            self._bell = Bell()
            self._thread = threading.Thread(target=self._run, args=(self._loop, self._bell), name="sync", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End, within two seconds; what was under way is found again by the next start."""
        with self._guard:
            thread, loop = self._thread, self._loop
            self._thread = None
        if thread is None or loop is None or thread is threading.current_thread():
            return
        for _ in range(CANCELLATIONS):  # what a library swallows in the middle of a request must not hold the app up
            _call(loop, lambda: self._main.cancel() if self._main else None)
            thread.join(STOP_S / CANCELLATIONS)
            if not thread.is_alive():
                return
        log.error("the sync did not stop in time")

    def wake(self) -> None:
        """There may be something to send, or the network has changed; from any thread, as often as one likes."""
        loop, bell = self._loop, self._bell
        if loop is not None and bell is not None:
            _call(loop, bell.ring)

    def _run(self, loop: asyncio.AbstractEventLoop, bell: Bell) -> None:
        # Threads of their own, since look-ups of names can block the loop's for long.
        disk = ThreadPoolExecutor(1, thread_name_prefix="sync-outbox")
        identity = ThreadPoolExecutor(1, thread_name_prefix="sync-credentials")
        try:
            self._main = loop.create_task(self._work(_on(loop, disk), _on(loop, identity), bell))
            loop.run_until_complete(self._main)
        except asyncio.CancelledError:
            log.debug("the sync was stopped")
        finally:
            loop.close()
            disk.shutdown(wait=False)
            identity.shutdown(wait=False)

    async def _work(self, on_disk: Blocking, on_identity: Blocking, bell: Bell) -> None:
        pace = Pace()
        wire = Wire(self._hospital, self._credentials, pace, on_identity)
        keys, shelf = self._hospital.keys(), self._shelf
        desk = Desk(self._outbox, wire, pace, self._link, keys, on_disk, self._on_release, shelf, bell)
        attendant = Attendant(desk, self._hospital.private)
        try:
            await attendant.attend(self._on_revoked)
        finally:
            on_disk(attendant.close)
            await wire.close()


def _on(loop: asyncio.AbstractEventLoop, thread: ThreadPoolExecutor) -> Blocking:
    def run(function: Callable[..., Any], *args: Any) -> Awaitable[Any]:
        return loop.run_in_executor(thread, function, *args)

    return run


def _call(loop: asyncio.AbstractEventLoop, what: Callable[[], object]) -> None:
    try:
        loop.call_soon_threadsafe(what)
    except RuntimeError:
        log.debug("the sync has ended already")
