"""Where the user is, what an arrival does to the screen, and the lock."""

from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from edge_app.station import Change
from edge_app.sync import LinkKind, LinkState
from edge_app.ui.presenters.places import HOME, Place, Screen
from edge_app.ui.presenters.shell import News, ShellPresenter
from shared.errors import FirstRayError
from tests.unit.edge_app.presenters.rig import Rig
from tests.unit.edge_app.store.samples import diagnosis, receive


class Frame:
    """The shell, with a clock and a keyboard of its own."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.news: list[News] = []
        self.typing = False
        self.now = 0.0
        self.shell = ShellPresenter(
            rig.desk,
            rig.station,
            tell=self.news.append,
            typing=lambda: self.typing,
            lock_seconds=lambda: 60.0,
            clock=lambda: self.now,
        )
        self.shell.unlocked()
        rig.watch(self.shell)
        rig.settle()

    @property
    def place(self) -> Place:
        return self.shell.state.place

    def wait(self, until: Callable[[], object]) -> None:
        self.rig.wait(until)


@pytest.fixture
def frame(rig: Rig) -> Frame:
    return Frame(rig)


def test_back_leads_where_one_came_from_and_from_a_tab_home(frame: Frame) -> None:
    run, film = uuid4(), uuid4()
    frame.shell.tab(Screen.HISTORY)
    frame.shell.go(Place(Screen.RUN, run))
    frame.shell.go(Place(Screen.RESULT, film))
    assert frame.shell.state.tab is Screen.HISTORY
    frame.shell.back()
    assert frame.place == Place(Screen.RUN, run)
    frame.shell.back()
    frame.shell.back()
    assert frame.shell.state.stack == (HOME,)
    frame.shell.back()
    assert frame.shell.state.stack == (HOME,)


def test_a_place_is_never_twice_in_the_stack(frame: Frame) -> None:
    run, film = Place(Screen.RUN, uuid4()), Place(Screen.RESULT, uuid4())
    for place in (run, film, run):
        frame.shell.go(place)
    assert frame.shell.state.stack == (HOME, run)
    frame.shell.replace(HOME)
    assert frame.shell.state.stack == (HOME,)


def test_a_form_is_replaced_by_what_it_made(frame: Frame) -> None:
    run = Place(Screen.RUN, uuid4())
    frame.shell.go(Place(Screen.BEGIN))
    frame.shell.replace(run)
    assert frame.shell.state.stack == (HOME, run)


def test_a_result_is_shown_at_once_to_who_waits_in_its_run(frame: Frame, rig: Rig) -> None:
    run = rig.store.start_run()
    frame.shell.go(Place(Screen.RUN, run))
    film = rig.film(run)
    frame.wait(lambda: frame.place == Place(Screen.RESULT, film))
    frame.shell.back()
    assert frame.place == Place(Screen.RUN, run)
    frame.shell.changed(Change("film", film))
    rig.settle()
    assert frame.place == Place(Screen.RUN, run), "it is not shown twice"
    assert frame.news == []


def test_at_home_it_is_shown_only_if_there_is_one_run_under_way(frame: Frame, rig: Rig) -> None:
    run = rig.store.start_run()
    film = rig.film(run)
    frame.wait(lambda: frame.place == Place(Screen.RESULT, film))
    assert frame.shell.state.stack == (HOME, Place(Screen.RUN, run), Place(Screen.RESULT, film))
    frame.shell.tab(Screen.RUNS)
    rig.store.start_run()
    second = rig.film(run)
    frame.wait(lambda: frame.news)
    assert frame.place == HOME
    assert (frame.news[0].kind, frame.news[0].place) == ("result", Place(Screen.RESULT, second))


@pytest.mark.parametrize("screen", [Screen.PATIENT, Screen.VITALS])
def test_nothing_takes_the_screen_from_a_form(frame: Frame, rig: Rig, screen: Screen) -> None:
    run = rig.store.start_run()
    frame.shell.go(Place(screen, run))
    rig.film(run)
    frame.wait(lambda: frame.news)
    assert frame.place == Place(screen, run)


def test_nothing_takes_the_screen_from_somebody_typing(frame: Frame, rig: Rig) -> None:
    run = rig.store.start_run()
    frame.shell.go(Place(Screen.RUN, run))
    frame.typing = True
    rig.film(run)
    frame.wait(lambda: frame.news)
    assert frame.place == Place(Screen.RUN, run)


def test_an_image_of_no_run_asks_whose_it_is(frame: Frame, rig: Rig) -> None:
    film = rig.film(None)
    frame.wait(lambda: frame.news)
    assert (frame.news[0].kind, frame.news[0].place) == ("waiting", Place(Screen.ASSIGN, film))
    frame.shell.tick()
    frame.wait(lambda: frame.shell.state.waiting == 1)


def test_an_old_result_that_changes_is_no_news(frame: Frame, rig: Rig) -> None:
    run = rig.store.start_run()
    film = rig.film(run)
    again = Frame(rig)
    again.shell.go(Place(Screen.HISTORY))
    again.shell.changed(Change("film", film))
    rig.settle()
    assert again.news == []


def test_the_screen_locks_when_nobody_touches_it(frame: Frame) -> None:
    frame.now = 59.0
    frame.shell.tick()
    assert not frame.shell.state.locked
    frame.shell.touched()
    frame.now = 118.0
    frame.shell.tick()
    assert not frame.shell.state.locked
    frame.now = 119.0
    frame.shell.tick()
    assert frame.shell.state.locked


def test_what_comes_in_behind_the_lock_is_shown_afterwards(frame: Frame, rig: Rig) -> None:
    run = rig.store.start_run()
    rig.settle()
    frame.shell.lock()
    film = rig.film(run)
    frame.wait(lambda: frame.shell.state.arrived == 1)
    rig.settle()
    assert (frame.place, frame.news) == (HOME, [])
    frame.shell.unlocked()
    frame.wait(lambda: frame.place == Place(Screen.RESULT, film))
    assert frame.shell.state.arrived == 0


def test_an_error_of_the_device_is_said_but_not_on_the_lock(frame: Frame) -> None:
    error = FirstRayError("disk_full", "", "")
    frame.shell.changed(Change("refused", None, error))
    assert [news.error for news in frame.news] == [error]
    frame.shell.lock()
    frame.shell.changed(Change("refused", None, error))
    assert len(frame.news) == 1


def test_what_is_deleted_is_left_and_can_be_brought_back(frame: Frame, rig: Rig) -> None:
    run = rig.store.start_run()
    frame.shell.tab(Screen.HISTORY)
    frame.shell.go(Place(Screen.RUN, run))
    deletion = rig.store.delete_run(run)
    frame.shell.deleted(deletion)
    assert frame.place == Place(Screen.HISTORY)
    assert frame.news[-1].deletion == deletion
    frame.shell.undo(deletion)
    frame.wait(lambda: frame.news[-1].kind == "undone")
    assert [row.id for row in rig.store.runs()] == [run]


def test_a_revoked_device_locks_and_says_so(frame: Frame) -> None:
    frame.shell.changed(Change("revoked"))
    assert frame.shell.state.locked
    assert frame.shell.state.revoked


@pytest.mark.parametrize(("kind", "revoked"), [(LinkKind.REVOKED, True), (LinkKind.CONNECTING, False)])
def test_a_revoked_device_is_one_until_it_is_enrolled_again(
    frame: Frame, rig: Rig, kind: LinkKind, revoked: bool
) -> None:
    frame.shell.changed(Change("revoked"))
    rig.station.link = LinkState(kind, datetime.now(UTC))
    frame.shell.unlocked()
    rig.wait(lambda: frame.shell.state.link)
    assert frame.shell.state.revoked == revoked


def test_an_image_that_is_not_read_yet_is_no_result(frame: Frame, rig: Rig) -> None:
    run = rig.store.start_run()
    film: UUID = receive(rig.store)
    rig.store.assign(film, run)
    rig.settle()
    assert frame.place == HOME
    assert frame.news == []


def test_who_waits_for_an_image_sees_it_while_it_is_read(frame: Frame, rig: Rig) -> None:
    run = rig.store.start_run()
    film = receive(rig.store)
    frame.shell.go(Place(Screen.RUN, run))
    frame.shell.changed(Change("reading", film))
    frame.wait(lambda: frame.place == Place(Screen.RESULT, film))
    frame.shell.back()
    assert frame.place == Place(Screen.RUN, run)


def test_an_image_that_may_belong_to_two_runs_is_not_shown_before_it_is_read(frame: Frame, rig: Rig) -> None:
    run = rig.store.start_run()
    rig.store.start_run()
    frame.shell.go(Place(Screen.RUN, run))
    frame.shell.changed(Change("reading", receive(rig.store)))
    rig.settle()
    assert frame.place == Place(Screen.RUN, run)


def test_a_second_reading_does_not_take_the_screen(frame: Frame, rig: Rig) -> None:
    run = rig.store.start_run()
    film = receive(rig.store)
    rig.store.add_reading(film, diagnosis=diagnosis(), error=None, radiograph={"encounter": run})
    rig.settle()
    frame.shell.go(Place(Screen.RUN, run))
    frame.shell.changed(Change("reading", film))
    rig.settle()
    assert frame.place == Place(Screen.RUN, run)


def test_who_has_seen_a_result_arrive_and_goes_back_is_left_alone(frame: Frame, rig: Rig) -> None:
    run = rig.store.start_run()
    film = receive(rig.store)
    rig.store.assign(film, run)
    frame.shell.go(Place(Screen.RUN, run))
    frame.shell.go(Place(Screen.RESULT, film))
    rig.settle()
    rig.store.add_reading(film, diagnosis=diagnosis(), error=None)
    frame.shell.changed(Change("film", film))
    frame.shell.back()  # before the shell has looked after it
    rig.settle()
    assert frame.place == Place(Screen.RUN, run)
    assert not [news for news in frame.news if news.kind == "result"]


def test_who_has_seen_a_result_before_it_is_stored_is_left_alone(frame: Frame, rig: Rig) -> None:
    run = rig.store.start_run()
    film = receive(rig.store)
    rig.store.assign(film, run)
    frame.shell.go(Place(Screen.RUN, run))
    frame.shell.go(Place(Screen.RESULT, film))
    rig.settle()
    frame.shell.changed(Change("found", film))
    frame.shell.back()
    rig.store.add_reading(film, diagnosis=diagnosis(), error=None)
    frame.shell.changed(Change("film", film))
    rig.settle()
    assert frame.place == Place(Screen.RUN, run)
    assert not [news for news in frame.news if news.kind == "result"]
