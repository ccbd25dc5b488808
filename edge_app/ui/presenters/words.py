"""What screens say about people, runs, times and deliveries, in the chosen language."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Final

from edge_app.reading import ERRORS
from edge_app.store.views import Delivery, Film, RunRow
from edge_app.sync import problems
from edge_app.ui.i18n import Translator
from edge_app.ui.theme import KIND_MARK
from edge_app.ui.wording import Notice, percent, state_word
from shared.errors import FirstRayError
from shared.hospital import ConfirmedReading, Presence
from shared.records import DevicePatient, PatientFields, Sex, VitalSignsFields

if TYPE_CHECKING:
    from edge_app.store.views import Standing
    from edge_app.sync import LinkState

DOT: Final = "  ·  "
NO_BREAK: Final = "\u00a0"


def joined(parts: Iterable[str]) -> str:
    """Those parts that say something, in a row."""
    return DOT.join(part for part in parts if part)


def who(fields: PatientFields, tr: Translator) -> str:
    """The patient's name, or what is known instead."""
    if fields.name:
        return fields.name
    match fields.sex:
        case Sex.MALE:
            return tr("Unknown man")
        case Sex.FEMALE:
            return tr("Unknown woman")
        case _:
            return tr("Unknown patient")


def years(born: date, today: date) -> int:
    """Completed years of life."""
    return today.year - born.year - ((today.month, today.day) < (born.month, born.day))


def age(fields: PatientFields, tr: Translator, today: date | None = None) -> str:
    """The age, exact or estimated; empty where it is unknown."""
    if fields.birth_date is not None:
        return tr("{years} years", years=years(fields.birth_date, today or date.today()))
    if fields.estimated_age is not None:
        return tr("about {years} years", years=fields.estimated_age)
    return ""


def sex(value: Sex | None, tr: Translator) -> str:
    """The sex in a word; empty where it is unknown."""
    return {Sex.MALE: tr("Male"), Sex.FEMALE: tr("Female"), Sex.OTHER: tr("Other")}.get(value, "") if value else ""


def person(fields: PatientFields, tr: Translator) -> str:
    """Sex, age and birth date, as far as they are known."""
    born = fields.birth_date.isoformat() if fields.birth_date else ""
    return joined([sex(fields.sex, tr) if fields.name else "", age(fields, tr), born])


def identifier_name(system: str, tr: Translator) -> str:
    """Whose number an identifier is."""
    names = {
        "hospital": tr("Hospital number"),
        "insurance": tr("Insurance number"),
        "resident": tr("Resident registration number"),
        "passport": tr("Passport number"),
        "other": tr("Other number"),
    }
    return names.get(system, system)


def device_patient(device: DevicePatient | None, tr: Translator) -> str:
    """What the X-ray device calls the patient."""
    if device is None:
        return tr("The X-ray device gave no name.")
    name = (device.name or "").replace("^", " ").strip()
    said = joined([name, device.patient_id or "", device.birth_date or "", device.sex or ""])
    return tr("The X-ray device says: {patient}", patient=said) if said else tr("The X-ray device gave no name.")


def clock(moment: datetime | None, now: datetime | None = None) -> str:
    """A moment in local time: the hour today, else the day too."""
    if moment is None:
        return ""
    local, today = moment.astimezone(), (now or datetime.now(UTC)).astimezone().date()
    return f"{local:%H:%M}" if local.date() == today else f"{local:%Y-%m-%d %H:%M}"


def moment(value: datetime | None) -> str:
    """A moment in local time with its day."""
    return f"{value.astimezone():%Y-%m-%d %H:%M}" if value else ""


def ago(since: datetime | None, tr: Translator, now: datetime | None = None) -> str:
    """How long ago, roughly."""
    if since is None:
        return tr("never")
    seconds = max(0.0, ((now or datetime.now(UTC)) - since).total_seconds())
    if seconds < 60:
        return tr("just now")
    if seconds < 3600:
        return tr("{n} min ago", n=int(seconds // 60))
    if seconds < 86_400:
        return tr("{n} h ago", n=int(seconds // 3600))
    return tr("{n} days ago", n=int(seconds // 86_400))


def minutes_to(then: datetime | None, tr: Translator, now: datetime | None = None) -> str:
    """An expected arrival as clock time, with the minutes left while it is near; empty where it is unknown."""
    if then is None:
        return ""
    minutes = round((then - (now or datetime.now(UTC))).total_seconds() / 60)
    if 0 < minutes <= 180:
        return tr("{time} (in {n} min)", time=clock(then, now), n=minutes)
    return clock(then, now)


def size(count: float) -> str:
    """Bytes as people read them."""
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= limit:
            return f"{count / limit:.1f} {unit}"
    return f"{count:.0f} B"


VITAL_UNITS: Final = {
    "spo2": "%",
    "heart_rate": "/min",
    "respiratory_rate": "/min",
    "systolic": "mmHg",
    "diastolic": "mmHg",
    "gcs": "3-15",
}


def vital_name(name: str, tr: Translator) -> str:
    """What a vital sign is called."""
    names = {
        "spo2": tr("SpO2"),
        "heart_rate": tr("Heart rate"),
        "respiratory_rate": tr("Breathing rate"),
        "systolic": tr("Upper blood pressure"),
        "diastolic": tr("Lower blood pressure"),
        "gcs": tr("GCS"),
    }
    return names[name]


def vital_figures(fields: VitalSignsFields, tr: Translator) -> list[tuple[str, str]]:
    """Name and value of each vital sign that was taken; blood pressure in one."""
    figures = []
    if fields.spo2 is not None:
        figures.append((tr("SpO2"), f"{fields.spo2}%"))
    if fields.heart_rate is not None:
        figures.append((tr("HR"), str(fields.heart_rate)))
    if fields.systolic is not None or fields.diastolic is not None:
        pressure = f"{_or_dash(fields.systolic)}/{_or_dash(fields.diastolic)}"
        figures.append((tr("BP"), pressure))
    if fields.respiratory_rate is not None:
        figures.append((tr("RR"), str(fields.respiratory_rate)))
    if fields.gcs is not None:
        figures.append((tr("GCS"), str(fields.gcs)))
    return figures


def vitals_line(fields: VitalSignsFields, tr: Translator) -> str:
    """One set of vital signs in a line."""
    return joined(f"{name}{NO_BREAK}{value}" for name, value in vital_figures(fields, tr))


def _or_dash(value: int | None) -> str:
    return "–" if value is None else str(value)


def delivery(state: Delivery, tr: Translator) -> tuple[str, str]:
    """What the hospital provably holds, and the kind of status that is."""
    match state:
        case Delivery.HELD:
            return tr("The hospital has it"), "good"
        case Delivery.PARTLY:
            return tr("Partly delivered"), "plain"
        case Delivery.REFUSED:
            return tr("Refused by the hospital"), "urgent"
        case Delivery.WAITING:
            return tr("Not delivered yet"), "plain"


def run_delivery(run: RunRow, tr: Translator) -> tuple[str, str]:
    """What a list says of a run: that there is news, that it was seen, or what the hospital holds of it."""
    if run.news:
        return tr("News from the ER"), "warning"
    return (tr("ER has seen it"), "good") if run.acknowledged else delivery(run.delivery, tr)


def part_name(part: str, tr: Translator) -> str:
    """What of a radiograph is delivered."""
    names = {"record": tr("Findings"), "preview": tr("Preview"), "original": tr("Original image")}
    return names.get(part, part)


def film_delivery(film: Film) -> Delivery:
    """Of a radiograph as a whole: held only where every part of it is."""
    states = set(film.delivery.values())
    if Delivery.REFUSED in states:
        return Delivery.REFUSED
    if len(states) == 1:
        return states.pop()
    return Delivery.PARTLY if states else Delivery.WAITING


def film_line(film: Film, tr: Translator, reading: bool = False) -> tuple[str, str]:
    """What was read from a radiograph in a line, and the kind of status that is."""
    if reading:
        return tr("Reading…"), "plain"
    if film.waiting_to_be_read:
        return tr("Not read yet"), "plain"
    if film.diagnosis is None:
        return tr("Could not be read"), "urgent"
    if film.diagnosis.refused:
        return tr("Not read: image quality"), "warning"
    if film.diagnosis.urgent:
        return tr("Urgent: {findings}", findings=findings(film.diagnosis.urgent, tr)), "urgent"
    first = film.diagnosis.top3[:1]
    texts = [
        f"{tr.finding(one.finding)} {percent(one.probability)} ({state_word(film.diagnosis.states[one.finding], tr)})"
        for one in first
    ]
    return (texts or [tr("Not assessed")])[0], "plain"


def marked(line: str, kind: str) -> str:
    """A line with the mark of its kind before it, where it asks for attention."""
    return f"{KIND_MARK[kind]} {line}" if kind in ("warning", "urgent") else line


def run_line(row: RunRow, tr: Translator) -> tuple[str, str]:
    """What a run's radiographs show in a line, and the kind of status that is."""
    if row.urgent:
        return tr("Urgent: {findings}", findings=findings(row.urgent, tr)), "urgent"
    if row.unread:
        return tr("Not read yet"), "plain"
    if not row.radiographs:
        return tr("No image yet"), ""
    if row.latest is None:
        return tr("Could not be read"), "warning"
    if row.latest.refused:
        return tr("Not read: image quality"), "warning"
    return ", ".join(f"{tr.finding(one.finding)} {percent(one.probability)}" for one in row.latest.top3[:2]), "plain"


def findings(keys: Iterable[str], tr: Translator) -> str:
    """Names of findings."""
    return ", ".join(tr.finding(key) for key in keys)


def presence(value: Presence, tr: Translator) -> str:
    """What a physician says of a finding."""
    return {Presence.PRESENT: tr("present"), Presence.ABSENT: tr("absent"), Presence.UNSURE: tr("unsure")}[value]


def confirmed(reading: ConfirmedReading, tr: Translator) -> list[str]:
    """A physician's reading, line by line."""
    lines = [
        f"{tr.finding(key)}: {presence(value, tr)}"
        for wanted in (Presence.PRESENT, Presence.UNSURE, Presence.ABSENT)
        for key, value in reading.findings.items()
        if value is wanted
    ]
    return [*lines, *([reading.text] if reading.text else [])]


def error(problem: FirstRayError, tr: Translator) -> Notice:
    """What happened and what to do next."""
    return Notice(tr.message(problem.code, problem.message), tr.action(problem.code, problem.action))


def reading_error(code: str, tr: Translator) -> Notice:
    """Why a radiograph could not be read, from the code in its record."""
    message, action = ERRORS.get(code, ERRORS["internal_error"])
    return Notice(tr.message(code, message), tr.action(code, action))


def revoked(tr: Translator) -> Notice:
    """What the locked screen says once the hospital no longer trusts the device."""
    return error(problems.Revoked(), tr)


def link(state: LinkState | None, tr: Translator) -> tuple[str, str]:
    """The link to the hospital in a few words, and the kind of status that is."""
    if state is None:
        return tr("No hospital set up"), "plain"
    texts = {
        "offline": (tr("No connection"), "warning"),
        "connecting": (tr("Connecting…"), "plain"),
        "online": (tr("Connected"), "good"),
        "failing": (tr("The hospital's server fails"), "warning"),
        "foreign": (tr("This is not the hospital"), "urgent"),
        "unauthorised": (tr("The hospital refuses this device"), "urgent"),
        "revoked": (tr("Device revoked"), "urgent"),
    }
    return texts.get(str(state.kind), (str(state.kind), "warning"))


def chip(state: LinkState | None, standing: Standing | None, tr: Translator) -> tuple[str, str]:
    """The state of delivery at the top of every screen: short, and good only where all of it is provably held."""
    if standing is not None and standing.refusals:
        return tr("Refused: see Status"), "urgent"
    kind = str(state.kind) if state is not None else ""
    waiting = standing.events_waiting + standing.previews_waiting + standing.originals_waiting if standing else 0
    if waiting and kind not in ("foreign", "unauthorised", "revoked"):
        return _waiting(kind, waiting, tr)
    if standing is not None and standing.events_held and not waiting:
        return tr("All delivered"), "good"
    return link(state, tr)


def _waiting(kind: str, waiting: int, tr: Translator) -> tuple[str, str]:
    if kind == "online":
        return tr("Sending: {n} waiting", n=waiting), "plain"
    if not kind:
        return tr("No hospital: {n} waiting", n=waiting), "plain"
    return tr("Offline: {n} waiting", n=waiting), "warning"
