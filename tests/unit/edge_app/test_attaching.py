"""An image finds its run by itself only where there is no doubt."""

from datetime import UTC, datetime, timedelta

import pytest

from edge_app.attaching import contradicts, run_for
from edge_app.store.views import Delivery, RunRow
from shared.identity import new_id
from shared.records import EncounterFields, PatientFields

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


def row(name: str | None = None, began: timedelta = timedelta(minutes=-5)) -> RunRow:
    patient = new_id()
    encounter = EncounterFields(patient=patient, started_at=NOW + began)
    who = PatientFields(name=name)
    return RunRow(new_id(), patient, who, encounter, 0, 0, None, (), Delivery.WAITING, False, 0)


def test_the_one_run_under_way_gets_the_image() -> None:
    run = row()
    assert run_for(NOW, "KIM CHULSOO", [run]) == run.id


@pytest.mark.parametrize("count", [0, 2])
def test_without_exactly_one_run_a_person_is_asked(count: int) -> None:
    assert run_for(NOW, None, [row() for _ in range(count)]) is None


def test_a_run_that_began_later_does_not_get_an_earlier_image() -> None:
    assert run_for(NOW, None, [row(began=timedelta(seconds=1))]) is None


def test_another_name_on_the_image_is_asked_about() -> None:
    assert run_for(NOW, "PARK JIMIN", [row("Kim Chulsoo")]) is None


@pytest.mark.parametrize(
    ("on_image", "patient", "contradictory"),
    [
        (None, "Kim", False),
        ("KIM CHULSOO", None, False),
        ("KIM CHULSOO", "Chulsoo Kim", False),
        ("KIM", "Kim Chulsoo", False),
        ("김철수", "김 철수", False),
        ("김철수", "Kim Chulsoo", False),  # another script: nothing can be said
        ("김철수", "박지민", True),
        ("Kim Chulsoo", "Park Jimin", True),
        ("***", "Park Jimin", False),
    ],
)
def test_names_contradict_only_where_both_are_known_and_comparable(
    on_image: str | None, patient: str | None, contradictory: bool
) -> None:
    assert contradicts(on_image, patient) is contradictory
