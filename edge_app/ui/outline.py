"""What is on the screen as text, for scripted walks and tests: Kivy has no accessibility tree.

Where the environment variable ``FIRSTRAY_OUTLINE`` names a file, it is written anew whenever the screen has changed, at
most five times a second, whole or not at all, readable for its owner only. It holds what the screen shows, patient data
too, and is therefore off by default; never set it on a tablet in use.

The file is JSON: ``{"window": [width, height], "widgets": [...]}``, each widget that can be seen and has a text or a
name as ``{"kind", "text", "name", "rect", "enabled", "selected"}``, the topmost last. ``rect`` is left, top, right and
bottom in pixels of the screen, cut to what can be seen of it. What lies beneath a dialog is left out.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from kivy.clock import Clock
from kivy.core.window import Window
from kivy.uix.scrollview import ScrollView
from kivy.uix.stencilview import StencilView
from kivy.uix.widget import Widget

from edge_app.ui.camera import Rect
from shared.errors import FirstRayError

log = logging.getLogger(__name__)

VARIABLE: Final = "FIRSTRAY_OUTLINE"
EVERY: Final = 0.2
"""Seconds between two looks at the screen."""

MARKUP: Final = re.compile(r"\[/?[a-z][^\]]*\]")


class Outline:
    """Writes the outline into a file while it runs.

    Args:
        path: the file; its folder must be there.

    Raises:
        FirstRayError: ``outline_unwritable``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written = ""
        self._event: Any = None
        self._write({"window": [0, 0], "widgets": []})

    def start(self) -> None:
        """Begin."""
        self._event = Clock.schedule_interval(self._look, EVERY)

    def stop(self) -> None:
        """End, and take the file away."""
        if self._event is not None:
            self._event.cancel()
        self._path.unlink(missing_ok=True)

    def _look(self, _: float) -> bool:
        try:
            self._write(describe())
        except FirstRayError as error:
            log.error("The outline ends: %s", error.code)
            return False
        return True

    def _write(self, seen: dict[str, Any]) -> None:
        text = json.dumps(seen, ensure_ascii=False)
        if text == self._written:
            return
        part = self._path.with_name(self._path.name + ".part")
        try:
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
                file.write(text)
            part.replace(self._path)
        except OSError:
            raise FirstRayError(
                "outline_unwritable",
                f"The file named by {VARIABLE} cannot be written.",
                "Name one in a folder that exists, or unset the variable.",
            ) from None
        self._written = text


def outline_asked_for() -> Outline | None:
    """The outline that the environment asks for, if it does; raises as :class:`Outline`."""
    named = os.environ.get(VARIABLE)
    return Outline(Path(named)) if named else None


def describe() -> dict[str, Any]:
    """What is on the screen now, as in the file."""
    whole = (0.0, 0.0, float(Window.width), float(Window.height))
    found: list[dict[str, Any]] = []
    for top in reversed(Window.children):
        for widget, seen in _visible(top, whole):
            if getattr(widget, "modal", False):
                found.clear()
            text, name = _text(widget), str(getattr(widget, "name", "") or getattr(widget, "label", "") or "")
            if (text or name) and isinstance(text, str):
                found.append(_entry(widget, text, name, seen))
    return {"window": [Window.width, Window.height], "widgets": found}


def _visible(widget: Widget, clip: Rect) -> Iterator[tuple[Widget, Rect]]:
    """A widget and those in it, from the bottom up, each with the part of it that can be seen (Kivy's coordinates)."""
    left, bottom = widget.to_window(widget.x, widget.y)
    right, top = widget.to_window(widget.right, widget.top)
    seen = (max(left, clip[0]), max(bottom, clip[1]), min(right, clip[2]), min(top, clip[3]))
    if widget.opacity <= 0:
        return
    in_sight = seen[2] - seen[0] >= 1 and seen[3] - seen[1] >= 1
    if in_sight:
        yield widget, seen
    cuts = isinstance(widget, ScrollView | StencilView)
    if cuts and not in_sight:
        return
    for child in reversed(widget.children):
        yield from _visible(child, seen if cuts else clip)


def _text(widget: Widget) -> str:
    """What is written on a widget; dots for a PIN."""
    text = getattr(widget, "shown", None) if hasattr(widget, "editor") else getattr(widget, "text", "")
    text = text if isinstance(text, str) else ""
    return unescape(MARKUP.sub("", text)) if getattr(widget, "markup", False) else text


def _entry(widget: Widget, text: str, name: str, seen: Rect) -> dict[str, Any]:
    left, bottom, right, top = seen
    x, y, height = Window.left, Window.top, Window.height
    chosen = any(getattr(widget, flag, False) is True for flag in ("selected", "active", "focused"))
    return {
        "kind": type(widget).__name__,
        "text": text,
        "name": name,
        "rect": [round(x + left), round(y + height - top), round(x + right), round(y + height - bottom)],
        "enabled": not widget.disabled,
        "selected": chosen,
    }


def unescape(text: str) -> str:
    """Undo :func:`kivy.utils.escape_markup`."""
    return text.replace("&bl;", "[").replace("&br;", "]").replace("&amp;", "&")
