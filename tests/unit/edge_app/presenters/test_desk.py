"""Work off the user interface's thread: outcomes, mistakes, stale answers, closing."""

import threading
from dataclasses import dataclass
from typing import Any

from edge_app.ui.presenters.desk import INTERNAL_ERROR, Presenter
from shared.errors import FirstRayError
from tests.unit.edge_app.presenters.rig import Rig


@dataclass(frozen=True)
class Page:
    question: str = ""
    answer: str = ""
    error: FirstRayError | None = None


NAME = "Hong Gildong"


class Pages(Presenter[Page]):
    """Answers a question with itself; ``slow`` waits for the gate."""

    gate = threading.Event()
    fetched: int = 0

    def _fetch(self, state: Page) -> dict[str, Any]:
        self.fetched += 1
        if state.question == "slow":
            assert self.gate.wait(60)
        if state.question == "bug":
            raise ZeroDivisionError(NAME)
        if state.question == "refused":
            raise FirstRayError("record_unknown", "Gone.", "Go back.")
        return {"answer": state.question}


def pages(rig: Rig) -> Pages:
    return Pages(rig.desk, rig.station, Page())


def test_work_runs_on_another_thread_and_its_outcome_comes_back(rig: Rig) -> None:
    threads: list[str] = []
    done: list[str] = []
    rig.desk.run(lambda: threads.append(threading.current_thread().name), lambda _: done.append("done"), done.append)
    rig.wait(lambda: done)
    assert done == ["done"]
    assert threads[0].startswith("records")


def test_long_work_does_not_hold_up_short_work(rig: Rig) -> None:
    gate = threading.Event()
    done: list[str] = []
    for name in ("one", "two"):
        rig.desk.run(lambda: gate.wait(60), lambda _, name=name: done.append(name), print, long=True)
    rig.desk.run(lambda: None, lambda _: done.append("short"), print)
    rig.wait(lambda: done)
    gate.set()
    rig.wait(lambda: len(done) == 3)
    assert done[0] == "short"


def test_the_answer_to_an_older_question_is_dropped(rig: Rig) -> None:
    presenter = pages(rig)
    presenter.gate.clear()
    seen: list[str] = []
    presenter.listen = lambda: seen.append(presenter.state.answer)
    presenter.ask(question="slow")
    presenter.ask(question="new")
    presenter.gate.set()
    rig.wait(lambda: presenter.state.answer == "new")
    rig.settle()
    assert "slow" not in seen


def test_many_changes_while_reading_are_answered_by_one_more_reading(rig: Rig) -> None:
    presenter = pages(rig)
    presenter.gate.clear()
    presenter.ask(question="slow")
    for _ in range(20):
        presenter.reload()
    presenter.gate.set()
    rig.wait(lambda: presenter.fetched == 2)
    rig.settle()
    assert presenter.fetched == 2


def test_a_coded_error_is_shown_and_a_mistake_is_shown_without_its_text(rig: Rig, caplog: Any) -> None:
    presenter = pages(rig)
    presenter.ask(question="refused")
    rig.wait(lambda: presenter.state.error)
    assert presenter.state.error is not None
    assert presenter.state.error.code == "record_unknown"
    presenter.dismiss()
    assert presenter.state.error is None
    presenter.ask(question="bug")
    rig.wait(lambda: presenter.state.error)
    assert presenter.state.error.code == INTERNAL_ERROR
    assert "ZeroDivisionError" in caplog.text
    assert "Hong" not in caplog.text


def test_nothing_arrives_after_closing(rig: Rig) -> None:
    presenter = pages(rig)
    presenter.reload()
    presenter.close()
    seen: list[str] = []
    presenter.listen = lambda: seen.append("heard")
    rig.settle()
    assert seen == []
