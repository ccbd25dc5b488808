"""What the emergency room says reaches the crew: said at the foot of the screen, and seen only where it is shown."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from edge_app.ui.i18n import Translator
from edge_app.ui.presenters.places import HOME, Place, Screen
from edge_app.ui.presenters.result import ResultPresenter
from edge_app.ui.presenters.run import RunPresenter
from shared.hospital import ErMessage, Inbox, InboxItem, ServerDiagnosis
from tests.unit.edge_app.presenters.rig import Rig
from tests.unit.edge_app.presenters.test_shell import Frame
from tests.unit.edge_app.store.samples import diagnosis


def hear(rig: Rig, *contents: ErMessage | ServerDiagnosis) -> None:
    first = rig.store.heard() + 1
    items = tuple(InboxItem(id=first + n, content=content) for n, content in enumerate(contents))
    rig.store.outbox.take_inbox(Inbox(items=items, after=items[-1].id))


def message(run: UUID) -> ErMessage:
    return ErMessage(encounter=run, text="Divert to City Hospital.", by="Dr Han", at=datetime.now(UTC))


def second(film: UUID) -> ServerDiagnosis:
    urgent = diagnosis("Pneumothorax", urgent=("Pneumothorax",))
    return ServerDiagnosis(encounter=None, radiograph=film, result=urgent, at=datetime.now(UTC))


@pytest.fixture
def frame(rig: Rig) -> Frame:
    return Frame(rig)


def said(frame: Frame) -> list[tuple[str, Place | None]]:
    return [(news.kind, news.place) for news in frame.news if news.kind == "answer"]


def test_the_page_of_an_image_has_not_shown_a_message(rig: Rig) -> None:
    run = rig.store.start_run()
    film, other = rig.film(run), rig.film(run)
    page = rig.watch(ResultPresenter(rig.desk, rig.station, film, lambda: Translator("en")))
    rig.wait(lambda: page.state.row)
    hear(rig, message(run), second(film), second(other))
    rig.wait(lambda: page.state.film.server and page.state.heard == rig.store.heard())
    page.seen()
    rig.wait(lambda: page.state.film.news == 0)
    assert rig.store.run(run).row.news == 2
    assert rig.store.film(other).news == 1


def test_the_page_of_a_run_has_not_shown_what_came_in_since_it_was_read(rig: Rig) -> None:
    run = rig.store.start_run()
    page = RunPresenter(rig.desk, rig.station, run)
    hear(rig, message(run))
    page.reload()
    rig.wait(lambda: page.state.run)
    hear(rig, message(run))
    page.seen()
    rig.wait(lambda: rig.store.run(run).row.news == 1)
    page.reload()
    rig.wait(lambda: len(page.state.run.messages) == 2)
    page.seen()
    rig.wait(lambda: rig.store.run(run).row.news == 0)


def test_a_message_is_said_to_who_looks_at_an_image_of_its_run(frame: Frame, rig: Rig) -> None:
    run = rig.store.start_run()
    film = rig.film(run)
    frame.wait(lambda: frame.place == Place(Screen.RESULT, film))
    hear(rig, message(run))
    frame.wait(lambda: said(frame))
    assert said(frame) == [("answer", Place(Screen.RUN, run))]


def test_who_looks_at_the_run_sees_the_answer_and_is_not_told_of_it(frame: Frame, rig: Rig) -> None:
    run = rig.store.start_run()
    frame.shell.go(Place(Screen.RUN, run))
    hear(rig, message(run))
    rig.settle()
    assert said(frame) == []


def test_what_was_said_behind_the_lock_is_said_after_it(frame: Frame, rig: Rig) -> None:
    run = rig.store.start_run()
    film = rig.film(run)
    frame.wait(lambda: frame.place == Place(Screen.RESULT, film))
    frame.shell.lock()
    hear(rig, message(run))
    rig.settle()
    assert (said(frame), frame.shell.state.arrived) == ([], 0)
    frame.shell.unlocked()
    frame.wait(lambda: said(frame))
    assert said(frame) == [("answer", Place(Screen.RUN, run))]
    assert rig.store.run(run).row.news == 1


def test_what_comes_in_just_before_the_lock_is_said_after_it(frame: Frame, rig: Rig) -> None:
    run = rig.store.start_run()
    frame.shell.tab(Screen.HISTORY)
    film = rig.film(run)
    hear(rig, message(run))
    while not rig.posted.empty():
        rig.posted.get()()  # heard of, and being looked after
    frame.shell.lock()
    rig.settle()
    before = {news.kind for news in frame.news}
    frame.shell.unlocked()
    rig.settle()
    assert {"result", "answer"} <= {news.kind for news in frame.news}, (before, film)


def test_a_diagnosis_of_an_image_of_no_run_leads_to_the_image(frame: Frame, rig: Rig) -> None:
    film = rig.film(None)
    rig.settle()
    frame.shell.tab(Screen.HISTORY)
    hear(rig, second(film))
    frame.wait(lambda: said(frame))
    assert said(frame) == [("answer", Place(Screen.RESULT, film))]
    frame.shell.go(Place(Screen.RESULT, film))
    hear(rig, second(film))
    rig.settle()
    assert len(said(frame)) == 1, "it is on the screen"


def test_a_diagnosis_of_a_runs_image_leads_to_its_run(frame: Frame, rig: Rig) -> None:
    run = rig.store.start_run()
    film = rig.film(run)
    rig.settle()
    frame.shell.tab(Screen.HISTORY)
    hear(rig, second(film))
    frame.wait(lambda: said(frame))
    assert said(frame) == [("answer", Place(Screen.RUN, run))]


def test_a_device_that_slept_is_locked_before_anything_is_touched(frame: Frame) -> None:
    frame.now = 3600.0
    frame.shell.touched()
    assert frame.shell.state.locked
    frame.shell.touched()
    frame.shell.unlocked()
    assert (frame.shell.state.locked, frame.place) == (False, HOME)
    frame.shell.tick()
    assert not frame.shell.state.locked
