"""Gestures of several fingers, which no tool can make on a virtual screen, given to real viewers in a real window.

Run as a module with a radiograph's path; prints what became of the viewers as JSON, one object a step.
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from edge_app.ui import window

FINGER = tuple[float, float]


def main(radiograph: str) -> None:
    """Make all gestures, then end."""
    window._configure_kivy(tempfile.mkdtemp())
    from kivy.app import App
    from kivy.clock import Clock
    from kivy.properties import ObjectProperty
    from kivy.tests.common import UnitTestTouch
    from kivy.uix.boxlayout import BoxLayout

    from edge_app.ui import widgets
    from edge_app.ui.film import film_of
    from edge_app.ui.i18n import Translator
    from edge_app.ui.viewer import Viewer
    from shared.radiograph import load_radiograph

    film = film_of(load_radiograph(Path(radiograph)))
    assert widgets

    def move(*fingers: tuple[FINGER, FINGER]) -> None:
        touches = [UnitTestTouch(*start) for start, _ in fingers]
        for touch in touches:
            touch.touch_down()
        for touch, (_, end) in zip(touches, fingers, strict=True):
            touch.touch_move(*end)
        for touch in touches:
            touch.touch_up()

    class Gestures(App):
        tr = ObjectProperty(Translator("en"))

        def build(self) -> BoxLayout:
            self.one, self.two = Viewer(), Viewer()
            self.one.link(self.two)
            root = BoxLayout()
            root.add_widget(self.one)
            root.add_widget(self.two)
            return root

        def on_start(self) -> None:
            self.one.show(film)
            self.two.show(replace(film, subject="another"))
            self.steps = self.make()
            Clock.schedule_interval(self.next, 0.1)

        def next(self, _: float) -> None:
            try:
                name = next(self.steps)
            except StopIteration:
                self.stop()
                return
            seen = [
                {"zoom": v.camera.zoom, "centre": v.camera.centre, "window": v.window, "preset": v.preset}
                for v in (self.one, self.two)
            ]
            print(json.dumps({"step": name, "viewers": seen}), flush=True)

        def make(self) -> Iterator[str]:
            yield "start"
            yield "fitted"
            x, y = self.one.center
            move(((x - 50, y), (x - 100, y)), ((x + 50, y), (x + 100, y)))
            yield "pinched"
            move(((x, y - 60), (x + 30, y - 60)), ((x, y + 60), (x + 30, y + 60)))
            yield "two fingers"
            move(((x, y), (x - 40, y - 25)))
            yield "one finger"
            self.one.windowing = True
            yield "windowing"
            move(((x, y), (x + 60, y + 80)))
            yield "window"
            self.one.show(replace(film, note="the same"))
            yield "the same film"
            button = self.one.ids.tools.children[-1]
            move(((button.center_x, button.center_y), (x, y)))
            yield "button"
            self.one.show(replace(film, subject="the next"))
            yield "another film"

    Gestures().run()


if __name__ == "__main__":
    main(*sys.argv[1:])
