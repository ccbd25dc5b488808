"""Every screen in every size, language and palette, looked at from inside for what no eye should have to find.

Run as a module with the app's home folder, a chest radiograph, a folder for screenshots or ``-``, and where only one
size or place is wanted that (``800x480``, ``result``). Prints what is wrong as JSON: a list of
``{"where", "what", "text"}``.
"""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from edge_app.enrolment import Recognised
from edge_app.sync import Hospital
from edge_app.ui.presenters.places import Place, Screen
from shared.enrolment import EnrolmentCode
from tests.fake_hospital import Authority
from tests.ui.inside import Step, after, app, go_through, seen
from tests.ui.shift import Shift

SIZES = ((1280, 800), (800, 480), (800, 1280))
LEAST = 48
"""Side of a touch target in density-independent pixels, at least."""

Problem = dict[str, str]


def places(ids: dict[str, Any]) -> dict[str, Place]:
    """Every screen with what it can show, by a name for people."""
    films = ("urgent", "earlier", "legs", "upside_down", "broken", "overruled", "twice", "waiting")
    general = (Screen.RUNS, Screen.CAPTURE, Screen.HISTORY, Screen.STATUS, Screen.BEGIN, Screen.DELETIONS)
    return {
        **{str(screen): Place(screen) for screen in (*general, Screen.SETTINGS, Screen.PIN, Screen.ENROL)},
        "known": Place(Screen.KNOWN, ids["patient"]),
        "run": Place(Screen.RUN, ids["run"]),
        "run-doubtful": Place(Screen.RUN, ids["doubtful"]),
        "patient": Place(Screen.PATIENT, ids["run"]),
        "vitals": Place(Screen.VITALS, ids["run"]),
        "assign": Place(Screen.ASSIGN, ids["waiting"]),
        "enrol-question": Place(Screen.ENROL),
        "compare": Place(Screen.COMPARE, ids["earlier"], ids["urgent"]),
        **{f"result-{name}": Place(Screen.RESULT, ids[name]) for name in films},
    }


class Look:
    """Goes through all screens, one after the other, inside the app."""

    def __init__(self, shots: Path | None, sizes: Sequence[tuple[int, int]] = SIZES, only: str = "") -> None:
        self.problems: list[Problem] = []
        self._shots = shots
        self._sizes = sizes
        self._only = only
        self._seen: set[tuple[str, str]] = set()

    def plan(self, ids: dict[str, Any]) -> Step:
        """Every place in every look."""
        from kivy.core.window import Window

        from edge_app.ui.overlays import Toast

        yield lambda: seen("runs.new")
        yield lambda: seen("Choose run")
        yield after(1.0)
        for widget in list(app().root.walk()):
            if isinstance(widget, Toast):  # lies on others on purpose
                widget.end()
        for size in self._sizes:
            Window.size = size
            yield partial(self._sized, size)
            for language in ("en", "ko"):
                for theme in ("dark", "light") if self._shots else ("dark",):
                    app().prefer(language=language, theme=theme)
                    yield after(0.3)
                    for name, place in places(ids).items():
                        if self._only in name:
                            yield from self._screen(f"{size[0]}x{size[1]}-{language}-{theme}-{name}", place)

    def _sized(self, size: tuple[int, int]) -> bool:
        from kivy.core.window import Window

        return bool(tuple(Window.size) == size)

    def _screen(self, where: str, place: Place) -> Step:
        shell = app().shell
        shell.tab(Screen.RUNS)
        shell.go(place)
        yield lambda: self._quiet(place)
        if where.endswith("enrol-question"):
            recognise()
        yield after(0.3 if self._shots else 0.05)
        self._judge(where)
        scrolls = self._scrolls()
        if self._shots is not None:
            self._photograph(where)
        for part in range(1, 6):
            if not any(view.scroll_y > 0.01 for view in scrolls):
                break
            for view in scrolls:
                hidden = view.children[0].height - view.height
                view.scroll_y = max(0.0, view.scroll_y - view.height * 0.85 / hidden)
            yield after(0.3 if self._shots else 0.05)
            self._judge(where)
            if self._shots is not None:
                self._photograph(f"{where}-{part}")

    def _quiet(self, place: Place) -> bool:
        opened = app()._opened.get(place)
        if opened is None or opened.presenter._fetching:
            return False
        state = opened.presenter.state
        film = getattr(state, "film", None)
        drawn = place.screen is not Screen.RESULT or (film is not None and (not film.picture or state.picture))
        return bool(drawn) and getattr(opened.view, "_complete", True)

    def _scrolls(self) -> list[Any]:
        from kivy.uix.scrollview import ScrollView

        found = [w for w in app().root.walk() if isinstance(w, ScrollView) and w.children]
        return [view for view in found if view.children[0].height > view.height + 1]

    def _photograph(self, name: str) -> None:
        os.system(f"import -window root -crop {self._crop()} +repage {self._shots}/{name}.png")

    def _crop(self) -> str:
        from kivy.core.window import Window

        return f"{Window.width}x{Window.height}+{Window.left}+{Window.top}"

    def _judge(self, where: str) -> None:
        for what, text in faults():
            if (where, what + text) not in self._seen:
                self._seen.add((where, what + text))
                self.problems.append({"where": where, "what": what, "text": text})


def recognise() -> None:
    """As if a hospital with a long name had answered."""
    hospital = Hospital(f"https://er-server-2.{'hospital.' * 5}example:8443", Authority().pem, name="성모 " * 24)
    found = Recognised(hospital, EnrolmentCode("2345" * 3))
    app()._opened[Place(Screen.ENROL)].presenter._set(found=found)


def faults() -> Iterator[tuple[str, str]]:
    """What is wrong with what can be seen now: what, and the text or name of the widget it is wrong with."""
    from kivy.core.window import Window
    from kivy.metrics import dp
    from kivy.uix.behaviors import ButtonBehavior
    from kivy.uix.label import Label

    from edge_app.ui.outline import _visible

    whole = (0.0, 0.0, float(Window.width), float(Window.height))
    buttons: list[tuple[Any, tuple[float, float, float, float]]] = []
    for top in reversed(Window.children):
        for widget, part in _visible(top, whole):
            name = str(getattr(widget, "text", "") or getattr(widget, "title", "") or getattr(widget, "name", ""))
            left, _ = widget.to_window(widget.x, widget.y)
            if isinstance(widget, ButtonBehavior) and not widget.disabled and widget.width > 1:
                buttons.append((widget, part))
                if min(widget.width, widget.height) < dp(LEAST) and type(widget).__name__ != "FieldText":
                    yield "too small to tap", f"{name} {widget.width:.0f}x{widget.height:.0f}"
            if (left < -1 or left + widget.width > Window.width + 1) and name and widget.width > 1:
                yield "beyond the edge", name
            if isinstance(widget, Label) and widget.text.strip():
                wide, high = widget.texture_size
                if widget.shorten:
                    if widget.is_shortened:
                        yield "shortened", widget.text
                elif wide > widget.width + 2 or high > widget.height + 2:
                    yield "text has no room", f"{widget.text} {wide}x{high} in {widget.width:.0f}x{widget.height:.0f}"
    yield from _covered(buttons)


def _covered(buttons: list[tuple[Any, tuple[float, float, float, float]]]) -> Iterator[tuple[str, str]]:
    """Buttons that lie on each other, one within another left out."""
    for number, (one, a) in enumerate(buttons):
        for other, b in buttons[number + 1 :]:
            across, up = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
            if across > 2 and up > 2 and one not in _around(other) and other not in _around(one):
                texts = [str(getattr(widget, "text", "") or getattr(widget, "name", "")) for widget in (one, other)]
                yield "lie on each other", " / ".join(texts)


def _around(widget: Any) -> Iterator[Any]:
    while widget is not None and widget is not widget.parent:
        yield widget
        widget = widget.parent


def main(home: str, chest: str, shots: str = "-", size: str = "", only: str = "") -> None:
    """Look at everything."""
    width, _, height = size.partition("x")
    sizes = [(int(width), int(height))] if size else SIZES
    look = Look(Path(shots) if shots != "-" else None, sizes, only)
    go_through(
        Path(home),
        lambda station: Shift(station.store, Path(chest)).ids,
        look.plan,
        lambda: print(json.dumps(look.problems, ensure_ascii=False), flush=True),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
