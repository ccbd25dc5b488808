"""The sync client and a hospital that speaks the contract, over real sockets."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from edge_app.sync import LinkKind
from edge_app.sync.inbox_lane import InboxLane
from edge_app.sync.ports import Renewal
from shared.hospital import Acknowledgement, ErMessage, ImageKind, ReleaseOffer
from tests.fake_hospital import Authority, FakeHospital, How, MemoryOutbox, Shaper, syncing, until


@pytest.fixture
def hospital() -> Iterator[FakeHospital]:
    with FakeHospital() as running:
        yield running


@pytest.fixture
def outbox() -> MemoryOutbox:
    return MemoryOutbox()


def message(text: str = "Door 3") -> ErMessage:
    return ErMessage(encounter=uuid4(), text=text, by="ER", at=datetime.now(UTC))


def test_everything_arrives_once_over_tls_and_every_receipt_is_kept(outbox: MemoryOutbox) -> None:
    authority = Authority()
    outbox.put(1200)
    original, preview = outbox.add_image(os.urandom(3 << 20)), outbox.add_image(os.urandom(50_000), ImageKind.PREVIEW)
    with (
        FakeHospital(authority.issue(), token="t") as hospital,
        syncing(outbox, hospital, ca_pem=authority.pem) as rig,
    ):
        until(lambda: not outbox.waiting())
        assert hospital.held.sound()
        assert [event.hash for event in hospital.held.events] == [event.hash for event in outbox.events]
        assert len(hospital.held.deliveries) == len(outbox.events)
        assert hospital.held.images == {name: outbox.images[name].body for name in (original, preview)}
        assert hospital.held.metadata[preview].kind is ImageKind.PREVIEW
        assert rig.client.state.kind is LinkKind.ONLINE
        assert rig.client.state.last_error is None
        assert abs(rig.client.state.clock_ahead_s or 9) < 2
        assert rig.kinds() == [LinkKind.CONNECTING, LinkKind.ONLINE]


def test_previews_go_before_originals_and_urgent_ones_first(hospital: FakeHospital, outbox: MemoryOutbox) -> None:
    plain = outbox.add_image(b"original" * 1000)
    urgent = outbox.add_image(b"urgent" * 1000, urgent=True)
    preview = outbox.add_image(b"preview" * 1000, ImageKind.PREVIEW)
    with syncing(outbox, hospital):
        until(lambda: not outbox.waiting())
    assert list(hospital.held.images) == [preview, urgent, plain]


def test_an_event_does_not_wait_behind_an_original(hospital: FakeHospital, outbox: MemoryOutbox) -> None:
    sha256 = outbox.add_image(os.urandom(60_000))
    with Shaper(hospital.port, bits_per_second=100_000) as link, syncing(outbox, hospital, url=link.url):
        until(lambda: outbox.images[sha256].upload.offset > 0)
        (event,) = outbox.put(1)
        until(lambda: (event.chain, event.number) in outbox.receipts)
        assert outbox.images[sha256].upload.offset < 60_000
        until(lambda: not outbox.waiting())


def test_a_preview_overtakes_an_original_under_way(hospital: FakeHospital, outbox: MemoryOutbox) -> None:
    original = outbox.add_image(os.urandom(60_000))
    with Shaper(hospital.port, bits_per_second=100_000) as link, syncing(outbox, hospital, url=link.url):
        until(lambda: outbox.images[original].upload.offset > 0)
        preview = outbox.add_image(b"p" * 5000, ImageKind.PREVIEW)
        until(lambda: preview in hospital.held.images)
        assert original not in hospital.held.images


def test_what_the_hospital_holds_already_is_not_sent_again(hospital: FakeHospital, outbox: MemoryOutbox) -> None:
    body = os.urandom(200_000)
    sha256 = outbox.add_image(body)
    hospital.held.devices[outbox.chain] = outbox.device
    hospital.held.images[sha256] = body
    with syncing(outbox, hospital):
        until(lambda: not outbox.waiting())
    assert not [seen for seen in hospital.requests if seen.what.startswith(("POST /v1/images", "PATCH"))]


def test_a_server_without_checksums_is_fine(outbox: MemoryOutbox) -> None:
    outbox.add_image(os.urandom(100_000))
    with FakeHospital(checksums=False) as hospital, syncing(outbox, hospital):
        until(lambda: not outbox.waiting())
        assert hospital.held.sound()


def test_what_the_hospital_says_comes_at_once_and_in_order(hospital: FakeHospital, outbox: MemoryOutbox) -> None:
    hospital.push(message("before"))
    with syncing(outbox, hospital):
        until(lambda: len(outbox.items) == 1)
        seen = Acknowledgement(encounter=uuid4(), by="Dr Lee", at=datetime.now(UTC))
        hospital.push(seen, message("after"))
        until(lambda: len(outbox.items) == 3)
    assert [item.id for item in outbox.items] == [1, 2, 3]
    assert outbox.items[1].content == seen
    with syncing(outbox, hospital):
        hospital.push(message("later"))
        until(lambda: len(outbox.items) == 4)
    assert outbox.inbox_position() == 4


def test_a_release_is_offered_to_the_owner(hospital: FakeHospital, outbox: MemoryOutbox) -> None:
    offer = ReleaseOffer(release="2026-12", sha256="a" * 64, size=4_000_000)
    hospital.push(offer)
    with syncing(outbox, hospital) as rig:
        until(lambda: outbox.inbox_position() == 1)
        assert rig.releases == [offer]


class Renewing:
    """Credentials that lapse, and are renewed when the hospital says so."""

    def __init__(self) -> None:
        self.tokens = ["old"]

    def renewal(self, clock_ahead_s: float) -> Renewal | None:
        return None

    def renewed(self, answer: bytes) -> None:
        raise AssertionError("nothing was asked")

    def headers(self) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {self.tokens[-1]}"}

    def refused(self, shown: Mapping[str, str]) -> None:
        if shown == self.headers():
            self.tokens.append("new")


def test_a_token_that_has_lapsed_is_renewed_without_anybody_noticing(outbox: MemoryOutbox) -> None:
    outbox.put(3)
    credentials = Renewing()
    with FakeHospital(token="new") as hospital, syncing(outbox, hospital, credentials=credentials) as rig:
        until(lambda: not outbox.waiting())
        assert LinkKind.UNAUTHORISED not in rig.kinds()
    assert credentials.tokens[-1] == "new"


def test_a_refused_event_does_not_stop_the_others(hospital: FakeHospital, outbox: MemoryOutbox) -> None:
    outbox.put(10)
    bad = outbox.events[4]
    hospital.held.refuse = lambda event: "not_allowed" if event.hash == bad.hash else None
    with syncing(outbox, hospital):
        until(lambda: not outbox.waiting())
    assert outbox.refused == {(bad.chain, bad.number): "not_allowed"}
    assert len(outbox.receipts) == len(outbox.events) - 1


def test_a_batch_that_is_too_large_for_the_server_is_halved(hospital: FakeHospital, outbox: MemoryOutbox) -> None:
    outbox.put(40)
    hospital.misbehave(How.STATUS, "POST /v1/events", status=413, times=3)
    with syncing(outbox, hospital):
        until(lambda: not outbox.waiting())
    assert hospital.held.sound()


def syncs() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "sync"]


def test_it_stops_although_a_request_swallows_what_ends_it(
    hospital: FakeHospital, outbox: MemoryOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    swallowed = threading.Event()

    async def step(_: InboxLane) -> None:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            if swallowed.is_set():
                raise
            swallowed.set()

    monkeypatch.setattr(InboxLane, "step", step)
    with syncing(outbox, hospital) as rig:
        until(lambda: rig.client.state.kind is LinkKind.ONLINE)
        rig.client.stop()
        until(lambda: not syncs())
    assert swallowed.is_set()


def test_it_stops_promptly_whatever_it_is_doing(hospital: FakeHospital, outbox: MemoryOutbox) -> None:
    outbox.add_image(os.urandom(400_000))
    with Shaper(hospital.port, bits_per_second=50_000, round_trip_s=0.2) as link:
        with syncing(outbox, hospital, url=link.url) as rig:
            until(lambda: rig.client.state.kind is LinkKind.ONLINE)
            rig.client.stop()
            until(lambda: not syncs())
            rig.client.wake()
            rig.client.stop()
        link.cut(silent=True)
        with syncing(outbox, hospital, url=link.url) as rig:
            time.sleep(0.3)
            rig.client.stop()
            until(lambda: not syncs())
            assert rig.client.state.kind is LinkKind.OFFLINE


def test_it_can_be_started_again(hospital: FakeHospital, outbox: MemoryOutbox) -> None:
    with syncing(outbox, hospital) as rig:
        until(lambda: not outbox.waiting())
        rig.client.stop()
        outbox.put(2)
        rig.client.start()
        until(lambda: not outbox.waiting())


def test_the_fake_hospital_runs_as_a_command(outbox: MemoryOutbox) -> None:
    command = [sys.executable, "-m", "tests.fake_hospital", "--tls", "--token", "t"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())

        def do(**order: object) -> dict[str, object]:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
            answer: dict[str, object] = json.loads(process.stdout.readline())
            return answer

        class There(FakeHospital):
            url = told["url"]
            receipt_keys = told["receipt_keys"]

        with syncing(outbox, There(token="t"), ca_pem=told["ca_pem"]):
            until(lambda: not outbox.waiting())
            do(do="push", content=json.loads(message().model_dump_json()))
            until(lambda: len(outbox.items) == 1)
        assert do(do="stop")["sound"] is True
