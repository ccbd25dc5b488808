"""What runs while the device is open: the X-ray device is received from until other settings work."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_app.arrivals import Arrivals
from edge_app.capture.dicom import DicomSettings
from edge_app.releases import ReleaseShelf
from edge_app.running import Running
from edge_app.station_views import ModelStatus, StationOptions
from edge_app.store.errors import StoreError
from edge_app.store.store import Store
from shared.errors import FirstRayError
from tests.unit.edge_app.store.samples import open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path / "store")
    yield opened
    opened.close()


@pytest.fixture
def running(store: Store, tmp_path: Path) -> Iterator[Running]:
    made = Running(
        store,
        Arrivals(lambda: store, lambda _: None),
        ReleaseShelf(tmp_path / "releases", installed=lambda: None),
        notify=lambda _: None,
        revoked=lambda _: None,
    )
    made.start(StationOptions(dicom=settings(free_port())))
    yield made
    made.stop()


def settings(port: int, ae_title: str = "FIRSTRAY") -> DicomSettings:
    return DicomSettings(host="127.0.0.1", port=port, ae_title=ae_title)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def receives_as(running: Running) -> DicomSettings | None:
    """The settings by which a device can connect now; None where none can."""
    status = running.status(ModelStatus(ready=True), 0)
    assert status.receiver is not None
    with socket.socket() as device:
        connected = device.connect_ex(("127.0.0.1", status.dicom.port)) == 0
    assert connected is status.receiver.listening
    return status.dicom if connected else None


def test_settings_that_cannot_be_kept_leave_the_receiver_as_it_was(
    running: Running, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = receives_as(running)

    def full(key: str, value: Any) -> None:
        raise StoreError("disk_full")

    monkeypatch.setattr(store, "set_setting", full)
    with pytest.raises(StoreError) as caught:
        running.set_dicom(settings(free_port(), "OTHER"))
    assert caught.value.code == "disk_full"
    assert before is not None
    assert receives_as(running) == before


def test_settings_that_do_not_work_are_not_kept_and_the_old_ones_go_on(running: Running, store: Store) -> None:
    before, remembered = receives_as(running), store.setting("dicom")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(FirstRayError) as caught:
            running.set_dicom(settings(taken.getsockname()[1], "OTHER"))
    assert caught.value.code == "dicom_port_in_use"
    assert before is not None
    assert receives_as(running) == before
    assert store.setting("dicom") == remembered


def test_settings_that_work_are_kept(running: Running, store: Store) -> None:
    other = settings(free_port(), "OTHER")
    running.set_dicom(other)
    assert receives_as(running) == other
    assert store.setting("dicom")["ae_title"] == "OTHER"
