"""Opens the app's window. Importing this module does not import Kivy; opening the window does."""

from __future__ import annotations

import logging
import os
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from shared.errors import FirstRayError
from shared.fonts import BOLD, REGULAR

if TYPE_CHECKING:
    from edge_app.station import Station, StationOptions

VISIBLE_DRIVERS: Final = "x11,wayland,kmsdrm"
"""Where SDL may open the window. Left alone it would end with an invisible one where there is no display."""

SIZE: Final = "FIRSTRAY_WINDOW"
"""Environment variable with the window's size, such as ``800x480``, or ``full`` to fill the screen, for a tablet
without a window manager. Elsewhere the window is maximised by itself."""


def run_window(
    folder: Path,
    *,
    options: StationOptions,
    files: Sequence[Path] = (),
    language: str | None = None,
    theme: str | None = None,
    prepare: Callable[[Station], None] | None = None,
) -> None:
    """Show the app until it is closed.

    Args:
        folder: where everything is kept; made at the first start.
        options: of the station.
        files: radiographs to take in as soon as the device is unlocked; the first is shown.
        language: ``"en"`` or ``"ko"``; None means as last chosen in the app.
        theme: ``"dark"`` or ``"light"``; None means as last chosen in the app.
        prepare: opens and fills the station before the first screen; then no PIN is asked for.

    Raises:
        FirstRayError: ``no_display`` where no window can be opened.
    """
    with tempfile.TemporaryDirectory(prefix="firstray-kivy-") as scratch:
        _configure_kivy(scratch)
        from kivy.core.window import Window

        if Window is None:
            raise FirstRayError(
                "no_display",
                "No window can be opened here: there is no display, or it offers no OpenGL.",
                "Start it on a machine with a screen, or use 'firstray diagnose' or 'firstray edge --headless'.",
            )
        from edge_app.diagnostics import keep_log
        from edge_app.memory import return_large_blocks
        from edge_app.station import Station
        from edge_app.ui.app import FirstRayApp

        keep_log()
        return_large_blocks()
        app = FirstRayApp(
            lambda notify: Station(folder, options=options, notify=notify), list(files), language=language, theme=theme
        )
        if prepare is not None:
            prepare(app.station)
        app.run()


def _configure_kivy(scratch: str) -> None:
    """Keep Kivy from reading this program's arguments and from writing settings and logs into the home folder.

    ``KIVY_LOG_MODE=KIVY`` in the environment brings its messages back.
    """
    os.environ.setdefault("KIVY_HOME", scratch)
    os.environ["KIVY_NO_ARGS"] = "1"
    os.environ["KIVY_NO_CONFIG"] = "1"
    os.environ["KIVY_NO_FILELOG"] = "1"
    os.environ["KIVY_CLOCK"] = "free_all"  # what a worker has done is taken up at once, not with the next frame
    if os.environ.setdefault("KIVY_LOG_MODE", "PYTHON") == "PYTHON":
        logging.getLogger("kivy").propagate = False
        logging.getLogger("kivy").addHandler(logging.NullHandler())
    os.environ.setdefault("SDL_VIDEO_X11_WMCLASS", "firstray")
    os.environ.setdefault("KIVY_WINDOW", "sdl2")
    if sys.platform == "linux":
        os.environ.setdefault("SDL_VIDEODRIVER", VISIBLE_DRIVERS)
    from kivy.config import Config

    width, height = _size(os.environ.get(SIZE, ""))
    Config.set("graphics", "width", width)
    Config.set("graphics", "height", height)
    Config.set("graphics", "multisamples", "0")  # edges are smooth enough, and a frame costs half
    Config.set("graphics", "window_state", "maximized")
    Config.set("graphics", "fullscreen", "auto" if os.environ.get(SIZE) == "full" else "0")
    Config.set("graphics", "minimum_width", "800")
    Config.set("graphics", "minimum_height", "480")
    Config.set("input", "mouse", "mouse,disable_multitouch")
    Config.set("kivy", "exit_on_escape", "0")
    Config.set("kivy", "default_font", ["FirstRay", str(REGULAR), str(REGULAR), str(BOLD), str(BOLD)])


def _size(wanted: str) -> tuple[str, str]:
    """Width and height in pixels from ``"800x480"``; those of a common tablet where nothing of that kind is said."""
    found = re.fullmatch(r"(\d{3,4})x(\d{3,4})", wanted)
    return (found[1], found[2]) if found else ("1280", "800")
