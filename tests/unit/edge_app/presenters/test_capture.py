"""Files picked, and the question whose an image is."""

from pathlib import Path
from uuid import UUID

from edge_app.ui.presenters.capture import AssignPresenter, CapturePresenter
from tests.unit.edge_app.presenters.rig import Rig


def test_a_picked_file_is_taken_into_its_run(rig: Rig, tmp_path: Path) -> None:
    file = tmp_path / "chest.dcm"
    file.write_bytes(b"x" * 100)
    run = rig.store.start_run()
    taken: list[UUID] = []
    capture = CapturePresenter(rig.desk, rig.station, taken.append)
    capture.take(file, run)
    assert capture.state.taking == 1
    rig.wait(lambda: taken)
    assert capture.state.taking == 0
    assert rig.store.film(taken[0]).run == run


def test_a_file_that_cannot_be_taken_says_why(rig: Rig, tmp_path: Path) -> None:
    capture = CapturePresenter(rig.desk, rig.station, lambda _: None)
    capture.take(tmp_path / "nothing.dcm")
    rig.wait(lambda: capture.state.error)
    assert (capture.state.error.code, capture.state.taking) == ("file_missing", 0)


def test_what_waits_is_listed_with_the_receiver(rig: Rig) -> None:
    film = rig.film(None)
    capture = rig.watch(CapturePresenter(rig.desk, rig.station, lambda _: None))
    rig.wait(lambda: capture.state.waiting)
    assert [one.id for one in capture.state.waiting] == [film]
    assert capture.state.status.dicom.ae_title == "FIRSTRAY"


def test_an_image_is_put_into_a_run_once(rig: Rig) -> None:
    film, run, other = rig.film(None), rig.store.start_run(), rig.store.start_run()
    assigned: list[tuple[UUID, UUID]] = []
    presenter = rig.watch(AssignPresenter(rig.desk, rig.station, film, lambda *ids: assigned.append(ids)))
    rig.wait(lambda: presenter.state.film)
    assert {row.id for row in presenter.state.under_way} == {run, other}
    presenter.choose(run)
    presenter.choose(other)
    rig.wait(lambda: assigned)
    rig.settle()
    assert assigned == [(run, film)]
    assert rig.store.film(film).run == run


def test_an_image_begins_a_run_of_its_own(rig: Rig) -> None:
    film = rig.film(None)
    assigned: list[tuple[UUID, UUID]] = []
    presenter = rig.watch(AssignPresenter(rig.desk, rig.station, film, lambda *ids: assigned.append(ids)))
    presenter.begin()
    rig.wait(lambda: assigned)
    assert rig.store.film(film).run == assigned[0][0]
