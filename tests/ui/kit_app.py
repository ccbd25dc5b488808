"""A small application of the building blocks alone, for tests: fields, keyboard, dialog, toast, viewer.

Run as a module with the palette's name and a radiograph's path; what happens is appended to the file ``events`` in the
home folder.
"""

import os
import sys
import tempfile
from pathlib import Path

from edge_app.ui import theme, window

KV = """
#:import theme edge_app.ui.theme
BoxLayout:
    orientation: "vertical"
    FloatLayout:
        id: stage
        BoxLayout:
            pos_hint: {"x": 0, "y": 0}
            Scroll:
                size_hint_x: None
                width: dp(520)
                BoxLayout:
                    orientation: "vertical"
                    size_hint_y: None
                    height: self.minimum_height
                    padding: dp(12)
                    spacing: dp(10)
                    Field:
                        id: who
                        label: "Name"
                        max_length: 20
                        next_field: born
                    Field:
                        id: born
                        label: "Born"
                        kind: "date"
                        next_field: pin
                    Field:
                        id: pin
                        label: "PIN"
                        kind: "pin"
                        on_done: app.note("pin " + self.text)
                    Choice:
                        id: sex
                        label: "Sex"
                        options: [("male", "Male"), ("female", "Female")]
                        on_value: app.note("sex " + self.value)
                    Toggle:
                        text: "Light palette"
                        on_active: app.note("toggle " + str(self.active))
                    Touch:
                        text: "Delete the run"
                        on_release: app.ask()
                    Field:
                        id: notes
                        label: "Notes"
                        kind: "multiline"
            Viewer:
                id: viewer
    Keyboard:
        id: keyboard
"""


def main(palette: str, radiograph: str) -> None:
    """Show the application until it is closed."""
    window._configure_kivy(tempfile.mkdtemp())
    from kivy.app import App
    from kivy.core.window import Window
    from kivy.lang import Builder
    from kivy.properties import ObjectProperty

    from edge_app.ui import field, keyboard, outline, overlays, viewer, widgets
    from edge_app.ui.film import film_of
    from edge_app.ui.i18n import Translator
    from shared.radiograph import load_radiograph

    parts = (field, keyboard, widgets)
    assert parts

    class KitApp(App):
        tr = ObjectProperty(Translator("en"))

        def build(self) -> object:
            theme.use(palette)
            Window.clearcolor = theme.GROUND
            return Builder.load_string(KV)

        def on_start(self) -> None:
            self.root.ids.viewer.boxes = [
                viewer.BoxShape("Mass", "Lung mass", 0.2, 0.3, 0.2, 0.2),
                viewer.BoxShape("Edema", "Oedema", 0.5, 0.4, 0.3, 0.3, True),
            ]
            self.root.ids.viewer.show(film_of(load_radiograph(Path(radiograph)), "Not as received"))
            self.outline = outline.outline_asked_for()
            self.outline.start()

        def on_stop(self) -> None:
            self.outline.stop()

        def note(self, text: str) -> None:
            with (Path(os.environ["HOME"]) / "events").open("a", encoding="utf-8") as events:
                events.write(text + "\n")

        def ask(self) -> None:
            field.blur()
            dialog = overlays.Dialog(
                title="Delete?", message="It goes.", confirm_text="Delete", cancel_text="Keep", destructive=True
            )
            dialog.bind(on_confirm=lambda _: self.say("Deleted"), on_cancel=lambda _: self.note("kept"))
            dialog.open(self.root.ids.stage)

        def say(self, text: str) -> None:
            toast = overlays.Toast(text=text, action="Undo", seconds=60)
            toast.bind(on_tap=lambda _: self.note("undone"), on_end=lambda _: self.note("ended"))
            toast.open(self.root.ids.stage)

    KitApp().run()


if __name__ == "__main__":
    main(*sys.argv[1:])
