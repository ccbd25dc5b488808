"""What lists and boards show of a run follows from everything that is known of it, whatever came last."""

import threading
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import delete
from sqlmodel import Session

from shared.calibration import State
from shared.findings import FINDINGS, Urgency
from shared.identity import new_id
from shared.records import RecordType
from sync_server.db.tables import (
    AcknowledgementRow,
    AgreementRow,
    ConfirmedReadingRow,
    DiagnosisRow,
    EncounterRow,
    HistoryRow,
    PatientRow,
    RadiographRow,
    ServerReadingRow,
)
from sync_server.domain import histories
from sync_server.domain.urgency import BANDS, Rank, Seen, critical, rank, urgent
from sync_server.hospital import Hospital
from tests.hospital import TestDevice, enrolled_device
from tests.hospital.devices import NOW, SHA, reading


def history(hospital: Hospital, encounter: UUID) -> HistoryRow:
    with hospital.database.reading() as session:
        return session.get_one(HistoryRow, encounter)


def act(hospital: Hospital, encounter: UUID, *rows: Any) -> HistoryRow:
    """Add rows, rebuild, give the history."""
    with hospital.database.writing() as session:
        session.add_all(rows)
        histories.refresh(session, [encounter])
    return history(hospital, encounter)


def test_a_run_without_films(hospital: Hospital, device: TestDevice) -> None:
    patient, encounter = device.run("김하늘", incident_number="119-042", expected_arrival=NOW + timedelta(minutes=9))
    device.send()
    row = history(hospital, encounter)
    assert (row.patient, row.device, row.name, row.sex) == (patient, device.id, "김하늘", "female")
    assert (row.age, row.age_estimated, row.started_at, row.ended_at) == (60, True, NOW, None)
    assert (row.under_way, row.visible, row.films, row.rank) == (True, True, 0, Rank.NO_FILM)
    assert (row.expected_arrival, row.complaint) == (NOW + timedelta(minutes=9), "dyspnoea")
    assert row.search == "김하늘 119-042 dyspnoea"
    assert (row.top, row.found, row.urgent, row.confirmed, row.differs) == (None, "", [], False, False)


def test_findings_of_all_films_count_and_the_latest_diagnosis_of_each(hospital: Hospital, device: TestDevice) -> None:
    _, encounter = device.run()
    one, two = device.film(encounter), device.film(encounter, "cd" * 32)
    device.diagnosis(one, ["Pneumothorax"], made_at=NOW)
    device.diagnosis(one, ["Mass"], made_at=NOW + timedelta(minutes=1))
    device.diagnosis(two, ["Effusion", "Nodule"])
    device.send()
    row = history(hospital, encounter)
    assert (row.found, row.urgent, row.films) == (",Effusion,Mass,Nodule,", ["Effusion"], 2)
    assert row.rank == Rank.URGENT_FINDING
    assert row.top_probability == 0.8


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (4, 3, 2, 1, 0), (2, 4, 0, 3, 1)])
def test_the_order_in_which_records_arrive_does_not_matter(
    hospital: Hospital, device: TestDevice, order: tuple[int, ...]
) -> None:
    """Each event comes in a chain of its own, so that any may be first."""
    _, encounter = device.run()
    film = device.film(encounter)
    device.vital_signs(encounter, spo2=88)
    device.diagnosis(film, ["Pneumothorax"])
    actions = [event.action for event in device.events[1:]]
    for number in order:
        start = len(device.events)
        device.open_chain()
        device.say(actions[number])
        device.send(device.events[start:])
    row = history(hospital, encounter)
    assert (row.name, row.films, row.rank, row.urgent) == ("김하늘", 1, Rank.IMMEDIATE_FINDING, ["Pneumothorax"])
    assert row.vital_signs is not None
    assert row.vital_signs["spo2"] == 88


def test_the_latest_vital_signs_are_shown(hospital: Hospital, device: TestDevice) -> None:
    _, encounter = device.run()
    device.vital_signs(encounter, spo2=97, taken_at=NOW + timedelta(minutes=5))
    device.vital_signs(encounter, spo2=80, taken_at=NOW)
    device.send()
    row = history(hospital, encounter)
    assert row.vital_signs is not None
    assert (row.vital_signs["spo2"], row.rank) == (97, Rank.NO_FILM)


def test_a_film_that_moves_to_another_run_changes_both(hospital: Hospital, device: TestDevice) -> None:
    _, one = device.run()
    _, two = device.run()
    film = device.film(one)
    device.send()
    assert (history(hospital, one).films, history(hospital, two).films) == (1, 0)
    device.put(RecordType.RADIOGRAPH, {"encounter": two}, film)
    device.send()
    assert (history(hospital, one).films, history(hospital, two).films) == (0, 1)


def test_a_deleted_film_counts_no_more(hospital: Hospital, device: TestDevice) -> None:
    _, encounter = device.run()
    film = device.film(encounter)
    device.diagnosis(film, ["Pneumothorax"])
    device.send()
    device.delete(RecordType.RADIOGRAPH, film)
    device.send()
    row = history(hospital, encounter)
    assert (row.films, row.found, row.rank) == (0, "", Rank.NO_FILM)


def test_a_renamed_patient_is_found_by_the_new_name_in_every_run(hospital: Hospital, device: TestDevice) -> None:
    patient, one = device.run("unknown")
    two = new_id()
    device.put(RecordType.ENCOUNTER, {"patient": patient, "started_at": NOW}, two)
    device.send()
    changes = {"name": "Ｊｏｈｎ Doe", "identifiers": [{"system": "MRN", "value": "A-77"}], "birth_date": "1980-11-28"}
    device.put(RecordType.PATIENT, changes, patient)
    device.send()
    for run in (one, two):
        row = history(hospital, run)
        assert row.search.startswith("john doe a-77")
        assert (row.age, row.age_estimated) == (45, False)


def test_an_end_closes_the_run(hospital: Hospital, device: TestDevice) -> None:
    _, encounter = device.run()
    device.put(RecordType.ENCOUNTER, {"ended_at": NOW + timedelta(hours=1)}, encounter)
    device.send()
    row = history(hospital, encounter)
    assert (row.under_way, row.ended_at) == (False, NOW + timedelta(hours=1))


def test_merged_patients_are_shown_as_the_one_they_were_found_to_be(hospital: Hospital, device: TestDevice) -> None:
    first, one = device.run("미상")
    second, two = device.run("김")
    third, _ = device.run("김하늘")
    device.send()
    with hospital.database.writing() as session:
        session.get_one(PatientRow, first).merged_into = second
        session.get_one(PatientRow, second).merged_into = third
        session.flush()
        assert {one, two} <= histories.of_patients(session, [third])
        histories.refresh(session, histories.of_patients(session, [third]))
    for run in (one, two):
        assert (history(hospital, run).patient, history(hospital, run).name) == (third, "김하늘")
    device.put(RecordType.PATIENT, {"name": "김하늘 (확인)"}, third)
    device.send()
    assert history(hospital, one).name == "김하늘 (확인)"
    with hospital.database.writing() as session:
        session.get_one(PatientRow, first).merged_into = None
        session.flush()
        histories.refresh(session, [one, two])
    assert (history(hospital, one).patient, history(hospital, two).patient) == (first, third)


def test_patients_merged_in_a_circle_harm_nobody(hospital: Hospital, device: TestDevice) -> None:
    first, one = device.run()
    second, _ = device.run()
    device.send()
    with hospital.database.writing() as session:
        session.get_one(PatientRow, first).merged_into = second
        session.get_one(PatientRow, second).merged_into = first
        session.flush()
        histories.refresh(session, histories.of_patients(session, [first]))
    assert history(hospital, one).patient in (first, second)


def test_what_the_hospital_hides_is_not_visible(hospital: Hospital, device: TestDevice) -> None:
    _, encounter = device.run()
    device.send()
    with hospital.database.writing() as session:
        session.get_one(EncounterRow, encounter).hidden_at = NOW
        session.flush()
        histories.refresh(session, [encounter])
    assert history(hospital, encounter).visible is False


def test_a_purged_run_has_no_history(hospital: Hospital, device: TestDevice) -> None:
    _, encounter = device.run()
    device.send()
    with hospital.database.writing() as session:
        row = session.get_one(EncounterRow, encounter)
        row.content, row.purged_at = {}, NOW
        session.flush()
        histories.refresh(session, [encounter])
    with hospital.database.reading() as session:
        assert session.get(HistoryRow, encounter) is None


def test_what_the_er_does_is_shown(hospital: Hospital, device: TestDevice) -> None:
    _, encounter = device.run()
    film = device.film(encounter)
    device.diagnosis(film, ["Pneumothorax", "Mass"])
    device.send()
    by = {"by": new_id(), "by_name": "Dr Kim"}
    seen = [AcknowledgementRow(id=new_id(), encounter=encounter, at=NOW + timedelta(minutes=n), **by) for n in (2, 1)]
    assert act(hospital, encounter, *seen).acknowledged_at == NOW + timedelta(minutes=2)
    first = ConfirmedReadingRow(
        id=new_id(), encounter=encounter, radiograph=film, findings={"Pneumothorax": "unsure"}, at=NOW, **by
    )
    row = act(hospital, encounter, first)
    assert (row.confirmed, row.urgent) == (True, ["Pneumothorax"])
    later = ConfirmedReadingRow(
        id=new_id(),
        encounter=encounter,
        radiograph=film,
        findings={"Pneumothorax": "absent", "Effusion": "present"},
        at=NOW + timedelta(minutes=1),
        **by,
    )
    row = act(hospital, encounter, later)
    assert (row.urgent, row.found, row.rank) == (["Effusion"], ",Effusion,Mass,", Rank.URGENT_FINDING)


@pytest.mark.parametrize("significant", [True, False])
def test_a_hospital_reading_counts_where_it_differs_in_a_way_that_matters(
    hospital: Hospital, device: TestDevice, significant: bool
) -> None:
    _, encounter = device.run()
    film = device.film(encounter)
    diagnosis = device.diagnosis(film, ["Mass"])
    device.send()
    theirs = ServerReadingRow(
        id=new_id(),
        sha256=SHA,
        release="another",
        state="done",
        asked_at=NOW,
        due_at=NOW,
        result=reading(["Pneumothorax"]),
    )
    agreement = AgreementRow(
        diagnosis=diagnosis,
        reading=theirs.id,
        radiograph=film,
        changes={},
        significant=significant,
        at=NOW,
    )
    row = act(hospital, encounter, theirs, agreement)
    assert row.differs is significant
    assert row.urgent == (["Pneumothorax"] if significant else [])
    assert row.top == ("Pneumothorax" if significant else "Mass")


def test_a_film_that_could_not_be_read_needs_a_look(hospital: Hospital, device: TestDevice) -> None:
    _, encounter = device.run()
    film = device.film(encounter)
    device.send()
    assert history(hospital, encounter).rank == Rank.NOT_READ
    device.put(RecordType.DIAGNOSIS, {"radiograph": film, "made_at": NOW, "error": "dicom_truncated"})
    device.send()
    assert history(hospital, encounter).rank == Rank.NOT_READ


def test_names_that_no_finding_has_are_not_shown(hospital: Hospital, device: TestDevice) -> None:
    _, encounter = device.run()
    film = device.film(encounter)
    result = reading(["Mass"])
    result["states"]["<script>\x00"] = "likely"
    result["top3"].insert(0, {"finding": "\x00", "probability": 1.0})
    device.put(RecordType.DIAGNOSIS, {"radiograph": film, "made_at": NOW, "result": result})
    assert [outcome.code for outcome in device.send().outcomes] == [None] * len(device.events)
    assert (history(hospital, encounter).found, history(hospital, encounter).top) == (",Mass,", "Mass")


def test_two_who_change_one_run_at_once_lose_nothing(hospital: Hospital, device: TestDevice) -> None:
    """An acknowledgement and a film, committed at the same time: the history has both, ten times out of ten."""
    for _ in range(10):
        device = enrolled_device(hospital)
        _, encounter = device.run()
        device.send()
        device.film(encounter)
        start = threading.Barrier(2)

        def acknowledge(encounter: UUID = encounter, start: threading.Barrier = start) -> None:
            def act(session: Session) -> None:
                row = AcknowledgementRow(id=new_id(), encounter=encounter, by=new_id(), by_name="Kim", at=NOW)
                session.add(row)
                histories.refresh(session, [encounter])

            start.wait(50)
            hospital.database.write(act)

        def send(device: TestDevice = device, start: threading.Barrier = start) -> None:
            start.wait(50)
            device.send()

        threads = [threading.Thread(target=one) for one in (acknowledge, send)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        row = history(hospital, encounter)
        assert (row.films, row.acknowledged_at) == (1, NOW)


def test_many_runs_are_rebuilt_in_pieces(
    hospital: Hospital, device: TestDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [device.run(f"patient {number}")[1] for number in range(7)]
    device.send()
    monkeypatch.setattr(histories, "_SOME", 2)
    with hospital.database.writing() as session:
        session.execute(delete(HistoryRow))
        histories.refresh(session, runs)
    assert {history(hospital, run).name for run in runs} == {f"patient {number}" for number in range(7)}


def test_touched_records_lead_to_their_runs(hospital: Hospital, device: TestDevice) -> None:
    patient, encounter = device.run()
    film, signs = device.film(encounter), device.vital_signs(encounter, spo2=90)
    diagnosis = device.diagnosis(film)
    device.send()
    touched = {
        RecordType.PATIENT: patient,
        RecordType.ENCOUNTER: encounter,
        RecordType.RADIOGRAPH: film,
        RecordType.VITAL_SIGNS: signs,
        RecordType.DIAGNOSIS: diagnosis,
    }
    with hospital.database.reading() as session:
        for type, id in touched.items():
            assert histories.touched_by(session, {type: [id]}) == {encounter}
        assert histories.touched_by(session, {type: [new_id()] for type in RecordType if type != "encounter"}) == set()
        assert session.get(RadiographRow, film) is not None
        assert session.get(DiagnosisRow, diagnosis) is not None


# --- urgency ---------------------------------------------------------------------------------------------------------

IMMEDIATE = next(one.key for one in FINDINGS if one.urgency is Urgency.IMMEDIATE)
URGENT = next(one.key for one in FINDINGS if one.urgency is Urgency.URGENT)
ROUTINE = next(one.key for one in FINDINGS if one.urgency is Urgency.ROUTINE)


@pytest.mark.parametrize(
    ("films", "vital_signs", "expected"),
    [
        ([Seen(frozenset({ROUTINE, IMMEDIATE}), read=True)], {"spo2": 70}, Rank.IMMEDIATE_FINDING),
        ([Seen(frozenset({URGENT}), read=True)], {"spo2": 70}, Rank.CRITICAL_VITAL_SIGN),
        ([], {"gcs": 8}, Rank.CRITICAL_VITAL_SIGN),
        ([Seen(frozenset({URGENT}), read=True, differs=True)], None, Rank.URGENT_FINDING),
        ([Seen(read=True, differs=True, open=True)], None, Rank.READINGS_DIFFER),
        ([Seen(read=True, open=True), Seen()], None, Rank.NOT_EXCLUDED),
        ([Seen(frozenset({ROUTINE}), read=True), Seen()], {"spo2": 99}, Rank.NOT_READ),
        ([Seen(frozenset({ROUTINE}), read=True)], None, Rank.FINDING),
        ([Seen(read=True)], {}, Rank.NOTHING_LIKELY),
        ([], None, Rank.NO_FILM),
    ],
)
def test_ranks(films: list[Seen], vital_signs: dict[str, int] | None, expected: Rank) -> None:
    assert rank(films, vital_signs) is expected


@pytest.mark.parametrize("name", BANDS)
def test_bands_of_vital_signs(name: str) -> None:
    low, high = BANDS[name]
    assert critical({name: low}) == critical({name: high}) == critical({name: None}) == ()
    assert critical({name: low - 1}) == (name,)


def test_urgent_findings_are_told_most_urgent_first() -> None:
    assert urgent([ROUTINE, URGENT, IMMEDIATE]) == [IMMEDIATE, URGENT]
    assert State.LIKELY == "likely"
