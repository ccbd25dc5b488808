"""Opens the reading window. Importing this module does not import Kivy; opening the window does."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from pathlib import Path
from typing import Final

from shared.errors import FirstRayError
from shared.fonts import BOLD, REGULAR
from shared.prevalence import SitePrevalence

VISIBLE_DRIVERS: Final = "x11,wayland,kmsdrm"
"""Where SDL may open the window. Left alone it would end with an invisible one where there is no display."""


def run_window(
    release: Path | None, files: list[Path], language: str, prevalence: SitePrevalence | None = None
) -> None:
    """Show the reading window until it is closed.

    Args:
        release: folder of the model release; None means the installed one.
        files: radiographs to read at once; the first is opened, the others can be stepped through.
        language: ``"en"`` or ``"ko"``; can be switched in the window.
        prevalence: states probabilities at a site's own prevalences instead of the release's.

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
                "Start it on a machine with a screen, or use 'firstray diagnose'.",
            )
        from edge_app.ui.app import ReaderApp

        ReaderApp(release, files, language, prevalence).run()


def _configure_kivy(scratch: str) -> None:
    """Keep Kivy from reading this program's arguments and from writing settings and logs into the home folder.

    ``KIVY_LOG_MODE=KIVY`` in the environment brings its messages back.
    """
    os.environ.setdefault("KIVY_HOME", scratch)
    os.environ["KIVY_NO_ARGS"] = "1"
    os.environ["KIVY_NO_CONFIG"] = "1"
    os.environ["KIVY_NO_FILELOG"] = "1"
    if os.environ.setdefault("KIVY_LOG_MODE", "PYTHON") == "PYTHON":
        logging.getLogger("kivy").propagate = False
        logging.getLogger("kivy").addHandler(logging.NullHandler())
    os.environ.setdefault("SDL_VIDEO_X11_WMCLASS", "firstray")
    os.environ.setdefault("KIVY_WINDOW", "sdl2")
    if sys.platform == "linux":
        os.environ.setdefault("SDL_VIDEODRIVER", VISIBLE_DRIVERS)
    from kivy.config import Config

    Config.set("graphics", "width", "1280")
    Config.set("graphics", "height", "800")
    Config.set("graphics", "window_state", "maximized")
    Config.set("graphics", "minimum_width", "800")
    Config.set("graphics", "minimum_height", "480")
    Config.set("input", "mouse", "mouse,disable_multitouch")
    Config.set("kivy", "exit_on_escape", "0")
    Config.set("kivy", "default_font", ["FirstRay", str(REGULAR), str(REGULAR), str(BOLD), str(BOLD)])
