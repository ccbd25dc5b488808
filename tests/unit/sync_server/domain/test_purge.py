"""Deleting with a reason and taking it back; purging content and bytes while the chain stays whole."""

import json
import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import func
from sqlmodel import Session, col, select

from shared.errors import FirstRayError
from shared.events import FIRST_PREVIOUS, Event
from shared.hospital import ErMessage, OutcomeStatus, Presence
from shared.hybrid_clock import Stamp
from shared.identity import new_id
from shared.records import RecordType
from sync_server.db.tables import (
    METADATA,
    AuditRow,
    ConfirmedReadingRow,
    EncounterRow,
    EventRow,
    HistoryRow,
    ImageDeliveryRow,
    ImageRow,
    InboxRow,
    MessageRow,
    PatientRow,
    RadiographRow,
    ReleaseRow,
)
from sync_server.domain import audit, hiding, histories, inbox, merging
from sync_server.domain.purge import Purged, purge
from sync_server.hospital import Hospital
from tests.hospital import TestDevice, enrolled_device, new_hospital

LATER = datetime.now(UTC) + timedelta(days=31)
SECRET = "Gwangju-Secret"
"""Occurs in everything that is said of the patient, and must occur nowhere after the purge."""


@pytest.fixture
def hospital(database: str | None, tmp_path: Path) -> Iterator[Hospital]:
    made = new_hospital(tmp_path, database, listen=False)
    yield made
    made.close()


def hold(hospital: Hospital, device: TestDevice, data: bytes, kind: str = "original") -> str:
    """The hospital holds some bytes, as after an upload."""
    name = sha256(data).hexdigest()
    file = hospital.settings.data / "upload"
    file.write_bytes(data)
    hospital.images.put(file, name)
    file.unlink()  # it may be the very bytes that are held now
    with hospital.database.writing() as session:
        session.merge(ImageRow(sha256=name, kind=kind, size=len(data), stored_at=datetime.now(UTC)))
        session.merge(ImageDeliveryRow(sha256=name, device=device.id, at=datetime.now(UTC)))
    return name


def whole_run(hospital: Hospital, device: TestDevice, data: bytes) -> tuple[UUID, UUID, UUID, str]:
    """A run with everything: patient, run, film, its SHA-256."""
    name = hold(hospital, device, data)
    patient, run = device.run(SECRET, notes=SECRET, chief_complaint=SECRET)
    device.vital_signs(run, spo2=91)
    film = device.film(run, name, device_patient={"name": SECRET})
    device.diagnosis(film, ["Effusion"])
    device.send()
    with hospital.database.writing() as session:
        now, someone = datetime.now(UTC), new_id()
        session.add(MessageRow(id=new_id(), encounter=run, text=SECRET, by=someone, by_name="Dr", at=now))
        session.add(
            ConfirmedReadingRow(
                id=new_id(),
                encounter=run,
                radiograph=film,
                findings={"Effusion": Presence.PRESENT.value},
                text=SECRET,
                by=someone,
                by_name="Dr",
                at=now,
            )
        )
        inbox.say(session, device.id, ErMessage(encounter=run, text=SECRET, by="Dr", at=now))
        histories.refresh(session, [run])
    return patient, run, film, name


def hide(hospital: Hospital, run: UUID) -> None:
    with hospital.database.writing() as session:
        assert hiding.hide(session, [run], "entered twice", "user:admin") == 1


def visible(hospital: Hospital) -> list[UUID]:
    with hospital.database.reading() as session:
        return list(session.exec(select(HistoryRow.encounter).where(col(HistoryRow.visible).is_(True))).all())


def shown(hospital: Hospital, run: UUID) -> tuple[str | None, int | None, str | None]:
    """Who the ER reads beside a run."""
    with hospital.database.reading() as session:
        row = session.get_one(HistoryRow, run)
        return row.name, row.age, row.sex


def another_run(device: TestDevice, patient: UUID, *, whole: bool = True) -> UUID:
    """The crew meets a patient again: the events of the new run, then all that is known of the patient."""
    run = new_id()
    device.put(RecordType.ENCOUNTER, {"patient": patient, "started_at": datetime.now(UTC)}, run)
    if whole:
        device.put(RecordType.PATIENT, {"name": SECRET, "sex": "female", "estimated_age": 61}, patient)
    return run


def everything(session: Session) -> str:
    """All the database says, but for the audit log."""
    tables = [table for table in METADATA.sorted_tables if table.name != "audit"]
    return " ".join(
        json.dumps([str(value) for value in row]) for one in tables for row in session.execute(one.select())
    )


def verify_chain(session: Session, device: UUID) -> int:
    """Check a device's chains by what is left of their events; gives how many still have their content."""
    rows = session.exec(select(EventRow).where(EventRow.device == device).order_by(col(EventRow.number))).all()
    ends: dict[UUID, str] = {}
    whole = 0
    for row in rows:
        if row.body:
            event = Event.model_validate_json(row.body)
            assert event.intact()
            assert event.hash == row.hash
            assert event.previous == ends.get(row.chain, FIRST_PREVIOUS)
            whole += 1
        ends[row.chain] = row.hash
    return whole


def test_a_deleted_run_is_gone_from_lists_and_can_be_shown_again(hospital: Hospital) -> None:
    device = enrolled_device(hospital)
    _, run = device.run()
    device.send()
    assert visible(hospital) == [run]
    hide(hospital, run)
    assert visible(hospital) == []
    with hospital.database.writing() as session:
        assert hiding.hide(session, [run], "again", "user:admin") == 0
        assert hiding.show(session, [run], "user:admin") == 1
        assert hiding.show(session, [run], "user:admin") == 0
    assert visible(hospital) == [run]
    with hospital.database.reading() as session:
        said = session.exec(select(AuditRow).where(AuditRow.subject == str(run)).order_by(col(AuditRow.number))).all()
        assert [(row.action, row.details) for row in said] == [
            ("run.deleted", {"reason": "entered twice"}),
            ("run.restored", {}),
        ]


@pytest.mark.parametrize("reason", ["", "  \n", "x" * 501])
def test_deleting_needs_a_reason_and_a_run(hospital: Hospital, reason: str) -> None:
    device = enrolled_device(hospital)
    _, run = device.run()
    device.send()
    with hospital.database.writing() as session, pytest.raises(FirstRayError) as caught:
        hiding.hide(session, [run], reason, "user:admin")
    assert caught.value.code == "reason_missing"
    with hospital.database.writing() as session, pytest.raises(FirstRayError) as caught:
        hiding.hide(session, [run, new_id()], "why not", "user:admin")
    assert caught.value.code == "run_unknown"
    assert visible(hospital) == [run]


def test_nothing_is_purged_before_its_time(hospital: Hospital) -> None:
    device = enrolled_device(hospital)
    *_, name = whole_run(hospital, device, b"film")
    assert purge(hospital, LATER) == Purged()
    with hospital.database.reading() as session:
        run = session.exec(select(EncounterRow.id)).one()
    hide(hospital, run)
    assert purge(hospital, datetime.now(UTC) + timedelta(days=29)) == Purged()
    assert hospital.images.exists(name)
    with hospital.database.writing() as session:
        assert hiding.show(session, [run], "user:admin") == 1
    assert purge(hospital, LATER) == Purged()
    assert visible(hospital) == [run]


def test_a_purge_leaves_no_word_and_no_byte_and_the_chain_whole(hospital: Hospital) -> None:
    device = enrolled_device(hospital)
    _, other = device.run("stays")
    patient, run, film, name = whole_run(hospital, device, b"film")
    hide(hospital, run)
    done = purge(hospital, LATER)
    assert done == Purged(runs=1, records=5, images=1)
    assert not hospital.images.exists(name)
    assert visible(hospital) == [other]
    with hospital.database.reading() as session:
        assert SECRET not in everything(session)
        assert verify_chain(session, device.id) == 3  # the chain's opening, and the other run with its patient
        for table, id in ((PatientRow, patient), (EncounterRow, run), (RadiographRow, film)):
            row = session.get(table, id)
            assert row is not None
            assert row.purged_at is not None
            assert row.content == {}
        assert session.exec(select(func.count()).select_from(InboxRow)).one() == 0
        assert audit.verify(session).whole
    assert purge(hospital, LATER) == Purged()


def test_a_purged_run_does_not_come_back_when_the_device_says_it_again(hospital: Hospital) -> None:
    device = enrolled_device(hospital)
    _, run, film, _ = whole_run(hospital, device, b"film")
    hide(hospital, run)
    purge(hospital, LATER)
    again = device.send()
    assert {outcome.status for outcome in again.outcomes} == {OutcomeStatus.STORED}
    start = len(device.events)
    device.open_chain(after=device.end)
    device.put(RecordType.ENCOUNTER, {"notes": SECRET}, run)
    device.vital_signs(run, spo2=88)
    device.diagnosis(film, ["Mass"])
    device.send(device.events[start:])
    purge(hospital, LATER)
    with hospital.database.reading() as session:
        assert SECRET not in everything(session)
        verify_chain(session, device.id)
        open_bodies = session.exec(select(EventRow.body).where(EventRow.body != "")).all()
    assert all('"open_chain"' in body for body in open_bodies)
    assert visible(hospital) == []


def test_bytes_and_patients_that_others_refer_to_stay(hospital: Hospital) -> None:
    device = enrolled_device(hospital)
    patient, run, _, name = whole_run(hospital, device, b"film")
    second = new_id()
    started = {"patient": patient, "started_at": datetime.now(UTC)}
    device.put(RecordType.ENCOUNTER, started, second)
    film = device.film(second, name)
    device.send()
    hide(hospital, run)
    assert purge(hospital, LATER).images == 0
    assert hospital.images.exists(name)
    with hospital.database.reading() as session:
        kept = session.get(PatientRow, patient)
        assert kept is not None
        assert kept.content["name"] == SECRET
        radiograph = session.get(RadiographRow, film)
        assert radiograph is not None
        assert radiograph.purged_at is None
    hide(hospital, second)
    assert purge(hospital, LATER) == Purged(runs=1, records=3, images=1)
    assert not hospital.images.exists(name)


def test_what_a_crew_deleted_is_purged_as_well(hospital: Hospital) -> None:
    device = enrolled_device(hospital)
    _, run, film, name = whole_run(hospital, device, b"film")
    _, keeps = device.run("stays")
    lost = device.film(keeps, hold(hospital, device, b"another"))
    device.delete(RecordType.ENCOUNTER, run, reason=SECRET)
    device.delete(RecordType.RADIOGRAPH, lost, reason=SECRET)
    device.send()
    assert visible(hospital) == [keeps]
    purge(hospital, LATER)
    assert not hospital.images.exists(name)
    assert not hospital.images.exists(sha256(b"another").hexdigest())
    with hospital.database.reading() as session:
        assert SECRET not in everything(session)
        for table, id in ((EncounterRow, run), (RadiographRow, film), (RadiographRow, lost)):
            row = session.get(table, id)
            assert row is not None
            assert row.purged_at is not None
        assert verify_chain(session, device.id) == 3
    assert visible(hospital) == [keeps]


# --- patients who come again -----------------------------------------------------------------------------------------


def test_a_patient_who_comes_again_is_known_although_the_earlier_run_was_purged(hospital: Hospital) -> None:
    device = enrolled_device(hospital)
    patient, run, *_ = whole_run(hospital, device, b"film")
    hide(hospital, run)
    purge(hospital, LATER)
    second = another_run(device, patient)
    device.send()
    assert shown(hospital, second) == (SECRET, 61, "female")
    device.put(RecordType.PATIENT, {"estimated_age": 70}, patient)
    device.send()
    assert shown(hospital, second) == (SECRET, 70, "female")
    assert purge(hospital, LATER) == Purged()
    assert shown(hospital, second) == (SECRET, 70, "female")
    assert visible(hospital) == [second]


def test_a_purge_between_the_new_run_and_its_patient_takes_nothing(hospital: Hospital) -> None:
    """The two may come in different batches."""
    device = enrolled_device(hospital)
    patient, run, *_ = whole_run(hospital, device, b"film")
    hide(hospital, run)
    purge(hospital, LATER)
    second = another_run(device, patient)
    device.send(device.events[:-1])
    purge(hospital, LATER)
    device.send(device.events[-1:])
    purge(hospital, LATER)
    assert shown(hospital, second) == (SECRET, 61, "female")


def test_a_patient_is_not_purged_while_a_new_run_comes_in(hospital: Hospital) -> None:
    device = enrolled_device(hospital)
    patient, run, *_ = whole_run(hospital, device, b"film")
    hide(hospital, run)
    other = threading.Thread(target=purge, args=(hospital, LATER))

    def meanwhile(*_: object) -> None:
        if other.ident is None:
            other.start()
            other.join(1)  # it waits for this transaction; a purge that did not would be over

    hospital.after_events.append(meanwhile)
    second = another_run(device, patient, whole=False)
    device.send(device.events[-1:])
    other.join(60)
    device.vital_signs(second, spo2=91)
    device.send(device.events[-1:])
    with hospital.database.reading() as session:
        assert session.get_one(EncounterRow, run).purged_at is not None
    assert shown(hospital, second) == (SECRET, 60, "female")


def test_a_patient_whom_the_crew_deleted_stays_deleted(hospital: Hospital) -> None:
    device = enrolled_device(hospital)
    patient, run, *_ = whole_run(hospital, device, b"film")
    device.delete(RecordType.ENCOUNTER, run)
    device.delete(RecordType.PATIENT, patient)
    device.send()
    purge(hospital, LATER)
    second = another_run(device, patient)
    device.send()
    assert shown(hospital, second) == (None, None, None)
    purge(hospital, LATER)
    with hospital.database.reading() as session:
        assert SECRET not in everything(session)


def test_what_was_said_before_a_purge_brings_no_patient_back(hospital: Hospital) -> None:
    """A device with a new chain says all of a patient, stamped with its latest change."""
    device = enrolled_device(hospital)
    patient, run, *_ = whole_run(hospital, device, b"film")
    device.put(RecordType.PATIENT, {"estimated_age": 62}, patient)
    latest = Stamp.parse(device.events[-1].clock)
    device.send()
    hide(hospital, run)
    purge(hospital, LATER)
    device.open_chain(after=device.end)
    device.put(RecordType.PATIENT, {"name": SECRET, "sex": "female", "estimated_age": 62}, patient, latest)
    device.send(device.events[-2:])
    with hospital.database.reading() as session:
        assert session.get_one(PatientRow, patient).content == {}
    purge(hospital, LATER)
    with hospital.database.reading() as session:
        assert SECRET not in everything(session)


def test_a_patient_who_comes_back_without_a_run_is_purged_again(hospital: Hospital) -> None:
    device = enrolled_device(hospital)
    patient, run, *_ = whole_run(hospital, device, b"film")
    hide(hospital, run)
    purge(hospital, LATER)
    device.put(RecordType.PATIENT, {"name": SECRET}, patient)
    device.send()
    assert purge(hospital, LATER) == Purged(records=1)
    with hospital.database.reading() as session:
        assert SECRET not in everything(session)
        verify_chain(session, device.id)


@pytest.mark.parametrize("crews", [False, True], ids=["purged", "deleted by its crew"])
def test_a_patient_is_known_although_it_was_merged_with_one_that_is_gone(hospital: Hospital, crews: bool) -> None:
    device, another = enrolled_device(hospital), enrolled_device(hospital)
    patient, run, *_ = whole_run(hospital, device, b"film")
    into, same = another.run("the same, of another crew")
    another.send()
    with hospital.database.writing() as session:
        merging.merge(session, patient, into, "same identity card", new_id(), "user:admin")
    if crews:
        another.delete(RecordType.ENCOUNTER, same)
        another.delete(RecordType.PATIENT, into)
        another.send()
        assert shown(hospital, run) == (SECRET, 60, "female")
        return
    hide(hospital, run)
    hide(hospital, same)
    for _ in range(2):  # first the one that was merged, then the other
        purge(hospital, LATER)
    second = another_run(device, patient)
    device.send()
    assert shown(hospital, second) == (SECRET, 61, "female")
    with hospital.database.reading() as session:
        [standing] = merging.standing(session)
    assert (standing.patient.name, standing.into.name) == (SECRET, None)


# --- images ----------------------------------------------------------------------------------------------------------


def test_a_preview_that_a_later_reading_replaced_goes_as_well(hospital: Hospital) -> None:
    device = enrolled_device(hospital)
    names = [hold(hospital, device, data, "preview") for data in (b"first", b"second")]
    _, run, film, original = whole_run(hospital, device, b"film")
    for name in names:
        device.put(RecordType.RADIOGRAPH, {"preview_sha256": name, "preview_size": 6}, film)
    device.send()
    assert purge(hospital, datetime.now(UTC) + timedelta(days=29)).images == 0, "it may be named yet"
    hide(hospital, run)
    assert purge(hospital, LATER).images == 3
    assert [hospital.images.exists(name) for name in (*names, original)] == [False] * 3


def test_a_replaced_preview_of_a_run_that_stays_goes_after_the_same_time(hospital: Hospital) -> None:
    device = enrolled_device(hospital)
    first, second = (hold(hospital, device, data, "preview") for data in (b"first", b"second"))
    _, _, film, original = whole_run(hospital, device, b"film")
    for name in (first, second):
        device.put(RecordType.RADIOGRAPH, {"preview_sha256": name, "preview_size": 6}, film)
    device.send()
    assert purge(hospital, LATER) == Purged(images=1)
    assert [hospital.images.exists(name) for name in (first, second, original)] == [False, True, True]


def test_what_is_a_release_as_well_stays(hospital: Hospital) -> None:
    device = enrolled_device(hospital)
    _, run, _, name = whole_run(hospital, device, b"a release")
    now = datetime.now(UTC)
    with hospital.database.writing() as session:
        session.add(ReleaseRow(id="r", sha256=name, size=9, manifest={}, uploaded_at=now, uploaded_by="it"))
    hide(hospital, run)
    assert purge(hospital, LATER).images == 0
    assert hospital.images.exists(name)


def failing(code: str) -> FirstRayError:
    return FirstRayError(code, "what happened", "what to do")


def deleted_films(hospital: Hospital, device: TestDevice, count: int) -> list[str]:
    """SHA-256 of images whose runs are deleted."""
    made = [whole_run(hospital, device, b"film %d" % number) for number in range(count)]
    for _, run, *_ in made:
        hide(hospital, run)
    return sorted(name for *_, name in made)


def test_an_image_that_cannot_be_deleted_keeps_no_other(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    names = deleted_films(hospital, enrolled_device(hospital), 4)
    delete = hospital.images.delete

    def refuse_one(name: str) -> None:
        if name == names[0]:
            raise failing("image_store_failing")
        delete(name)

    with monkeypatch.context() as patched, caplog.at_level(logging.ERROR):
        patched.setattr(hospital.images, "delete", refuse_one)
        assert purge(hospital, LATER) == Purged(runs=4, records=20, images=3, kept=1)
    assert [hospital.images.exists(name) for name in names] == [True, False, False, False]
    assert [record.getMessage() for record in caplog.records] == [
        "1 images could not be deleted and are tried again by the next purge: image_store_failing"
    ]
    assert purge(hospital, LATER) == Purged(images=1)
    assert not hospital.images.exists(names[0])


def test_a_store_that_is_away_is_not_asked_for_every_image(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would take as long as it takes to give the service up."""
    names = deleted_films(hospital, enrolled_device(hospital), 3)
    asked: list[str] = []

    def away(*name: str) -> None:
        asked.extend(name)
        raise failing("image_store_failing")

    with monkeypatch.context() as patched:
        patched.setattr(hospital.images, "delete", away)
        patched.setattr(hospital.images, "check", away)
        with pytest.raises(FirstRayError) as caught:
            purge(hospital, LATER)
    assert caught.value.code == "image_store_failing"
    assert len(asked) == 1
    assert all(hospital.images.exists(name) for name in names)
    assert purge(hospital, LATER) == Purged(images=3)


def test_a_full_store_is_purged(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    names = deleted_films(hospital, enrolled_device(hospital), 2)

    def full() -> None:
        raise failing("image_store_full")

    monkeypatch.setattr(hospital.images, "check", full)
    assert purge(hospital, LATER).images == 2
    assert not any(hospital.images.exists(name) for name in names)


def test_nobody_waits_while_an_image_is_deleted(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store may be slow: meanwhile others write, in the audit log too."""
    device = enrolled_device(hospital)
    deleted_films(hospital, device, 1)
    _, other = device.run("another")
    device.send()
    delete = hospital.images.delete

    def slow(name: str) -> None:
        writer = threading.Thread(target=hide, args=(hospital, other))
        writer.start()
        writer.join(60)
        assert not writer.is_alive()
        delete(name)

    monkeypatch.setattr(hospital.images, "delete", slow)
    assert purge(hospital, LATER).images == 1
    assert visible(hospital) == []


@pytest.mark.parametrize("after", [False, True], ids=["before its bytes are gone", "after"])
def test_a_purge_that_was_cut_off_goes_on(hospital: Hospital, monkeypatch: pytest.MonkeyPatch, after: bool) -> None:
    device = enrolled_device(hospital)
    _, run, _, name = whole_run(hospital, device, b"film")
    hide(hospital, run)
    delete = hospital.images.delete

    def cut(name: str) -> None:
        if after:
            delete(name)
        raise RuntimeError("power")

    with monkeypatch.context() as patched:
        patched.setattr(hospital.images, "delete", cut)
        with pytest.raises(RuntimeError, match="power"):
            purge(hospital, LATER)
    with hospital.database.reading() as session:
        assert session.get(ImageRow, name) is not None
    assert purge(hospital, LATER) == Purged(images=1)
    assert not hospital.images.exists(name)
    with hospital.database.reading() as session:
        assert session.get(ImageRow, name) is None
        assert audit.verify(session).whole
