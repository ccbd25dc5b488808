"""All runs with their filters, and what is about to be deleted for good."""

from __future__ import annotations

from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from uuid import UUID

from kivy.clock import Clock
from kivy.lang import Builder
from kivy.metrics import dp, sp
from kivy.properties import StringProperty
from kivy.uix.widget import Widget

from edge_app.store.views import RunRow
from edge_app.ui import theme
from edge_app.ui.field import Field
from edge_app.ui.i18n import Translator
from edge_app.ui.overlays import Dialog
from edge_app.ui.presenters import forms, words
from edge_app.ui.presenters.history import History, HistoryPresenter, Span
from edge_app.ui.presenters.places import Place, Screen
from edge_app.ui.screens.parts import Flow, View, aside, button, running_app, text
from edge_app.ui.widgets import Chip, EmptyState, Row
from shared.findings import KEYS

CRAMPED = 420
"""Height in density-independent pixels below which the filters make room while one types."""
GAP = 8
"""Between two rows, in density-independent pixels."""
NEAR_END = 0.25
"""Share of the list's height from the end at which the next page is read."""


class HistoryRow(Row):
    """A run in the history, with a button to delete it."""

    name = StringProperty()


class HistoryView(View):
    """The list of all runs."""

    presenter: HistoryPresenter
    empty = StringProperty()
    empty_more = StringProperty()

    def __init__(self, presenter: HistoryPresenter, **kwargs: object) -> None:
        super().__init__(presenter, **kwargs)
        self.title = self.tr("History")
        self._shown: tuple[RunRow, ...] = ()
        self._asked: tuple[object, ...] = ("", None, None, None)
        self.ids.rows.bind(scroll_y=self._scrolled)
        self.ids.search.bind(focused=lambda *_: Clock.schedule_once(lambda _: self.refresh(), 0.1))

    def refresh(self) -> None:
        """Show the presenter's state."""
        state: History = self.presenter.state
        tr = self.tr
        cramped = self.ids.search.focused and self.height < dp(CRAMPED)
        chips = (state.span, state.first, state.last, state.finding, cramped)
        self.show(self.ids.spans, chips, lambda: [] if cramped else self._chips(state, tr))
        asked = (state.text, state.first, state.last, state.finding)
        if state.rows is not self._shown:
            self._show_rows(state.rows, tr)
            if asked != self._asked:
                self._asked = asked
                self.ids.rows.scroll_y = 1
        nothing = not state.rows and not state.loading
        self.empty = "" if not nothing else tr("Nothing found") if state.filtered else tr("No runs yet")
        self.empty_more = tr("Clear the filter to see all runs.") if nothing and state.filtered else ""
        content = (state.filtered, bool(state.deletions))
        self.show(self.ids.buttons, content, lambda: self._buttons(state, tr))

    def name_of_state(self) -> str:
        """For the window's title."""
        state: History = self.presenter.state
        return self.tr("history: {n}", n=f"{len(state.rows)}{'+' if state.more else ''}")

    def clear(self) -> None:
        """Show everything again."""
        self.ids.search.text = ""
        self.presenter.clear()

    def to_deletions(self) -> None:
        """What can still be undone."""
        running_app().shell.go(Place(Screen.DELETIONS))

    def _buttons(self, state: History, tr: Translator) -> list[Widget]:
        shape = {"size_hint": (None, 1), "width": dp(150), "font_size": sp(theme.BODY)}
        buttons = []
        if state.filtered:
            buttons.append(button(tr("Show all"), "history.clear", self.clear, **shape))
        if state.deletions:
            buttons.append(button(tr("Deleted"), "history.deletions", self.to_deletions, **shape))
        return buttons

    def _show_rows(self, rows: tuple[RunRow, ...], tr: Translator) -> None:
        """Put the runs into the list; of a page that follows only its own are written, not those before it."""
        known = self.ids.rows.data
        same = 0
        while same < min(len(known), len(rows), len(self._shown)) and rows[same] is self._shown[same]:
            same += 1
        added = [self._row(run, number, tr) for number, run in enumerate(rows[same:], same)]
        self._keep_place(len(known), len(rows))
        self._shown = rows
        self.ids.rows.data = known[:same] + added

    def _keep_place(self, before: int, after: int) -> None:
        """Longer or shorter, the list stays where it is: ScrollView would keep the share of the way to the end."""
        view = self.ids.rows
        hidden = [max(count * dp(theme.ROW_HEIGHT + GAP) - dp(GAP) - view.height, 0.0) for count in (before, after)]
        above = (1 - view.scroll_y) * hidden[0]
        view.scroll_y = 1 - min(above / hidden[1], 1) if hidden[1] else 1

    def _scrolled(self, _: Widget, at: float) -> None:
        view = self.ids.rows
        hidden = max(view.children[0].height - view.height, 0) if view.children else 0
        if at * hidden < max(view.height, hidden * NEAR_END):
            self.presenter.load_more()

    def _row(self, run: RunRow, number: int, tr: Translator) -> dict[str, object]:
        line, kind = words.run_line(run, tr)
        delivered, end_kind = words.delivery(run.delivery, tr)
        return {
            "name": f"history.run.{number}",
            "title": words.joined([words.who(run.who, tr), words.age(run.who, tr)]),
            "detail": words.joined([words.marked(line, kind), words.moment(run.encounter.started_at)]),
            "end": delivered,
            "end_detail": tr("Images: {n}", n=run.radiographs),
            "kind": kind,
            "detail_kind": kind,
            "end_kind": end_kind,
            "data": run.id,
            "chosen": lambda id: running_app().shell.go(Place(Screen.RUN, id)),
            "delete": partial(self._delete, run.id),
        }

    def _chips(self, state: History, tr: Translator) -> list[Widget]:
        names = {
            Span.ALL: tr("All days"),
            Span.TODAY: tr("Today"),
            Span.WEEK: tr("7 days"),
            Span.MONTH: tr("30 days"),
            Span.CHOSEN: tr("From … to …"),
        }
        if state.span is Span.CHOSEN:
            names[Span.CHOSEN] = f"{state.first or '…'} – {state.last or '…'}"
        chips: list[Widget] = []
        for span, name in names.items():
            chip = Chip(text=name, name=f"history.span.{span}", selected=span is state.span)
            chip.bind(on_release=lambda _, span=span: self._choose_span(span))
            chips.append(chip)
        finding = tr.finding(state.finding) if state.finding else tr("Finding")
        chip = Chip(text=finding, name="history.finding", selected=state.finding is not None)
        chip.bind(on_release=lambda _: self._ask_finding())
        return [*chips, chip]

    def _choose_span(self, span: Span) -> None:
        self._said.pop(id(self.ids.spans), None)
        if span is Span.CHOSEN:
            self._ask_days()
        else:
            self.presenter.choose_span(span)

    def _ask_days(self) -> None:
        tr, state = self.tr, self.presenter.state
        first = Field(name="history.first", label=tr("From"), kind="date", hint="2026-11-01")
        last = Field(name="history.last", label=tr("To"), kind="date", hint="2026-11-30")
        first.text, last.text = (day.isoformat() if day else "" for day in (state.first, state.last))
        first.next_field = last
        dialog = Dialog(title=tr("Which days?"), confirm_text=tr("Show"), cancel_text=tr("Cancel"))
        dialog.add_widget(first)
        dialog.add_widget(last)

        def confirmed(_: Dialog) -> bool:
            days = [forms.day(field.text) for field in (first, last)]
            for field, day in zip((first, last), days, strict=True):
                field.error = day.said(tr) if isinstance(day, forms.Mistake) else ""
            if any(isinstance(day, forms.Mistake) for day in days):
                return True
            self.presenter.choose_days(*[day if isinstance(day, date) else None for day in days])
            return False

        dialog.bind(on_confirm=confirmed, on_cancel=lambda _: self.refresh())
        running_app().open_dialog(dialog)

    def _ask_finding(self) -> None:
        tr = self.tr
        self._said.pop(id(self.ids.spans), None)
        dialog = Dialog(
            title=tr("Runs with which finding suspected?"), confirm_text=tr("Any finding"), cancel_text=tr("Cancel")
        )
        flow = Flow()
        for key in KEYS:
            chip = Chip(
                text=tr.finding(key), name=f"history.finding.{key}", selected=key == self.presenter.state.finding
            )
            chip.bind(on_release=lambda _, key=key: self._chose_finding(dialog, key))
            flow.add_widget(chip)
        dialog.add_widget(flow)
        dialog.bind(on_confirm=lambda _: self.presenter.choose_finding(None))
        running_app().open_dialog(dialog)

    def _chose_finding(self, dialog: Dialog, key: str) -> None:
        dialog.close()
        self.presenter.choose_finding(key)

    def _delete(self, run: UUID) -> None:
        tr = self.tr
        running_app().ask(
            tr("Delete this run?"),
            tr("Patient data and all images go, at the hospital too once reached. You can undo it for 10 minutes."),
            tr("Delete run"),
            lambda: self.presenter.delete(run),
            destructive=True,
        )


class DeletionsView(View):
    """What goes for good soon, and can still be brought back."""

    presenter: HistoryPresenter

    def __init__(self, presenter: HistoryPresenter, **kwargs: object) -> None:
        super().__init__(presenter, **kwargs)
        self.title = self.tr("Deleted, can be undone")

    def refresh(self) -> None:
        """Show the presenter's state."""
        state: History = self.presenter.state
        self.show(self.ids.rows, state.deletions, lambda: self._rows(state, self.tr))

    def _rows(self, state: History, tr: Translator) -> list[Widget]:
        if not state.deletions:
            return [
                EmptyState(title=tr("Nothing to undo"), message=tr("What was deleted can be undone for 10 minutes."))
            ]
        widgets: list[Widget] = [
            aside(tr("After that it is gone for good here, and at the hospital once it is reached."))
        ]
        for number, deletion in enumerate(state.deletions):
            left = max(0, int((deletion.due_at - datetime.now(UTC)).total_seconds() // 60))
            what = tr("A run with its images") if deletion.kind == "run" else tr("An image")
            widgets.append(text(tr("{what}: {n} more minutes", what=what, n=left), bold=True))
            widgets.append(button(tr("Undo"), f"deletions.undo.{number}", partial(self.presenter.undo, deletion.id)))
        return widgets


Builder.load_file(str(Path(__file__).with_name("history.kv")))
