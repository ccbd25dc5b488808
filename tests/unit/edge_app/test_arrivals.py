"""A picked file goes into the run it was picked for, and is never taken out of another patient's."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from PIL import Image

from edge_app.arrivals import Arrivals
from edge_app.capture.intake import Arrival, Source
from edge_app.store.store import Store
from shared.errors import FirstRayError
from tests.unit.edge_app.store.samples import diagnosis, events, open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path / "store")
    yield opened
    opened.close()


@pytest.fixture
def picked(tmp_path: Path) -> Path:
    Image.new("L", (80, 80), 90).save(tmp_path / "picked.png")
    return tmp_path / "picked.png"


def test_a_file_that_lies_in_another_run_stays_there_and_it_is_said(store: Store, picked: Path) -> None:
    told: list[UUID] = []
    arrivals = Arrivals(lambda: store, lambda film, _: told.append(film))
    owner, other = store.start_run(who={"name": "Kim Minsu"}), store.start_run(who={"name": "Lee Jieun"})
    film = arrivals.take_file(picked, owner)
    store.add_reading(film, diagnosis=diagnosis("Pneumothorax", urgent=("Pneumothorax",)), error=None)
    before = store.run(owner), store.run(other), len(events(store))
    with pytest.raises(FirstRayError) as caught:
        arrivals.take_file(picked, other)
    assert caught.value.code == "film_of_another_run"
    assert (store.run(owner), store.run(other), len(events(store))) == before
    assert told == [film]


def test_a_file_of_no_run_or_of_this_one_goes_into_it(store: Store, picked: Path) -> None:
    told: list[UUID] = []
    arrivals = Arrivals(lambda: store, lambda film, _: told.append(film))
    run = store.start_run()
    film = arrivals.take_file(picked, None)
    assert store.film(film).run is None
    assert arrivals.take_file(picked, run) == film
    assert arrivals.take_file(picked, run) == film
    assert store.film(film).run == run
    assert told == [film] * 3


def test_a_file_picked_without_a_run_leaves_an_image_where_it_is(store: Store, picked: Path) -> None:
    arrivals = Arrivals(lambda: store, lambda film, data: None)
    run = store.start_run()
    film = arrivals.take_file(picked, run)
    assert arrivals.take_file(picked, None) == film
    assert store.film(film).run == run


def test_the_bytes_of_one_image_at_a_time_are_at_hand_once_it_is_stored(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_app.arrivals.KEPT_BYTES", 10)
    told: dict[UUID, bytes | None] = {}
    arrivals = Arrivals(lambda: store, told.__setitem__)
    arrival = Arrival(Source.FOLDER, None, datetime.now(UTC))
    with arrivals.spool() as cut_off:
        cut_off.write(b"cut")
    with arrivals.spool() as first, arrivals.spool() as second:
        for spool, data in ((first, b"one "), (second, b"two "), (first, b"film")):
            spool.write(data)
        films = [first.commit(arrival), second.commit(arrival)]
    with arrivals.spool() as third:
        third.write(b"another film")
        films.append(third.commit(arrival))
    assert [told[film] for film in films] == [b"one film", None, None]
    assert store.original(films[0]) == b"one film"
