"""What is typed into the fields of a form, as values of records, and why a value cannot be taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from edge_app.ui.i18n import Translator
from shared.records import EncounterFields, Identifier, PatientFields, VitalSignsFields

VITAL_SIGNS: Final = ("spo2", "heart_rate", "respiratory_rate", "systolic", "diastolic", "gcs")
"""Fields of a set of vital signs, in the order they are typed."""

IDENTIFIER_SYSTEMS: Final = ("hospital", "insurance", "resident", "passport", "other")
"""Whose number an identifier is; offered in this order."""

TEXTS: Final = {"name": 120, "incident_number": 120, "chief_complaint": 4000, "notes": 4000}
"""Free texts and their greatest length in characters."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """Why a value cannot be taken: an English sentence for the translator, with its ``{named}`` values."""

    text: str
    values: Mapping[str, object]

    def said(self, tr: Translator) -> str:
        """In the chosen language."""
        return tr(self.text, **self.values)


def mistake(text: str, **values: object) -> Mistake:
    """A mistake with its values."""
    return Mistake(text, values)


def limits(fields: type[PatientFields | EncounterFields | VitalSignsFields], name: str) -> tuple[int, int]:
    """Lowest and highest value that a record's number can have."""
    bounds: dict[str, int] = {}
    for part in _metadata(fields, name):
        for side in ("ge", "le"):
            if (bound := getattr(part, side, None)) is not None:
                bounds[side] = bound
    return bounds["ge"], bounds["le"]


def whole_number(
    fields: type[PatientFields | EncounterFields | VitalSignsFields], name: str, text: str
) -> int | Mistake | None:
    """A number of a record from its digits; empty is None."""
    text = text.strip()
    if not text:
        return None
    low, high = limits(fields, name)
    if not text.isdecimal() or not low <= int(text) <= high:
        return mistake("Between {low} and {high}.", low=low, high=high)
    return int(text)


def birth_date(text: str, today: date) -> date | Mistake | None:
    """A date written year-month-day; empty is None."""
    digits = "".join(letter for letter in text if letter.isdecimal())
    if not text.strip():
        return None
    try:
        if len(digits) != 8:
            raise ValueError
        born = date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return mistake("Write year, month and day: 1968-04-23.")
    if born > today:
        return mistake("This day is still to come.")
    if born.year < 1880:
        return mistake("Too long ago: from 1880 on.")
    return born


def day(text: str) -> date | Mistake | None:
    """A day of the history's filter; empty is None."""
    found = birth_date(text, date(2999, 12, 31))
    return found


def arrival(text: str, now: datetime) -> datetime | Mistake | None:
    """When the ambulance arrives: minutes from now, or a clock time as ``14:05`` or ``1405``; empty is None."""
    text = text.strip().replace(":", "")
    if not text:
        return None
    if text.isdecimal() and len(text) <= 3 and 0 < int(text) <= 600:
        return (now + timedelta(minutes=int(text))).astimezone(UTC)
    if text.isdecimal() and len(text) == 4 and int(text[:2]) < 24 and int(text[2:]) < 60:
        local = now.astimezone()
        then = local.replace(hour=int(text[:2]), minute=int(text[2:]), second=0, microsecond=0)
        return (then if then > local - timedelta(hours=1) else then + timedelta(days=1)).astimezone(UTC)
    return mistake("Minutes until arrival, such as 12, or the time, such as 1405.")


def vital_signs(texts: Mapping[str, str]) -> tuple[dict[str, int], dict[str, Mistake]]:
    """One set of vital signs from what was typed: the values there are, and what is wrong with the others."""
    values: dict[str, int] = {}
    wrong: dict[str, Mistake] = {}
    for name in VITAL_SIGNS:
        value = whole_number(VitalSignsFields, name, texts.get(name, ""))
        if isinstance(value, Mistake):
            wrong[name] = value
        elif value is not None:
            values[name] = value
    if not wrong and {"systolic", "diastolic"} <= values.keys() and values["diastolic"] > values["systolic"]:
        wrong["diastolic"] = mistake("Not above the upper value.")
    return values, wrong


def with_identifier(identifiers: tuple[Identifier, ...], system: str, value: str) -> tuple[Identifier, ...]:
    """The identifiers with one added, or with its value changed."""
    kept = tuple(one for one in identifiers if one.system != system)
    return (*kept, Identifier(system=system, value=value)) if value.strip() else kept


def _metadata(fields: type[Any], name: str) -> list[Any]:
    """Constraints of a field, also where its type is 'constrained or None'."""
    info = fields.model_fields[name]
    found = list(info.metadata)
    for part in getattr(info.annotation, "__args__", ()):
        for constraint in getattr(part, "__metadata__", ()):
            found += getattr(constraint, "metadata", None) or [constraint]
    return found
