"""What the pages say in both languages, and that no text is left untranslated."""

import ast
import re
from collections.abc import Iterator
from gettext import GNUTranslations
from pathlib import Path

import pytest
from babel.messages.pofile import read_po

import sync_server
from shared.errors import FirstRayError
from shared.findings import KEYS
from shared.radiograph import ERRORS
from sync_server.domain.agreement import BoxChanges, Changes, FindingChange, Pair
from sync_server.web import films, words
from sync_server.web.i18n import LOCALE, translator
from sync_server.web.pages import BAD_REQUEST

ROOT = Path(sync_server.__file__).parent
CATALOGUE = LOCALE / "ko" / "LC_MESSAGES" / "hospital.po"
EN, KO = translator("en"), translator("ko")
IN_TEMPLATE = re.compile(r"""\btr\(\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""")


def texts_of_pages() -> Iterator[str]:
    for file in (ROOT / "web").rglob("*.html"):
        for found in IN_TEMPLATE.finditer(file.read_text()):
            yield ast.literal_eval(found[1])
    for file in (ROOT / "web").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                called = node.func.func if isinstance(node.func, ast.Call) else node.func
                if isinstance(called, ast.Name) and called.id in ("tr", "translator"):
                    text = node.args[0].value
                    if isinstance(text, str):
                        yield text


def codes_raised() -> set[str]:
    """Codes of the errors that accounts, acts and pages raise."""
    domain = ("accounts", "acts", "guessing", "linking", "oidc", "oidc_provider")
    files = [*(ROOT / "domain" / f"{name}.py" for name in domain), *(ROOT / "web").glob("*.py")]
    calls = [
        node
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "FirstRayError"
    ]
    return {call.args[0].value for call in calls if isinstance(call.args[0], ast.Constant)}


def test_there_are_texts_to_find() -> None:
    assert len(set(texts_of_pages())) > 150
    assert {"log_in_failed", "run_unknown", "csrf_failed"} <= codes_raised()


def test_every_text_has_its_korean_with_the_same_values() -> None:
    with CATALOGUE.open("rb") as file:
        korean = {message.id: message.string for message in read_po(file) if message.id and not message.context}
    wanted = set(texts_of_pages())
    assert sorted(wanted - korean.keys()) == []
    values = re.compile(r"\{\w+\}")
    for text in wanted:
        assert set(values.findall(korean[text])) == set(values.findall(text)), text


def test_every_error_has_its_korean() -> None:
    for code in codes_raised() | set(ERRORS) | {BAD_REQUEST.code}:
        message, action = KO.error(FirstRayError(code, "English.", "English."))
        assert "English." not in (message, action), code


def test_the_compiled_catalogue_is_that_of_the_texts() -> None:
    with CATALOGUE.with_suffix(".mo").open("rb") as file:
        compiled = GNUTranslations(file)
    with CATALOGUE.open("rb") as file:
        for message in read_po(file):
            if message.id and message.context:
                assert compiled.pgettext(message.context, message.id) == message.string, "make translations"
            elif message.id:
                assert compiled.gettext(message.id) == message.string, "make translations"


def test_an_error_without_korean_keeps_its_english() -> None:
    assert KO.error(FirstRayError("of_tomorrow", "It happened.", "Do it.")) == ("It happened.", "Do it.")


@pytest.mark.parametrize(
    ("name", "sex", "english", "korean"),
    [
        ("김하늘", "female", "김하늘", "김하늘"),
        (None, "male", "Unknown man", "신원 미상 남성"),
        (None, "female", "Unknown woman", "신원 미상 여성"),
        ("", None, "Unknown patient", "신원 미상"),
    ],
)
def test_who(name: str | None, sex: str | None, english: str, korean: str) -> None:
    assert (words.who(name, sex, EN), words.who(name, sex, KO)) == (english, korean)


def test_age() -> None:
    assert [words.age(60, True, EN), words.age(60, False, KO), words.age(None, False, EN)] == [
        "about 60 years",
        "60세",
        "",
    ]


def test_a_probability_never_claims_certainty() -> None:
    assert [words.percent(value) for value in (0.0, 0.004, 0.5, 0.994, 1.0)] == ["<1%", "<1%", "50%", ">99%", ">99%"]


def test_vital_signs_in_the_order_they_are_read() -> None:
    signs = {"gcs": 7, "spo2": 95, "heart_rate": None, "systolic": None, "diastolic": 60}
    assert words.vital_figures(signs, {"gcs": "urgent"}, EN) == [
        ("SpO2", "95%", ""),
        ("BP", "–/60", ""),
        ("GCS", "7", "urgent"),
    ]
    assert words.vital_figures(None, {}, EN) == []


def test_the_differences_that_matter_most_come_first() -> None:
    changes = Changes(
        urgent_hospital=("Effusion",),
        findings=(
            FindingChange.model_validate(
                {
                    "finding": "Effusion",
                    "states": ("unlikely", "likely"),
                    "probabilities": (0.05, 0.6),
                    "thresholds": (None, None),
                    "cause": "probability",
                }
            ),
            FindingChange.model_validate(
                {
                    "finding": "Mass",
                    "states": ("likely", "likely"),
                    "probabilities": (0.5, 0.6),
                    "thresholds": (None, None),
                    "cause": None,
                }
            ),
        ),
        boxes=BoxChanges(same=1, device_only=("Mass", "Mass"), elsewhere=("Nodule",)),
    )
    assert films.differences(changes, EN) == [
        "Urgent to the hospital's reading only: Pleural effusion.",
        "Pleural effusion: ambulance unlikely, hospital suspected.",
        "Marked at another place: Lung nodule.",
        "Box by the ambulance only: Lung mass.",
    ]


def test_a_reading_against_a_refusal_is_said_in_words() -> None:
    changes = Changes(refusal=Pair(device="dicom_truncated", hospital=None), reasons=("refusal",))
    assert films.differences(changes, EN) == [
        "Ambulance: The DICOM file breaks off: part of the image is missing; hospital: read."
    ]


def test_every_finding_has_names() -> None:
    assert all(EN.finding(key) and KO.finding(key) and KO.explanation(key) for key in KEYS)
    assert EN.finding("Of_tomorrow") == "Of_tomorrow"
