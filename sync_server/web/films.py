"""What a run's page says of one film: boxes for the viewer, findings of both readings side by side, what differs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Query
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from shared.boxes import Box
from shared.calibration import State
from shared.correction import Correction
from shared.diagnosis import Diagnosis
from shared.findings import BY_KEY, KEYS, Urgency
from shared.quality import MESSAGES, explain
from sync_server.domain.agreement import Changes
from sync_server.domain.display import display_image, drawn
from sync_server.domain.run import Film
from sync_server.hospital import Hospital
from sync_server.threads import threads_of
from sync_server.web import words
from sync_server.web.i18n import Translator

Turns = Annotated[int, Query(ge=0, le=3)]
"""Quarter turns that a radiograph is shown with."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What one reading says of one finding."""

    state: str
    text: str


@dataclass(frozen=True, slots=True)
class Row:
    """One finding: what the ambulance and the hospital say; ``changed`` where their states differ."""

    key: str
    name: str
    explanation: str
    urgency: str
    edge: Cell | None
    server: Cell | None
    changed: bool

    @property
    def quiet(self) -> bool:
        """Neither of the two suspects it or is unsure, and they agree."""
        said = {cell.state for cell in (self.edge, self.server) if cell}
        return not self.changed and not said & {State.LIKELY.value, State.UNCERTAIN.value}


@dataclass(frozen=True, slots=True)
class Said:
    """What one side says of a film as a whole: a line, what it means, and the kind of status that is."""

    text: str
    more: tuple[str, ...]
    kind: str


@dataclass(frozen=True, slots=True)
class Viewer:
    """One film, ready to be shown; ``data`` is JSON for the viewer's script."""

    data: str
    edge: Said
    server: Said
    rows: tuple[Row, ...]
    differences: tuple[str, ...]
    significant: bool
    urgent: tuple[str, ...]
    immediate: bool


def viewer(base: str, film: Film, tr: Translator) -> Viewer:
    """Everything of a film that the page says; below the path ``base`` are its ``image`` and its ``preview``."""
    edge = film.latest.result if film.latest else None
    server = film.server.result if film.server else None
    changes = Changes.model_validate(film.agreement.changes) if film.agreement else None
    urgent = dict.fromkeys([*(edge.urgent if edge else ()), *(server.urgent if server else ())])
    return Viewer(
        data=json.dumps(_data(base, film, edge, server, tr), ensure_ascii=False),
        edge=_edge_said(film, edge, tr),
        server=_server_said(film, server, tr),
        rows=_rows(edge, server, tr),
        differences=tuple(differences(changes, tr)) if changes else (),
        significant=bool(film.agreement and film.agreement.significant),
        urgent=tuple(urgent),
        immediate=any(BY_KEY[key].urgency is Urgency.IMMEDIATE for key in urgent if key in BY_KEY),
    )


async def image(request: Request, hospital: Hospital, sha256: str, turns: int, invert: bool) -> Response:
    """The radiograph from its original, turned and inverted as asked.

    Raises:
        RadiographError, FirstRayError: as :func:`display_image` does; ``images_busy``.
    """
    correction = Correction(quarter_turns=turns, invert=invert)
    file = await run_in_threadpool(drawn, hospital, sha256, correction)
    if file is None:
        file = await threads_of(request).drawing.run(display_image, hospital, sha256, correction)
    return FileResponse(file, media_type="image/jpeg")


async def preview(request: Request, hospital: Hospital, sha256: str) -> Response:
    """The small picture with boxes that the ambulance sent ahead.

    Raises:
        FirstRayError: ``image_not_held``, ``image_store_failing``, ``images_busy``.
    """
    data = await threads_of(request).previews.run(hospital.images.read, sha256)
    return Response(data, media_type="image/jpeg")


def differences(changes: Changes, tr: Translator) -> list[str]:
    """What differs between the two readings, in sentences; what matters most first."""
    said = []
    if changes.refusal:
        sides = [_refusal(code, tr) for code in (changes.refusal.device, changes.refusal.hospital)]
        said.append(tr("Ambulance: {device}; hospital: {hospital}.", device=sides[0], hospital=sides[1]))
    for keys, text in (
        (changes.urgent_hospital, tr("Urgent to the hospital's reading only")),
        (changes.urgent_device, tr("Urgent to the ambulance's reading only")),
    ):
        if keys:
            said.append(f"{text}: {_names(keys, tr)}.")
    for change in changes.findings:
        if change.states[0] is not change.states[1]:
            here, there = (words.state_word(state.value, tr).lower() for state in change.states)
            said.append(
                tr(
                    "{finding}: ambulance {here}, hospital {there}.",
                    finding=tr.finding(change.finding),
                    here=here,
                    there=there,
                )
            )
    boxes = changes.boxes
    for keys, text in (
        (boxes.elsewhere, tr("Marked at another place")),
        (boxes.moved, tr("Box moved")),
        (boxes.device_only, tr("Box by the ambulance only")),
        (boxes.hospital_only, tr("Box by the hospital only")),
    ):
        if keys:
            said.append(f"{text}: {_names(dict.fromkeys(keys), tr)}.")
    return said


def _names(keys: Any, tr: Translator) -> str:
    return ", ".join(tr.finding(key) for key in keys)


def _refusal(code: str | None, tr: Translator) -> str:
    if code is None:
        return tr("read")
    if code in MESSAGES:
        return explain(code, tr.language)[0].rstrip(".")
    return words.reading_error(code, tr)[0].rstrip(".")


def _edge_said(film: Film, result: Diagnosis | None, tr: Translator) -> Said:
    if film.latest is None:
        return Said(tr("Not read yet"), (), "plain")
    if result is None:
        return Said(tr("Could not be read"), words.reading_error(film.latest.fields.error or "", tr), "urgent")
    if result.refused:
        return Said(tr("Not read: image quality"), _problems(result, tr), "warning")
    overridden = (tr("Read on request although the quality is too low"),) if film.latest.fields.overridden else ()
    return Said(_headline(result, tr), (*overridden, *_notes(result, tr)), "urgent" if result.urgent else "plain")


def _server_said(film: Film, result: Diagnosis | None, tr: Translator) -> Said:
    if film.server is None:
        waits = tr("Waits for the original image") if not film.original else tr("Not read by the hospital")
        return Said(waits, (), "plain")
    if result is not None:
        if result.refused:
            return Said(tr("Not read: image quality"), _problems(result, tr), "warning")
        return Said(_headline(result, tr), _notes(result, tr), "urgent" if result.urgent else "plain")
    if film.server.state == "waiting":
        return Said(tr("Being read…"), (), "plain")
    if film.server.state == "poison":
        text = tr("The hospital's models failed at this image several times; it was set aside.")
        return Said(tr("Could not be read"), (text, tr("Look at the image yourself.")), "urgent")
    return Said(tr("Could not be read"), words.reading_error(film.server.error or "", tr), "urgent")


def _headline(result: Diagnosis, tr: Translator) -> str:
    if result.urgent:
        return tr("Urgent: {findings}", findings=_names(result.urgent, tr))
    likely = [key for key, state in result.states.items() if state is State.LIKELY]
    if likely:
        return tr("Suspected: {findings}", findings=_names(likely, tr))
    return tr("Nothing reached the alarm level")


def _notes(result: Diagnosis, tr: Translator) -> tuple[str, ...]:
    notes = []
    if result.cannot_exclude:
        notes.append(tr("Cannot be excluded: {findings}", findings=_names(result.cannot_exclude, tr)))
    if result.correction:
        notes.append(tr("Shown corrected: {correction}", correction=result.correction.describe(tr.language)))
    if not result.boxes:
        notes.append(tr("No box: nothing is certain enough to be marked. This does not mean that the image is normal."))
    return (*notes, *_problems(result, tr))


def _problems(result: Diagnosis, tr: Translator) -> tuple[str, ...]:
    return tuple(" ".join(explain(problem.code, tr.language)) for problem in result.verdict.problems)


def _rows(edge: Diagnosis | None, server: Diagnosis | None, tr: Translator) -> tuple[Row, ...]:
    if not any(result and result.states for result in (edge, server)):
        return ()
    rows = []
    for key in KEYS:
        cells = _cell(edge, key, tr), _cell(server, key, tr)
        changed = cells[0] is not None and cells[1] is not None and cells[0].state != cells[1].state
        rows.append(
            Row(key, tr.finding(key), tr.explanation(key), BY_KEY[key].urgency.value, cells[0], cells[1], changed)
        )

    def gravity(row: Row) -> tuple[int, float]:
        states = {cell.state for cell in (row.edge, row.server) if cell}
        order = (State.LIKELY, State.UNCERTAIN, State.UNLIKELY, State.NOT_ASSESSED)
        first = next((place for place, state in enumerate(order) if state.value in states), len(order))
        return first, -max(result.probabilities.get(row.key, 0) for result in (edge, server) if result)

    return tuple(sorted(rows, key=gravity))


def _cell(result: Diagnosis | None, key: str, tr: Translator) -> Cell | None:
    """State and probability; no probability of what is not assessed."""
    if result is None or key not in result.states:
        return None
    state = result.states[key]
    word = words.state_word(state.value, tr)
    if state is State.NOT_ASSESSED:
        return Cell(state.value, word)
    return Cell(state.value, f"{words.percent(result.probabilities[key])} {word}")


def _data(base: str, film: Film, edge: Diagnosis | None, server: Diagnosis | None, tr: Translator) -> dict[str, Any]:
    readings = (
        ("edge", tr("Ambulance"), tr("Ambulance"), edge),
        ("server", tr("Hospital, full precision"), tr("Hospital"), server),
    )
    sides = {
        name: {
            "label": label,
            "short": short,
            "image": _image(base, film, result),
            "boxes": _boxes(result, tr),
            "read": result is not None,
        }
        for name, label, short, result in readings
    }
    same = _correction(edge) == _correction(server)
    return {
        "film": str(film.id),
        "sides": sides,
        "original": film.original,
        "overlay": bool(film.original and edge and server and same),
        "alt": tr("Chest radiograph"),
        "waiting": tr("The image is still on its way."),
        "preview": tr("Preview from the ambulance; the original is on its way."),
        "failed": tr(
            "The image cannot be shown now. Load the page again; if that does not help, ask the crew to send it again."
        ),
    }


def _image(base: str, film: Film, result: Diagnosis | None) -> str:
    if not film.original:
        return f"{base}/preview" if film.preview else ""
    correction = _correction(result)
    asked = {"turns": correction.quarter_turns, "invert": str(correction.invert).lower()}
    return f"{base}/image?{urlencode(asked)}" if correction else f"{base}/image"


def _correction(result: Diagnosis | None) -> Correction:
    return (result.correction if result else None) or Correction()


def _boxes(result: Diagnosis | None, tr: Translator) -> list[dict[str, Any]]:
    return [_box(box, tr) for box in result.boxes] if result else []


def _box(box: Box, tr: Translator) -> dict[str, Any]:
    return {
        "finding": box.finding,
        "name": tr.finding(box.finding),
        "x": box.x,
        "y": box.y,
        "w": box.w,
        "h": box.h,
        "dashed": box.source == "activation",
    }
