"""What ambulance and hospital say to each other over HTTP, as both sides' types.

``POST /v1/events``
    :class:`EventBatch` (JSON, ``Content-Encoding: gzip`` allowed) -> :class:`BatchAnswer`. Idempotent.
``POST, HEAD, PATCH, DELETE /v1/images``
    tus 1.0 uploads. Metadata: :class:`ImageMetadata`, each value base64 as tus has it. Finished only if the bytes have
    the SHA-256 announced. An image comes after the record of its radiograph (503 ``radiograph_unknown`` before).
``GET /v1/images/{sha256}/receipt``
    :class:`shared.receipts.Receipt` once the image is held, 404 before; what is held need not be uploaded again.
``GET /v1/inbox?after=N&wait=SECONDS``
    :class:`Inbox`: items with ids above N, answered at once if there are any, else after at most ``wait`` seconds.
    Ids are never given twice, not even after the hospital lost its data.
``GET /healthz``
    A JSON object, without credentials: the device's probe.
``GET, POST /v1/enrolment``, ``POST /v1/token``
    How a device is taken on and gets tokens: :mod:`shared.enrolment`.

Every error is a problem document (RFC 9457, ``application/problem+json``): :class:`ProblemDocument`. A revoked device
is answered 401 or 403 with the code ``device_revoked`` and, if its records are to be destroyed, ``wipe: true``; bytes
of an image that have another SHA-256 than announced are answered 460 with the code ``sha256_mismatch``.

An event whose stamp lies more than ``shared.hybrid_clock.MAX_AHEAD_MS`` ahead of the hospital's clock is refused with
the code :data:`CLOCK_AHEAD`. It has its place but no effect; once its clock is right, the device says everything again
in a new chain, with new stamps.

The device sends the last event it has a receipt for once more now and then: ``expected`` tells whether the hospital
has lost something since.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from shared.diagnosis import Diagnosis
from shared.events import Event, Position
from shared.receipts import Receipt
from shared.records import Line, Moment, Prose, Sha256

MOST_EVENTS: Final = 500
"""Events in one batch, at most."""
MAX_EVENT_BYTES: Final = 64 * 1024
"""Size of one event as JSON, at most."""
CLOCK_AHEAD: Final = "clock_ahead"
"""Code of a refused event: its stamp lies too far in the future (:meth:`shared.hybrid_clock.HybridClock.observe`)."""
MOST_ID: Final = 2**53 - 1
"""Greatest id of an inbox item: exact in JSON (RFC 8259, 6) and in every database."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EventBatch(_Frozen):
    """Consecutive events of one chain, lowest number first."""

    events: Annotated[tuple[Event, ...], Field(min_length=1, max_length=MOST_EVENTS)]


class OutcomeStatus(StrEnum):
    """What became of one event of a batch."""

    STORED = "stored"
    """It is held; a receipt comes with it. The same answer for an event held before."""
    REFUSED = "refused"
    """It has its place in the chain but no effect (not allowed, invalid): sending it again changes nothing."""
    NOT_TAKEN = "not_taken"
    """The chain breaks before it or at it: see ``expected`` of the answer, and send from there."""


class Outcome(_Frozen):
    """What became of one event.

    Attributes:
        number: of the event.
        status: see :class:`OutcomeStatus`.
        receipt: where it is stored.
        code, message: why it was refused or not taken (``gap``, ``fork``, ``altered``, ``not_allowed``, ...).
    """

    number: int
    status: OutcomeStatus
    receipt: Receipt | None = None
    code: Line | None = None
    message: Prose | None = None


class BatchAnswer(_Frozen):
    """One outcome an event, in the order sent, and where the chain now ends at the hospital."""

    outcomes: tuple[Outcome, ...]
    expected: Position


class ImageKind(StrEnum):
    """Which bytes of a radiograph."""

    PREVIEW = "preview"
    """A small JPEG with the boxes drawn, below :data:`PREVIEW_BYTES`."""
    ORIGINAL = "original"
    """The file as it arrived."""


PREVIEW_BYTES: Final = 60_000


class ImageMetadata(_Frozen):
    """What an upload is."""

    radiograph: UUID
    kind: ImageKind
    sha256: Sha256


class ProblemDocument(BaseModel):
    """RFC 9457; ``code`` is stable and machine-readable."""

    model_config = ConfigDict(frozen=True)

    type: str = "about:blank"
    title: str = ""
    status: int
    detail: str = ""
    code: str = "unknown"


class Acknowledgement(_Frozen):
    """Someone in the ER has looked at the run."""

    kind: Literal["acknowledgement"] = "acknowledgement"
    encounter: UUID
    by: Line
    at: Moment


class Presence(StrEnum):
    """What a physician says of a finding."""

    PRESENT = "present"
    ABSENT = "absent"
    UNSURE = "unsure"


class ConfirmedReading(_Frozen):
    """A physician's reading: finding key -> presence, and free text."""

    kind: Literal["confirmed_reading"] = "confirmed_reading"
    encounter: UUID
    radiograph: UUID
    findings: dict[str, Presence]
    text: Prose = ""
    by: Line
    at: Moment


class ServerDiagnosis(_Frozen):
    """The full-precision models' reading of a radiograph, where it differs significantly from the device's."""

    kind: Literal["server_diagnosis"] = "server_diagnosis"
    encounter: UUID | None
    radiograph: UUID
    result: Diagnosis
    at: Moment


class ErMessage(_Frozen):
    """A message from the ER to the crew."""

    kind: Literal["message"] = "message"
    encounter: UUID
    text: Prose
    by: Line
    at: Moment


class Revocation(_Frozen):
    """The device is no longer trusted; ``wipe`` asks it to destroy its key."""

    kind: Literal["revocation"] = "revocation"
    wipe: bool = False


class ReleaseOffer(_Frozen):
    """A model release to install: a ZIP at ``/v1/releases/{release}``, its signature checked on the device."""

    kind: Literal["release"] = "release"
    release: Line
    sha256: Sha256
    size: Annotated[int, Field(ge=1)]


Content = Annotated[
    Acknowledgement | ConfirmedReading | ServerDiagnosis | ErMessage | Revocation | ReleaseOffer,
    Field(discriminator="kind"),
]


class InboxItem(_Frozen):
    """One thing for the device; ids grow, gaps are allowed."""

    id: Annotated[int, Field(ge=1, le=MOST_ID)]
    content: Content


class Inbox(_Frozen):
    """Items in order of their ids; ``after`` is what to ask for next."""

    items: tuple[InboxItem, ...]
    after: Annotated[int, Field(ge=0, le=MOST_ID)]
