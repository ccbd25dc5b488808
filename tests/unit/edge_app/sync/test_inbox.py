"""Reading the inbox, also one of a later version."""

import json
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from edge_app.sync.inbox_lane import understood
from edge_app.sync.problems import Failed
from shared.hospital import ErMessage, Inbox, InboxItem


def message(number: int) -> InboxItem:
    content = ErMessage(encounter=uuid4(), text="Door 3", by="ER", at=datetime.now(UTC))
    return InboxItem(id=number, content=content)


def test_an_item_of_a_kind_not_known_does_not_hold_up_the_others(caplog: pytest.LogCaptureFixture) -> None:
    inbox = json.loads(Inbox(items=(message(1), message(3)), after=3).model_dump_json())
    inbox["items"].insert(1, {"id": 2, "content": {"kind": "hologram", "patient": "Kim Secret"}})
    found = understood(json.dumps(inbox).encode())
    assert [item.id for item in found.items] == [1, 3]
    assert found.after == 3
    assert "left out" in caplog.text
    assert "Secret" not in caplog.text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"items": []}',
        b'{"items": [], "after": -1}',
        b'{"items": [], "after": 9007199254740992}',
        b'{"items": 3, "after": 0}',
    ],
)
def test_what_is_not_an_inbox_is_refused(body: bytes) -> None:
    with pytest.raises(Failed):
        understood(body)
