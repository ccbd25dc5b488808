"""Puts DIMSE messages together, and hands a C-STORE's data set on as it arrives.

pynetdicom's own provider would collect it in memory or in a plain temporary file.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_CANCEL_RQ, C_ECHO_RQ, C_STORE_RQ, DIMSEMessage
from pynetdicom.dimse_primitives import DimsePrimitiveType
from pynetdicom.pdu_primitives import P_DATA

from edge_app.capture.dicom.errors import dicom_error
from edge_app.capture.dicom.incoming import Incoming
from edge_app.capture.dicom.part10 import Label
from shared.errors import FirstRayError

LOG: Final = logging.getLogger(__name__)

COMMAND_BYTES: Final = 16_384
"""Longest command set: C-STORE-RQ and C-ECHO-RQ have fewer than a dozen short elements (PS3.7 9.3)."""
COMMAND: Final = 1
LAST: Final = 2
"""Bits of the message control header (PS3.8 E.2)."""


class StreamingProvider(DIMSEServiceProvider):
    """Puts DIMSE messages together (PS3.7 6.3, PS3.8 Annex E), a C-STORE's data set fragment by fragment.

    Args:
        assoc: the association.
        begin: makes the :class:`Incoming` for a C-STORE-RQ.
        refuse: is told why the association is aborted.
    """

    def __init__(
        self,
        assoc: Association,
        begin: Callable[[Association, Label], Incoming],
        refuse: Callable[[Association, FirstRayError], None],
    ) -> None:
        super().__init__(assoc)
        self._begin = begin
        self._refuse = refuse
        self._command = bytearray()
        self._request: DIMSEMessage | None = None  # the C-STORE-RQ whose data set arrives
        self._answering = False
        self._over = False
        self._unanswered = 0
        self._counting = threading.Lock()
        self.incoming: Incoming | None = None

    @property
    def is_answering(self) -> bool:
        """Whether a request is complete and its answer not yet on its way."""
        return self._unanswered > 0

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take the fragments of one P-DATA-TF PDU; aborts the association when they are not valid."""
        try:
            for context_id, fragment in primitive.presentation_data_value_list:
                if not self._over:
                    self._fragment(context_id, fragment)
        except FirstRayError as error:
            self._abort(error)
        except Exception as error:  # noqa: BLE001  what pydicom raises on a damaged command set is not a closed list
            LOG.info("message not valid: %s", type(error).__name__)
            self._abort(dicom_error("dicom_protocol"))

    def _fragment(self, context_id: int, fragment: bytes) -> None:
        control, body = fragment[0], fragment[1:]
        if self._answering:  # the peer must wait for the answer, for no other window was agreed (PS3.7 D.3.3.3)
            if control & COMMAND and self._is_cancel(context_id, fragment):
                return
            raise dicom_error("dicom_protocol")
        if control & COMMAND:
            self._command += body
            if self._request is not None or len(self._command) > COMMAND_BYTES:
                raise dicom_error("dicom_protocol")
            if control & LAST:
                self._message(context_id, bytes(self._command))
                self._command.clear()
        else:
            if self._request is None or self.incoming is None or context_id != self._request.context_id:
                raise dicom_error("dicom_protocol")
            self.incoming.write(body)
            if control & LAST:
                self._pass_on(self._request)
                self._request = None

    def _message(self, context_id: int, command: bytes) -> None:
        message = self._decode(context_id, command)
        if isinstance(message, C_STORE_RQ):
            context = self.assoc._accepted_cx[context_id]
            if message.command_set.CommandDataSetType == 0x0101:  # no data set (PS3.7 9.3.1.1)
                raise dicom_error("dicom_protocol")
            label = Label(
                str(message.command_set.AffectedSOPClassUID),
                str(message.command_set.AffectedSOPInstanceUID),
                str(context.transfer_syntax[0]),
            )
            if label.sop_class != context.abstract_syntax:
                raise dicom_error("dicom_protocol")
            self.incoming = self._begin(self.assoc, label)
            self._request = message
        elif isinstance(message, C_ECHO_RQ):
            self._pass_on(message)
        elif not isinstance(message, C_CANCEL_RQ):
            raise dicom_error("dicom_protocol")

    def _decode(self, context_id: int, command: bytes) -> DIMSEMessage:
        whole = P_DATA()
        whole.presentation_data_value_list.append((context_id, bytes([COMMAND | LAST]) + command))
        message = DIMSEMessage()
        message.decode_msg(whole, self.assoc)
        return message

    def _is_cancel(self, context_id: int, fragment: bytes) -> bool:
        return bool(fragment[0] & LAST) and isinstance(self._decode(context_id, fragment[1:]), C_CANCEL_RQ)

    def _pass_on(self, message: DIMSEMessage) -> None:
        """Queue a request for the association's thread, which answers it."""
        self._answering = True
        with self._counting:
            self._unanswered += 1
        self.msg_queue.put((message.context_id, message.message_to_primitive()))  # type: ignore[arg-type]

    def send_msg(self, primitive: DimsePrimitiveType, context_id: int) -> None:
        """Answer a request; the peer may send the next one, even before this returns."""
        self._answering = False
        super().send_msg(primitive, context_id)
        with self._counting:
            self._unanswered -= 1

    def _abort(self, error: FirstRayError) -> None:
        self._over = True
        if self.incoming is not None:
            self.incoming.discard()
            self.incoming = None
        self._refuse(self.assoc, error)
        self.dul.event_queue.put("Evt19")  # invalid PDU: A-ABORT (PS3.8 9.2.3)

    def close(self) -> None:
        """Throw away an object that did not arrive whole."""
        self._over = True
        incoming, self.incoming = self.incoming, None
        if incoming is not None:
            incoming.discard()
            self._refuse(self.assoc, dicom_error("dicom_cut_off"))
