"""Radiographs: spooled, read, assigned, compared; the bytes come back, or an error says they do not."""

import errno
import os
import threading
from hashlib import sha256
from pathlib import Path
from uuid import UUID

import pytest

from edge_app.capture.intake import Source
from edge_app.store import images
from edge_app.store.errors import StoreError
from edge_app.store.store import Store
from edge_app.store.views import Delivery
from shared.identity import new_id
from shared.records import RecordType
from tests.unit.edge_app.store.samples import Hospital, arrival, check_chains, diagnosis, events, open_store, receive


def files(folder: Path) -> list[Path]:
    return [path for path in (folder / "images").rglob("*") if path.is_file()]


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 131_072, 300_001])
def test_bytes_come_back_whatever_their_number(store: Store, size: int) -> None:
    data = os.urandom(size)
    if size == 0:
        with store.spool() as spool, pytest.raises(StoreError) as error:
            spool.commit(arrival())
        assert error.value.code == "value_not_allowed"
        return
    with store.spool() as spool:
        for start in range(0, size, 9_999):
            spool.write(data[start : start + 9_999])
        film = spool.commit(arrival())
    assert store.original(film) == data
    view = store.film(film)
    assert (view.sha256, view.size, view.source, view.station) == (sha256(data).hexdigest(), size, "dicom", "XRAY1")
    assert view.waiting_to_be_read
    assert view.delivery == dict.fromkeys(("record", "preview", "original"), Delivery.WAITING)


def test_what_is_not_committed_leaves_nothing(store: Store, folder: Path) -> None:
    with store.spool() as spool:
        spool.write(b"x" * 200_000)
    assert files(folder) == []
    assert len(events(store)) == 1


def test_the_same_bytes_twice_are_one_radiograph(store: Store, folder: Path) -> None:
    first = receive(store, b"same")
    assert receive(store, b"same", source=Source.FILE, station=None) == first
    assert store.film(first).source == "dicom"
    assert len(store.waiting_films()) == 1
    assert len(files(folder)) == 1
    assert len(events(store)) == 2


def test_the_same_bytes_from_many_at_once_are_one_radiograph(store: Store, folder: Path) -> None:
    ids: list[UUID] = []
    threads = [threading.Thread(target=lambda: ids.append(receive(store, b"many" * 50_000))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 8
    assert len(set(ids)) == 1
    assert store.original(ids[0]) == b"many" * 50_000
    label = store._images.label(files(folder)[0].name)
    assert label is not None
    assert label.radiograph == ids[0]


def test_receiving_again_mends_a_damaged_file(store: Store, folder: Path) -> None:
    film = receive(store, b"radiograph" * 20_000)
    (file,) = files(folder)
    file.write_bytes(file.read_bytes()[:-70_000])
    with pytest.raises(StoreError) as error:
        store.original(film)
    assert error.value.code == "image_damaged"
    assert receive(store, b"radiograph" * 20_000) == film
    assert store.original(film) == b"radiograph" * 20_000


def test_an_image_mended_by_receiving_it_again_is_sent_after_all(store: Store, hospital: Hospital) -> None:
    film = receive(store, b"radiograph")
    store.add_reading(film, diagnosis=diagnosis(), error=None)
    hospital.take(store)
    (upload,) = store.outbox.next_uploads()
    for code, sent in (("image_damaged", True), ("not_allowed", False)):
        store.outbox.upload_refused(upload.sha256, code, "")
        assert receive(store, b"radiograph") == film
        assert bool(store.outbox.next_uploads()) is sent


def test_an_image_is_not_kept_where_the_disk_fails_at_the_last_moment(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(place: Path) -> None:
        raise OSError(errno.EIO, "failed")

    receive(store, b"another")
    monkeypatch.setattr(images, "sync_folder", failing)
    with store.spool() as spool:
        spool.write(b"not acknowledged")
        with pytest.raises(StoreError) as error:
            spool.commit(arrival())
    assert error.value.code == "disk_failed"
    monkeypatch.undo()
    assert len(files(folder)) == 1


def test_a_reading_is_shown_as_it_was_made(store: Store) -> None:
    run = store.start_run()
    film = receive(store)
    made = diagnosis("Pneumothorax", urgent=("Pneumothorax",))
    id = store.add_reading(
        film,
        diagnosis=made,
        error=None,
        radiograph={"encounter": run, "device_patient": {"name": "DOE^JANE"}, "acquired_at": "20260301 101500"},
        picture=b"picture",
        preview=b"preview",
    )
    view = store.film(film)
    assert (view.diagnosis, view.diagnosis_id, view.run, view.error) == (made, id, run, None)
    assert view.device_patient is not None
    assert view.device_patient.name == "DOE^JANE"
    assert (view.picture, store.picture(film)) == (True, b"picture")
    assert store.unread_films() == []
    whole = store.run(run)
    assert whole.row.latest == made
    assert (whole.row.radiographs, whole.row.unread, whole.row.urgent) == (1, 0, ("Pneumothorax",))
    assert whole.films == (view,)


def test_a_reading_that_nobody_can_be_asked_about_begins_a_run(store: Store) -> None:
    film = receive(store)
    store.add_reading(film, diagnosis=diagnosis("Mass"), error=None, new_run=True)
    (row,) = store.runs(under_way=True, limit=5)
    assert store.film(film).run == row.id
    assert row.encounter.started_at == store.film(film).received_at
    assert row.who.name is None


def test_an_earlier_reading_stays_with_its_picture(store: Store, folder: Path) -> None:
    film = receive(store)
    pictures = {"picture": b"one", "preview": b"p1"}
    old = store.add_reading(film, diagnosis=diagnosis(release="r1"), error=None, **pictures)
    new = store.add_reading(
        film, diagnosis=diagnosis(release="r2"), error=None, overridden=True, picture=b"two", preview=b"p2"
    )
    assert [past.fields.result.release for past in store.previous_diagnoses(film) if past.fields.result] == ["r1"]
    assert (store.picture(film), store.picture(film, old), store.picture(film, new)) == (b"two", b"one", b"two")
    assert store.film(film).overridden
    assert len(files(folder)) == 4  # original, two pictures, the latest preview
    again = store.add_reading(film, diagnosis=diagnosis(release="r3"), error=None, picture=b"two", preview=b"p2")
    assert store.picture(film, again) == b"two"
    assert len(files(folder)) == 4


def test_an_unreadable_file_has_its_error_and_is_no_longer_unread(store: Store) -> None:
    film = receive(store)
    store.add_reading(film, diagnosis=None, error="dicom_truncated")
    view = store.film(film)
    assert (view.error, view.diagnosis, view.picture, view.waiting_to_be_read) == (
        "dicom_truncated",
        None,
        False,
        False,
    )
    assert store.unread_films() == []
    for wrong in ({"diagnosis": None, "error": None}, {"diagnosis": diagnosis(), "error": "x"}):
        with pytest.raises(StoreError) as error:
            store.add_reading(film, **wrong)  # type: ignore[arg-type]
        assert error.value.code == "value_not_allowed"


def test_a_reading_that_fails_leaves_no_file(store: Store, folder: Path) -> None:
    film = receive(store)
    before = (len(files(folder)), len(events(store)))
    with pytest.raises(StoreError) as error:
        store.add_reading(
            film, diagnosis=diagnosis(), error=None, radiograph={"encounter": new_id()}, picture=b"a", preview=b"b"
        )
    assert error.value.code == "record_unknown"
    assert (len(files(folder)), len(events(store))) == before


def test_what_arrived_never_changes(store: Store) -> None:
    film = receive(store)
    id = store.add_reading(film, diagnosis=diagnosis(), error=None)
    for type, subject, fields in (
        (RecordType.RADIOGRAPH, film, {"sha256": "1" * 64}),
        (RecordType.RADIOGRAPH, film, {"source": "file"}),
        (RecordType.DIAGNOSIS, id, {"overridden": True}),
    ):
        with pytest.raises(StoreError) as error:
            store.change(type, subject, fields)
        assert error.value.code == "value_not_allowed"


def test_films_wait_until_someone_says_whose_they_are(store: Store) -> None:
    first, second = receive(store), receive(store)
    run = store.start_run()
    patient = store.run(run).patient.id
    assert [film.id for film in store.waiting_films()] == [first, second]
    store.assign(first, run)
    assert [film.id for film in store.waiting_films()] == [second]
    store.assign(second, store.start_run(patient))
    assert [film.id for film in store.films_of_patient(patient)] == [second, first]
    store.assign(first, None)
    assert [film.id for film in store.waiting_films()] == [first]


@pytest.mark.parametrize("place", [0, 40, 600, 70_000, -1])
def test_one_altered_byte_is_found(store: Store, folder: Path, place: int) -> None:
    film = receive(store, os.urandom(150_000))
    (file,) = files(folder)
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)
    with pytest.raises(StoreError) as error:
        store.original(film)
    assert error.value.code == "image_damaged"


def test_chunks_cannot_be_swapped_dropped_or_taken_from_another_file(store: Store, folder: Path) -> None:
    film = receive(store, b"a" * 200_000)
    (file,) = files(folder)
    other = receive(store, b"b" * 200_000)
    (second,) = set(files(folder)) - {file}
    whole, chunk, start = file.read_bytes(), 65_536 + 16, 32 + 512 + 16
    swapped = whole[:start] + whole[start + chunk :][:chunk] + whole[start:][:chunk] + whole[start + 2 * chunk :]
    for forged in (
        swapped,
        whole[: start + chunk],
        whole[:start] + whole[start + chunk :],
        whole[:10],
        b"",
        second.read_bytes(),
    ):
        file.write_bytes(forged)
        with pytest.raises(StoreError) as error:
            store.original(film)
        assert error.value.code == "image_damaged"
    assert store.original(other) == b"b" * 200_000
    file.unlink()
    with pytest.raises(StoreError) as error:
        store.original(film)
    assert error.value.code == "image_damaged"


def test_no_room_for_images_leaves_room_for_records(folder: Path) -> None:
    store = open_store(folder, reserve=1 << 60)
    with pytest.raises(StoreError) as error:
        store.spool()
    assert error.value.code == "disk_full"
    store.start_run(who={"name": "still possible"})
    store.close()


def test_files_without_a_record_are_taken_up_or_removed_at_opening(folder: Path) -> None:
    store = open_store(folder)
    kept = receive(store, b"kept")
    for kind in ("original", "preview", "picture"):  # as if the program stopped before the transaction
        draft = store._images.draft()
        draft.write(f"lost {kind}".encode())
        came = arrival()
        draft.keep(kind, new_id(), received_at=came.received_at, source=came.source.value, station=came.station)
    store._images.draft().write(b"half a file")
    store.close()
    again = open_store(folder)
    films = again.waiting_films()
    assert len(films) == 2
    assert {again.original(film.id) for film in films} == {b"kept", b"lost original"}
    assert kept in {film.id for film in films}
    assert len(files(folder)) == 2
    assert {film.station for film in films} == {"XRAY1"}
    check_chains(again)
    again.close()


def test_eight_threads_write_one_chain(store: Store) -> None:
    problems: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(6):
                run = store.start_run(who={"name": f"patient {number} {turn}"})
                film = receive(store, os.urandom(70_000))
                store.add_vital_signs(run, {"spo2": 90 + turn})
                store.add_reading(
                    film, diagnosis=diagnosis(), error=None, picture=os.urandom(50), preview=os.urandom(9)
                )
                store.assign(film, run)
                assert store.run(run).row.radiographs == 1
                assert len(store.runs(limit=5)) > 0
                store.settle()
        except BaseException as problem:  # noqa: BLE001  (shown by the test's own thread)
            problems.append(problem)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert len(store.runs(limit=100)) == 48
    # patient, run, film, vital signs, (film's preview,) diagnosis, assignment, and the chain's beginning
    assert check_chains(store) == 48 * 7 + 1
