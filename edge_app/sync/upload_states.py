"""An upload as a state machine (tus 1.0, https://tus.io/protocols/resumable-upload).

Each state but the last three is one request to be made; what it brings is the event. What survives a pulled plug is
only the upload's address and offset in the outbox: every upload starts from WAITING again and finds its way.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class UploadState(StrEnum):
    """Where an upload stands."""

    WAITING = "waiting"
    """Nothing was asked since the link came up."""
    ASKING = "asking"
    """GET its receipt: the hospital may hold the image already."""
    CREATING = "creating"
    """POST: get an address for it."""
    LOCATING = "locating"
    """HEAD: find out how much of it has arrived."""
    SENDING = "sending"
    """PATCH: send the next chunk."""
    VERIFYING = "verifying"
    """GET its receipt: all bytes were taken."""
    HELD = "held"
    """The receipt is verified and stored."""
    BACKING_OFF = "backing_off"
    """A try failed; WAITING again after a while."""
    REFUSED = "refused"
    """The hospital will not take it."""


class UploadEvent(StrEnum):
    """What happens to an upload."""

    FRESH = "fresh"
    """Its turn: never tried, small."""
    DOUBTFUL = "doubtful"
    """Its turn: tried or held before, or so large that asking is cheap."""
    BEGUN = "begun"
    """Its turn: it has an address."""
    RECEIPT = "receipt"
    """The hospital's receipt."""
    ABSENT = "absent"
    """The hospital has no receipt for it."""
    CREATED = "created"
    """It has an address."""
    MOVED = "moved"
    """The hospital has so many bytes, and wants more."""
    COMPLETE = "complete"
    """The hospital has all bytes."""
    ELSEWHERE = "elsewhere"
    """The offset is another one (409), a chunk was damaged (460) or broken off."""
    GONE = "gone"
    """Its address has expired (404, 410)."""
    DAMAGED = "damaged"
    """The bytes that arrived do not have the SHA-256 announced."""
    FAILED = "failed"
    """The hospital cannot now, or its answer is not to be trusted."""
    DENIED = "denied"
    """The hospital will not (4xx)."""
    RETRY = "retry"
    """The rest is over."""


class UploadAction(StrEnum):
    """What the outbox is told."""

    NOTHING = "nothing"
    SAVE = "save"
    """Address and offset."""
    RESTART = "restart"
    """From the beginning."""
    FAIL = "fail"
    """One more failed try."""
    RESTART_FAILED = "restart_failed"
    """From the beginning, after one more failed try."""
    KEEP = "keep"
    """The receipt."""
    REFUSE = "refuse"
    """It is refused."""


UploadCell = tuple[UploadState, UploadAction]

_ENDS: Final[dict[UploadEvent, UploadCell]] = {
    UploadEvent.FAILED: (UploadState.BACKING_OFF, UploadAction.FAIL),
    UploadEvent.DENIED: (UploadState.REFUSED, UploadAction.REFUSE),
}
_ROWS: Final[dict[UploadState, dict[UploadEvent, UploadCell]]] = {
    UploadState.WAITING: {
        UploadEvent.FRESH: (UploadState.CREATING, UploadAction.NOTHING),
        UploadEvent.DOUBTFUL: (UploadState.ASKING, UploadAction.NOTHING),
        UploadEvent.BEGUN: (UploadState.LOCATING, UploadAction.NOTHING),
    },
    UploadState.ASKING: {
        UploadEvent.RECEIPT: (UploadState.HELD, UploadAction.KEEP),
        UploadEvent.ABSENT: (UploadState.CREATING, UploadAction.NOTHING),
        **_ENDS,
    },
    UploadState.CREATING: {
        UploadEvent.CREATED: (UploadState.SENDING, UploadAction.SAVE),
        **_ENDS,
    },
    UploadState.LOCATING: {
        UploadEvent.MOVED: (UploadState.SENDING, UploadAction.SAVE),
        UploadEvent.COMPLETE: (UploadState.VERIFYING, UploadAction.SAVE),
        UploadEvent.GONE: (UploadState.ASKING, UploadAction.RESTART),
        **_ENDS,
    },
    UploadState.SENDING: {
        UploadEvent.MOVED: (UploadState.SENDING, UploadAction.SAVE),
        UploadEvent.COMPLETE: (UploadState.VERIFYING, UploadAction.SAVE),
        UploadEvent.ELSEWHERE: (UploadState.LOCATING, UploadAction.NOTHING),
        UploadEvent.GONE: (UploadState.ASKING, UploadAction.RESTART),
        UploadEvent.DAMAGED: (UploadState.BACKING_OFF, UploadAction.RESTART_FAILED),
        **_ENDS,
    },
    UploadState.VERIFYING: {
        UploadEvent.RECEIPT: (UploadState.HELD, UploadAction.KEEP),
        UploadEvent.ABSENT: (UploadState.BACKING_OFF, UploadAction.FAIL),
        UploadEvent.DAMAGED: (UploadState.BACKING_OFF, UploadAction.RESTART_FAILED),
        **_ENDS,
    },
    UploadState.HELD: {},
    UploadState.BACKING_OFF: {UploadEvent.RETRY: (UploadState.WAITING, UploadAction.NOTHING)},
    UploadState.REFUSED: {},
}
UPLOADS: Final[dict[tuple[UploadState, UploadEvent], UploadCell]] = {
    (state, event): cell for state, row in _ROWS.items() for event, cell in row.items()
}
"""(state, event) -> (state, what the outbox is told); a pair that is not here must not happen."""
