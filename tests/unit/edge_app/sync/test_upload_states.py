"""The upload's state table, cell by cell."""

import itertools

import pytest

from edge_app.sync.upload_states import UPLOADS, UploadAction, UploadEvent, UploadState

S, E, A = UploadState, UploadEvent, UploadAction

EXPECTED = {
    (S.WAITING, E.FRESH): (S.CREATING, A.NOTHING),
    (S.WAITING, E.DOUBTFUL): (S.ASKING, A.NOTHING),
    (S.WAITING, E.BEGUN): (S.LOCATING, A.NOTHING),
    (S.ASKING, E.RECEIPT): (S.HELD, A.KEEP),
    (S.ASKING, E.ABSENT): (S.CREATING, A.NOTHING),
    (S.ASKING, E.FAILED): (S.BACKING_OFF, A.FAIL),
    (S.ASKING, E.DENIED): (S.REFUSED, A.REFUSE),
    (S.CREATING, E.CREATED): (S.SENDING, A.SAVE),
    (S.CREATING, E.FAILED): (S.BACKING_OFF, A.FAIL),
    (S.CREATING, E.DENIED): (S.REFUSED, A.REFUSE),
    (S.LOCATING, E.MOVED): (S.SENDING, A.SAVE),
    (S.LOCATING, E.COMPLETE): (S.VERIFYING, A.SAVE),
    (S.LOCATING, E.GONE): (S.ASKING, A.RESTART),
    (S.LOCATING, E.FAILED): (S.BACKING_OFF, A.FAIL),
    (S.LOCATING, E.DENIED): (S.REFUSED, A.REFUSE),
    (S.SENDING, E.MOVED): (S.SENDING, A.SAVE),
    (S.SENDING, E.COMPLETE): (S.VERIFYING, A.SAVE),
    (S.SENDING, E.ELSEWHERE): (S.LOCATING, A.NOTHING),
    (S.SENDING, E.GONE): (S.ASKING, A.RESTART),
    (S.SENDING, E.DAMAGED): (S.BACKING_OFF, A.RESTART_FAILED),
    (S.SENDING, E.FAILED): (S.BACKING_OFF, A.FAIL),
    (S.SENDING, E.DENIED): (S.REFUSED, A.REFUSE),
    (S.VERIFYING, E.RECEIPT): (S.HELD, A.KEEP),
    (S.VERIFYING, E.ABSENT): (S.BACKING_OFF, A.FAIL),
    (S.VERIFYING, E.DAMAGED): (S.BACKING_OFF, A.RESTART_FAILED),
    (S.VERIFYING, E.FAILED): (S.BACKING_OFF, A.FAIL),
    (S.VERIFYING, E.DENIED): (S.REFUSED, A.REFUSE),
    (S.BACKING_OFF, E.RETRY): (S.WAITING, A.NOTHING),
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(S, E)))
def test_every_cell(state: UploadState, event: UploadEvent) -> None:
    assert UPLOADS.get((state, event)) == EXPECTED.get((state, event))


def test_nothing_is_held_without_a_receipt() -> None:
    ways = {(event, action) for (_, event), (after, action) in UPLOADS.items() if after is S.HELD}
    assert ways == {(E.RECEIPT, A.KEEP)}


@pytest.mark.parametrize("state", [state for state in S if state not in (S.HELD, S.REFUSED)])
def test_from_everywhere_an_image_can_still_be_held(state: UploadState) -> None:
    reached, new = {state}, {state}
    while new:
        new = {after for (before, _), (after, _) in UPLOADS.items() if before in new} - reached
        reached |= new
    assert S.HELD in reached
