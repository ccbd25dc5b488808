"""A radiograph's page: picture, boxes, readings, and what may be done about a refusal."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from edge_app.reading import Screened
from edge_app.reading_desk import UnderWay
from edge_app.store.views import Deletion
from edge_app.ui.i18n import Translator
from edge_app.ui.presenters.pictures import HIGH, LOW
from edge_app.ui.presenters.result import ResultPresenter
from shared.correction import Correction
from shared.diagnosis import Diagnosis
from shared.quality import CORRECTIONS, MESSAGES, NOT_OVERRIDABLE, Problem, Severity, Verdict
from shared.records import DiagnosisFields
from tests.unit.edge_app.presenters.rig import Rig, picture
from tests.unit.edge_app.store.samples import diagnosis, receive


def refused(code: str) -> Diagnosis:
    message, action = MESSAGES[code]
    problem = Problem(
        code=code,
        severity=Severity.REFUSE,
        message=message,
        action=action,
        overridable=code not in NOT_OVERRIDABLE,
        correction=CORRECTIONS.get(code),
    )
    nothing: dict[str, Any] = {"probabilities": {}, "states": {}, "top3": (), "boxes": ()}
    return diagnosis().model_copy(update={**nothing, "verdict": Verdict(problems=(problem,), scores={})})


def page(rig: Rig, film: UUID, deleted: Any = None) -> ResultPresenter:
    made = ResultPresenter(rig.desk, rig.station, film, lambda: Translator("en"), deleted or (lambda _: None))
    rig.watch(made)
    rig.wait(lambda: made.state.film)
    return made


def test_a_result_shows_the_picture_as_it_was_read(rig: Rig) -> None:
    film = rig.film(rig.store.start_run(), diagnosis("Mass", "Nodule"), picture=picture(255))
    result = page(rig, film)
    rig.wait(lambda: result.state.picture)
    assert result.state.picture.pixels.shape == (80, 60)
    assert result.state.picture.window == (LOW, HIGH)
    assert np.all(result.state.picture.pixels == HIGH), "white is white"
    assert not result.state.sharp
    assert [one.finding for one in result.state.diagnosis.top3] == ["Mass", "Nodule"]


def test_the_original_takes_the_pictures_place_in_the_same_grey_units(rig: Rig) -> None:
    result = page(rig, rig.film(rig.store.start_run()))
    result.sharpen()
    assert rig.station.originals == 0, "there is nothing to sharpen yet"
    rig.wait(lambda: result.state.picture)
    subject = result.state.picture.subject
    result.sharpen()
    rig.wait(lambda: result.state.sharp)
    assert result.state.picture.subject == subject, "zoom and window stay"
    assert result.state.picture.window == (LOW, HIGH)
    assert np.all(result.state.picture.pixels == int((LOW + HIGH) / 2)), "2000 is the middle of 1000..3000"


def test_an_image_that_is_still_read_says_so_and_then_shows_its_result(rig: Rig) -> None:
    film = receive(rig.store)
    rig.station.being_read.add(film)
    result = page(rig, film)
    assert result.state.reading
    assert result.state.shown is None
    rig.station.being_read.clear()
    rig.read(film)
    rig.wait(lambda: result.state.picture)
    assert not result.state.reading


def test_an_image_that_nothing_here_can_read_is_not_said_to_be_read(rig: Rig) -> None:
    result = page(rig, receive(rig.store))
    assert result.state.film.waiting_to_be_read
    assert not result.state.reading


def test_boxes_are_switched_by_finding(rig: Rig) -> None:
    result = page(rig, rig.film(rig.store.start_run()))
    result.toggle("Mass")
    assert result.state.hidden == {"Mass"}
    result.toggle("Mass")
    assert result.state.hidden == frozenset()


def test_a_refusal_may_be_overridden_where_that_is_allowed(rig: Rig) -> None:
    film = rig.film(rig.store.start_run(), refused("over_exposed"))
    result = page(rig, film)
    result.read_corrected()
    rig.settle()
    assert rig.station.asked == [], "no correction is offered"
    result.read_anyway()
    rig.wait(lambda: rig.station.asked)
    assert rig.station.asked == [(film, True, None)]
    assert result.state.reading


def test_what_is_no_chest_radiograph_is_never_read(rig: Rig) -> None:
    result = page(rig, rig.film(rig.store.start_run(), refused("not_a_chest_radiograph")))
    result.read_anyway()
    rig.settle()
    assert rig.station.asked == []


def test_a_correction_is_made_as_it_is_offered(rig: Rig) -> None:
    film = rig.film(rig.store.start_run(), refused("rotated_180"))
    result = page(rig, film)
    result.read_corrected()
    rig.wait(lambda: rig.station.asked)
    assert rig.station.asked == [(film, False, Correction(quarter_turns=2))]


def test_reading_on_request_means_nothing_for_a_result(rig: Rig) -> None:
    result = page(rig, rig.film(rig.store.start_run()))
    result.read_anyway()
    result.read_corrected()
    rig.settle()
    assert rig.station.asked == []


def test_an_earlier_reading_is_shown_with_its_own_picture(rig: Rig) -> None:
    film = rig.film(rig.store.start_run(), diagnosis(release="old"), picture=picture(0))
    rig.read(film, diagnosis(release="new"), picture=picture(255))
    result = page(rig, film)
    rig.wait(lambda: result.state.picture and result.state.earlier)
    assert (result.state.diagnosis.release, len(result.state.earlier)) == ("new", 1)
    latest = result.state.picture
    result.choose(0)
    rig.wait(lambda: result.state.picture is not latest)
    assert result.state.diagnosis.release == "old"
    assert np.all(result.state.picture.pixels == LOW)
    result.choose(None)
    rig.wait(lambda: result.state.picture is not None and np.all(result.state.picture.pixels == HIGH))
    assert result.state.diagnosis.release == "new"


def test_a_new_reading_is_shown_even_while_an_earlier_one_is_looked_at(rig: Rig) -> None:
    film = rig.film(rig.store.start_run(), diagnosis(release="one"))
    rig.read(film, diagnosis(release="two"))
    result = page(rig, film)
    rig.wait(lambda: result.state.earlier)
    result.choose(0)
    rig.read(film, diagnosis(release="three"))
    rig.wait(lambda: result.state.diagnosis.release == "three")


def test_a_file_that_could_not_be_read_has_its_code(rig: Rig) -> None:
    film = rig.film(rig.store.start_run(), None, diagnosis=None, error="dicom_truncated", picture=None)
    result = page(rig, film)
    assert (result.state.shown.error, result.state.diagnosis, result.state.picture) == ("dicom_truncated", None, None)


def test_a_deleted_image_is_gone_and_can_be_brought_back(rig: Rig) -> None:
    deleted: list[Deletion] = []
    film = rig.film(rig.store.start_run())
    result = page(rig, film, deleted.append)
    result.delete()
    rig.wait(lambda: deleted)
    assert result.state.gone
    rig.store.undo(deleted[0].id)
    rig.wait(lambda: not result.state.gone)


@pytest.mark.parametrize("count", [0, 2])
def test_other_images_of_the_patient_are_offered_for_comparing(rig: Rig, count: int) -> None:
    run = rig.store.start_run()
    others = {rig.film(run) for _ in range(count)}
    result = page(rig, rig.film(run))
    rig.wait(lambda: result.state.row)
    assert {film.id for film in result.state.others} == others


def test_the_picture_is_there_while_the_image_is_still_read_and_stays_when_it_is(rig: Rig) -> None:
    film = receive(rig.store)
    early = Screened(np.full((80, 60), 130, np.uint8), 0.0, 255.0)
    rig.station.early[film] = UnderWay(early, None)
    made = page(rig, film)
    made.look_early()
    rig.wait(lambda: made.state.picture)
    shown = made.state.picture
    assert made.state.diagnosis is None
    rig.store.add_reading(film, diagnosis=diagnosis(), error=None, picture=picture(130))
    rig.wait(lambda: made.state.diagnosis)
    rig.settle()
    assert made.state.picture is shown


def test_an_image_read_another_way_than_its_early_picture_is_drawn_anew(rig: Rig) -> None:
    film = receive(rig.store)
    rig.station.early[film] = UnderWay(Screened(np.full((80, 60), 130, np.uint8), 0.0, 255.0), None)
    made = page(rig, film)
    made.look_early()
    rig.wait(lambda: made.state.picture)
    shown = made.state.picture
    turned = diagnosis().model_copy(update={"correction": Correction(quarter_turns=2)})
    rig.store.add_reading(film, diagnosis=turned, error=None, picture=picture(130))
    rig.wait(lambda: made.state.picture is not shown and made.state.picture)
    assert made.state.picture is not None
    assert "quarter_turns=2" in made.state.picture.subject


def test_a_result_is_shown_before_it_is_stored_and_stays_as_it_is(rig: Rig) -> None:
    film, read = receive(rig.store), diagnosis("Mass")
    rig.station.being_read.add(film)
    rig.station.early[film] = UnderWay(Screened(np.full((80, 60), 130, np.uint8), 0.0, 255.0), None)
    made = page(rig, film)
    made.look_early()
    rig.wait(lambda: made.state.picture)
    assert made.state.reading
    rig.station.early[film] = replace(
        rig.station.early[film], found=DiagnosisFields(radiograph=film, made_at=datetime.now(UTC), result=read)
    )
    made.show_found()
    shown = made.state.picture
    assert (made.state.diagnosis, made.state.reading) == (read, False)
    made.reload()  # whatever changes meanwhile
    rig.settle()
    assert (made.state.diagnosis, made.state.reading) == (read, False)
    assert made.state.film.diagnosis is None
    rig.store.add_reading(film, diagnosis=read, error=None, picture=picture(130))
    rig.station.early.clear()
    rig.station.being_read.clear()
    rig.wait(lambda: made.state.found is None)
    rig.settle()
    assert made.state.film.diagnosis == made.state.diagnosis == read
    assert made.state.picture is shown


def test_a_result_that_could_not_be_stored_is_not_shown_as_read(rig: Rig) -> None:
    film = receive(rig.store)
    found = DiagnosisFields(radiograph=film, made_at=datetime.now(UTC), result=diagnosis("Mass"))
    rig.station.early[film] = UnderWay(Screened(np.full((80, 60), 130, np.uint8), 0.0, 255.0), None, found)
    made = page(rig, film)
    assert made.state.diagnosis is not None
    rig.station.early.clear()
    made.reload()
    rig.wait(lambda: made.state.diagnosis is None)
    assert not made.state.reading


def test_without_a_reading_under_way_there_is_no_early_picture(rig: Rig) -> None:
    made = page(rig, receive(rig.store))
    made.look_early()
    rig.settle()
    assert made.state.picture is None
