"""What tunnels, log-in pages, restarts, backups and attackers do to the sync, by name."""

import os
import random
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from edge_app.sync import LinkKind, StaticCredentials
from shared.hospital import EventBatch, ImageKind, Revocation
from tests.fake_hospital import Authority, FakeHospital, How, MemoryOutbox, Rig, Shaper, syncing, until


@pytest.fixture
def hospital() -> Iterator[FakeHospital]:
    with FakeHospital() as running:
        yield running


@pytest.fixture
def outbox() -> MemoryOutbox:
    filled = MemoryOutbox()
    filled.put(5)
    return filled


def arrived_once(outbox: MemoryOutbox, hospital: FakeHospital) -> None:
    """The hospital holds exactly what the device has."""
    assert hospital.held.sound()
    assert [event.hash for event in hospital.held.events] == [event.hash for event in outbox.events]
    assert hospital.held.images == {name: image.body for name, image in outbox.images.items()}


def online_again(rig: Rig) -> None:
    until(lambda: rig.client.state.kind is LinkKind.ONLINE and rig.client.state.last_error is None)


# ---- the link


@pytest.mark.parametrize("silent", [False, True])
def test_the_link_dies_in_the_middle_of_everything(hospital: FakeHospital, outbox: MemoryOutbox, silent: bool) -> None:
    outbox.add_image(os.urandom(150_000))
    outbox.add_image(os.urandom(30_000), ImageKind.PREVIEW)
    with (
        Shaper(hospital.port, bits_per_second=400_000, round_trip_s=0.05) as link,
        syncing(outbox, hospital, url=link.url) as rig,
    ):
        until(lambda: link.bytes_up > 40_000)
        link.cut(silent)
        outbox.put(3)
        until(lambda: rig.client.state.kind is LinkKind.OFFLINE)
        outbox.put(3)
        link.restore()
        until(lambda: not outbox.waiting())
        online_again(rig)
    arrived_once(outbox, hospital)


def test_every_connection_breaks_sooner_or_later(hospital: FakeHospital, outbox: MemoryOutbox) -> None:
    outbox.put(300)
    outbox.add_image(os.urandom(100_000))
    with (
        Shaper(hospital.port, bits_per_second=2_000_000, round_trip_s=0.02, breaks=0.5) as link,
        syncing(outbox, hospital, url=link.url),
    ):
        until(lambda: not outbox.waiting())
    arrived_once(outbox, hospital)


def test_the_hospital_is_found_as_soon_as_it_is_there(outbox: MemoryOutbox) -> None:
    hospital = FakeHospital()
    with hospital:
        pass
    with syncing(outbox, hospital) as rig:
        until(lambda: "hospital_unreachable" in rig.codes())
        with hospital:
            until(lambda: not outbox.waiting())
            online_again(rig)
        until(lambda: rig.client.state.kind is LinkKind.OFFLINE)
        outbox.put(2)
        with hospital:
            until(lambda: not outbox.waiting())


# ---- answers and repetitions


def test_a_lost_answer_is_asked_for_again_and_has_one_effect(hospital: FakeHospital, outbox: MemoryOutbox) -> None:
    outbox.add_image(os.urandom(50_000))
    hospital.misbehave(How.LOSE_ANSWER, "POST /v1/events", times=2)
    hospital.misbehave(How.LOSE_ANSWER, "PATCH", times=1)
    with syncing(outbox, hospital):
        until(lambda: not outbox.waiting())
    assert len(hospital.held.deliveries) > len(outbox.events)
    arrived_once(outbox, hospital)


def test_what_comes_late_and_out_of_order_is_taken_in_order(hospital: FakeHospital, outbox: MemoryOutbox) -> None:
    """Another delivery of the same events, as from a request long believed dead, comes between."""
    outbox.put(60)
    late = FakeLate(hospital, outbox)
    with syncing(outbox, hospital):
        late.start()
        outbox.put(40)
        until(lambda: not outbox.waiting())
        late.join()
    arrived_once(outbox, hospital)


class FakeLate(threading.Thread):
    """Delivers random stretches of the chain to the hospital, over and over."""

    def __init__(self, hospital: FakeHospital, outbox: MemoryOutbox) -> None:
        super().__init__()
        self._hospital, self._outbox = hospital, outbox

    def run(self) -> None:
        chance = random.Random(7)
        for _ in range(40):
            start = chance.randrange(len(self._outbox.events))
            stretch = tuple(self._outbox.events[start : start + chance.randint(1, 30)])
            self._hospital.held.take(EventBatch(events=stretch), self._hospital.held.key)
            time.sleep(0.005)


def current(outbox: MemoryOutbox) -> list[str]:
    """Hashes of the events of the chain being written."""
    return [event.hash for event in outbox.events if event.chain == outbox.chain]


def test_the_hospital_lost_its_disk_and_gets_everything_again(hospital: FakeHospital, outbox: MemoryOutbox) -> None:
    outbox.put(700)
    sha256 = outbox.add_image(os.urandom(50_000))
    with syncing(outbox, hospital) as rig:
        until(lambda: not outbox.waiting())
        hospital.held.lose_disk()
        outbox.put(1)
        until(lambda: outbox.forks and not outbox.waiting())
        online_again(rig)
    assert outbox.forks == ["hospital_lost_all"]
    assert hospital.held.sound()
    assert [event.hash for event in hospital.held.chains[outbox.chain]] == current(outbox)
    assert len(hospital.held.records()) == 5 + 700 + 1
    assert list(hospital.held.images) == [sha256]


def test_a_hospital_restored_from_its_backup_gets_what_it_lacks(hospital: FakeHospital, outbox: MemoryOutbox) -> None:
    with syncing(outbox, hospital) as rig:
        until(lambda: not outbox.waiting())
        backup = list(hospital.held.events)
        outbox.put(700)
        until(lambda: not outbox.waiting())
        hospital.held.chains[outbox.chain] = backup
        outbox.put(1)
        until(lambda: len(hospital.held.events) == len(outbox.events) and not outbox.waiting())
        online_again(rig)
    arrived_once(outbox, hospital)
    assert not outbox.forks


def test_what_was_wiped_and_cannot_be_sent_again_begins_a_new_chain(
    hospital: FakeHospital, outbox: MemoryOutbox
) -> None:
    with syncing(outbox, hospital):
        until(lambda: not outbox.waiting())
        del hospital.held.chains[outbox.chain][2:]
        outbox.wiped_before = 3
        outbox.put(2)
        until(lambda: outbox.forks and not outbox.waiting())
    assert outbox.forks == ["events_wiped"]
    assert hospital.held.sound()
    assert [event.hash for event in hospital.held.chains[outbox.chain]] == current(outbox)


def test_a_hospital_that_forgets_again_and_again_does_not_fill_the_device(
    hospital: FakeHospital, outbox: MemoryOutbox
) -> None:
    with syncing(outbox, hospital) as rig:
        until(lambda: not outbox.waiting())
        hospital.held.lose_disk()
        outbox.put(1)
        until(lambda: outbox.forks and not outbox.waiting())
        for _ in range(2):
            hospital.held.lose_disk()
            outbox.put(1)
            until(lambda: rig.client.state.kind is LinkKind.FAILING)
    assert len(outbox.forks) == 1


def test_a_device_restored_from_a_backup_begins_a_new_chain(hospital: FakeHospital, outbox: MemoryOutbox) -> None:
    backup = list(outbox.events)
    with syncing(outbox, hospital):
        outbox.put(4)
        until(lambda: not outbox.waiting())
    restored = MemoryOutbox(outbox.device)
    restored.events = backup
    restored.new_chain()
    restored.put(2)
    with syncing(restored, hospital) as rig:
        until(lambda: not restored.waiting())
        online_again(rig)
    assert hospital.held.sound()
    assert len(hospital.held.chains) == 2
    assert not restored.forks


def test_two_devices_with_one_chain_are_told_apart(hospital: FakeHospital, outbox: MemoryOutbox) -> None:
    """A store copied to another tablet goes on with the same chain: the second one to write is a fork."""
    twin = MemoryOutbox(outbox.device)
    twin.events = list(outbox.events)
    twin._end = outbox.events[-1].position
    with syncing(outbox, hospital):
        outbox.put(3)
        until(lambda: not outbox.waiting())
    with syncing(twin, hospital):
        twin.put(2)
        until(lambda: not twin.waiting())
    assert twin.forks == ["fork"]
    assert hospital.held.sound()
    notes = [fields.get("notes") for fields in hospital.held.records().values()]
    assert len(notes) == 5 + 3 + 2


@pytest.mark.parametrize("how", [How.GARBAGE, How.HUGE, How.FORGE, How.STATUS])
def test_a_hospital_that_fails_is_shown_and_asked_again(
    hospital: FakeHospital, outbox: MemoryOutbox, how: How, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = hospital.misbehave(how, "POST /v1/events")
    with syncing(outbox, hospital) as rig:
        until(lambda: rig.client.state.kind is LinkKind.FAILING)
        assert outbox.waiting() == 6
        assert not outbox.receipts
        wrong.times = 0
        until(lambda: not outbox.waiting())
        online_again(rig)
    expected = {How.FORGE: "receipt_forged", How.STATUS: "hospital_failing"}
    assert rig.codes() == {expected.get(how, "hospital_answer_unreadable")}
    assert "Traceback" not in caplog.text


def test_retry_after_is_honoured(hospital: FakeHospital, outbox: MemoryOutbox) -> None:
    hospital.misbehave(How.STATUS, "POST /v1/events", status=429, retry_after=2, times=1)
    with syncing(outbox, hospital):
        until(lambda: not outbox.waiting())
    first, second, *_ = [seen.at for seen in hospital.requests if seen.what == "POST /v1/events"]
    assert second - first >= 2


def test_a_failing_server_is_not_besieged(hospital: FakeHospital, outbox: MemoryOutbox) -> None:
    hospital.misbehave(How.STATUS, "(POST|GET) /v1/.*")
    with syncing(outbox, hospital):
        for _ in range(30):
            outbox.put(1)
            time.sleep(0.1)
    assert len(hospital.requests) < 20


def test_a_server_that_cuts_every_connection_is_not_besieged(hospital: FakeHospital, outbox: MemoryOutbox) -> None:
    def asked() -> int:
        return len([seen for seen in hospital.requests if seen.what == "GET /healthz"])

    hospital.misbehave(How.DROP, "POST /v1/events")
    with syncing(outbox, hospital):
        time.sleep(3)
        assert asked() < 15
        until(lambda: asked() >= 2)


# ---- images


def test_two_uploads_go_on_where_they_were_after_a_restart(hospital: FakeHospital, outbox: MemoryOutbox) -> None:
    with Shaper(hospital.port, bits_per_second=400_000) as link, syncing(outbox, hospital, url=link.url):
        original = outbox.add_image(os.urandom(120_000))
        until(lambda: outbox.images[original].upload.offset > 0)
        preview = outbox.add_image(os.urandom(50_000), ImageKind.PREVIEW)
        until(lambda: outbox.images[preview].upload.offset > 0)
    names = [original, preview]
    before = {name: outbox.images[name].upload.offset for name in names}
    assert all(before.values())
    hospital.requests.clear()
    with syncing(outbox, hospital):
        until(lambda: not outbox.waiting())
    sent = sum(seen.size for seen in hospital.requests if seen.what.startswith("PATCH"))
    assert sent <= 170_000 - sum(before.values())
    arrived_once(outbox, hospital)


def test_an_upload_cut_in_the_middle_of_a_chunk_goes_on_from_there(
    hospital: FakeHospital, outbox: MemoryOutbox
) -> None:
    outbox.add_image(os.urandom(300_000))
    hospital.misbehave(How.DROP, "PATCH", times=3, after_bytes=3000)
    with syncing(outbox, hospital):
        until(lambda: not outbox.waiting())
    assert [seen for seen in hospital.requests if seen.what.startswith("HEAD")]
    arrived_once(outbox, hospital)


def test_an_expired_upload_is_created_anew(hospital: FakeHospital, outbox: MemoryOutbox) -> None:
    sha256 = outbox.add_image(os.urandom(200_000))
    with Shaper(hospital.port, bits_per_second=800_000) as link, syncing(outbox, hospital, url=link.url):
        until(lambda: outbox.images[sha256].upload.offset > 0)
        hospital.expire_uploads()
        until(lambda: not outbox.waiting())
    arrived_once(outbox, hospital)


def test_a_damaged_chunk_is_sent_again(hospital: FakeHospital, outbox: MemoryOutbox) -> None:
    outbox.add_image(os.urandom(100_000))
    hospital.misbehave(How.CORRUPT, "PATCH", times=1)
    with syncing(outbox, hospital):
        until(lambda: not outbox.waiting())
    arrived_once(outbox, hospital)
    assert not next(iter(outbox.images.values())).upload.tries


def test_an_image_that_arrives_damaged_is_sent_from_the_beginning(outbox: MemoryOutbox) -> None:
    outbox.add_image(os.urandom(9_000), ImageKind.PREVIEW)
    with FakeHospital(checksums=False) as hospital:
        hospital.misbehave(How.CORRUPT, "PATCH", times=1)
        with syncing(outbox, hospital) as rig:
            until(lambda: not outbox.waiting())
            online_again(rig)
        arrived_once(outbox, hospital)
    assert next(iter(outbox.images.values())).upload.tries == 1


def test_an_image_that_always_arrives_damaged_is_given_up_and_shown(outbox: MemoryOutbox) -> None:
    bad = outbox.add_image(os.urandom(3_000), ImageKind.PREVIEW)
    with FakeHospital(checksums=False) as hospital:
        hospital.misbehave(How.CORRUPT, "PATCH")
        with syncing(outbox, hospital):
            until(lambda: outbox.images[bad].refused)
            hospital.behave()
            good = outbox.add_image(os.urandom(3_000), ImageKind.PREVIEW)
            until(lambda: good in hospital.held.images)
    assert outbox.images[bad].refused == "sha256_mismatch"
    assert bad not in hospital.held.images


def test_an_image_the_hospital_refuses_does_not_stop_the_next(hospital: FakeHospital, outbox: MemoryOutbox) -> None:
    first, second = outbox.add_image(b"a" * 9000, urgent=True), outbox.add_image(b"b" * 9000)
    hospital.misbehave(How.STATUS, "POST /v1/images", status=403, code="not_allowed", times=1)
    with syncing(outbox, hospital):
        until(lambda: not outbox.waiting())
    assert outbox.images[first].refused == "not_allowed"
    assert list(hospital.held.images) == [second]


def test_an_image_the_server_chokes_on_does_not_stop_the_next(hospital: FakeHospital, outbox: MemoryOutbox) -> None:
    first, second = outbox.add_image(b"a" * 9000, urgent=True), outbox.add_image(b"b" * 9000)
    wrong = hospital.misbehave(How.STATUS, f"GET /v1/images/{first}/receipt", status=500)
    with syncing(outbox, hospital) as rig:
        until(lambda: second in hospital.held.images)
        until(lambda: rig.client.state.last_error is not None)
        assert first not in hospital.held.images
        wrong.times = 0
        until(lambda: not outbox.waiting())
        online_again(rig)


def test_a_forged_receipt_of_an_image_does_not_count(hospital: FakeHospital, outbox: MemoryOutbox) -> None:
    sha256 = outbox.add_image(b"a" * 9000)
    wrong = hospital.misbehave(How.FORGE, "GET /v1/images")
    with syncing(outbox, hospital) as rig:
        until(lambda: "receipt_forged" in rig.codes())
        assert outbox.images[sha256].receipt is None
        wrong.times = 0
        until(lambda: not outbox.waiting())


def test_an_image_damaged_on_the_device_is_shown_and_does_not_stop_the_next(
    hospital: FakeHospital, outbox: MemoryOutbox
) -> None:
    first, second = outbox.add_image(b"a" * 9000, urgent=True), outbox.add_image(b"b" * 9000)
    outbox.images[first].body = b"a" * 5000
    with syncing(outbox, hospital):
        until(lambda: not outbox.waiting())
    assert outbox.images[first].refused == "image_damaged"
    assert list(hospital.held.images) == [second]


# ---- who is there, and who we are


def test_a_log_in_page_is_not_taken_for_the_hospital(hospital: FakeHospital, outbox: MemoryOutbox) -> None:
    hospital.misbehave(How.PORTAL)
    with syncing(outbox, hospital) as rig:
        until(lambda: rig.client.state.kind is LinkKind.FOREIGN)
        assert rig.codes() == {"network_portal"}
        assert {seen.what for seen in hospital.requests} == {"GET /healthz"}
        hospital.behave()
        until(lambda: not outbox.waiting())
        online_again(rig)


@pytest.mark.parametrize("how", [How.PORTAL, How.REDIRECT])
def test_a_log_in_page_that_comes_up_later_is_not_taken_for_the_hospital(
    hospital: FakeHospital, outbox: MemoryOutbox, how: How
) -> None:
    hospital.misbehave(how, "POST /v1/events")
    with syncing(outbox, hospital) as rig:
        until(lambda: rig.client.state.kind is LinkKind.FOREIGN)
        assert outbox.waiting() == 6


@pytest.mark.parametrize(
    ("certificate", "code"),
    [
        ({}, "not_the_hospital"),
        ({"names": ("other.example",)}, "certificate_other_name"),
        ({"begins": timedelta(hours=3)}, "certificate_not_yet_valid"),
        ({"begins": timedelta(days=-9), "ends": timedelta(hours=-3)}, "certificate_expired"),
    ],
)
def test_a_wrong_certificate_is_said_plainly_and_gets_nothing(
    outbox: MemoryOutbox, certificate: dict[str, timedelta], code: str
) -> None:
    """Not yet valid and expired are what a clock wrong by hours looks like."""
    ours, theirs = Authority(), Authority()
    signer = theirs if code == "not_the_hospital" else ours
    with (
        FakeHospital(signer.issue(**certificate)) as hospital,  # type: ignore[arg-type]
        syncing(outbox, hospital, ca_pem=ours.pem) as rig,
    ):
        until(lambda: rig.client.state.kind is LinkKind.FOREIGN)
        assert rig.codes() == {code}
        assert not hospital.requests
        assert rig.client.state.last_error is not None
        assert rig.client.state.last_error.action


def test_the_systems_own_authorities_are_not_believed(
    outbox: MemoryOutbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = Authority()
    bundle = tmp_path / "system.pem"
    bundle.write_text(theirs.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    with (
        FakeHospital(theirs.issue()) as hospital,
        syncing(outbox, hospital, ca_pem=Authority().pem) as rig,
    ):
        until(lambda: "not_the_hospital" in rig.codes())
        assert not hospital.requests


def test_a_proxy_in_the_environment_sees_nothing(
    hospital: FakeHospital, outbox: MemoryOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeHospital() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        with syncing(outbox, hospital):
            until(lambda: not outbox.waiting())
        assert not proxy.requests


def test_a_plain_server_behind_an_https_address_is_not_the_hospital(
    hospital: FakeHospital, outbox: MemoryOutbox
) -> None:
    url = hospital.url.replace("http:", "https:")
    with syncing(outbox, hospital, url=url, ca_pem=Authority().pem) as rig:
        until(lambda: rig.client.state.kind is LinkKind.FOREIGN)
        assert rig.codes() == {"network_portal"}


def test_credentials_that_are_not_accepted_are_shown(outbox: MemoryOutbox) -> None:
    with (
        FakeHospital(token="right") as hospital,
        syncing(outbox, hospital, credentials=StaticCredentials("wrong")) as rig,
    ):
        until(lambda: rig.client.state.kind is LinkKind.UNAUTHORISED)
        assert rig.codes() == {"device_unauthorised"}
        assert outbox.waiting() == 6
        hospital.token = "wrong"
        until(lambda: not outbox.waiting())
        online_again(rig)


@pytest.mark.parametrize("wipe", [False, True])
def test_a_revoked_device_stops_and_tells_its_owner(hospital: FakeHospital, outbox: MemoryOutbox, wipe: bool) -> None:
    with syncing(outbox, hospital) as rig:
        until(lambda: not outbox.waiting())
        hospital.push(Revocation(wipe=wipe))
        until(lambda: rig.revocations)
        assert rig.revocations == [Revocation(wipe=wipe)]
        assert rig.client.state.kind is LinkKind.REVOKED
        outbox.put(3)
        count = len(hospital.requests)
        time.sleep(1.2)
        assert len(hospital.requests) == count
    with syncing(outbox, hospital) as rig:
        until(lambda: rig.revocations)
    assert outbox.inbox_position() == 0


def test_a_device_shut_out_at_the_door_may_be_asked_to_wipe(hospital: FakeHospital, outbox: MemoryOutbox) -> None:
    hospital.revoked = True
    with syncing(outbox, hospital) as rig:
        until(lambda: rig.revocations)
    assert rig.revocations == [Revocation(wipe=True)]
    assert outbox.waiting() == 6


def test_a_revoked_owner_may_stop_the_client_from_within(hospital: FakeHospital, outbox: MemoryOutbox) -> None:
    hospital.revoked = False
    done = threading.Event()
    with syncing(outbox, hospital) as rig:
        rig.client._on_revoked = lambda _: (rig.client.stop(), done.set())  # type: ignore[func-returns-value]
        until(done.is_set)


# ---- ourselves


def test_a_defect_of_our_own_is_shown_and_does_not_end_the_sending(
    hospital: FakeHospital, outbox: MemoryOutbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = outbox.next_events
    failures = iter([ZeroDivisionError("Kim Secret"), OSError("Kim Secret")])

    def failing(limit: int = 500, most_bytes: int = 256_000) -> object:
        if (failure := next(failures, None)) is not None:
            raise failure
        return real(limit, most_bytes)

    monkeypatch.setattr(outbox, "next_events", failing)
    with syncing(outbox, hospital) as rig:
        until(lambda: not outbox.waiting())
        online_again(rig)
    assert "sync_internal_error" in rig.codes()
    assert "Secret" not in caplog.text
    assert "ZeroDivisionError" in caplog.text
