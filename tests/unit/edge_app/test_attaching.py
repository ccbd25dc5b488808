"""An image finds its run by itself only where there is no doubt."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from edge_app.attaching import contradicts, exposed_at, run_for
from edge_app.capture.intake import Source
from edge_app.reading import FilmReader, Reading
from edge_app.reading_desk import ReadingDesk, Request
from edge_app.store.views import Delivery, Film, RunRow
from shared.errors import FirstRayError
from shared.identity import new_id
from shared.radiograph import DeviceLabels
from shared.records import EncounterFields, PatientFields
from tests.unit.edge_app.store.samples import diagnosis, open_store, receive

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


def film(source: Source = Source.DICOM) -> Film:
    """Just arrived."""
    return Film(
        id=new_id(),
        run=None,
        sha256="0" * 64,
        size=1,
        received_at=NOW,
        source=source,
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


def row(name: str | None = None, began: timedelta = timedelta(minutes=-5)) -> RunRow:
    patient = new_id()
    encounter = EncounterFields(patient=patient, started_at=NOW + began)
    who = PatientFields(name=name)
    return RunRow(new_id(), patient, who, encounter, 0, 0, None, (), Delivery.WAITING, False, 0)


def test_the_one_run_under_way_gets_the_image() -> None:
    run = row()
    assert run_for(film(), DeviceLabels("KIM CHULSOO"), [run]) == run.id


@pytest.mark.parametrize("count", [0, 2])
def test_without_exactly_one_run_a_person_is_asked(count: int) -> None:
    assert run_for(film(), DeviceLabels(), [row() for _ in range(count)]) is None


def test_a_run_that_began_later_does_not_get_an_earlier_image() -> None:
    assert run_for(film(), DeviceLabels(), [row(began=timedelta(seconds=1))]) is None


def test_another_name_on_the_image_is_asked_about() -> None:
    assert run_for(film(), DeviceLabels("PARK JIMIN"), [row("Kim Chulsoo")]) is None


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


class Ambulance:
    """A store, and a desk that reads into it what a device is said to have written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.labels: dict[UUID, DeviceLabels] = {}
        self.store = open_store(folder / "store")

    def film(self, acquired_at: str | None = None, source: Source = Source.DICOM) -> UUID:
        film = receive(self.store, source=source, station=None)
        self.labels[film] = DeviceLabels(acquired_at=acquired_at)
        return film

    def read(self, film: UUID) -> UUID | None:
        """Read it (again); the run it belongs to then."""
        labels, heard = self.labels[film], threading.Event()

        class Reader(FilmReader):
            def load(self) -> Any:
                return SimpleNamespace()

            def read(self, *_: Any, **__: Any) -> Reading:
                radiograph: Any = SimpleNamespace(labels=labels, correction=None)
                return Reading(radiograph, diagnosis(), None, b"picture", b"preview")

        def told(number: UUID, error: FirstRayError | None) -> None:
            assert error is None
            if number == film:
                heard.set()

        ignored: Any = lambda *_: None  # noqa: E731
        desk = ReadingDesk(
            Reader(),
            tries=self.folder / "reading.json",
            language=lambda: "en",
            began=ignored,
            drawn=ignored,
            found=ignored,
            read=told,
            models_changed=ignored,
        )
        desk.open(self.store)
        desk.ask(Request(film))
        desk.start()
        assert heard.wait(60)
        desk.close()
        return self.store.film(film).run

    def restart(self) -> None:
        self.store.close()
        self.store = open_store(self.folder / "store")


@pytest.fixture
def ambulance(tmp_path: Path) -> Iterator[Ambulance]:
    made = Ambulance(tmp_path)
    yield made
    made.store.close()


def on_the_device(ago: timedelta = timedelta()) -> str:
    """How a device writes when it exposed."""
    return (datetime.now() - ago).strftime("%Y%m%d %H%M%S.%f")


def test_an_exposure_of_long_ago_is_asked_about_however_it_comes(ambulance: Ambulance) -> None:
    ambulance.store.start_run(who={"sex": "male"})
    for source in Source:
        for acquired_at in ("19950926 125130", "19950926", on_the_device(timedelta(hours=14))):
            film = ambulance.film(acquired_at, source)
            assert ambulance.read(film) is None
            assert ambulance.store.film(film).acquired_at == acquired_at


def test_a_device_whose_clock_is_wrong_by_a_time_zone_is_believed(ambulance: Ambulance) -> None:
    run = ambulance.store.start_run()
    for source in Source:
        for ago in (timedelta(), timedelta(hours=9), timedelta(hours=-9)):
            assert ambulance.read(ambulance.film(on_the_device(ago), source)) == run


@pytest.mark.parametrize("acquired_at", [None, "", "125130", "no time", "20261399 990000", "99991231 235959"])
def test_without_a_time_of_exposure_only_what_the_device_sent_is_attached(
    ambulance: Ambulance, acquired_at: str | None
) -> None:
    """A file may have lain on its medium for years; what the X-ray device sends was mostly exposed just now."""
    run = ambulance.store.start_run()
    assert ambulance.read(ambulance.film(acquired_at, Source.DICOM)) == run
    assert ambulance.read(ambulance.film(acquired_at, Source.FOLDER)) is None
    assert ambulance.read(ambulance.film(acquired_at, Source.FILE)) is None


def test_who_was_asked_is_asked_until_they_answer(ambulance: Ambulance) -> None:
    one, other = ambulance.store.start_run(), ambulance.store.start_run()
    film = ambulance.film()
    assert ambulance.read(film) is None
    ambulance.store.end_run(one)
    assert ambulance.read(film) is None
    ambulance.restart()
    assert ambulance.read(film) is None
    ambulance.store.assign(film, other)
    assert ambulance.read(film) == other


def test_a_film_left_unread_is_as_doubtful_after_a_restart_as_when_it_came(ambulance: Ambulance) -> None:
    one, _ = ambulance.store.start_run(), ambulance.store.start_run()
    film = ambulance.film()
    ambulance.store.end_run(one)
    ambulance.restart()
    assert ambulance.read(film) is None


def test_a_film_read_late_goes_to_the_run_it_came_in_and_never_to_the_next(ambulance: Ambulance) -> None:
    ambulance.store.end_run(ambulance.store.start_run())
    run = ambulance.store.start_run()
    film = ambulance.film()
    ambulance.store.end_run(run)
    assert ambulance.read(film) == run
    run = ambulance.store.start_run()
    film = ambulance.film()
    ambulance.store.end_run(run)
    following = ambulance.store.start_run()
    assert ambulance.read(film) is None
    assert ambulance.read(ambulance.film()) == following


def test_what_a_person_says_while_a_film_is_read_stands(ambulance: Ambulance) -> None:
    run, film = ambulance.store.start_run(), ambulance.film()
    other = ambulance.store.start_run()
    ambulance.store.assign(film, other)
    ambulance.store.add_reading(film, diagnosis=diagnosis(), error=None, radiograph={"encounter": run})
    assert ambulance.store.film(film).run == other


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("20261127 101112", (2026, 11, 27, 10, 11, 12)),
        ("20261127 101112.345678", (2026, 11, 27, 10, 11, 12)),
        ("20261127 1011", (2026, 11, 27, 10, 11, 0)),
        ("2026.11.27 10:11:12.3", (2026, 11, 27, 10, 11, 12)),  # ACR-NEMA's form
        ("20261127", (2026, 11, 27, 23, 59, 59)),
        ("101112", None),
        ("00000000 000000", None),
        ("00010101 000000+", None),
        ("", None),
        (None, None),
    ],
)
def test_the_time_of_exposure_is_read_as_devices_write_it(text: str | None, moment: tuple[int, ...] | None) -> None:
    assert exposed_at(text) == (moment and datetime(*moment).astimezone())  # type: ignore[arg-type, misc]
