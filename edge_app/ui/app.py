"""The Kivy application: shows the presenter's state, and hands taps to it."""

from __future__ import annotations

from pathlib import Path

from kivy.app import App
from kivy.clock import Clock
from kivy.core.window import Window
from kivy.properties import NumericProperty, ObjectProperty, StringProperty
from kivy.uix.floatlayout import FloatLayout

from edge_app.ui import panel, theme, viewer, widgets, wording
from edge_app.ui.chooser import Chooser
from edge_app.ui.folder import readable
from edge_app.ui.i18n import LANGUAGES, Translator
from edge_app.ui.presenter import Refused, ResultPresenter, Shown, State
from edge_app.ui.reader import Reader
from shared.prevalence import SitePrevalence

WIDGETS = (viewer, widgets)
"""Modules whose widget classes ``window.kv`` names."""


class Root(FloatLayout):
    """The whole window; its children are laid out in ``window.kv``."""

    file_name = StringProperty()
    footer = StringProperty()
    banner_message = StringProperty()
    banner_action = StringProperty()
    number = NumericProperty(0)
    count = NumericProperty(0)


class ReaderApp(App):
    """One window that reads one radiograph at a time. Arguments as in :func:`edge_app.ui.window.run_window`."""

    kv_file = str(Path(__file__).with_name("window.kv"))
    tr = ObjectProperty()
    other_language = StringProperty()

    def __init__(
        self, release: Path | None, files: list[Path], language: str, prevalence: SitePrevalence | None
    ) -> None:
        super().__init__()
        self._files = files
        self._number = 0
        self._chooser: Chooser | None = None
        self._set_translator(Translator(language))
        reader = Reader(release, prevalence)
        self._presenter = ResultPresenter(
            load=reader.load,
            diagnose=reader.diagnose,
            draw=reader.draw,
            warm_up=reader.warm_up,
            post=lambda function: Clock.schedule_once(lambda _: function()),
            listen=self._show,
            language=self.tr.language,
        )

    def build(self) -> Root:
        """Lay out the window; the models load once it is on screen."""
        self.title = wording.title(self._presenter.state, self.tr)
        Window.clearcolor = theme.GROUND
        return Root()

    def on_start(self) -> None:
        """Load the models in the background, and read the files given."""
        self._show(self._presenter.state)
        Clock.schedule_once(lambda _: self._begin())

    def on_stop(self) -> None:
        """Let the worker end."""
        self._presenter.close()

    def choose(self) -> None:
        """Open the file chooser where the last file came from."""
        if self._chooser is None:
            folder = self._files[self._number].parent if self._files else Path.home()
            self._chooser = Chooser(folder.absolute())
            self._chooser.bind(on_choose=lambda _, path: self._choose(path), on_cancel=lambda _: self._close_chooser())
            self.root.add_widget(self._chooser)

    def step(self, by: int) -> None:
        """Go to the next or previous of the files given at the start."""
        self._number = (self._number + by) % len(self._files)
        self._presenter.open(self._files[self._number])

    def switch_language(self) -> None:
        """Change to the other language, on the picture too."""
        self._set_translator(Translator(self.tr.other))
        self._show(self._presenter.state)
        self._presenter.set_language(self.tr.language)

    def _begin(self) -> None:
        self._presenter.start()
        if self._files:
            self._presenter.open(self._files[0])

    def _choose(self, path: Path) -> None:
        self._close_chooser()
        self._files, self._number = [path], 0
        self._presenter.open(path)

    def _close_chooser(self) -> None:
        self.root.remove_widget(self._chooser)
        self._chooser = None

    def _set_translator(self, translator: Translator) -> None:
        self.other_language = LANGUAGES[translator.other]
        self.tr = translator

    def _show(self, state: State) -> None:
        """Lay the state out; called on every change of state or language."""
        root, tr = self.root, self.tr
        Window.set_title(wording.title(state, tr))
        root.footer = wording.footer(state, tr)
        root.count, root.number = len(self._files), self._number + 1
        path = getattr(state, "path", None)
        root.file_name = readable(path.name) if path else ""
        banner = wording.urgent_banner(state.diagnosis, tr) if isinstance(state, Shown) else None
        root.banner_message, root.banner_action = (banner.message, banner.action) if banner else ("", "")
        shown = state if isinstance(state, Shown | Refused) else None
        subject = f"{shown.radiograph.sha256} {shown.radiograph.correction}" if shown else ""
        root.ids.viewer.show(shown.picture if shown else None, subject)
        contents = {
            "panel": panel.beside(state, tr, self._presenter.read_anyway, self._presenter.read_corrected),
            "centre": panel.centre(state, tr),
            "legend": panel.legend(state, tr),
        }
        for part, children in contents.items():
            root.ids[part].clear_widgets()
            for child in children:
                root.ids[part].add_widget(child)
        root.ids.scroll.scroll_y = 1
