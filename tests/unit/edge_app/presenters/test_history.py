"""All runs: pages, filters, deleting and undoing."""

from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from edge_app.store.views import Deletion, Delivery
from edge_app.ui.presenters.compare import ComparePresenter
from edge_app.ui.presenters.history import PAGE, HistoryPresenter, Span
from tests.unit.edge_app.presenters.rig import Rig, picture
from tests.unit.edge_app.store.samples import Hospital, diagnosis

TODAY = date(2026, 11, 27)


def began(days: int) -> dict[str, object]:
    noon = datetime.combine(TODAY, datetime.min.time()).astimezone() + timedelta(hours=12)
    return {"started_at": (noon - timedelta(days=days)).astimezone(UTC)}


def history(rig: Rig, deleted: list[Deletion] | None = None) -> HistoryPresenter:
    made = HistoryPresenter(rig.desk, rig.station, (deleted if deleted is not None else []).append, lambda: TODAY)
    rig.watch(made)
    rig.wait(lambda: not made.state.loading)
    return made


def ids(presenter: HistoryPresenter) -> list[UUID]:
    return [row.id for row in presenter.state.rows]


def test_pages_follow_each_other_without_gap_or_double(rig: Rig) -> None:
    runs = [rig.store.start_run() for _ in range(PAGE + 7)]
    presenter = history(rig)
    assert ids(presenter) == runs[::-1][:PAGE]
    assert presenter.state.more
    presenter.load_more()
    presenter.load_more()
    rig.wait(lambda: len(presenter.state.rows) > PAGE)
    assert ids(presenter) == runs[::-1]
    assert not presenter.state.more
    presenter.load_more()
    rig.settle()
    assert len(presenter.state.rows) == PAGE + 7


def test_pages_that_were_read_stay_when_something_changes(rig: Rig) -> None:
    for _ in range(PAGE + 7):
        rig.store.start_run()
    presenter = history(rig)
    presenter.load_more()
    rig.wait(lambda: len(presenter.state.rows) == PAGE + 7)
    rig.store.start_run()
    rig.wait(lambda: len(presenter.state.rows) == PAGE + 8)


def test_days_finding_and_text_filter_together(rig: Rig) -> None:
    old = rig.store.start_run(who={"name": "Kim"}, encounter=began(20))
    week = rig.store.start_run(who={"name": "Kim"}, encounter=began(6))
    today = rig.store.start_run(who={"name": "Lee"}, encounter=began(0))
    rig.film(week, diagnosis("Effusion"))
    presenter = history(rig)
    assert ids(presenter) == [today, week, old]
    presenter.choose_span(Span.TODAY)
    rig.wait(lambda: ids(presenter) == [today])
    presenter.choose_span(Span.WEEK)
    rig.wait(lambda: ids(presenter) == [today, week])
    presenter.choose_finding("Effusion")
    rig.wait(lambda: ids(presenter) == [week])
    presenter.search("lee")
    rig.wait(lambda: not presenter.state.loading)
    assert ids(presenter) == []
    assert presenter.state.filtered
    presenter.clear()
    rig.wait(lambda: len(presenter.state.rows) == 3)
    presenter.choose_days(date(2026, 11, 21), date(2026, 11, 1))
    rig.wait(lambda: ids(presenter) == [week, old])
    assert (presenter.state.first, presenter.state.last) == (date(2026, 11, 1), date(2026, 11, 21))


def test_a_deleted_run_can_be_brought_back_from_the_list(rig: Rig) -> None:
    deleted: list[Deletion] = []
    run = rig.store.start_run()
    presenter = history(rig, deleted)
    presenter.delete(run)
    rig.wait(lambda: deleted and not presenter.state.rows)
    assert [one.subject for one in presenter.state.deletions] == [run]
    presenter.undo(deleted[0].id)
    rig.wait(lambda: ids(presenter) == [run])
    rig.settle()
    assert presenter.state.deletions == ()


def test_two_films_of_a_patient_are_compared_and_exchanged(rig: Rig) -> None:
    run = rig.store.start_run()
    one, two, three = (rig.film(run) for _ in range(3))
    compare = ComparePresenter(rig.desk, rig.station, one, two, lambda _: "")
    rig.watch(compare)
    rig.wait(lambda: all(side.picture for side in compare.state.sides))
    assert [film.id for film in compare.state.films] == [three, two, one]
    kept = compare.state.sides[0].picture
    compare.choose(1, three)
    rig.wait(lambda: compare.state.sides[1].id == three and compare.state.sides[1].picture)
    assert compare.state.sides[0].picture is kept
    compare.link(False)
    assert not compare.state.linked


def test_pictures_that_are_compared_stay_while_they_are_delivered_and_follow_a_new_reading(rig: Rig) -> None:
    run = rig.store.start_run()
    one, two = rig.film(run), rig.film(run)
    compare = ComparePresenter(rig.desk, rig.station, one, two, lambda _: "")
    rig.watch(compare)
    rig.wait(lambda: all(side.picture for side in compare.state.sides))
    kept = [side.picture for side in compare.state.sides]
    Hospital().take(rig.store)
    rig.wait(lambda: all(side.film.delivery["record"] is Delivery.HELD for side in compare.state.sides))
    assert [side.picture for side in compare.state.sides] == kept
    rig.read(two, picture=picture(0))
    rig.wait(lambda: compare.state.sides[1].picture not in (None, kept[1]))
    assert compare.state.sides[0].picture is kept[0]
