"""The desk reads what waits, the latest first, stores every outcome, and no film stops it for good."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from edge_app.reading import FilmReader, Reading, Screened
from edge_app.reading_desk import MOST_TRIES, ReadingDesk, Request, Tries
from edge_app.store.views import Film
from shared.correction import Correction
from shared.errors import FirstRayError, ReleaseError
from shared.identity import new_id
from shared.records import EncounterFields, PatientFields


def film(run: UUID | None = None) -> Film:
    return Film(
        id=new_id(),
        run=run,
        sha256="0" * 64,
        size=1,
        received_at=datetime.now(UTC),
        source="dicom",
        station=None,
        acquired_at=None,
        device_patient=None,
        diagnosis_id=None,
        made_at=None,
        diagnosis=None,
        error=None,
        overridden=False,
        picture=False,
        delivery={},
        server=None,
        reading=None,
    )


class FakeStore:
    """Films in memory; remembers what was stored of each."""

    def __init__(self, *films: Film) -> None:
        self.films = {item.id: item for item in films}
        self.stored: list[tuple[UUID, dict[str, Any]]] = []

    def unread_films(self) -> list[Film]:
        return [item for item in self.films.values() if item.waiting_to_be_read]

    def film(self, number: UUID) -> Film:
        if number not in self.films:
            raise FirstRayError("record_unknown", "No such record.", "")
        return self.films[number]

    def original(self, number: UUID) -> bytes:
        return number.bytes

    def runs(self, **_: Any) -> list[Any]:
        return []

    def add_reading(self, number: UUID, **fields: Any) -> UUID:
        self.stored.append((number, fields))
        self.films[number] = replace(self.films[number], error=fields.get("error") or "read")
        return new_id()


class FakeReader:
    """Answers every film with an error code; ``behave`` may do something else."""

    def __init__(self, behave: Callable[[bytes], Reading] | None = None) -> None:
        self.asked: list[tuple[bytes, dict[str, Any]]] = []
        self.behave = behave

    def load(self) -> Any:
        return SimpleNamespace()

    def read(self, data: bytes, **options: Any) -> Reading:
        self.asked.append((data, options))
        return self.behave(data) if self.behave else Reading(None, None, "image_invalid", None, None)


class Desk:
    """A desk with what it told."""

    def __init__(self, reader: Any, folder: Path, alone: bool = False) -> None:
        self.told: list[tuple[UUID, FirstRayError | None]] = []
        self.drawn: list[UUID] = []
        self.models = threading.Event()
        self._arrived = threading.Condition()
        self.desk = ReadingDesk(
            reader,
            tries=folder / "reading.json",
            language=lambda: "en",
            alone=alone,
            began=lambda _: None,
            drawn=self.drawn.append,
            read=self._read,
            models_changed=self.models.set,
        )

    def _read(self, number: UUID, error: FirstRayError | None) -> None:
        with self._arrived:
            self.told.append((number, error))
            self._arrived.notify_all()

    def wait(self, count: int) -> list[tuple[UUID, FirstRayError | None]]:
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.told) >= count, 20)
        return self.told


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    desks: list[Desk] = []

    def launch(reader: Any, **options: bool) -> Desk:
        desks.append(Desk(reader, tmp_path, **options))
        return desks[-1]

    yield launch
    for desk in desks:
        desk.desk.close()


def test_what_was_left_unread_is_read_latest_first(start: Callable[[Any], Desk]) -> None:
    store, reader = FakeStore(*(film() for _ in range(4))), FakeReader()
    desk = start(reader)
    desk.desk.open(store)  # type: ignore[arg-type]
    desk.desk.start()
    told = desk.wait(4)
    assert [number for number, _ in told] == list(reversed(store.films))
    assert all(error is None for _, error in told)
    assert {fields["error"] for _, fields in store.stored} == {"image_invalid"}


def test_asking_twice_is_reading_once(start: Callable[[Any], Desk]) -> None:
    item = film()
    store, reader = FakeStore(item), FakeReader()
    desk = start(reader)
    desk.desk.open(store)  # type: ignore[arg-type]
    desk.desk.ask(Request(item.id))
    desk.desk.ask(Request(item.id))
    assert desk.desk.reading(item.id)
    assert desk.desk.queued == 1
    desk.desk.start()
    desk.wait(1)
    desk.desk.close()
    assert len(reader.asked) == 1


def test_overruling_and_correcting_reach_the_reader(start: Callable[[Any], Desk]) -> None:
    item = film()
    store, reader = FakeStore(item), FakeReader()
    desk = start(reader)
    desk.desk.start()
    desk.desk.open(store)  # type: ignore[arg-type]
    desk.wait(1)
    desk.desk.ask(Request(item.id, overridden=True, correction=Correction(invert=True)))
    desk.wait(2)
    assert reader.asked[-1][1]["overridden"]
    assert reader.asked[-1][1]["correction"] == Correction(invert=True)
    assert store.stored[-1][1]["overridden"]


def test_overruling_keeps_the_correction_of_the_last_reading(start: Callable[[Any], Desk]) -> None:
    turned = Correction(quarter_turns=2)
    item = replace(film(), diagnosis=SimpleNamespace(correction=turned), error="read")  # type: ignore[arg-type]
    reader = FakeReader()
    desk = start(reader)
    desk.desk.start()
    desk.desk.open(FakeStore(item))  # type: ignore[arg-type]
    for number, request in enumerate(
        [
            Request(item.id, overridden=True),
            Request(item.id, correction=turned),
            Request(item.id, afresh=True),
        ]
    ):
        desk.desk.ask(request)
        desk.wait(number + 1)
    assert [options["correction"] for _, options in reader.asked] == [turned, Correction(), None]


def test_the_picture_can_be_looked_at_while_the_models_read(start: Callable[[Any], Desk]) -> None:
    item, looked = film(), []
    screened = Screened(np.zeros((4, 4), np.uint8), 0.0, 255.0)

    class Drawing(FakeReader):
        def read(self, data: bytes, **options: Any) -> Reading:
            options["drawn"](screened)
            looked.append(desk.desk.picture(item.id))
            return super().read(data, **options)

    desk = start(Drawing())
    desk.desk.open(FakeStore(item))  # type: ignore[arg-type]
    desk.desk.start()
    desk.wait(1)
    assert looked == [(screened, None)]
    assert desk.drawn == [item.id]
    assert desk.desk.picture(item.id) is None


def test_a_mistake_in_one_film_does_not_stop_the_next(start: Callable[[Any], Desk]) -> None:
    bad, good = film(), film()

    def behave(data: bytes) -> Reading:
        if data == bad.id.bytes:
            raise ZeroDivisionError("a patient's name")
        return Reading(None, None, "image_invalid", None, None)

    desk = start(FakeReader(behave))
    desk.desk.open(FakeStore(good, bad))  # type: ignore[arg-type]
    desk.desk.start()
    told = dict(desk.wait(2))
    error = told[bad.id]
    assert error is not None
    assert error.code == "internal_error"
    assert told[good.id] is None


def test_models_that_cannot_be_used_leave_films_unread_and_say_why(start: Callable[[Any], Desk]) -> None:
    item = film()

    class Broken(FakeReader):
        def load(self) -> Any:
            raise ReleaseError("release_missing", "No release.", "Install one.")

        def read(self, data: bytes, **options: Any) -> Reading:
            return self.load()  # type: ignore[no-any-return]

    store = FakeStore(item)
    desk = start(Broken())
    desk.desk.open(store)  # type: ignore[arg-type]
    desk.desk.start()
    ((number, error),) = desk.wait(1)
    assert number == item.id
    assert error is not None
    assert error.code == "release_missing"
    assert desk.desk.error is not None
    assert not store.stored


def test_a_film_deleted_meanwhile_is_reported_and_forgotten(start: Callable[[Any], Desk]) -> None:
    desk = start(FakeReader())
    desk.desk.open(FakeStore())  # type: ignore[arg-type]
    desk.desk.start()
    desk.desk.ask(Request(new_id()))
    ((_, error),) = desk.wait(1)
    assert error is not None
    assert error.code == "record_unknown"


def test_a_film_that_ends_the_process_is_set_aside_after_some_starts(
    start: Callable[[Any], Desk], tmp_path: Path
) -> None:
    item = film()
    for _ in range(MOST_TRIES):
        Tries(tmp_path / "reading.json").begin(item.id)  # and the process ended
    store, reader = FakeStore(item), FakeReader()
    desk = start(reader)
    desk.desk.open(store)  # type: ignore[arg-type]
    desk.desk.start()
    desk.wait(1)
    assert not reader.asked
    assert store.stored[0][1]["error"] == "reading_crashed"


def test_tries_count_one_film_in_a_row(tmp_path: Path) -> None:
    tries = Tries(tmp_path / "reading.json")
    one, other = new_id(), new_id()
    assert [tries.begin(one), tries.begin(one), tries.begin(other), tries.begin(one)] == [1, 2, 1, 1]
    tries.end()
    assert tries.begin(one) == 1
    (tmp_path / "reading.json").write_text("[broken")
    assert tries.begin(one) == 1


def test_a_real_reader_is_accepted(tmp_path: Path) -> None:
    assert Desk(FilmReader(), tmp_path).desk.models is None


def test_a_run_deleted_while_its_film_is_read_leaves_the_film_to_be_asked_about(start: Callable[[Any], Desk]) -> None:
    item, run = film(), new_id()

    class Deleting(FakeStore):
        def runs(self, **_: Any) -> list[Any]:
            began = EncounterFields(patient=new_id(), started_at=item.received_at)
            return [SimpleNamespace(id=run, encounter=began, who=PatientFields())]

        def add_reading(self, number: UUID, **fields: Any) -> UUID:
            if "encounter" in fields["radiograph"]:
                raise FirstRayError("record_unknown", "The run is gone.", "")
            return super().add_reading(number, **fields)

    store = Deleting(item)
    desk = start(FakeReader())
    desk.desk.open(store)  # type: ignore[arg-type]
    desk.desk.start()
    ((_, error),) = desk.wait(1)
    assert error is None
    assert store.stored[0][1]["radiograph"] == {}


def test_a_film_is_not_called_unread_between_its_reading_and_its_record(start: Callable[[Any], Desk]) -> None:
    item = film()
    store, seen = FakeStore(item), []

    def add_reading(number: UUID, **fields: Any) -> UUID:
        seen.append((desk.desk.reading(number), desk.desk.storing(number)))
        return FakeStore.add_reading(store, number, **fields)

    store.add_reading = add_reading  # type: ignore[method-assign]
    desk = start(FakeReader())
    desk.desk.open(store)  # type: ignore[arg-type]
    desk.desk.start()
    desk.wait(1)
    assert seen == [(False, True)]
    assert not desk.desk.storing(item.id)


def test_where_nobody_can_be_asked_a_film_begins_a_run_unless_it_has_one(start: Callable[..., Desk]) -> None:
    free, owned = film(), replace(film(), run=new_id())
    store = FakeStore(free, owned)
    desk = start(FakeReader(), alone=True)
    desk.desk.open(store)  # type: ignore[arg-type]
    desk.desk.start()
    desk.wait(2)
    assert {number: fields["new_run"] for number, fields in store.stored} == {free.id: True, owned.id: False}
