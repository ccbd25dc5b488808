"""Runs, patients and vital signs: what is written is read, found, and told the hospital once."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text as sql

from edge_app.store.errors import StoreError
from edge_app.store.store import Store
from edge_app.store.views import Change, Delivery
from shared.events import Event, OpenChain, Put
from shared.identity import new_id
from shared.records import RecordType, Sex
from tests.unit.edge_app.store.samples import arrival, diagnosis, events, open_store, receive


def code(error: pytest.ExceptionInfo[StoreError]) -> str:
    return error.value.code


def actions(store: Store) -> list[object]:
    return [Event.model_validate_json(row.body or "").action for row in events(store)]


def test_a_run_of_an_unknown_patient(store: Store) -> None:
    id = store.start_run()
    run = store.run(id)
    assert run.row.encounter.ended_at is None
    assert run.row.encounter.started_at is not None
    assert run.patient.fields.name is None
    assert run.patient.runs == 1
    assert (run.films, run.vital_signs, run.row.latest, run.row.delivery) == ((), (), None, Delivery.WAITING)
    opening, patient, encounter = actions(store)
    assert opening == OpenChain(after=None)
    assert isinstance(patient, Put)
    assert (patient.type, patient.fields) == (RecordType.PATIENT, {})
    assert isinstance(encounter, Put)
    assert encounter.fields["patient"] == str(run.patient.id)


def test_everything_can_be_changed_later_and_only_what_differs_is_told(store: Store) -> None:
    id = store.start_run(who={"name": "Kim Min-jun", "sex": "male"})
    patient = store.run(id).patient.id
    before = len(events(store))
    store.change(RecordType.PATIENT, patient, {"name": "Kim Min-jun", "sex": Sex.MALE})
    assert len(events(store)) == before
    store.change(RecordType.PATIENT, patient, {"name": "Kim Min-jun", "estimated_age": 61, "sex": None})
    last = actions(store)[-1]
    assert isinstance(last, Put)
    assert last.fields == {"estimated_age": 61, "sex": None}
    assert store.patient(patient).fields.model_dump(exclude_none=True) == {
        "name": "Kim Min-jun",
        "estimated_age": 61,
        "identifiers": (),
    }


def test_a_run_ends_once_and_can_go_on(store: Store) -> None:
    id = store.start_run()
    store.end_run(id)
    ended = store.run(id).row.encounter.ended_at
    store.end_run(id)
    assert store.run(id).row.encounter.ended_at == ended
    assert store.runs(under_way=True) == []
    store.reopen_run(id)
    assert [row.id for row in store.runs(under_way=True)] == [id]
    assert store.runs(under_way=False) == []


def test_a_second_run_of_a_known_patient(store: Store) -> None:
    first = store.start_run(who={"name": "Lee"})
    patient = store.run(first).patient.id
    second = store.start_run(patient, {"estimated_age": 40})
    assert store.run(second).patient.runs == 2
    assert store.run(first).row.who.estimated_age == 40
    assert [each.id for each in store.patients("lee")] == [patient]


def test_another_run_says_all_of_its_patient_again(store: Store) -> None:
    """The hospital may have purged it with an earlier run. The run is said first: a patient of no run is purged."""
    first = store.start_run(who={"name": "Lee", "estimated_age": 40})
    patient = store.run(first).patient.id
    for who, age in (({}, 40), ({"estimated_age": 41}, 41)):
        run = store.start_run(patient, who)
        encounter, said = actions(store)[-2:]
        assert isinstance(encounter, Put)
        assert (encounter.type, encounter.id) == (RecordType.ENCOUNTER, run)
        assert isinstance(said, Put)
        assert (said.type, said.id) == (RecordType.PATIENT, patient)
        assert said.fields == {
            "name": "Lee",
            "birth_date": None,
            "estimated_age": age,
            "sex": None,
            "identifiers": [],
        }
        assert store.run(run).patient.fields.estimated_age == age


def test_vital_signs_latest_first_and_one_set_can_be_removed(store: Store) -> None:
    run = store.start_run()
    early = store.add_vital_signs(run, {"spo2": 88, "taken_at": datetime.now(UTC) - timedelta(minutes=9)})
    late = store.add_vital_signs(run, {"spo2": 94, "gcs": 15})
    assert [signs.id for signs in store.run(run).vital_signs] == [late, early]
    store.change(RecordType.VITAL_SIGNS, late, {"spo2": 95})
    assert store.run(run).vital_signs[0].fields.spo2 == 95
    store.delete_vital_signs(late)
    assert [signs.id for signs in store.run(run).vital_signs] == [early]
    with pytest.raises(StoreError) as error:
        store.delete_vital_signs(late)
    assert code(error) == "record_unknown"


@pytest.mark.parametrize(
    ("type", "fields", "named"),
    [
        (RecordType.PATIENT, {"estimated_age": 400}, "estimated_age"),
        (RecordType.PATIENT, {"nickname": "x"}, "nickname"),
        (RecordType.PATIENT, {"name": "a\x00b"}, "name"),
        (RecordType.ENCOUNTER, {"started_at": None}, "started_at"),
        (RecordType.ENCOUNTER, {"ended_at": datetime(2026, 1, 1)}, "ended_at"),
        (RecordType.ENCOUNTER, {"patient": None}, "patient"),
    ],
)
def test_a_bad_value_names_its_field_never_the_value(
    store: Store, type: RecordType, fields: dict[str, object], named: str
) -> None:
    run = store.run(store.start_run())
    before = len(events(store))
    with pytest.raises(StoreError) as error:
        store.change(type, run.patient.id if type is RecordType.PATIENT else run.row.id, fields)
    assert code(error) == "value_not_allowed"
    assert error.value.fields == (named,)
    assert "400" not in str(error.value)
    assert len(events(store)) == before


@pytest.mark.parametrize("type", list(RecordType))
def test_an_unknown_record(store: Store, type: RecordType) -> None:
    with pytest.raises(StoreError) as error:
        store.change(type, new_id(), {})
    assert code(error) == "record_unknown"


def test_a_reference_to_nothing_changes_nothing(store: Store) -> None:
    run = store.start_run()
    film = receive(store)
    before = len(events(store))
    for action in (
        lambda: store.start_run(new_id()),
        lambda: store.add_vital_signs(new_id(), {"spo2": 90}),
        lambda: store.assign(film, new_id()),
        lambda: store.change(RecordType.ENCOUNTER, run, {"patient": new_id()}),
    ):
        with pytest.raises(StoreError) as error:
            action()
        assert code(error) == "record_unknown"
    assert len(events(store)) == before
    assert len(store.runs()) == 1


def test_search_looks_at_name_number_incident_and_complaint_in_any_case_and_form(store: Store) -> None:
    decomposed = "\u1100\u1175\u11b7\u1106\u1175\u11ab\u110c\u116e\u11ab"  # 김민준 in conjoining jamo
    wanted = store.start_run(
        who={"name": decomposed, "identifiers": [{"system": "hospital", "value": "MRN-4711"}]},
        encounter={"incident_number": "I-99", "chief_complaint": "Fell from a Ladder"},
    )
    store.start_run(who={"name": "Park"}, encounter={"chief_complaint": "cough, 100%_ sure"})
    for text in ("김민", "민준", "mrn-47", "i-99", "LADDER fell", "김민준 4711"):
        assert [row.id for row in store.runs(text)] == [wanted], text
    assert store.runs("ladder cough") == []
    assert len(store.runs("100%_")) == 1
    assert store.runs("%") != store.runs("")
    patient = store.run(wanted).patient.id
    store.change(RecordType.PATIENT, patient, {"name": "Choi"})
    assert store.runs("김민") == []
    assert [row.id for row in store.runs("choi ladder")] == [wanted]
    assert [each.id for each in store.patients("choi")] == [patient]


def test_pages_follow_each_other_without_gap_or_repeat(store: Store) -> None:
    start = datetime(2026, 3, 1, tzinfo=UTC)
    ids = [store.start_run(encounter={"started_at": start + timedelta(hours=hour // 2)}) for hour in range(9)]
    listed: list[UUID] = []
    while page := store.runs(limit=2, before=listed[-1] if listed else None):
        listed += [row.id for row in page]
    assert listed == ids[::-1]
    some = store.runs(since=start + timedelta(hours=1), until=start + timedelta(hours=3))
    assert [row.id for row in some] == ids[2:6][::-1]


def test_runs_by_finding_and_what_is_urgent(store: Store) -> None:
    run, other = store.start_run(), store.start_run()
    film, second = receive(store), receive(store)
    store.add_reading(film, diagnosis=diagnosis("Effusion", "Mass", urgent=("Effusion",)), error=None)
    store.add_reading(second, diagnosis=diagnosis("Pneumothorax", urgent=("Pneumothorax",)), error=None)
    store.assign(film, run)
    store.assign(second, run)
    assert [row.id for row in store.runs(finding="Mass")] == [run]
    assert store.runs(finding="Edema") == []
    assert store.run(run).row.urgent == ("Pneumothorax", "Effusion")
    store.assign(film, other)
    assert [row.id for row in store.runs(finding="Mass")] == [other]
    assert store.run(run).row.urgent == ("Pneumothorax",)
    store.add_reading(film, diagnosis=diagnosis("Edema"), error=None)
    assert store.runs(finding="Mass") == []


def test_listeners_hear_after_the_commit_and_of_nothing_else(store: Store) -> None:
    heard: list[Change] = []
    seen: list[int] = []
    store.listen(heard.append)
    store.listen(lambda _: seen.append(len(store.runs())))
    run = store.start_run()
    assert {Change("run", run), Change("delivery")} <= set(heard)
    assert set(seen) == {1}
    heard.clear()
    with pytest.raises(StoreError):
        store.change(RecordType.ENCOUNTER, run, {"patient": None})
    store.change(RecordType.ENCOUNTER, run, {})
    assert heard == []


def test_settings_and_room_and_everything_else_survive_closing(folder: Path) -> None:
    store = open_store(folder)
    run = store.start_run(who={"name": "Han"})
    store.set_setting("language", "ko")
    assert store.setting("theme", "dark") == "dark"
    with pytest.raises(StoreError):
        store.set_setting("_device", "x")
    device = store.device
    store.close()
    again = open_store(folder)
    assert (again.setting("language"), again.device) == ("ko", device)
    assert again.run(run).row.who.name == "Han"
    assert again.room().free > 0
    assert again.room().database > 0
    again.close()


def test_the_clock_never_goes_back_over_a_restart(folder: Path) -> None:
    store = open_store(folder)
    store.start_run()
    last = Event.model_validate_json(events(store)[-1].body or "").clock
    store.close()
    again = open_store(folder)
    again._journal.clock._wall_ms = lambda: 0
    again.start_run()
    assert Event.model_validate_json(events(again)[-1].body or "").clock > last
    again.close()


def test_a_listener_that_fails_harms_nobody(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Change] = []
    store.listen(lambda change: 1 / 0)
    store.listen(heard.append)
    run = store.start_run(who={"name": "Kim"})
    assert Change("run", run) in heard
    assert "a listener to the store failed" in caplog.text
    assert "Kim" not in caplog.text


def test_no_patient_data_in_errors_of_the_database(store: Store) -> None:
    with pytest.raises(Exception, match="no such table") as error, store._database.writing() as session:
        session.execute(sql("INSERT INTO missing VALUES (:name)"), {"name": "Kim"})
    assert "Kim" not in str(error.value)


def test_a_closed_store_does_nothing_more(folder: Path) -> None:
    store = open_store(folder)
    spool = store.spool()
    spool.write(b"half")
    store.close()
    for action in (store.runs, store.start_run, lambda: spool.commit(arrival())):
        with pytest.raises(StoreError) as error:
            action()
        assert code(error) == "store_closed"
    again = open_store(folder)
    assert (again.runs(), again.waiting_films()) == ([], [])
    again.close()


def test_runs_of_one_patient_are_listed_whatever_the_name(store: Store) -> None:
    first = store.start_run()
    patient = store.run(first).patient.id
    second = store.start_run(patient)
    store.start_run()
    assert [row.id for row in store.runs(patient=patient)] == [second, first]
    store.end_run(second)
    assert [row.id for row in store.runs(patient=patient, under_way=True)] == [first]
    assert store.runs(patient=new_id()) == []
