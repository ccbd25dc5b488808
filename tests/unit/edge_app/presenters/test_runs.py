"""Home, who the patient is, and patients seen before."""

from dataclasses import replace
from uuid import UUID

import pytest

from edge_app.capture.dicom import ReceiverStatus
from edge_app.ui.presenters.run import RunPresenter
from edge_app.ui.presenters.runs import BeginPresenter, KnownPresenter, RunsPresenter
from shared.errors import FirstRayError
from shared.records import Sex
from tests.unit.edge_app.presenters.rig import Rig
from tests.unit.edge_app.store.samples import receive


def test_home_lists_runs_under_way_and_past_ones_and_follows_changes(rig: Rig) -> None:
    over = rig.store.start_run(who={"name": "Kim"})
    rig.store.end_run(over)
    home = rig.watch(RunsPresenter(rig.desk, rig.station))
    rig.wait(lambda: not home.state.loading)
    assert (home.state.under_way, [row.id for row in home.state.past]) == ((), [over])
    run = rig.store.start_run()
    rig.wait(lambda: home.state.under_way)
    assert [row.id for row in home.state.under_way] == [run]


def test_images_that_wait_are_counted(rig: Rig) -> None:
    home = rig.watch(RunsPresenter(rig.desk, rig.station))
    receive(rig.store)
    receive(rig.store)
    rig.wait(lambda: len(home.state.waiting) == 2)


def test_search_finds_runs_and_patients(rig: Rig) -> None:
    rig.store.start_run(who={"name": "김영희"})
    found = rig.store.start_run(who={"name": "Daniel Okafor"})
    home = rig.watch(RunsPresenter(rig.desk, rig.station))
    home.search(" okafor ")
    rig.wait(lambda: [row.id for row in home.state.under_way] == [found])
    home.show_patients(True)
    rig.wait(lambda: [one.fields.name for one in home.state.patients] == ["Daniel Okafor"])
    home.search("")
    rig.wait(lambda: len(home.state.patients) == 2)


def test_one_tap_opens_a_run_for_somebody_unknown(rig: Rig) -> None:
    begun: list[UUID] = []
    presenter = BeginPresenter(rig.desk, rig.station, begun.append)
    presenter.choose_age(60)
    presenter.begin(Sex.MALE)
    presenter.begin(Sex.FEMALE)
    rig.wait(lambda: begun)
    rig.settle()
    (run,) = begun
    who = rig.store.run(run).patient.fields
    assert (who.sex, who.estimated_age, who.name) == (Sex.MALE, 60, None)
    assert len(rig.store.runs()) == 1, "a second tap opens nothing"


def test_a_known_patient_gets_another_run(rig: Rig) -> None:
    first = rig.store.start_run(who={"name": "Kim"})
    patient = rig.store.run(first).patient.id
    begun: list[UUID] = []
    known = rig.watch(KnownPresenter(rig.desk, rig.station, patient, begun.append))
    rig.wait(lambda: known.state.patient)
    known.begin()
    rig.wait(lambda: begun)
    rig.wait(lambda: len(known.state.runs) == 2)
    assert [run.row.id for run in known.state.runs] == [begun[0], first], "latest first"
    assert rig.store.patient(patient).runs == 2


def test_a_nameless_patients_runs_are_all_there(rig: Rig) -> None:
    first = rig.store.start_run(who={"sex": Sex.MALE})
    patient = rig.store.run(first).patient.id
    second = rig.store.start_run(patient)
    rig.store.end_run(first)
    rig.store.start_run(who={"sex": Sex.MALE})
    known = rig.watch(KnownPresenter(rig.desk, rig.station, patient, lambda _: None))
    rig.wait(lambda: known.state.patient)
    assert [run.row.id for run in known.state.runs] == [second, first]


def test_home_says_why_no_image_can_come_or_be_read(rig: Rig) -> None:
    home = rig.watch(RunsPresenter(rig.desk, rig.station))
    rig.wait(lambda: not home.state.loading)
    assert (home.state.not_receiving, home.state.not_reading) == (None, None)
    rig.station.receiver_error = FirstRayError("dicom_port_in_use", "", "")
    rig.station.models_error = FirstRayError("release_missing", "", "")
    home.reload()
    rig.wait(lambda: home.state.not_receiving is not None)
    assert home.state.not_receiving.code == "dicom_port_in_use"
    assert home.state.not_reading.code == "release_missing"


def test_a_receiver_that_does_not_listen_is_said_whatever_the_cause(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    status = rig.station.status
    monkeypatch.setattr(rig.station, "status", lambda: replace(status(), receiver=ReceiverStatus(listening=False)))
    home = rig.watch(RunsPresenter(rig.desk, rig.station))
    run = rig.watch(RunPresenter(rig.desk, rig.station, rig.store.start_run()))
    rig.wait(lambda: not home.state.loading and run.state.run)
    assert home.state.not_receiving is not None
    assert home.state.not_receiving.code == "dicom_not_listening"
    assert not run.state.receiving
