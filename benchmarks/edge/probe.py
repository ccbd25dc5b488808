"""The real app, measured from inside: ``python -m benchmarks.edge.probe start|arrivals FOLDER SAMPLE [FILMS]``.

``start``: an existing store, from the start of the process to the first screen, and from the tap on unlock to the list
of runs. ``arrivals``: a new store; films sent by DICOM from another process until their result is on the screen; frames
drawn with and without a reading under way; memory. Prints one JSON object.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from benchmarks.edge.fill import PIN
from edge_app.capture.dicom import DicomSettings
from edge_app.station import Station, StationOptions
from edge_app.ui import run_window
from edge_app.ui.presenters.places import HOME

SETTLE = 20
"""Films read before memory is first looked at, and between two looks."""
FILMS_A_RUN = 4
"""Then the run ends and another begins, as in a shift."""
FRAME_SECONDS = 8.0
LIMIT = 60.0
"""Seconds to wait for any one thing."""

Step = Iterator[Callable[[], bool]]


class Probe:
    """Runs a generator of waits, one step a frame, inside the app."""

    def __init__(self) -> None:
        self.report: dict[str, Any] = {}
        self.flips: list[float] = []
        self._plan: Step | None = None
        self._wait: Callable[[], bool] | None = None
        self._since = 0.0

    def follow(self, plan: Step) -> None:
        """Begin once the app runs."""
        from kivy.clock import Clock
        from kivy.core.window import Window

        self._plan = plan
        Window.bind(on_flip=lambda *_: self.flips.append(time.monotonic()))
        Clock.schedule_interval(lambda _: self._step(), 0)

    @property
    def app(self) -> Any:
        """The running app."""
        from kivy.app import App

        return App.get_running_app()

    def flipped(self) -> Callable[[], bool]:
        """Until the next frame is on the screen."""
        before = len(self.flips)
        from kivy.core.window import Window

        Window.canvas.ask_update()
        return lambda: len(self.flips) > before

    def _step(self) -> None:
        if self._plan is None:
            return
        if self._wait is not None and not self._wait():
            if time.monotonic() - self._since > LIMIT:
                raise SystemExit("waited in vain")
            return
        self._since = time.monotonic()
        self._wait = next(self._plan, None)
        if self._wait is None:
            self._plan = None
            print(json.dumps(self.report), flush=True)
            self.app.stop()


def start(folder: Path) -> None:
    """Measure the start and the unlocking of a store that exists."""
    probe = Probe()

    def plan() -> Step:
        began = psutil.Process().create_time()
        app = probe.app
        yield lambda: app._lock_view is not None
        yield probe.flipped()
        probe.report["first_screen_s"] = time.time() - began
        yield lambda: app.station._desk.models is not None
        probe.report["models_s"] = time.time() - began
        for digit in PIN:
            app.unlock.digit(digit)
        tapped = time.monotonic()
        app.unlock.submit()
        yield lambda: not app.shell.state.locked and bool(_opened(app).presenter.state.under_way)
        yield probe.flipped()
        probe.report["unlock_s"] = time.monotonic() - tapped

    run_window(folder, options=_options(), prepare=lambda _: probe.follow(plan()))


def arrivals(folder: Path, sample: str, films: int) -> None:
    """Measure what happens between an X-ray device and the screen."""
    probe = Probe()
    process = psutil.Process()

    def prepare(station: Station) -> None:
        station.set_up(PIN)
        probe.follow(plan(station))

    def plan(station: Station) -> Step:
        app = probe.app
        sender, watch = Sender(station.dicom_address[1], sample), Watch(app)
        yield lambda: station._desk.models is not None and sender.ready
        run, times, memory = station.store.start_run(), [], {}
        for number in range(films):
            app.shell.touched()  # or the screen locks after some minutes
            if number and number % FILMS_A_RUN == 0:
                station.store.end_run(run)
                run = station.store.start_run()
                app.shell.tab(HOME.screen)
                yield probe.flipped()
            watch.begin(app.shell.state.place)
            sender.send()
            yield lambda: watch.shown_at(probe.flips) is not None and sender.answer is not None
            shown = watch.shown_at(probe.flips) or 0.0
            began, answered = sender.take()
            times.append({"from_first_byte_ms": (shown - began) * 1e3, "from_success_ms": (shown - answered) * 1e3})
            if (number + 1) % SETTLE == 0 or number + 1 == films:
                memory[number + 1] = _memory_mb(process)
            app.shell.back()
            yield probe.flipped()
        probe.report |= {"films": times, "memory_mb": memory}
        yield from frames(app, station, sender)
        sender.close()

    def frames(app: Any, station: Station, sender: Sender) -> Step:
        from kivy.clock import Clock
        from kivy.core.window import Window

        redraw = Clock.schedule_interval(lambda _: Window.canvas.ask_update(), 0)
        for name, busy in (("quiet", False), ("reading", True)):
            read_before = len(sender.sent)
            began = time.monotonic()
            first = len(probe.flips)

            def over(busy: bool = busy, began: float = began) -> bool:
                if busy and sender.idle:
                    sender.take_if_any()
                    sender.send()
                return time.monotonic() - began > FRAME_SECONDS

            yield over
            drawn = probe.flips[first:]
            probe.report[f"frames_{name}"] = {
                "per_second": len(drawn) / (drawn[-1] - drawn[0]),
                "intervals_ms": [(b - a) * 1e3 for a, b in itertools.pairwise(drawn)],
                "films": len(sender.sent) - read_before,
            }
            yield lambda: station._desk.queued == 0
        redraw.cancel()

    run_window(folder, options=_options(), prepare=prepare)


class Sender:
    """The other process that sends films, asked without waiting."""

    def __init__(self, port: int, sample: str) -> None:
        self.answer: tuple[float, float] | None = None
        self.sent: list[float] = []
        self.ready = False
        self.idle = True
        command = [sys.executable, "-m", "benchmarks.edge.sender", str(port), sample]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self._listen, daemon=True).start()

    def send(self) -> None:
        """Send one more."""
        assert self._process.stdin is not None
        self.idle = False
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def take(self) -> tuple[float, float]:
        """When the last one began to be sent, and when success was answered."""
        answer, self.answer = self.answer, None
        assert answer is not None
        return answer

    def take_if_any(self) -> None:
        """Forget the last answer."""
        self.answer = None

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("ready"):
                self.ready = True
                continue
            began, answered = map(float, line.split())
            self.sent.append(began)
            self.answer = (began, answered)
            self.idle = True


class Watch:
    """Notes when the screen has all of the next result; it is seen with the next frame."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._before: Any = None
        self._complete: float | None = None
        change = app._state_changed

        def changed(opened: Any) -> None:
            change(opened)
            if self._complete is None and _shown(app, self._before):
                self._complete = time.monotonic()

        app._state_changed = changed

    def begin(self, place: Any) -> None:
        """The next result is one that is not shown at ``place``."""
        self._before, self._complete = place, None

    def shown_at(self, flips: list[float]) -> float | None:
        """When the frame with the result was on the screen; None before."""
        complete = self._complete
        return None if complete is None else next((at for at in flips if at > complete), None)


def _opened(app: Any) -> Any:
    return app._opened[app.shell.state.place]


def _shown(app: Any, before: Any) -> bool:
    """A result is on the screen, with its image."""
    place = app.shell.state.place
    if place == before or place not in app._opened:
        return False
    state = _opened(app).presenter.state
    return getattr(state, "picture", None) is not None and state.diagnosis is not None and not state.reading


def _memory_mb(process: psutil.Process) -> float:
    """Resident memory of the app and its decoder; what they share counts twice."""
    names = [process, *process.children(recursive=True)]
    return sum(one.memory_info().rss for one in names if "benchmarks.edge.sender" not in one.cmdline()) / 1e6


def _options() -> StationOptions:
    return StationOptions(dicom=DicomSettings(host="127.0.0.1", port=0))


if __name__ == "__main__":
    if sys.argv[1] == "start":
        start(Path(sys.argv[2]))
    else:
        arrivals(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
