"""Which runs the board shows, in which order, and what it says of their films."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from shared.errors import FirstRayError
from shared.hospital import Presence
from shared.identity import new_id
from shared.records import RecordType
from sync_server.domain import accounts, acts, board, loose
from sync_server.domain.accounts import Person, Role
from sync_server.domain.film_states import FilmState
from sync_server.domain.vital_signs import mark
from sync_server.hospital import Hospital
from tests.hospital import TestDevice, enrolled_device
from tests.web.scene import Scene, diagnosis

NOW = datetime.now(UTC)


@pytest.fixture
def device(hospital: Hospital) -> TestDevice:
    return enrolled_device(hospital, "Ambulance 12")


def run(device: TestDevice, minutes: float = 10, **more: object) -> UUID:
    return device.run(started_at=NOW - timedelta(minutes=minutes), **more)[1]


def shown(hospital: Hospital, device: TestDevice) -> board.Board:
    device.send()
    with hospital.database.reading() as session:
        return board.read(session, NOW)


def test_the_most_urgent_is_first_and_the_longest_under_way_before_the_shorter(
    hospital: Hospital, device: TestDevice
) -> None:
    quiet = run(device, 50)
    device.diagnosis(device.film(quiet), [])
    younger, older = run(device, 5), run(device, 30)
    urgent = run(device, 2)
    device.diagnosis(device.film(urgent), ["Pneumothorax"])
    seen = shown(hospital, device)
    assert [one.run.encounter for one in seen.under_way] == [urgent, quiet, older, younger]
    assert [one.immediate for one in seen.under_way] == [True, False, False, False]
    assert {one.device for one in seen.under_way} == {"Ambulance 12"}


def test_ended_and_forgotten_runs_stand_apart(hospital: Hospital, device: TestDevice) -> None:
    going = run(device)
    ended = run(device, 120, ended_at=NOW - timedelta(minutes=5))
    run(device, 800, ended_at=NOW - timedelta(hours=7))
    forgotten = run(device, 60 * 30)
    seen = shown(hospital, device)
    assert [one.run.encounter for one in seen.under_way] == [going]
    assert [one.run.encounter for one in seen.arrived] == [ended]
    assert [one.run.encounter for one in seen.stale] == [forgotten]


def test_a_deleted_run_is_not_there(hospital: Hospital, device: TestDevice) -> None:
    device.delete(RecordType.ENCOUNTER, run(device))
    assert shown(hospital, device).under_way == ()


def test_more_than_fit_are_counted(hospital: Hospital, device: TestDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "MOST", 2)
    for _ in range(3):
        run(device)
    seen = shown(hospital, device)
    assert (len(seen.under_way), seen.more) == (2, 1)


def test_what_became_of_the_films_is_said(hospital: Hospital, device: TestDevice) -> None:
    encounter = run(device)
    device.film(encounter)
    unreadable, refused, mended = (device.film(encounter, sha256=new_id().hex * 2) for _ in range(3))
    for film in (unreadable, mended):
        device.put(RecordType.DIAGNOSIS, {"radiograph": film, "made_at": NOW, "error": "dicom_truncated"})
    no_chest = diagnosis("ab" * 32, {}, []) | {"probabilities": {}, "states": {}, "top3": []}
    device.diagnosis(refused, result=no_chest)
    device.put(
        RecordType.DIAGNOSIS,
        {
            "radiograph": mended,
            "made_at": NOW + timedelta(seconds=1),
            "result": diagnosis("ab" * 32, {"Mass": 0.6}, []),
        },
    )
    (entry,) = shown(hospital, device).under_way
    assert entry.films == dict.fromkeys(FilmState, 1)
    assert entry.open == ("Edema",)
    assert entry.suspected == ("Mass",)


def test_what_a_physician_has_judged_is_no_longer_open(hospital: Hospital, device: TestDevice) -> None:
    encounter = run(device)
    film = device.film(encounter)
    device.diagnosis(film, result=diagnosis("ab" * 32, {}, []))
    assert shown(hospital, device).under_way[0].open == ("Edema",)
    with hospital.database.writing() as session:
        row = accounts.create_user(session, "doctor", "이서연", Role.ER, "fifteen quiet ambulances", "test")
    doctor = Person(row.id, row.login, row.name, Role.ER, "ko", "", NOW)
    acts.confirm(hospital, doctor, encounter, film, {"Edema": Presence.ABSENT})
    with hospital.database.reading() as session:
        (entry,) = board.read(session, NOW).under_way
    assert entry.open == ()
    assert entry.run.confirmed


@pytest.mark.parametrize(
    ("name", "value", "age", "expected"),
    [
        ("spo2", 91, 60, "urgent"),
        ("spo2", 92, 60, "warning"),
        ("spo2", 94, 60, ""),
        ("respiratory_rate", 8, None, "urgent"),
        ("respiratory_rate", 12, None, ""),
        ("respiratory_rate", 25, 16, "urgent"),
        ("heart_rate", 131, 60, "urgent"),
        ("heart_rate", 111, 60, "warning"),
        ("heart_rate", 131, 15, ""),
        ("systolic", 90, 60, "urgent"),
        ("systolic", 220, 60, "urgent"),
        ("systolic", 150, 60, ""),
        ("diastolic", 20, 60, ""),
        ("gcs", 8, 60, "urgent"),
        ("gcs", 14, 60, "warning"),
        ("gcs", 15, 60, ""),
        ("spo2", None, 60, ""),
    ],
)
def test_vital_signs_that_stand_out(name: str, value: int | None, age: int | None, expected: str) -> None:
    assert mark(name, value, age) == expected


def test_images_of_no_run_are_shown_until_the_crew_says_whose_they_are(hospital: Hospital, device: TestDevice) -> None:
    going = run(device)
    quiet, urgent = device.film(None), device.film(None)
    device.diagnosis(urgent, ["Pneumothorax", "Mass"])
    seen = shown(hospital, device)
    assert [film.id for film in seen.loose] == [urgent, quiet]
    assert (seen.loose[0].urgent, seen.loose[0].immediate) == (("Pneumothorax",), True)
    assert set(seen.loose[0].suspected) == {"Pneumothorax", "Mass"}
    assert seen.loose[0].device == "Ambulance 12"
    assert (seen.loose[1].state, seen.loose[1].suspected) == (FilmState.WAITING, ())
    device.put(RecordType.RADIOGRAPH, {"encounter": going}, urgent)
    seen = shown(hospital, device)
    assert [film.id for film in seen.loose] == [quiet]
    assert seen.under_way[0].immediate
    device.delete(RecordType.RADIOGRAPH, quiet)
    assert shown(hospital, device).loose == ()


def test_what_the_hospital_reads_in_an_image_of_no_run_is_urgent_too(hospital: Hospital, device: TestDevice) -> None:
    calm, film = device.film(None, "cd" * 32), device.film(None)
    for one, sha256 in ((calm, "cd" * 32), (film, "ab" * 32)):
        device.diagnosis(one, result=diagnosis(sha256, {}, []))
    assert [one.urgent for one in shown(hospital, device).loose] == [(), ()]
    heard: list[object] = []
    hospital.changes.publish = lambda _, *topics: heard.extend(topics)  # type: ignore[method-assign]
    theirs = diagnosis("ab" * 32, {"Pneumothorax": 0.9}, [], precision="fp32", runtime="onnx")
    Scene(hospital, device).reads(theirs)
    assert "board" in heard, "open boards are told"
    with hospital.database.reading() as session:
        first, second = board.read(session, NOW).loose
        one = loose.read(session, film)
    assert (first.id, first.urgent, first.differs, first.immediate) == (film, ("Pneumothorax",), True, True)
    assert (second.id, second.differs) == (calm, False)
    assert (one.device, one.encounter) == ("Ambulance 12", None)
    assert one.film.server is not None
    assert one.film.agreement is not None


def test_a_deleted_image_of_no_run_cannot_be_looked_at(hospital: Hospital, device: TestDevice) -> None:
    film = device.film(None)
    device.delete(RecordType.RADIOGRAPH, film)
    device.send()
    for gone in (film, new_id()):
        with hospital.database.reading() as session, pytest.raises(FirstRayError) as caught:
            loose.read(session, gone)
        assert caught.value.code == "loose_film_unknown"
