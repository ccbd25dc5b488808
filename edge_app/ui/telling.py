"""The one message at the foot of the screen: shown for a while, and no longer than it is true."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID

from kivy.uix.floatlayout import FloatLayout

from edge_app.store.views import Deletion
from edge_app.ui import news
from edge_app.ui.i18n import Translator
from edge_app.ui.overlays import Toast
from edge_app.ui.presenters.places import Place
from edge_app.ui.presenters.shell import News


class Teller:
    """Shows news, and takes away what was dealt with elsewhere.

    Args:
        go: opens a place.
        undo: brings back what was deleted.
    """

    def __init__(self, go: Callable[[Place], None], undo: Callable[[Deletion], None]) -> None:
        self._go = go
        self._undo = undo
        self._said: News | None = None
        self._toast: Toast | None = None

    def tell(self, said: News, stage: FloatLayout, lift: float, tr: Translator) -> None:
        """Say something at the lower edge of ``stage``, ``lift`` pixels above it, in place of what was said before."""
        message, action = news.said(said, tr)
        self._said, self._toast = said, Toast(text=message, action=action, lift=lift)
        self._toast.bind(on_tap=lambda _: self._act(said))
        self._toast.open(stage)

    def arrived(self, stack: Sequence[Place], lift: float) -> None:
        """The user is at the last of ``stack``: what leads there is not offered any more, other buttons stay free."""
        if self._toast is not None:
            self._toast.lift = lift
        if self._said is not None and self._said.place == stack[-1]:
            self._end()

    def deletion_changed(self, deletion: UUID | None) -> None:
        """What was deleted was brought back, or is gone for good."""
        if self._said is not None and self._said.deletion is not None and self._said.deletion.id == deletion:
            self._end()

    def _act(self, said: News) -> None:
        if said.deletion is not None:
            self._undo(said.deletion)
        elif said.place is not None:
            self._go(said.place)

    def _end(self) -> None:
        if self._toast is not None:
            self._toast.end()
        self._said = self._toast = None
