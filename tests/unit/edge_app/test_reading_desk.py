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

from edge_app import reading_desk
from edge_app.reading import FilmReader, Reading, Screened
from edge_app.reading_desk import MOST_TRIES, ReadingDesk, Request, Tries
from edge_app.store.views import Film
from shared.correction import Correction
from shared.errors import FirstRayError, ReleaseError
from shared.identity import new_id
from shared.records import EncounterFields, PatientFields
from tests.unit.edge_app.store.samples import diagnosis


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
        self.began: list[UUID] = []
        self.drawn: list[UUID] = []
        self.found: list[UUID] = []
        self.models = threading.Event()
        self._arrived = threading.Condition()
        self.desk = ReadingDesk(
            reader,
            tries=folder / "reading.json",
            language=lambda: "en",
            alone=alone,
            began=self.began.append,
            drawn=self.drawn.append,
            found=self.found.append,
            read=self._read,
            models_changed=self.models.set,
        )

    def _read(self, number: UUID, error: FirstRayError | None) -> None:
        with self._arrived:
            self.told.append((number, error))
            self._arrived.notify_all()

    def wait(self, count: int) -> list[tuple[UUID, FirstRayError | None]]:
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.told) >= count, 60)
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


def test_bytes_at_hand_are_read_once_and_only_as_their_film(start: Callable[[Any], Desk]) -> None:
    first, second = film(), film()
    reader = FakeReader()
    desk = start(reader)
    desk.desk.start()
    desk.desk.open(FakeStore(first, second))  # type: ignore[arg-type]
    desk.wait(2)
    for count, request in enumerate((Request(first.id), Request(first.id, afresh=True), Request(second.id))):
        desk.desk.ask(request, b"at hand" if count == 0 else None)
        desk.wait(3 + count)
    assert [data for data, _ in reader.asked[2:]] == [b"at hand", first.id.bytes, second.id.bytes]


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


def test_picture_and_result_can_be_looked_at_before_they_are_stored(start: Callable[[Any], Desk]) -> None:
    item, looked, read = film(), [], diagnosis()
    screened = Screened(np.zeros((4, 4), np.uint8), 0.0, 255.0)

    class Drawing(FakeReader):
        def read(self, data: bytes, **options: Any) -> Reading:
            options["drawn"](screened)
            looked.append(desk.desk.under_way(item.id))
            options["found"](read)
            looked.append(desk.desk.under_way(item.id))
            return super().read(data, **options)

    desk = start(Drawing())
    desk.desk.open(FakeStore(item))  # type: ignore[arg-type]
    desk.desk.start()
    desk.wait(1)
    early, found = looked
    assert (early.picture, early.correction, early.found) == (screened, None, None)
    assert (found.picture, found.found.radiograph, found.found.result) == (screened, item.id, read)
    assert (desk.drawn, desk.found) == ([item.id], [item.id])
    assert desk.desk.under_way(item.id) is None


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


def test_a_film_that_could_not_be_stored_is_tried_again_by_itself_and_complained_of_once(
    start: Callable[[Any], Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_desk, "AGAIN_SECONDS", 0.02)
    item, other = film(), film()

    class Full(FakeStore):
        left = 3

        def add_reading(self, number: UUID, **fields: Any) -> UUID:
            if number == item.id and self.left:
                self.left -= 1
                raise FirstRayError("disk_full", "The disk is full.", "")
            return super().add_reading(number, **fields)

    store, reader = Full(other, item), FakeReader()
    desk = start(reader)
    desk.desk.open(store)  # type: ignore[arg-type]
    desk.desk.start()
    told = [(number, error.code if error else None) for number, error in desk.wait(3)]
    assert told == [(item.id, "disk_full"), (other.id, None), (item.id, None)]
    assert desk.began == [item.id, other.id], "a try of its own does not take the screen"
    assert len(reader.asked) == 5
    assert len(store.stored) == 2


def test_films_left_for_want_of_models_are_read_once_there_are_some(start: Callable[[Any], Desk]) -> None:
    item = film()

    class Installed(FakeReader):
        there = False

        def load(self) -> Any:
            if not self.there:
                raise ReleaseError("release_missing", "No release.", "Install one.")
            return super().load()

        def renew(self) -> Any:
            return self.load()

        def read(self, data: bytes, **options: Any) -> Reading:
            self.load()
            return super().read(data, **options)

    reader = Installed()
    desk = start(reader)
    desk.desk.open(FakeStore(item))  # type: ignore[arg-type]
    desk.desk.start()
    desk.wait(1)
    reader.there = True
    desk.desk.renew()
    assert desk.wait(2)[1] == (item.id, None)
    assert desk.desk.error is None


def test_models_that_come_back_are_found_without_being_asked_for(
    start: Callable[[Any], Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_desk, "AGAIN_SECONDS", 0.02)
    item, tries = film(), []

    class Later(FakeReader):
        def load(self) -> Any:
            tries.append(1)
            if len(tries) < 6:
                raise ReleaseError("release_missing", "No release.", "Install one.")
            return super().load()

        def read(self, data: bytes, **options: Any) -> Reading:
            self.load()
            return super().read(data, **options)

    desk = start(Later())
    desk.desk.open(FakeStore(item))  # type: ignore[arg-type]
    desk.desk.start()
    told = [error.code if error else None for _, error in desk.wait(2)]
    assert told == ["release_missing", None]
    assert desk.desk.error is None


def test_a_film_that_was_deleted_before_it_was_tried_again_is_no_news(
    start: Callable[[Any], Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_desk, "AGAIN_SECONDS", 0.02)
    item, looked = film(), threading.Event()

    class Going(FakeStore):
        def original(self, number: UUID) -> bytes:
            del self.films[number]
            raise FirstRayError("disk_failed", "The disk failed.", "")

        def film(self, number: UUID) -> Film:
            if number not in self.films:
                looked.set()
            return super().film(number)

    desk = start(FakeReader())
    desk.desk.open(Going(item))  # type: ignore[arg-type]
    desk.desk.start()
    assert looked.wait(60)
    desk.desk.close()
    assert [error.code if error else None for _, error in desk.told] == ["disk_failed"]


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
