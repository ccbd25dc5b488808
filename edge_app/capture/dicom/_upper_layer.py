"""What is different here from pynetdicom's own transport. With `_messages`, all that touches its inner parts.

- A PDU has a longest length and a deadline (:class:`PatientSocket`); pynetdicom would read up to 4 GiB, for ever.
- Connections are checked before a thread is spent on them (:class:`Server`).
"""

from __future__ import annotations

import logging
import select
import socket
import threading
import time
from collections.abc import Callable
from copy import deepcopy
from typing import Any, Final

from pynetdicom import _config
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from edge_app.capture.dicom._messages import StreamingProvider
from edge_app.capture.dicom.errors import dicom_error
from edge_app.capture.dicom.incoming import Incoming
from edge_app.capture.dicom.part10 import Label
from edge_app.capture.dicom.settings import DicomSettings
from shared.errors import FirstRayError

LOG: Final = logging.getLogger(__name__)

PDU_BYTES: Final = 131_072
"""Longest P-DATA-TF PDU the receiver asks for (PS3.8 D.1), DCMTK's own most."""
MOST_PDU_BYTES: Final = 1 << 20
"""Longest PDU of any kind that is read: room for an A-ASSOCIATE-RQ with 128 contexts of 30 transfer syntaxes."""
QUIET_SECONDS: Final = 1.0
"""A connection silent for this long is looked at every :data:`QUIET_POLL_SECONDS`, else a thousand times a second."""
QUIET_POLL_SECONDS: Final = 0.02

_config.LOG_HANDLER_LEVEL = "none"  # pynetdicom's own log lines carry what the peer sent
logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)


class PatientSocket(AssociationSocket):
    """A connection on which a PDU may be only so long, and take only so long."""

    seconds: float = 30.0
    _last_heard = 0.0

    @property
    def ready(self) -> bool:
        """Whether there is something to read; waits a moment for it where the peer has been silent."""
        if self.socket is None or not self._is_connected:
            return False
        quiet = time.monotonic() - self._last_heard > QUIET_SECONDS
        try:
            readable, _, _ = select.select([self.socket], [], [], QUIET_POLL_SECONDS if quiet else 0)
        except (OSError, ValueError):
            self.event_queue.put("Evt17")  # transport connection closed
            return False
        return bool(readable)

    def recv(self, nr_bytes: int) -> bytearray:
        """Read this many bytes, fewer where the peer closed the connection.

        Raises:
            OSError: the PDU is too long or too slow (TimeoutError), or the connection failed.
        """
        if self.socket is None or nr_bytes > MOST_PDU_BYTES:
            raise ConnectionAbortedError("PDU too long")
        buffer = bytearray(nr_bytes)
        filled, deadline = 0, time.monotonic() + self.seconds
        with memoryview(buffer) as view:
            while filled < nr_bytes:
                self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
                count = self.socket.recv_into(view[filled:])
                if not count:
                    break
                filled += count
        self._last_heard = time.monotonic()
        del buffer[filled:]
        return buffer

    def send(self, bytestream: bytes) -> None:
        """Write all of it, or have the connection counted as closed."""
        if self.socket is not None:
            self.socket.settimeout(self.seconds)
        super().send(bytestream)


class CarefulLayer(DULServiceProvider):
    """The upper layer's thread; ends quietly when a PDU makes pynetdicom fail, and never keeps the program alive."""

    def __init__(self, assoc: Association) -> None:
        super().__init__(assoc)
        self.daemon = True

    def run_reactor(self) -> None:
        """Serve the connection until it ends."""
        try:
            super().run_reactor()
        except Exception as error:  # noqa: BLE001  what pynetdicom raises on hostile PDUs is not a closed list
            LOG.warning("connection closed: %s while handling a PDU", type(error).__name__)
        finally:
            if self.assoc.requestor.primitive is None:  # the association's thread would wait on for an A-ASSOCIATE-RQ
                waiting: Any = self.to_user_queue  # pynetdicom ends the wait on None, which its types leave out
                waiting.put(None)


class ReceivingAssociation(Association):
    """An association as acceptor, with the parts above."""

    def __init__(self, server: Server, connection: socket.socket) -> None:
        super().__init__(server.ae, MODE_ACCEPTOR)
        self._server = self.server = server
        self.name = "AcceptorThread of the DICOM receiver"  # pynetdicom counts associations by this name
        self.dul = CarefulLayer(self)
        self.dimse = self.streaming = StreamingProvider(self, server.begin, server.refuse)
        self.acse_timeout = server.ae.acse_timeout  # once more, for these set the timers of the upper layer
        self.network_timeout = server.ae.network_timeout
        wire = PatientSocket(self, client_socket=connection)
        wire.seconds = server.settings.idle_seconds
        self.set_socket(wire)

    def run_reactor(self) -> None:
        """Serve the peer until the association ends, however it ends."""
        try:
            super().run_reactor()
        finally:
            self.streaming.close()


class Handler(RequestHandler):
    """Makes a :class:`ReceivingAssociation` of a connection (the parent class makes pynetdicom's own)."""

    server: Server

    def _create_association(self) -> Association:
        server = self.server
        assoc = ReceivingAssociation(server, self.request)
        assoc.acceptor.maximum_length = server.ae.maximum_pdu_size
        assoc.acceptor.ae_title = server.ae_title
        assoc.acceptor.address_info = self.local
        assoc.acceptor.implementation_class_uid = server.ae.implementation_class_uid
        assoc.acceptor.implementation_version_name = server.ae.implementation_version_name
        assoc.acceptor.supported_contexts = deepcopy(server.contexts)
        assoc.requestor.address_info = self.remote
        for event, handler in server.handlers:
            assoc.bind(event, handler)
        return assoc


def most_connections(settings: DicomSettings) -> int:
    """Connections at once: some are silent, and some wait to be rejected."""
    return 2 * settings.associations + 8


class Server(ThreadedAssociationServer):
    """Listens, and lets in whom the settings allow.

    Args:
        ae, address, ae_title, contexts, ssl_context: as for pynetdicom's own server.
        evt_handlers: pairs of event and handler for every association.
        settings: who may connect, and how many.
        begin, refuse: see :class:`StreamingProvider`.

    Raises:
        OSError: the address can't be listened on.
    """

    request_queue_size = 64
    daemon_threads = True

    def __init__(
        self,
        *arguments: Any,
        evt_handlers: list[Any],
        settings: DicomSettings,
        begin: Callable[[Association, Label], Incoming],
        refuse: Callable[[Association | None, FirstRayError], None],
        **options: Any,
    ) -> None:
        self.handlers = evt_handlers
        self.settings = settings
        self.begin = begin
        self.refuse = refuse
        self._admitted: set[Association] = set()
        self._admitting = threading.Lock()
        super().__init__(*arguments, **options, request_handler=Handler)  # type: ignore[misc]

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether to take a connection: the peer is allowed, and there is room for it to be refused politely."""
        if not self.settings.allows(client_address[0]):
            self.refuse(None, dicom_error("dicom_peer_not_allowed"))
            return False
        if len(self.active_associations) >= most_connections(self.settings):
            self.refuse(None, dicom_error("dicom_associations_full"))
            return False
        return True

    def admit(self, association: Association) -> bool:
        """Count an association that was asked for, unless there are too many; connections without one don't count."""
        with self._admitting:
            self._admitted = {each for each in self._admitted if each.is_alive()}
            if len(self._admitted) >= self.settings.associations:
                return False
            self._admitted.add(association)
            return True

    def service_actions(self) -> None:
        """Nothing: pynetdicom would stop all threads for a full garbage collection here, and the screen with them."""
