"""The real device and the real hospital: enrolled by a code, over TLS that both ends check, until it is shut out."""

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from sqlmodel import select
from typer.testing import CliRunner

from edge_app import enrolment as edge_enrolment
from edge_app.capture.dicom import DicomSettings
from edge_app.station import Change, Station, StationOptions
from edge_app.store.store import Store
from edge_app.store.views import Delivery
from edge_app.sync import LinkKind, SyncClient, wire
from firstray.cli import app
from shared.enrolment import EnrolmentCode
from shared.errors import FirstRayError
from shared.hospital import ErMessage
from sync_server.db.tables import DeviceRow, EventRow, HistoryRow, ImageRow, RadiographRow
from sync_server.domain import devices, enrolment, hiding, inbox
from sync_server.domain.purge import purge
from tests.contract.sync_server.running import RunningHospital
from tests.fake_hospital import Authority, FakeHospital, Shaper, until
from tests.unit.edge_app.store.samples import diagnosis, open_store, receive

PIN = "271828"


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningHospital]:
    with RunningHospital(tmp_path / "server", hospital_name="City Hospital") as made:
        yield made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path / "store")
    yield opened
    opened.close()


def code(running: RunningHospital, name: str = "Ambulance 7") -> str:
    return str(enrolment.make_code(running.hospital, "user:admin", name).code)


def rows(running: RunningHospital, table: type) -> list[object]:
    with running.hospital.database.reading() as session:
        return list(session.exec(select(table)).all())


def test_from_the_code_to_the_last_byte_and_to_the_wipe(running: RunningHospital, tmp_path: Path, chest: Path) -> None:
    told: list[Change] = []
    options = StationOptions(dicom=DicomSettings(host="127.0.0.1", port=0))
    station = Station(tmp_path / "store", options=options, notify=told.append)
    try:
        station.warm_up()
        station.set_up(PIN)
        access = station.enrol(running.url, code(running))
        assert access.hospital.name == "City Hospital"
        assert access.hospital.ca_pem == running.authority.pem
        run = station.store.start_run(who={"name": "Kim Younghee"})
        film = station.take_file(chest, run)

        def delivered() -> bool:
            found = station.store.film(film)
            read = not found.waiting_to_be_read
            return read and set(found.delivery.values()) == {Delivery.HELD} and all_held(station.store)

        until(delivered)
        assert station.store.run(run).row.delivery is Delivery.HELD
        until(lambda: all_well(station))
        (history,) = rows(running, HistoryRow)
        assert isinstance(history, HistoryRow)
        assert (history.encounter, history.name, history.films) == (run, "Kim Younghee", 1)
        (radiograph,) = rows(running, RadiographRow)
        assert isinstance(radiograph, RadiographRow)
        assert radiograph.sha256 is not None
        with running.hospital.images.open(radiograph.sha256) as held:
            assert held.read() == station.store.original(film)
        with running.hospital.database.writing() as session:
            said = ErMessage(encounter=run, text="Door 3", by="Dr Lee", at="2026-11-27T08:00:00Z")  # type: ignore[arg-type]
            inbox.say(session, station.store.device, said)
        until(lambda: station.store.run(run).messages)
        (device,) = rows(running, DeviceRow)
        assert isinstance(device, DeviceRow)
        devices.revoke(running.hospital, device.id, "user:admin", wipe=True)
        until(lambda: not station.is_open)
        assert "revoked" in {change.kind for change in told}
    finally:
        station.close()
    assert Station(tmp_path / "store").is_new


def test_a_device_shut_out_without_a_wipe_keeps_everything(running: RunningHospital, store: Store) -> None:
    access = edge_enrolment.enrol(store, running.url, code(running))
    with Syncing(store, running) as client:
        run = store.start_run()
        until(lambda: not store.standing().events_waiting)
        devices.revoke(running.hospital, store.device, "user:admin")
        until(lambda: client.state.kind is LinkKind.REVOKED)
    assert store.run(run).row.delivery is Delivery.HELD
    assert access.token_url == f"{running.url}/v1/token"


def all_well(station: Station) -> bool:
    link = station.status().link
    return link is not None and link.kind is LinkKind.ONLINE and link.last_error is None


class Syncing:
    """The sync of an enrolled store, by another way to the hospital if one is given."""

    def __init__(self, store: Store, running: RunningHospital, url: str | None = None) -> None:
        self._store = store
        access = edge_enrolment.enrol(store, running.url, code(running))
        credentials = edge_enrolment.credentials(store, access)
        hospital = access.hospital
        if url is not None:
            hospital = type(hospital)(url, hospital.ca_pem, hospital.receipt_keys)
        self.client = SyncClient(store.outbox, hospital, credentials)
        store.listen(lambda _: self.client.wake())

    def __enter__(self) -> SyncClient:
        self.client.start()
        return self.client

    def __exit__(self, *_: object) -> None:
        self.client.stop()


def a_run(store: Store, size: int) -> tuple[UUID, UUID]:
    run = store.start_run(who={"name": "Kim Younghee"})
    film = receive(store, os.urandom(size))
    store.assign(film, run)
    store.add_reading(film, diagnosis=diagnosis("Pneumothorax"), error=None, preview=os.urandom(20_000))
    return run, film


def all_held(store: Store) -> bool:
    standing = store.standing()
    return not (standing.events_waiting or standing.previews_waiting or standing.originals_waiting)


def sound(running: RunningHospital, store: Store) -> None:
    """Everything of the store is at the hospital, once."""
    events = rows(running, EventRow)
    assert len({(row.chain, row.number) for row in events}) == len(events)  # type: ignore[attr-defined]
    for row in rows(running, ImageRow):
        assert isinstance(row, ImageRow)
        assert running.hospital.images.size(row.sha256) == row.size


def test_an_upload_goes_on_where_a_broken_connection_left_it(running: RunningHospital, store: Store) -> None:
    with Shaper(running.port, bits_per_second=2_000_000) as link, Syncing(store, running, secure(link)):
        _, film = a_run(store, 1_500_000)
        spool = running.hospital.settings.data / "uploads"
        sizes: list[int] = []
        for silent in (False, True, False):
            begun = max(sizes, default=0) + 100_000
            until(lambda begun=begun: largest(spool) > begun)  # type: ignore[misc]
            link.cut(silent)
            sizes.append(largest(spool))
            link.restore()
        until(lambda: all_held(store))
    assert sizes == sorted(sizes)
    assert set(store.film(film).delivery.values()) == {Delivery.HELD}
    sound(running, store)


def secure(link: Shaper) -> str:
    return link.url.replace("http:", "https:")


def largest(spool: Path) -> int:
    found = 0
    for file in spool.iterdir() if spool.exists() else ():
        try:
            found = max(found, file.stat().st_size)
        except FileNotFoundError:
            continue
    return found


def test_who_comes_again_is_known_although_the_hospital_has_purged_the_earlier_run(
    running: RunningHospital, store: Store
) -> None:
    with Syncing(store, running):
        first = store.start_run(who={"name": "Kim Younghee", "estimated_age": 60})
        until(lambda: not store.standing().events_waiting)
        with running.hospital.database.writing() as session:
            hiding.hide(session, [first], "entered twice", "user:admin")
        assert purge(running.hospital, datetime.now(UTC) + timedelta(days=31)).runs == 1
        second = store.start_run(store.run(first).patient.id)
        until(lambda: not store.standing().events_waiting)
    (history,) = rows(running, HistoryRow)
    assert isinstance(history, HistoryRow)
    assert (history.encounter, history.name, history.age) == (second, "Kim Younghee", 60)


def test_a_hospital_that_restarts_in_the_middle_loses_nothing(running: RunningHospital, store: Store) -> None:
    with Shaper(running.port, bits_per_second=2_000_000) as link, Syncing(store, running, secure(link)):
        a_run(store, 1_500_000)
        spool = running.hospital.settings.data / "uploads"
        until(lambda: largest(spool) > 200_000)
        running.stop()
        a_run(store, 10_000)
        running.start()
        until(lambda: all_held(store))
    assert len(rows(running, ImageRow)) == 4
    sound(running, store)


def test_a_token_is_renewed_before_it_ends_and_after_a_refusal(
    running: RunningHospital, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    renewal = edge_enrolment.EnrolledCredentials.renewal

    def counted(self: edge_enrolment.EnrolledCredentials, ahead: float) -> object:
        found = renewal(self, ahead)
        if found is not None:
            asked.append(time.monotonic())
        return found

    monkeypatch.setattr(edge_enrolment.EnrolledCredentials, "renewal", counted)
    with Syncing(store, running) as client:
        store.start_run()
        until(lambda: all_held(store))
        assert len(asked) == 1
        until(lambda: running.hospital.changes.waiting)  # the inbox is asked for: else it shows the bad token as well
        client._credentials._token = "of.no.use"  # type: ignore[attr-defined]
        store.start_run()
        until(lambda: all_held(store))
        assert len(asked) == 2
        assert client.state.last_error is None


@pytest.mark.parametrize("wrong_by", [-86_400, 86_400])
def test_a_device_whose_clock_is_wrong_still_proves_who_it_is(
    running: RunningHospital, store: Store, monkeypatch: pytest.MonkeyPatch, wrong_by: int
) -> None:
    syncing = Syncing(store, running)
    credentials = syncing.client._credentials
    monkeypatch.setattr(credentials, "_now", lambda: time.time() + wrong_by)

    class Wrong(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(seconds=wrong_by)

    monkeypatch.setattr(wire, "datetime", Wrong)
    with syncing as client:
        store.start_run()
        until(lambda: all_held(store) and client.state.kind is LinkKind.ONLINE)


def test_who_answers_with_another_certificate_learns_nothing(running: RunningHospital, store: Store) -> None:
    wanted = code(running)
    with FakeHospital(Authority().issue()) as impostor:
        with pytest.raises(FirstRayError) as caught:
            edge_enrolment.enrol(store, impostor.url, wanted)
        assert caught.value.code in ("not_the_hospital_of_the_code", "enrolment_refused")
        assert {seen.what for seen in impostor.requests} == {"GET /v1/enrolment"}
    with RunningHospital(running._folder.parent / "impostor") as impostor_too:
        with pytest.raises(FirstRayError) as caught:
            edge_enrolment.enrol(store, impostor_too.url, wanted)
        assert caught.value.code == "not_the_hospital_of_the_code"
    assert store.setting("hospital") is None


def test_certificates_that_are_only_shown_vouch_for_nobody(running: RunningHospital, store: Store) -> None:
    """Somebody who repeats the hospital's certificates has not its key: the code is not sent."""
    wanted = code(running)
    with RunningHospital(running._folder.parent / "impostor", ca=running._folder / "certificate.pem") as impostor:
        with pytest.raises(FirstRayError) as caught:
            edge_enrolment.enrol(store, impostor.url, str(_as_shown(wanted, impostor)))
        assert caught.value.code == "not_the_hospital"
        assert not rows(impostor, DeviceRow)


def _as_shown(wanted: str, impostor: RunningHospital) -> EnrolmentCode:
    """The code, with the fingerprint of what the impostor shows: the strongest case for it."""
    mine = enrolment.make_code(impostor.hospital, "user:admin", "x").code
    return EnrolmentCode(EnrolmentCode.parse(wanted).code, mine.fingerprint)


def test_a_code_without_the_hospitals_fingerprint_is_not_enough(running: RunningHospital, store: Store) -> None:
    short = EnrolmentCode(EnrolmentCode.parse(code(running)).code)
    with pytest.raises(FirstRayError) as caught:
        edge_enrolment.enrol(store, running.url, str(short))
    assert caught.value.code == "enrolment_code_incomplete"


def test_enrolling_survives_a_lost_answer(
    running: RunningHospital, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = edge_enrolment._exchange
    lost = iter([False, True, True])

    def unlucky(*arguments: object) -> object:
        answer = exchange(*arguments)  # type: ignore[arg-type]
        if next(lost, False):
            raise httpx.ReadError("lost")
        return answer

    monkeypatch.setattr(edge_enrolment, "_exchange", unlucky)
    monkeypatch.setattr(edge_enrolment, "PAUSE_S", 0.01)
    assert edge_enrolment.enrol(store, running.url, code(running)).token_url
    assert len(rows(running, DeviceRow)) == 1


def test_the_command_enrols_and_the_next_start_sends(running: RunningHospital, tmp_path: Path) -> None:
    pin = tmp_path / "pin"
    pin.touch(mode=0o600)
    pin.write_text(PIN)
    folder = tmp_path / "commanded"
    words = ["edge", "--store", str(folder), "--pin-file", str(pin), "--enrol", running.url]
    done = CliRunner().invoke(app, [*words, code(running).lower()])
    assert done.exit_code == 0, done.output
    assert "City Hospital" in done.output
    again = CliRunner().invoke(app, [*words, "2222-3333-4444-5555-6666-7777-8888-9999"])
    assert isinstance(again.exception, FirstRayError)
    assert again.exception.code == "not_the_hospital_of_the_code"
    station = Station(folder, options=StationOptions(receive=False))
    try:
        station.unlock(PIN)
        station.store.start_run()
        until(lambda: all_held(station.store))
    finally:
        station.close()
