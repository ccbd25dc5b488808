"""What each state puts beside, over and below the image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from kivy.metrics import sp
from kivy.uix.anchorlayout import AnchorLayout
from kivy.uix.widget import Widget

from edge_app.ui import theme, wording
from edge_app.ui.i18n import Translator
from edge_app.ui.presenter import Failed, Idle, Reading, Refused, Shown, Starting, State
from edge_app.ui.widgets import ActionTouch, Busy, Doubt, LegendItem, NoticeCard, RankedCard, Text, Touch
from shared.findings import KEYS


def beside(
    state: State, tr: Translator, read_anyway: Callable[[], None], read_corrected: Callable[[], None]
) -> list[Widget]:
    """The panel beside the image."""
    match state:
        case Shown():
            return _result(state, tr)
        case Refused():
            return _refusal(state, tr, read_anyway, read_corrected)
        case Failed():
            notice = wording.failure(state, tr)
            card = NoticeCard([notice], heading=tr("Could not be read"), accent=theme.URGENT, large=True)
            return [card, _aside(tr("Code: {code}", code=state.error.code))]
        case Starting() | Idle():
            names = "\n".join(f"•  {tr.finding(key)}" for key in KEYS)
            return [_heading(tr("FirstRay looks for")), Text(text=names, line_height=1.5)]
        case Reading():
            return []


def centre(state: State, tr: Translator) -> list[Widget]:
    """What stands in the middle where there is no image."""
    match state:
        case Starting() | Idle():
            return [
                _centred(tr("Open a frontal chest radiograph"), theme.HEADING, bold=True),
                _centred(tr("DICOM, JPEG, PNG or TIFF"), theme.BODY),
            ]
        case Reading():
            mark = AnchorLayout(size_hint_y=None, height=sp(90))
            mark.add_widget(Busy())
            return [mark, _centred(tr("Reading the radiograph…"), theme.HEADING, bold=True)]
        case Failed():
            return [_centred(tr("No image"), theme.HEADING)]
        case _:
            return []


def legend(state: State, tr: Translator) -> list[Widget]:
    """What the kinds of box on the image mean; only those that are there."""
    if not isinstance(state, Shown):
        return []
    sources = {box.source for box in state.diagnosis.boxes}
    items: list[Widget] = []
    if "detector" in sources:
        items.append(LegendItem(text=tr("Found by the detector")))
    if "activation" in sources:
        items.append(LegendItem(text=tr("Approximate area"), dashed=True))
    return items


def _result(state: Shown, tr: Translator) -> list[Widget]:
    widgets: list[Widget] = _corrected(state, tr)
    warnings = wording.warnings(state.diagnosis, tr)
    if warnings:
        widgets.append(NoticeCard(warnings, heading=wording.warning_heading(state.diagnosis, tr)))
    if unexcluded := wording.exclusion_note(state.diagnosis, tr):
        widgets.append(Doubt(text=unexcluded))
    widgets.append(_heading(tr("Highest probabilities")))
    widgets += [RankedCard(**asdict(row)) for row in wording.ranked_rows(state.diagnosis, tr)]
    widgets += [Text(text=note) for note in wording.state_notes(state.diagnosis, tr)]
    asides = [
        wording.box_note(state.diagnosis, tr),
        tr("Anything but the 13 findings FirstRay knows is not assessed."),
        wording.population_note(state.diagnosis, tr),
    ]
    widgets += [_aside(text) for text in asides if text]
    return widgets


def _refusal(
    state: Refused, tr: Translator, read_anyway: Callable[[], None], read_corrected: Callable[[], None]
) -> list[Widget]:
    notice = wording.problem_notice(state.problem, tr)
    widgets: list[Widget] = [NoticeCard([notice], heading=tr("Not read"), large=True), *_corrected(state, tr)]
    widgets.append(_aside(tr("Code: {code}", code=state.problem.code)))
    offer = wording.correction_offer(state.diagnosis, tr)
    if offer:
        correct = ActionTouch(text=offer)
        correct.bind(on_release=lambda _: read_corrected())
        widgets.append(correct)
    if state.problem.overridable:
        button = Touch(text=tr("Read it all the same"), height=sp(72))
        button.bind(on_release=lambda _: read_anyway())
        widgets.append(button)
    return widgets


def _corrected(state: Shown | Refused, tr: Translator) -> list[Widget]:
    note = wording.correction_note(state.diagnosis, tr)
    return [NoticeCard([note], heading=tr("Not as received"))] if note else []


def _heading(text: str) -> Widget:
    return Text(text=text, bold=True, font_size=sp(theme.LARGE))


def _centred(text: str, size: float, bold: bool = False) -> Widget:
    return Text(text=text, font_size=sp(size), bold=bold, halign="center")


def _aside(text: str) -> Widget:
    return Text(text=text, color=theme.MUTED)
