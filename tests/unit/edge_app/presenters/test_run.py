"""One run: fields saved as one goes, vital signs, ending, deleting."""

from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest

from edge_app.store.views import Deletion
from edge_app.ui.presenters.run import RunPresenter
from shared.records import Sex
from tests.unit.edge_app.presenters.rig import Rig

TODAY = date(2026, 11, 27)


class Page:
    """The presenter of a run, and what it told."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.run: UUID = rig.store.start_run()
        self.deleted: list[Deletion] = []
        self.presenter = RunPresenter(rig.desk, rig.station, self.run, self.deleted.append, lambda: TODAY)
        rig.watch(self.presenter)
        rig.wait(lambda: self.presenter.state.run)

    @property
    def who(self):  # type: ignore[no-untyped-def]
        return self.rig.store.run(self.run).patient.fields


@pytest.fixture
def page(rig: Rig) -> Page:
    return Page(rig)


def test_each_field_is_saved_when_it_is_done(page: Page, rig: Rig) -> None:
    page.presenter.set_name(" 홍길동 ")
    page.presenter.set_sex("male")
    page.presenter.set_birth_date("1968-04-23")
    page.presenter.set_identifier("hospital", "12-34")
    page.presenter.set_text("chief_complaint", "Chest pain")
    rig.wait(lambda: page.presenter.state.saved == 5)
    rig.settle()
    assert (page.who.name, page.who.sex, page.who.birth_date) == ("홍길동", Sex.MALE, date(1968, 4, 23))
    assert [(one.system, one.value) for one in page.who.identifiers] == [("hospital", "12-34")]
    assert page.presenter.state.run.patient.fields == page.who, "what is shown is what is stored"
    page.presenter.set_identifier("hospital", "")
    rig.wait(lambda: page.presenter.state.saved == 6)
    assert page.who.identifiers == ()


def test_a_birth_date_takes_the_place_of_an_estimated_age(page: Page, rig: Rig) -> None:
    page.presenter.set_age("60")
    rig.wait(lambda: page.presenter.state.saved == 1)
    assert page.who.estimated_age == 60
    page.presenter.set_birth_date("19680423")
    rig.wait(lambda: page.presenter.state.saved == 2)
    assert page.who.estimated_age is None


@pytest.mark.parametrize(
    ("field", "text", "said"),
    [
        ("birth_date", "1968-13-01", "Write year"),
        ("birth_date", "2030-01-01", "still to come"),
        ("birth_date", "1868-01-01", "Too long ago"),
        ("age", "131", "Between"),
        ("age", "abc", "Between"),
        ("arrival", "2575", "Minutes"),
    ],
)
def test_what_cannot_be_is_said_at_its_field_and_not_saved(
    page: Page, rig: Rig, field: str, text: str, said: str
) -> None:
    getattr(page.presenter, f"set_{field}")(text)
    name = {"age": "estimated_age", "arrival": "expected_arrival"}.get(field, field)
    assert said in page.presenter.state.wrong[name].text
    rig.settle()
    assert page.presenter.state.saved == 0
    getattr(page.presenter, f"set_{field}")("")
    rig.wait(lambda: page.presenter.state.saved == 1)
    assert name not in page.presenter.state.wrong


def test_what_the_store_refuses_is_said_at_its_field(page: Page, rig: Rig) -> None:
    page.presenter.set_name("x" * 200)
    rig.wait(lambda: page.presenter.state.wrong)
    assert "name" in page.presenter.state.wrong
    assert page.who.name is None


def test_an_arrival_in_minutes_is_stored_as_a_moment(page: Page, rig: Rig) -> None:
    page.presenter.set_arrival("12")
    rig.wait(lambda: page.presenter.state.saved == 1)
    arrival = rig.store.run(page.run).row.encounter.expected_arrival
    assert arrival is not None
    assert abs(arrival - datetime.now(UTC) - timedelta(minutes=12)) < timedelta(minutes=1)


def test_vital_signs_are_added_as_one_set(page: Page, rig: Rig) -> None:
    done: list[str] = []
    texts = {"spo2": "94", "heart_rate": "110", "systolic": "120", "diastolic": "80", "gcs": "15"}
    page.presenter.add_vital_signs(texts, lambda: done.append("done"))
    rig.wait(lambda: done)
    rig.wait(lambda: page.presenter.state.run.vital_signs)
    (signs,) = page.presenter.state.run.vital_signs
    assert (signs.fields.spo2, signs.fields.respiratory_rate, signs.fields.gcs) == (94, None, 15)


@pytest.mark.parametrize(
    ("texts", "wrong"),
    [
        ({"gcs": "2"}, "gcs"),
        ({"spo2": "101"}, "spo2"),
        ({}, "spo2"),
        ({"systolic": "80", "diastolic": "120"}, "diastolic"),
    ],
)
def test_impossible_vital_signs_are_not_saved(page: Page, rig: Rig, texts: dict[str, str], wrong: str) -> None:
    page.presenter.add_vital_signs(texts)
    rig.settle()
    assert set(page.presenter.state.wrong) == {wrong}
    assert rig.store.run(page.run).vital_signs == ()


def test_a_run_ends_and_can_be_reopened(page: Page, rig: Rig) -> None:
    page.presenter.end()
    rig.wait(lambda: page.presenter.state.run.row.encounter.ended_at)
    page.presenter.reopen()
    rig.wait(lambda: page.presenter.state.run.row.encounter.ended_at is None)


def test_a_deleted_run_is_gone_until_it_is_brought_back(page: Page, rig: Rig) -> None:
    page.presenter.delete()
    rig.wait(lambda: page.deleted)
    assert page.presenter.state.gone
    rig.settle()
    assert rig.store.runs() == []
    rig.store.undo(page.deleted[0].id)
    rig.wait(lambda: not page.presenter.state.gone)
    assert page.presenter.state.run.row.id == page.run


def test_a_radiograph_that_arrives_appears(page: Page, rig: Rig) -> None:
    film = rig.film(page.run)
    rig.wait(lambda: page.presenter.state.run.films and page.presenter.state.run.films[0].diagnosis)
    assert [one.id for one in page.presenter.state.run.films] == [film]
