"""Status, diagnostics and settings."""

from pathlib import Path

import pytest

from edge_app.ui.presenters.status import SettingsPresenter, StatusPresenter
from shared.errors import FirstRayError
from tests.unit.edge_app.presenters.rig import Rig


def settings(rig: Rig, finished: list[str]) -> SettingsPresenter:
    made = SettingsPresenter(rig.desk, rig.station, lambda: finished.append("done"))
    rig.watch(made)
    rig.wait(lambda: made.state.status)
    return made


def test_the_status_is_that_of_the_station(rig: Rig) -> None:
    rig.store.start_run()
    presenter = rig.watch(StatusPresenter(rig.desk, rig.station))
    rig.wait(lambda: presenter.state.status)
    assert presenter.state.status.standing.events_held == 0
    assert presenter.state.status.standing.events_waiting > 0


def test_diagnostics_are_written_where_one_says(rig: Rig, tmp_path: Path) -> None:
    presenter = StatusPresenter(rig.desk, rig.station)
    presenter.export(tmp_path)
    rig.wait(lambda: presenter.state.exported)
    assert presenter.state.exported.read_bytes() == b"PK"
    presenter.export(tmp_path / "nowhere")
    rig.wait(lambda: presenter.state.error)
    assert presenter.state.error.code == "export_failed"


def test_the_receiver_changes_only_to_what_dicom_allows(rig: Rig) -> None:
    presenter = settings(rig, [])
    presenter.set_receiver("a" * 17, "80")
    assert {name for name, _ in presenter.state.wrong} == {"ae_title", "port"}
    assert rig.station.dicom.ae_title == "FIRSTRAY"
    presenter.set_receiver("ambulance1", "11113")
    rig.wait(lambda: presenter.state.done == "receiver")
    assert (rig.station.dicom.ae_title, rig.station.dicom.port) == ("AMBULANCE1", 11113)


def test_a_port_in_use_is_said(rig: Rig) -> None:
    presenter = settings(rig, [])
    rig.station.answers = [FirstRayError("dicom_port_in_use", "", "")]
    presenter.set_receiver("FIRSTRAY", "11112")
    rig.wait(lambda: presenter.state.error)
    assert (presenter.state.error.code, presenter.state.busy) == ("dicom_port_in_use", False)


@pytest.mark.parametrize("answer", [None, FirstRayError("pin_wrong", "", "")])
def test_the_pin_changes_with_the_old_one_and_twice_the_new_one(rig: Rig, answer: FirstRayError | None) -> None:
    finished: list[str] = []
    presenter = settings(rig, finished)
    presenter.change_pin("271828", "314159", "314158")
    assert [name for name, _ in presenter.state.wrong] == ["again"]
    rig.station.answers = [answer]
    presenter.change_pin("271828", "314159", "314159")
    rig.wait(lambda: finished or presenter.state.error)
    assert rig.station.pins == [("change 271828", "314159")]
    assert bool(finished) == (answer is None)
