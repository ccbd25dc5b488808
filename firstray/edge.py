"""``firstray edge``: the ambulance's app, with its screens, without them, or as a demonstration."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from shared.errors import FirstRayError

if TYPE_CHECKING:
    from edge_app.capture.dicom import DicomSettings
    from edge_app.station import Station, StationOptions

DEMO_SECONDS: Final = 4.0
"""After the first screen, until the demonstration's radiograph is sent."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says; see :func:`firstray.cli.edge`."""

    files: tuple[Path, ...] = ()
    store: Path | None = None
    release: Path | None = None
    prevalence: Path | None = None
    language: str | None = None
    theme: str | None = None
    headless: bool = False
    pin_file: Path | None = None
    demo: bool = False
    port: int | None = None
    ae_title: str | None = None
    host: str | None = None
    receive: bool = True
    hot_folder: Path | None = None
    hospital: Path | None = None
    enrol: tuple[str, str] | None = None


def default_store() -> Path:
    """Where records are kept unless something else is said: ``firstray`` in the user's data folder (XDG)."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "firstray"


def run(options: Options) -> int:
    """Run the app until it is closed; returns the exit code. Raises FirstRayError where it cannot start."""
    try:
        import edge_app.station  # noqa: F401
    except ModuleNotFoundError as error:
        raise FirstRayError(
            "extra_missing", f"The app needs {error.name}, which is not installed.", "pip install 'firstray[edge]'"
        ) from None
    if options.demo:
        with tempfile.TemporaryDirectory(prefix="firstray-demo-") as scratch:
            return _demo(replace(options, store=options.store or Path(scratch) / "store"), Path(scratch))
    store = options.store or default_store()
    if options.enrol is not None:
        return _enrol(store, options.pin_file, *options.enrol)
    if options.headless:
        from edge_app.service import run_headless

        return run_headless(store, _station_options(options), options.pin_file)
    _window(options, store, None)
    return 0


def _enrol(store: Path, pin_file: Path | None, url: str, code: str) -> int:
    """Have a hospital take this device on, then end; the next start sends to it."""
    from edge_app.enrolment import enrol_folder
    from shared.enrolment import EnrolmentCode

    EnrolmentCode.parse(code)  # a mistyped code is told before the PIN is asked
    access = enrol_folder(store, _pin(store, pin_file), url, code)
    print(f"Enrolled at {access.hospital.name or access.hospital.url}. The app sends there from its next start.")
    return 0


def _pin(store: Path, pin_file: Path | None) -> str:
    """The PIN from its file or the systemd credential; asked for where there is a terminal instead."""
    from edge_app.service import read_pin
    from edge_app.store.keys import KeyRing

    if pin_file is not None or "CREDENTIALS_DIRECTORY" in os.environ or not sys.stdin.isatty():
        return read_pin(pin_file)
    is_new = not KeyRing(store).exists
    pin: str = typer.prompt("New PIN" if is_new else "PIN", hide_input=True, confirmation_prompt=is_new)
    return pin


def _window(options: Options, store: Path, prepare: Callable[[Station], None] | None) -> None:
    from edge_app.ui import run_window

    run_window(
        store,
        options=_station_options(options),
        files=options.files,
        language=options.language,
        theme=options.theme,
        prepare=prepare,
    )


def _demo(options: Options, scratch: Path) -> int:
    """A throw-away store with sample patients, opened without a PIN; then the sample arrives by DICOM."""
    from edge_app import demo
    from firstray.demo import sample_radiograph

    sample = sample_radiograph()
    options = replace(options, host=options.host or "127.0.0.1", port=0 if options.port is None else options.port)
    failed: list[FirstRayError] = []

    def prepare(station: Station) -> None:
        station.set_up(demo.PIN)
        demo.show(station, sample, scratch)
        threading.Timer(DEMO_SECONDS, send, (station,)).start()

    def send(station: Station) -> None:
        try:
            status = station.status()
            demo.send(sample, "127.0.0.1", station.dicom_address[1], status.dicom.ae_title)
        except FirstRayError as error:
            failed.append(error)
            print(f"Error [{error.code}]: {error}", file=sys.stderr)

    if options.headless:
        raise FirstRayError("demo_headless", "The demonstration needs its screens.", "Leave out --headless.")
    print(f"Demonstration: the PIN is {demo.PIN}; nothing of it is kept.")
    _window(options, options.store or scratch, prepare)
    return 1 if failed else 0


def _station_options(options: Options) -> StationOptions:
    from edge_app.hospital_access import load_access
    from edge_app.station import StationOptions
    from shared.prevalence import load_prevalence

    return StationOptions(
        release=options.release,
        prevalence=load_prevalence(options.prevalence) if options.prevalence else None,
        dicom=_dicom(options),
        receive=options.receive,
        hot_folder=options.hot_folder,
        hospital=load_access(options.hospital) if options.hospital else None,
    )


def _dicom(options: Options) -> DicomSettings | None:
    """The receiver's settings if any is given on the command line; None leaves them to the app."""
    given = {
        name: value
        for name, value in (("host", options.host), ("port", options.port), ("ae_title", options.ae_title))
        if value is not None
    }
    if not given:
        return None
    from edge_app.capture.dicom import DicomSettings

    return DicomSettings(**given)  # type: ignore[arg-type]
