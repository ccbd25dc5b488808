"""Fields of records: what is allowed, what is required, and how they travel as JSON."""

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.records import FIELDS, REQUIRED, PatientFields, RecordType, Sex, changed_fields

ID = UUID(int=9)
ALLOWED: list[tuple[RecordType, dict[str, Any], dict[str, Any]]] = [
    (RecordType.PATIENT, {}, {}),
    (RecordType.PATIENT, {"name": "  김민준 "}, {"name": "김민준"}),
    (
        RecordType.PATIENT,
        {"birth_date": date(1950, 2, 3), "sex": Sex.FEMALE},
        {"birth_date": "1950-02-03", "sex": "female"},
    ),
    (RecordType.PATIENT, {"estimated_age": 0}, {"estimated_age": 0}),
    (RecordType.PATIENT, {"name": None}, {"name": None}),
    (
        RecordType.PATIENT,
        {"identifiers": [{"system": "hospital", "value": "1"}]},
        {"identifiers": [{"system": "hospital", "value": "1"}]},
    ),
    (RecordType.ENCOUNTER, {"patient": ID}, {"patient": str(ID)}),
    (RecordType.ENCOUNTER, {"notes": "two\nlines"}, {"notes": "two\nlines"}),
    (RecordType.VITAL_SIGNS, {"spo2": 100, "gcs": 3}, {"spo2": 100, "gcs": 3}),
    (RecordType.RADIOGRAPH, {"encounter": None}, {"encounter": None}),
    (RecordType.DIAGNOSIS, {"overridden": True}, {"overridden": True}),
]
REFUSED: list[tuple[RecordType, dict[str, Any]]] = [
    (RecordType.PATIENT, {"estimated_age": 131}),
    (RecordType.PATIENT, {"estimated_age": -1}),
    (RecordType.PATIENT, {"birth_date": "1879-12-31"}),
    (RecordType.PATIENT, {"sex": "f"}),
    (RecordType.PATIENT, {"name": "x" * 121}),
    (RecordType.PATIENT, {"name": "bell\x07"}),
    (RecordType.PATIENT, {"identifiers": [{"system": "hospital", "value": " "}]}),
    (RecordType.PATIENT, {"blood_group": "0"}),
    (RecordType.ENCOUNTER, {"started_at": datetime(2026, 1, 1)}),
    (RecordType.ENCOUNTER, {"started_at": None}),
    (RecordType.ENCOUNTER, {"notes": "x" * 4001}),
    (RecordType.VITAL_SIGNS, {"spo2": 101}),
    (RecordType.VITAL_SIGNS, {"gcs": 2}),
    (RecordType.VITAL_SIGNS, {"gcs": 16}),
    (RecordType.VITAL_SIGNS, {"encounter": None}),
    (RecordType.RADIOGRAPH, {"sha256": "A" * 64}),
    (RecordType.RADIOGRAPH, {"size": 0}),
    (RecordType.RADIOGRAPH, {"source": "fax"}),
    (RecordType.DIAGNOSIS, {"radiograph": None}),
]


@pytest.mark.parametrize(("type", "fields", "sent"), ALLOWED)
def test_what_is_allowed_travels_as_json(type: RecordType, fields: dict[str, Any], sent: dict[str, Any]) -> None:
    assert changed_fields(type, fields) == sent
    assert changed_fields(type, sent) == sent


@pytest.mark.parametrize(("type", "fields"), REFUSED)
def test_what_is_not_allowed(type: RecordType, fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (pydantic's error is one)
        changed_fields(type, fields)


def test_an_error_names_every_field() -> None:
    with pytest.raises(ValidationError) as error:
        changed_fields(RecordType.VITAL_SIGNS, {"spo2": 400, "gcs": 1, "heart_rate": 80})
    assert {problem["loc"] for problem in error.value.errors()} == {("spo2",), ("gcs",)}


def test_a_moment_is_kept_in_utc() -> None:
    korea = datetime(2026, 3, 1, 9, tzinfo=timezone(timedelta(hours=9)))
    sent = changed_fields(RecordType.ENCOUNTER, {"started_at": korea})
    assert datetime.fromisoformat(sent["started_at"]) == datetime(2026, 3, 1, tzinfo=UTC)
    assert sent["started_at"].endswith("Z")


@pytest.mark.parametrize("type", list(RecordType))
def test_required_fields_exist_and_everything_else_may_be_unknown(type: RecordType) -> None:
    assert REQUIRED[type] <= FIELDS[type].model_fields.keys()
    assert FIELDS[type]() == FIELDS[type].model_validate({})
    assert changed_fields(type, {}) == {}


@given(st.text(max_size=120))
def test_a_name_is_text_without_control_characters(name: str) -> None:
    plain = all(letter.isprintable() or letter == "\n" for letter in name.strip())
    try:
        fields = changed_fields(RecordType.PATIENT, {"name": name})
    except ValidationError:
        assert not plain
    else:
        assert plain
        assert PatientFields.model_validate(fields).name == fields["name"]
