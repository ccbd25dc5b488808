"""The C-STORE SCP: listens, receives, answers when the radiograph is durable."""

from __future__ import annotations

import errno
import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Final, Self, cast
from uuid import UUID

from pydicom.dataset import Dataset
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.pdu_primitives import A_ASSOCIATE

from edge_app.capture.dicom._upper_layer import PDU_BYTES, ReceivingAssociation, Server, most_connections
from edge_app.capture.dicom.errors import SUCCESS, answer, dicom_error
from edge_app.capture.dicom.incoming import Incoming
from edge_app.capture.dicom.part10 import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION,
    TRANSFER_SYNTAXES,
    Label,
)
from edge_app.capture.dicom.settings import MAX_AE_TITLE, DicomSettings
from edge_app.capture.dicom.status import Bulletin, Happening, ReceiverStatus
from edge_app.capture.intake import Intake
from edge_app.capture.sop_classes import RADIOGRAPH_CLASSES
from shared.errors import FirstRayError

LOG: Final = logging.getLogger(__name__)

VERIFICATION: Final = "1.2.840.10008.1.1"
POLL_SECONDS: Final = 0.1
REJECTIONS: Final = {
    (1, 3): "dicom_calling_ae_title",
    (1, 7): "dicom_called_ae_title",
    (3, 2): "dicom_associations_full",
}
"""(source, diagnostic) of an A-ASSOCIATE-RJ (PS3.8 9.3.4) -> code."""


class DicomReceiver:
    """Receives radiographs by C-STORE (PS3.4 Annex B) and answers C-ECHO (PS3.4 Annex A).

    A C-STORE is answered 0000 only after :meth:`~edge_app.capture.intake.Spool.commit` returned; every failure is
    answered with a status of PS3.4 B.2.3 and an Error Comment. An object that does not arrive whole leaves nothing.

    Also a context manager that starts and stops.

    Args:
        intake: the store.
        settings: where to listen, and to whom.
        on_event: told of each association, radiograph and refusal, on a thread of the receiver; must return soon.
    """

    def __init__(
        self,
        intake: Intake,
        settings: DicomSettings | None = None,
        on_event: Callable[[Happening], None] | None = None,
    ) -> None:
        self.settings = settings or DicomSettings()
        self._intake = intake
        self._bulletin = Bulletin(on_event)
        self._server: Server | None = None
        self._thread: threading.Thread | None = None
        self._stopping = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def status(self) -> ReceiverStatus:
        """What the status screen shows."""
        return self._bulletin.status

    @property
    def address(self) -> tuple[str, int]:
        """Host and port listened on, the port a real one also where the settings say 0.

        Raises:
            RuntimeError: the receiver is not started.
        """
        if self._server is None:
            raise RuntimeError("the DICOM receiver is not started")
        host, port = self._server.server_address[:2]
        return str(host), int(port)

    def start(self) -> None:
        """Listen. Does nothing where it listens already.

        Raises:
            FirstRayError: ``dicom_port_in_use`` or ``dicom_address_unavailable``; :attr:`status` says so too.
        """
        if self._server is not None:
            return
        try:
            self._server = self._listen()
        except (OSError, socket.gaierror) as error:
            taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            refusal = dicom_error("dicom_port_in_use" if taken else "dicom_address_unavailable")
            self._bulletin.listening(False, refusal)
            raise refusal from error
        self._stopping = False
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_SECONDS,), name="DICOM receiver", daemon=True
        )
        self._thread.start()
        self._bulletin.listening(True)

    def stop(self, seconds: float = 30.0) -> None:
        """Stop listening, let running commits end and be answered, then abort what is open.

        Args:
            seconds: how long to wait at most. A commit still running then is finished by the store, not by us.
        """
        if self._server is None or self._thread is None:
            return
        deadline = time.monotonic() + seconds
        self._stopping = True
        self._server.shutdown()
        self._thread.join(max(deadline - time.monotonic(), 0.0))
        while not all(each.is_alive() for each in self._server.active_associations):
            time.sleep(POLL_SECONDS / 10)  # a connection is just beginning; until it has, its thread cannot be joined
        associations = [each for each in self._server.active_associations if isinstance(each, ReceivingAssociation)]
        while any(each.streaming.is_answering for each in associations if each.is_alive()):
            if time.monotonic() > deadline:
                LOG.warning("an image is still being stored while the DICOM receiver stops")
                break
            time.sleep(POLL_SECONDS / 10)
        for association in associations:
            association.abort(block=False)
        for association in filter(Association.is_alive, associations):
            association.join(max(min(deadline - time.monotonic(), self.settings.acse_seconds), 0.1))
        self._server = self._thread = None
        self._bulletin.listening(False)

    def _listen(self) -> Server:
        settings = self.settings
        ae = AE(settings.ae_title)
        ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        ae.implementation_version_name = IMPLEMENTATION_VERSION
        ae.maximum_pdu_size = PDU_BYTES
        ae.maximum_associations = most_connections(settings)  # ours are counted by admit()
        ae.require_called_aet = True
        ae.require_calling_aet = sorted(settings.calling_ae_titles)
        ae.acse_timeout = settings.acse_seconds
        ae.dimse_timeout = ae.network_timeout = settings.idle_seconds
        contexts = [build_context(uid, list(TRANSFER_SYNTAXES)) for uid in RADIOGRAPH_CLASSES]
        server = ae.make_server(
            (settings.host, settings.port),
            ae_title=settings.ae_title,
            contexts=[*contexts, build_context(VERIFICATION)],
            evt_handlers=[
                (evt.EVT_REQUESTED, self._requested),
                (evt.EVT_ESTABLISHED, self._established),
                (evt.EVT_REJECTED, self._rejected),
                (evt.EVT_C_STORE, self._store),
            ],
            server_class=Server,
            settings=settings,
            begin=self._begin,
            refuse=self._refuse,
        )
        ae._servers.append(server)  # its shutdown() takes it out again
        return cast(Server, server)

    def _requested(self, event: Event) -> None:
        association = event.assoc
        if cast(ReceivingAssociation, association).server.admit(association):
            return
        association.acse.send_reject(0x02, 0x03, 0x02)  # transient, presentation: local limit exceeded (PS3.8 9.3.4)
        self._bulletin.refused(station_of(association), dicom_error("dicom_associations_full"))
        association.kill()

    def _established(self, event: Event) -> None:
        station = station_of(event.assoc)
        if event.assoc.accepted_contexts:
            self._bulletin.associated(station)
        else:
            self._bulletin.refused(station, dicom_error("dicom_class_not_supported"))

    def _rejected(self, event: Event) -> None:
        rejection = cast(A_ASSOCIATE, event.assoc.acceptor.primitive)
        code = REJECTIONS.get((rejection.result_source or 0, rejection.diagnostic or 0), "dicom_protocol")
        self._bulletin.refused(station_of(event.assoc), dicom_error(code))

    def _begin(self, association: Association, label: Label) -> Incoming:
        return Incoming(self._intake, label, station_of(association), self.settings)

    def _refuse(self, association: Association | None, error: FirstRayError) -> None:
        self._bulletin.refused(station_of(association) if association else None, error)

    def _store(self, event: Event) -> Dataset:
        """Answer a C-STORE-RQ whose data set is here; runs on the association's thread."""
        streaming = cast(ReceivingAssociation, event.assoc).streaming
        incoming, streaming.incoming = streaming.incoming, None
        status = Dataset()
        if incoming is None:  # thrown away meanwhile, and told: the association is being aborted
            status.Status, status.ErrorComment = answer(dicom_error("dicom_cut_off"))
            return status
        try:
            radiograph = self._commit(incoming)
        except FirstRayError as error:
            self._bulletin.refused(station_of(event.assoc), error)
            status.Status, status.ErrorComment = answer(error)
        else:
            self._bulletin.received(station_of(event.assoc), radiograph)
            status.Status = SUCCESS
        return status

    def _commit(self, incoming: Incoming) -> UUID:
        if self._stopping:
            incoming.discard()
            raise dicom_error("dicom_stopping")
        return incoming.commit()


def station_of(association: Association) -> str | None:
    """The calling AE title, as far as it is printable; None before the A-ASSOCIATE-RQ."""
    request = association.requestor.primitive
    title = "".join(filter(str.isprintable, (request and request.calling_ae_title) or "")).strip()
    return title[:MAX_AE_TITLE] or None
