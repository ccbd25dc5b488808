"""Two radiographs of one patient side by side."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from uuid import UUID

from kivy.lang import Builder
from kivy.metrics import dp
from kivy.properties import StringProperty
from kivy.uix.widget import Widget

from edge_app.store.views import Film
from edge_app.ui import theme, viewer, wording
from edge_app.ui.i18n import Translator
from edge_app.ui.overlays import Dialog
from edge_app.ui.presenters import pictures, words
from edge_app.ui.presenters.compare import Compare, ComparePresenter, Side
from edge_app.ui.screens.parts import Column, View, row, running_app, text

LOW = 440
"""Height in density-independent pixels below which the images leave room for one line of words only."""
WIDGETS = (viewer,)
"""Modules whose widget classes ``compare.kv`` names."""


class CompareView(View):
    """The earlier one at the left, the later one at the right."""

    presenter: ComparePresenter
    left_title = StringProperty()
    right_title = StringProperty()

    def __init__(self, presenter: ComparePresenter, **kwargs: object) -> None:
        super().__init__(presenter, **kwargs)
        self.title = self.tr("Compare")
        self._linked = False

    def refresh(self) -> None:
        """Show the presenter's state."""
        state: Compare = self.presenter.state
        tr = self.tr
        if state.patient is not None:
            self.title = words.joined([tr("Compare"), words.who(state.patient.fields, tr)])
        places = zip(("left", "right"), state.sides, strict=True)
        for place, side in places:
            shown = self.ids[place]
            if shown.film is not side.picture:
                shown.show(side.picture)
            film = side.film
            shown.boxes = pictures.shapes(film.diagnosis, tr) if film and side.picture is not None else ()
            self.show(self.ids[f"{place}_words"], (film, self.height < dp(LOW)), partial(self._words, film, tr))
        self.left_title, self.right_title = (self._moment(side, tr) for side in state.sides)
        self.ids.linked.selected = state.linked
        if state.linked != self._linked:
            self._linked = state.linked
            left, right = self.ids.left, self.ids.right
            left.link(right) if state.linked else left.unlink(right)

    def release(self) -> None:
        """Let go of both radiographs' textures."""
        for side in (self.ids.left, self.ids.right):
            side.show(None)

    def name_of_state(self) -> str:
        """For the window's title."""
        return self.tr("compare")

    def choose(self, number: int) -> None:
        """Ask for another radiograph at the left (0) or right (1)."""
        state: Compare = self.presenter.state
        tr = self.tr
        dialog = Dialog(title=tr("Which image?"), confirm_text=tr("Cancel"))
        rows = Column()
        for at, film in enumerate(state.films):
            line, kind = words.film_line(film, tr)
            rows.add_widget(
                row(
                    f"compare.film.{at}",
                    partial(self._chosen, dialog, number, film.id),
                    title=words.moment(film.received_at),
                    detail=line,
                    kind=kind,
                    selected=film.id == state.sides[number].id,
                )
            )
        dialog.add_widget(rows)
        running_app().open_dialog(dialog)

    def _chosen(self, dialog: Dialog, number: int, film: UUID) -> None:
        dialog.close()
        self.presenter.choose(number, film)

    def _moment(self, side: Side, tr: Translator) -> str:
        return words.moment(side.film.received_at) if side.film else tr("Loading…")

    def _words(self, film: Film | None, tr: Translator) -> list[Widget]:
        if film is None:
            return []
        if film.diagnosis is None or film.diagnosis.refused:
            return [text(words.film_line(film, tr)[0])]
        lines = [
            text(
                f"{one.name}  {one.percent}  {one.state_word}",
                bold=True,
                colour=theme.URGENT if one.urgent else None,
            )
            for one in wording.ranked_rows(film.diagnosis, tr)
        ]
        return lines[:1] if self.height < dp(LOW) else lines


Builder.load_file(str(Path(__file__).with_name("compare.kv")))
