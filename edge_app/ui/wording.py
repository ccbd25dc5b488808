"""What the window says, as plain text in the chosen language: computed here, only laid out by the views."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_app.ui.folder import Entry, readable
from edge_app.ui.i18n import Translator
from edge_app.ui.presenter import Failed, Idle, Reading, Refused, Shown, Starting, State
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
    """One of the three most likely findings; ``fraction`` is its probability, 0..1."""

    name: str
    percent: str
    fraction: float
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
            tr.explanation(ranked.finding),
            ranked.finding in diagnosis.urgent,
        )
        for ranked in diagnosis.top3
    ]


def urgent_banner(diagnosis: Diagnosis, tr: Translator) -> Notice | None:
    """The banner over everything else, or None where nothing is urgent."""
    if not diagnosis.urgent:
        return None
    names = ", ".join(tr.finding(key) for key in diagnosis.urgent)
    immediate = any(BY_KEY[key].urgency is Urgency.IMMEDIATE for key in diagnosis.urgent)
    action = (
        tr("Check the patient and tell the ER now.") if immediate else tr("Needs treatment on arrival. Tell the ER.")
    )
    return Notice(tr("Urgent: {findings}", findings=names), action)


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


def failure(failed: Failed, tr: Translator) -> Notice:
    """Why a file or the models could not be read."""
    error = failed.error
    return Notice(tr.message(error.code, error.message), tr.action(error.code, error.action))


def box_note(diagnosis: Diagnosis, tr: Translator) -> str:
    """Said where no box is drawn, so that an unmarked image is not taken for a normal one."""
    if diagnosis.boxes:
        return ""
    return tr("No box: nothing is certain enough to be marked. This does not mean that the image is normal.")


def footer(state: State, tr: Translator) -> str:
    """Which models answered, at what precision, and how long it took."""
    if isinstance(state, Starting):
        return tr("Loading the models…")
    if not isinstance(state, Shown | Refused):
        return ""
    diagnosis = state.diagnosis
    return tr(
        "Models {release} · {precision} {runtime} · read in {seconds} s",
        release=diagnosis.release,
        precision=diagnosis.precision,
        runtime=diagnosis.runtime,
        seconds=f"{state.seconds:.2f}",
    )


def title(state: State, tr: Translator) -> str:
    """The window's title: the state in words, for task switchers, screen readers and tests. Never a file's name."""
    match state:
        case Starting():
            text = tr("starting")
        case Idle():
            text = tr("ready")
        case Reading():
            text = tr("reading")
        case Shown(diagnosis=diagnosis):
            text = tr("result: {findings}", findings=", ".join(tr.finding(ranked.finding) for ranked in diagnosis.top3))
        case Refused(problem=problem):
            text = tr("refused ({code})", code=problem.code)
        case Failed(error=error):
            text = tr("error ({code})", code=error.code)
    return f"FirstRay – {text}"


def place_name(place: Path, home: Path, tr: Translator) -> str:
    """A starting place of the file chooser."""
    return tr("Home") if place == home else readable(place.name or str(place))


def size_text(entry: Entry) -> str:
    """A file's size, as people read it; nothing for a folder."""
    if entry.is_folder:
        return ""
    return f"{entry.size / 1e6:.1f} MB" if entry.size >= 100_000 else f"{max(1, round(entry.size / 1e3))} kB"
