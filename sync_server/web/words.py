"""What pages say about times, numbers, people and findings; times are the server's local time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from shared.errors import FirstRayError
from shared.radiograph import ERRORS
from sync_server.web.i18n import Translator


def moment(value: datetime | None) -> str:
    """A moment in local time with its day; empty for None."""
    return f"{value.astimezone():%Y-%m-%d %H:%M}" if value else ""


def clock(value: datetime | None) -> str:
    """A moment in local time: the hour today, else the day too; empty for None."""
    if value is None:
        return ""
    local = value.astimezone()
    return f"{local:%H:%M}" if local.date() == datetime.now(UTC).astimezone().date() else f"{local:%Y-%m-%d %H:%M}"


def iso(value: datetime | None) -> str:
    """A moment for a ``datetime`` attribute."""
    return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z") if value else ""


def percent(probability: float) -> str:
    """A probability as whole per cent; never 0% or 100%, which would claim certainty."""
    if probability < 0.01:
        return "<1%"
    if probability > 0.99:
        return ">99%"
    return f"{round(probability * 100)}%"


def size(count: float) -> str:
    """Bytes as people read them."""
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= limit:
            return f"{count / limit:.1f} {unit}"
    return f"{count:.0f} B"


def who(name: str | None, sex: str | None, tr: Translator) -> str:
    """The patient's name, or what is known instead."""
    if name:
        return name
    return {"male": tr("Unknown man"), "female": tr("Unknown woman")}.get(sex or "", tr("Unknown patient"))


def sex(value: str | None, tr: Translator) -> str:
    """The sex in a word; empty where it is unknown."""
    return {"male": tr("Male"), "female": tr("Female"), "other": tr("Other")}.get(value or "", "")


def age(years: int | None, estimated: bool, tr: Translator) -> str:
    """The age, exact or estimated; empty where it is unknown."""
    if years is None:
        return ""
    return tr("about {years} years", years=years) if estimated else tr("{years} years", years=years)


def vital_name(name: str, tr: Translator) -> str:
    """What a vital sign is called, in short."""
    return {
        "spo2": tr("SpO2"),
        "respiratory_rate": tr("RR"),
        "heart_rate": tr("HR"),
        "systolic": tr("BP"),
        "diastolic": tr("BP diastolic"),
        "gcs": tr("GCS"),
    }[name]


def vital_figures(signs: dict[str, Any] | None, marks: dict[str, str], tr: Translator) -> list[tuple[str, str, str]]:
    """Name, value and mark of each vital sign that was taken; the two blood pressures in one."""
    if not signs:
        return []
    upper, lower = signs.get("systolic"), signs.get("diastolic")
    pressure = f"{'–' if upper is None else upper}/{'–' if lower is None else lower}"
    values = {
        "spo2": f"{signs.get('spo2')}%",
        "respiratory_rate": str(signs.get("respiratory_rate")),
        "heart_rate": str(signs.get("heart_rate")),
        "systolic": pressure,
        "gcs": str(signs.get("gcs")),
    }
    taken = {name for name in values if signs.get(name) is not None} | ({"systolic"} if lower is not None else set())
    return [(vital_name(name, tr), values[name], marks.get(name, "")) for name in values if name in taken]


def state_word(state: str, tr: Translator) -> str:
    """What may be said of a finding; one flagged at a few per cent is suspected, nobody would call it likely."""
    return {
        "likely": tr("Suspected"),
        "uncertain": tr("Uncertain"),
        "unlikely": tr("Unlikely"),
        "not_assessed": tr("Not assessed"),
    }[state]


def presence_word(value: str, tr: Translator) -> str:
    """What a physician says of a finding."""
    return {"present": tr("present"), "absent": tr("absent"), "unsure": tr("unsure")}[value]


def reading_error(code: str, tr: Translator) -> tuple[str, str]:
    """What it means that a radiograph could not be read, and what to do, by the code in its record."""
    message, action = ERRORS.get(code, (tr("The radiograph could not be read."), tr("Look at the image yourself.")))
    return tr.error(FirstRayError(code, message, action))


def field_name(field: str, tr: Translator) -> str:
    """What a field of a record is called."""
    names = {
        "name": tr("Name"),
        "birth_date": tr("Birth date"),
        "estimated_age": tr("Estimated age"),
        "sex": tr("Sex"),
        "identifiers": tr("Identifiers"),
        "expected_arrival": tr("Expected arrival"),
        "incident_number": tr("Incident number"),
        "chief_complaint": tr("Complaint"),
        "notes": tr("Notes"),
        "started_at": tr("Start of the run"),
        "ended_at": tr("End of the run"),
        "patient": tr("Patient"),
        "taken_at": tr("Taken at"),
        "spo2": tr("SpO2"),
        "respiratory_rate": tr("RR"),
        "heart_rate": tr("HR"),
        "systolic": tr("BP"),
        "diastolic": tr("BP diastolic"),
        "gcs": tr("GCS"),
    }
    return names.get(field, field)


def field_value(value: Any, tr: Translator) -> str:
    """A field's value in a line; a dash for none."""
    if value is None or value == []:
        return "–"
    if isinstance(value, list):
        return ", ".join(field_value(one, tr) for one in value)
    if isinstance(value, dict):
        return " ".join(str(one) for one in value.values())
    return sex(value, tr) or str(value) if isinstance(value, str) else str(value)


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
