"""A hospital is looked for, recognised, and told something only after a yes."""

from dataclasses import replace

import pytest

from edge_app.enrolment import Recognised
from edge_app.hospital_access import HospitalAccess
from edge_app.sync import Hospital
from edge_app.ui.presenters.enrol import Doing, EnrolPresenter
from shared.enrolment import EnrolmentCode
from shared.errors import FirstRayError
from tests.unit.edge_app.presenters.rig import Rig

URL = "http://127.0.0.1:8000"
CODE = "2345-6789-ABCD-EFGH-JKMN-PQRS-TVWX-YZ23"
CITY = Recognised(Hospital(URL, name="City Hospital"), EnrolmentCode.parse(CODE))


def filled(rig: Rig, finished: list[str] | None = None) -> EnrolPresenter:
    """The form with address and code typed."""
    rig.station.answering = {URL: CITY}
    made = EnrolPresenter(rig.desk, rig.station, lambda: (finished if finished is not None else []).append("done"))
    rig.watch(made)
    rig.settle()
    made.write(address=URL)
    made.write(code=CODE)
    return made


def asked(rig: Rig) -> list[str]:
    return [what.split()[0] for what, _ in rig.station.pins]


def test_nothing_is_told_before_the_yes_and_then_the_hospital_is_known(rig: Rig) -> None:
    finished: list[str] = []
    presenter = filled(rig, finished)
    presenter.look()
    assert presenter.state.doing is Doing.LOOKING
    rig.wait(lambda: presenter.state.found)
    assert presenter.state.found.hospital.name == "City Hospital"
    assert asked(rig) == ["recognise"]
    presenter.accept()
    rig.wait(lambda: finished)
    assert asked(rig) == ["recognise", "register"]
    state = presenter.state
    assert (state.hospital.name, state.found, state.code, state.doing) == ("City Hospital", None, "", Doing.NOTHING)


def test_a_no_leads_back_to_what_was_typed(rig: Rig) -> None:
    presenter = filled(rig)
    presenter.look()
    rig.wait(lambda: presenter.state.found)
    presenter.decline()
    assert (presenter.state.found, presenter.state.address, presenter.state.code) == (None, URL, CODE)
    presenter.accept()
    rig.settle()
    assert asked(rig) == ["recognise"]


@pytest.mark.parametrize(
    ("address", "code", "wrong"),
    [
        ("", CODE, {"address"}),
        ("https://", CODE, {"address"}),
        (URL, CODE[:-1], {"code"}),
        (URL, "", {"code"}),
        ("ftp://x", CODE.replace("2", "O"), {"address", "code"}),
    ],
)
def test_what_cannot_be_right_is_said_at_its_field_and_nobody_is_asked(
    rig: Rig, address: str, code: str, wrong: set[str]
) -> None:
    presenter = filled(rig)
    presenter.write(address=address, code=code)
    presenter.look()
    rig.settle()
    assert {name for name, _ in presenter.state.wrong} == wrong
    assert not rig.station.pins


def test_a_code_is_counted_and_its_letters_are_looked_at(rig: Rig) -> None:
    presenter = filled(rig)
    presenter.write(code=CODE[:-6])
    presenter.look()
    assert dict(presenter.state.wrong)["code"].values == {"n": 27, "all": 32}
    presenter.write(code=CODE.replace("B", "0"))
    presenter.look()
    assert "are in no code" in dict(presenter.state.wrong)["code"].text


@pytest.mark.parametrize("code", ["enrolment_no_answer", "not_the_hospital_of_the_code", "hospital_not_https"])
def test_a_hospital_that_is_not_found_is_said_and_the_form_stays(rig: Rig, code: str) -> None:
    presenter = filled(rig)
    rig.station.answers = [FirstRayError(code, "", "")]
    presenter.look()
    rig.wait(lambda: presenter.state.error)
    assert (presenter.state.error.code, presenter.state.found, presenter.state.doing) == (code, None, Doing.NOTHING)
    presenter.look()
    assert presenter.state.error is None
    rig.wait(lambda: presenter.state.found)


@pytest.mark.parametrize(
    ("code", "asks_again"),
    [("enrolment_no_answer", True), ("enrolment_no_network", True), ("code_wrong", False), ("device_known", False)],
)
def test_after_a_broken_link_the_yes_is_still_there_and_after_a_refusal_the_form(
    rig: Rig, code: str, asks_again: bool
) -> None:
    presenter = filled(rig)
    presenter.look()
    rig.wait(lambda: presenter.state.found)
    rig.station.answers = [FirstRayError(code, "", "")]
    presenter.accept()
    rig.wait(lambda: presenter.state.error)
    assert (presenter.state.found is not None) == asks_again
    assert rig.station.hospital is None


def test_taps_while_it_is_under_way_change_nothing(rig: Rig) -> None:
    presenter = filled(rig)
    presenter.look()
    presenter.look()
    presenter.decline()
    rig.wait(lambda: presenter.state.found)
    presenter.accept()
    presenter.accept()
    presenter.decline()
    rig.wait(lambda: presenter.state.hospital)
    assert asked(rig) == ["recognise", "register"]


def test_it_is_known_whether_the_hospital_found_is_the_one_there_is(rig: Rig) -> None:
    rig.station.hospital = HospitalAccess(replace(CITY.hospital, name="Its old name"))
    presenter = filled(rig)
    assert presenter.state.hospital.name == "Its old name"
    assert not presenter.state.same
    presenter.look()
    rig.wait(lambda: presenter.state.found)
    assert presenter.state.same
    other = "http://127.0.0.1:8001"
    rig.station.answering[other] = Recognised(Hospital(other), CITY.code)
    presenter.decline()
    presenter.write(address=other)
    presenter.look()
    rig.wait(lambda: presenter.state.found)
    assert not presenter.state.same
