"""What the hospital says: told of once, counted until it was shown, and never said to be about more than it is."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from edge_app.store.store import Store
from edge_app.store.views import Change, Delivery
from shared.hospital import Acknowledgement, ConfirmedReading, ErMessage, Inbox, InboxItem, Presence, ServerDiagnosis
from shared.identity import new_id
from tests.unit.edge_app.store.samples import Hospital, diagnosis, receive


def hear(store: Store, *contents: Acknowledgement | ConfirmedReading | ErMessage | ServerDiagnosis) -> None:
    first = store.heard() + 1
    items = tuple(InboxItem(id=first + n, content=content) for n, content in enumerate(contents))
    store.outbox.take_inbox(Inbox(items=items, after=items[-1].id))


def message(run: UUID) -> ErMessage:
    return ErMessage(encounter=run, text="Divert to City Hospital.", by="Dr Han", at=datetime.now(UTC))


def second(film: UUID, run: UUID | None = None) -> ServerDiagnosis:
    urgent = diagnosis("Pneumothorax", urgent=("Pneumothorax",))
    return ServerDiagnosis(encounter=run, radiograph=film, result=urgent, at=datetime.now(UTC))


def confirmed(film: UUID, run: UUID) -> ConfirmedReading:
    findings = {"Mass": Presence.PRESENT}
    return ConfirmedReading(encounter=run, radiograph=film, findings=findings, by="Dr Lee", at=datetime.now(UTC))


def acknowledged(run: UUID, at: datetime | None = None) -> Acknowledgement:
    return Acknowledgement(encounter=run, by="Dr Han", at=at or datetime.now(UTC))


def a_film(store: Store, run: UUID | None) -> UUID:
    film = receive(store)
    radiograph = {"encounter": run} if run else {}
    store.add_reading(film, diagnosis=diagnosis(), error=None, preview=film.bytes, radiograph=radiograph)
    return film


def news(store: Store, run: UUID) -> int:
    return store.run(run).row.news


def test_a_diagnosis_of_an_image_of_no_run_is_told_of_and_is_news_of_the_run_it_gets(store: Store) -> None:
    film, told = a_film(store, None), list[Change]()
    store.listen(told.append)
    hear(store, second(film))
    assert Change("reviewed", film) in told
    assert store.film(film).news == 1
    run = store.start_run()
    store.assign(film, run)
    assert news(store, run) == 1


def test_news_of_an_image_go_with_it_to_another_run_and_outlive_the_first(store: Store) -> None:
    right, wrong = store.start_run(), store.start_run()
    film = a_film(store, wrong)
    hear(store, second(film, wrong), confirmed(film, wrong))
    assert (news(store, wrong), news(store, right)) == (2, 0)
    store.assign(film, right)
    assert (news(store, wrong), news(store, right)) == (0, 2)
    store.delete_run(wrong, undo_seconds=0)
    store.settle()
    hear(store, second(film, wrong))
    assert news(store, right) == 3
    assert store.film(film).reading is not None


def test_what_is_said_about_a_deleted_image_is_no_news(store: Store) -> None:
    run = store.start_run()
    film = a_film(store, run)
    hear(store, second(film, run))
    deletion = store.delete_film(film)
    assert news(store, run) == 0
    store.undo(deletion.id)
    assert news(store, run) == 1
    store.delete_film(film, undo_seconds=0)
    store.settle()
    hear(store, second(film, run))
    assert news(store, run) == 0


def test_what_is_said_about_an_image_that_is_not_here_is_no_news_that_nobody_can_see(store: Store) -> None:
    run = store.start_run()
    hear(store, second(new_id(), run))
    assert news(store, run) == 0


def test_who_has_seen_one_image_has_seen_neither_message_nor_the_other_image(store: Store) -> None:
    run = store.start_run()
    one, other = a_film(store, run), a_film(store, run)
    hear(store, message(run), second(one, run), second(other, run))
    store.film_seen(one, store.heard())
    assert (store.film(one).news, store.film(other).news, news(store, run)) == (0, 1, 2)
    store.run_seen(run, store.heard())
    assert (store.film(other).news, news(store, run)) == (0, 0)


@pytest.mark.parametrize("of_film", [True, False])
def test_what_came_in_after_a_page_was_read_is_not_seen_by_it(store: Store, of_film: bool) -> None:
    run = store.start_run()
    film = a_film(store, run)
    hear(store, second(film, run))
    shown = store.heard()
    hear(store, confirmed(film, run))
    if of_film:
        store.film_seen(film, shown)
    else:
        store.run_seen(run, shown)
    assert news(store, run) == 1


@pytest.fixture
def held(store: Store, hospital: Hospital) -> Callable[[], None]:
    """Has the hospital hold all there is."""

    def take() -> None:
        hospital.take(store)
        hospital.take_uploads(store)

    return take


def test_a_run_counts_as_seen_only_with_all_its_images(store: Store, held: Callable[[], None]) -> None:
    run = store.start_run()
    a_film(store, run)
    hear(store, acknowledged(run))
    assert not store.run(run).row.acknowledged, "the hospital holds nothing of it yet"
    held()
    hear(store, acknowledged(run))
    assert store.run(run).row.acknowledged
    before = datetime.now(UTC) - timedelta(seconds=1)
    film = a_film(store, run)
    assert not store.run(run).row.acknowledged
    held()
    hear(store, acknowledged(run, before))
    assert not store.run(run).row.acknowledged, "it was looked at before the hospital had the second image"
    hear(store, acknowledged(run))
    assert store.run(run).row.acknowledged
    store.add_reading(film, diagnosis=diagnosis("Edema"), error=None)
    held()
    assert not store.run(run).row.acknowledged, "nor has anybody looked at its second reading"
    hear(store, acknowledged(run))
    assert [row.acknowledged for row in store.runs()] == [True]


def test_an_image_that_is_put_into_a_run_afterwards_has_not_been_seen_with_it(
    store: Store, held: Callable[[], None]
) -> None:
    run, film = store.start_run(), a_film(store, None)
    held()
    hear(store, acknowledged(run, datetime.now(UTC) - timedelta(seconds=1)))
    store.assign(film, run)
    held()
    row = store.run(run).row
    assert (row.delivery, row.acknowledged) == (Delivery.HELD, False)


def test_vital_signs_do_not_undo_that_a_run_was_seen(store: Store, held: Callable[[], None]) -> None:
    run = store.start_run()
    a_film(store, run)
    held()
    hear(store, acknowledged(run))
    store.add_vital_signs(run, {"spo2": 88})
    assert not store.run(run).row.acknowledged
    held()
    assert store.run(run).row.acknowledged


def test_a_run_of_which_something_was_refused_is_not_said_to_be_seen(store: Store, hospital: Hospital) -> None:
    run = store.start_run()
    a_film(store, run)
    hospital.take(store)
    store.outbox.upload_refused(store.outbox.next_uploads()[0].sha256, "too_large", "")
    hear(store, acknowledged(run))
    row = store.run(run).row
    assert (row.delivery, row.acknowledged) == (Delivery.REFUSED, False)
