"""What the window says, as plain text in the chosen language: computed here, only laid out by the views."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edge_app.ui.folder import Entry, readable
from edge_app.ui.i18n import Translator
from shared.calibration import State as FindingState
from shared.diagnosis import Diagnosis
from shared.findings import BY_KEY, Urgency
from shared.quality import Problem, explain


@dataclass(frozen=True, slots=True)
class Notice:
    """What happened or what it means, and what to do next (may be empty)."""

    message: str
    action: str


@dataclass(frozen=True, slots=True)
class RankedRow:
    """One of the three most likely findings.

    ``fraction`` is its probability, 0..1; ``state`` is a value of :class:`shared.calibration.State`, which the card
    shows as a mark and a colour beside ``state_word``.
    """

    name: str
    percent: str
    fraction: float
    state: str
    state_word: str
    explanation: str
    urgent: bool


def percent(probability: float) -> str:
    """A probability as whole per cent; never 0% or 100%, which would claim certainty."""
    if probability < 0.01:
        return "<1%"
    if probability > 0.99:
        return ">99%"
    return f"{round(probability * 100)}%"


def ranked_rows(diagnosis: Diagnosis, tr: Translator) -> list[RankedRow]:
    """The three most likely findings, most likely first."""
    return [
        RankedRow(
            tr.finding(ranked.finding),
            percent(ranked.probability),
            ranked.probability,
            diagnosis.states[ranked.finding].value,
            state_word(diagnosis.states[ranked.finding], tr),
            tr.explanation(ranked.finding),
            ranked.finding in diagnosis.urgent,
        )
        for ranked in diagnosis.top3
    ]


def state_word(state: FindingState, tr: Translator) -> str:
    """What may be said of a finding, in a word or two.

    A rare finding is flagged at a probability of a few per cent, which nobody would call likely: it is suspected.
    """
    match state:
        case FindingState.LIKELY:
            return tr("Suspected")
        case FindingState.UNCERTAIN:
            return tr("Uncertain")
        case FindingState.UNLIKELY:
            return tr("Unlikely")
        case FindingState.NOT_ASSESSED:
            return tr("Not assessed")


def exclusion_note(diagnosis: Diagnosis, tr: Translator) -> str:
    """Names what may kill within minutes and is neither likely nor unlikely; empty where there is no such finding."""
    if not diagnosis.cannot_exclude:
        return ""
    return tr("Cannot be excluded: {findings}", findings=_names(diagnosis.cannot_exclude, tr))


def state_notes(diagnosis: Diagnosis, tr: Translator) -> list[str]:
    """What the cards do not say: what else is suspected, what is uncertain and what was not assessed at all."""
    shown = {ranked.finding for ranked in diagnosis.top3}
    groups = {
        state: _names((key for key, value in diagnosis.states.items() if value is state and key not in shown), tr)
        for state in FindingState
    }
    notes = []
    if groups[FindingState.LIKELY]:
        notes.append(tr("Also suspected: {findings}", findings=groups[FindingState.LIKELY]))
    if groups[FindingState.NOT_ASSESSED]:
        notes.append(
            tr("Not assessed: {findings} (cannot be told reliably)", findings=groups[FindingState.NOT_ASSESSED])
        )
    if groups[FindingState.UNCERTAIN]:
        notes.append(tr("Also uncertain: {findings}", findings=groups[FindingState.UNCERTAIN]))
    return notes


def population_note(diagnosis: Diagnosis, tr: Translator) -> str:
    """For which patients the probabilities hold."""
    return tr("Probabilities for the population of {population}.", population=diagnosis.prevalence)


def level_notes(diagnosis: Diagnosis, tr: Translator) -> list[str]:
    """What the states mean at the release's operating point, for those that are there (:mod:`shared.calibration`)."""
    states = set(diagnosis.states.values())
    notes = []
    if FindingState.LIKELY in states:
        notes.append(tr("Suspected: reached the alarm level. About 1 in 10 images without the finding reach it too."))
    if FindingState.UNCERTAIN in states:
        notes.append(tr("Uncertain: neither suspected nor unlikely. It is not excluded."))
    if FindingState.UNLIKELY in states:
        notes.append(tr("Unlikely: about 1 in 10 images with the finding score as low. It may still be there."))
    return notes


def made_by(diagnosis: Diagnosis, tr: Translator) -> str:
    """Which models answered, at what precision, and how long it took."""
    return tr(
        "Models {release} · {precision} {runtime} · read in {seconds} s",
        release=diagnosis.release,
        precision=diagnosis.precision,
        runtime=diagnosis.runtime,
        seconds=f"{diagnosis.timing_ms.get('total', 0) / 1000:.2f}",
    )


def _names(keys: Iterable[str], tr: Translator) -> str:
    return ", ".join(tr.finding(key) for key in keys)


def urgent_banner(diagnosis: Diagnosis, tr: Translator) -> Notice | None:
    """The banner over everything else, or None where nothing is urgent."""
    if not diagnosis.urgent:
        return None
    names = _names(diagnosis.urgent, tr)
    immediate = any(BY_KEY[key].urgency is Urgency.IMMEDIATE for key in diagnosis.urgent)
    action = (
        tr("Check the patient and tell the ER now.") if immediate else tr("Needs treatment on arrival. Tell the ER.")
    )
    return Notice(tr("Urgent: {findings}", findings=names), action)


def second_reading(diagnosis: Diagnosis, tr: Translator) -> list[Notice]:
    """What the hospital's models say of a radiograph, beside what this device's say: what is urgent first."""
    if diagnosis.refused:
        problem = diagnosis.verdict.reason
        said = problem_notice(problem, tr) if problem else Notice("", "")
        return [Notice(tr("They did not read it."), ""), said]
    banner = urgent_banner(diagnosis, tr)
    lines = [Notice("", f"{one.name} {one.percent}, {one.state_word}") for one in ranked_rows(diagnosis, tr)]
    return [Notice("", f"{banner.message}. {banner.action}"), *lines] if banner else lines


def problem_notice(problem: Problem, tr: Translator) -> Notice:
    """A quality problem in the chosen language."""
    return Notice(*explain(problem.code, tr.language))


def warnings(diagnosis: Diagnosis, tr: Translator) -> list[Notice]:
    """Every quality problem of a radiograph that was read all the same."""
    return [problem_notice(problem, tr) for problem in diagnosis.verdict.problems]


def warning_heading(diagnosis: Diagnosis, tr: Translator) -> str:
    """What stands over the warnings: plain where the gate let the radiograph pass, graver where it was overruled."""
    if diagnosis.verdict.accepted:
        return tr("Image quality")
    return tr("Read on request although the quality is too low")


def correction_offer(diagnosis: Diagnosis, tr: Translator) -> str:
    """What the button says that corrects a refused radiograph and reads it; empty where nothing is offered."""
    offered = diagnosis.verdict.correction
    if not diagnosis.refused or offered is None:
        return ""
    if offered.quarter_turns and offered.invert:
        return tr("Turn upright, invert and read")
    return tr("Turn upright and read") if offered.quarter_turns else tr("Invert and read")


def correction_note(diagnosis: Diagnosis, tr: Translator) -> Notice | None:
    """Said beside a result of a corrected radiograph; None where it was read as it came."""
    if diagnosis.correction is None:
        return None
    return Notice(
        tr("The image was corrected on request: {correction}.", correction=diagnosis.correction.describe(tr.language)),
        tr("Boxes lie on the corrected image."),
    )


def box_note(diagnosis: Diagnosis, tr: Translator) -> str:
    """Said where no box is drawn, so that an unmarked image is not taken for a normal one."""
    if diagnosis.boxes:
        return ""
    return tr("No box: nothing is certain enough to be marked. This does not mean that the image is normal.")


def place_name(place: Path, home: Path, tr: Translator) -> str:
    """A starting place of the file chooser."""
    return tr("Home") if place == home else readable(place.name or str(place))


def size_text(entry: Entry) -> str:
    """A file's size, as people read it; nothing for a folder."""
    if entry.is_folder:
        return ""
    return f"{entry.size / 1e6:.1f} MB" if entry.size >= 100_000 else f"{max(1, round(entry.size / 1e3))} kB"
