"""Goes through the real app from inside, one wait after the other: for what would take a test with a mouse too long."""

import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from edge_app.capture.dicom import DicomSettings
from edge_app.station import Station, StationOptions
from edge_app.ui import run_window

PIN = "271828"
LIMIT = 90.0
"""Seconds to wait for any one thing."""
PRESSED = 0.15
"""Seconds a finger stays down: Kivy takes a shorter touch for the start of a scroll."""

Wait = Callable[[], object]
Step = Iterator[Wait]


def go_through(
    home: Path, fill: Callable[[Station], Any], plan: Callable[[Any], Step], done: Callable[[], None]
) -> None:
    """Show the app on a new store, and follow a plan in it.

    Args:
        home: the store is made in it.
        fill: fills the open station; what it returns is given to ``plan``.
        plan: yields what to wait for before its next step.
        done: called at the end, unless the plan failed; then the process ends with the traceback and exit code 1.
    """
    failed: list[bool] = []

    def prepare(station: Station) -> None:
        from kivy.clock import Clock

        station.set_up(PIN)
        steps = plan(fill(station))
        waits: list[tuple[Wait, float]] = []

        def step(_: float) -> bool:
            try:
                if waits and not waits[0][0]():
                    assert time.monotonic() - waits[0][1] < LIMIT, "waited in vain"
                    return True
                waits[:] = [(next(steps), time.monotonic())]
            except StopIteration:
                done()
            except Exception:  # noqa: BLE001  the app itself would outlive it and go on
                traceback.print_exc()
                failed.append(True)
            else:
                return True
            app().stop()
            return False

        Clock.schedule_interval(step, 0)

    options = StationOptions(dicom=DicomSettings(host="127.0.0.1", port=0))
    run_window(home / "store", options=options, prepare=prepare)
    if failed:
        raise SystemExit(1)


def app() -> Any:
    """The running app."""
    from kivy.app import App

    return App.get_running_app()


def after(seconds: float) -> Wait:
    """Wait some time from now on."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


def seen(wanted: str) -> Any:
    """The topmost widget of that name or text that can be seen; None where there is none."""
    from kivy.core.window import Window

    from edge_app.ui.outline import _visible

    found = None
    for top in reversed(Window.children):
        for widget, _ in _visible(top, (0.0, 0.0, float(Window.width), float(Window.height))):
            if wanted in (getattr(widget, "name", ""), getattr(widget, "text", "")) and not widget.disabled:
                found = widget
    return found


def tap(wanted: str, within: Any = None) -> Step:
    """Wait for a widget to be seen, and touch its middle; ``within`` looks below one widget only."""
    from kivy.tests.common import UnitTestTouch

    def look() -> Any:
        if within is None:
            return seen(wanted)
        return next((each for each in within.walk() if wanted in (getattr(each, "name", ""), each_text(each))), None)

    yield look
    yield after(0.1)  # until it is laid out
    widget = look()
    touch = UnitTestTouch(*widget.to_window(*widget.center))
    touch.touch_down()
    yield after(PRESSED)
    touch.touch_up()
    yield after(PRESSED)


def each_text(widget: Any) -> str:
    """What is written on a widget."""
    return str(getattr(widget, "text", ""))
