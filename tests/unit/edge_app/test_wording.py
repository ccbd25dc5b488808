"""What the window says in both languages, and that no text is left untranslated."""

import ast
import re
from dataclasses import replace
from datetime import UTC, date, datetime
from gettext import GNUTranslations
from pathlib import Path
from uuid import UUID

import pytest
from babel.messages.pofile import read_po

import edge_app
from edge_app import enrolment
from edge_app.capture import hot_folder
from edge_app.capture.dicom import errors as dicom_errors
from edge_app.reading import ERRORS as READING_ERRORS
from edge_app.store import errors as store_errors
from edge_app.store.views import Delivery, Refusal, RunRow, Standing
from edge_app.sync import LinkKind, LinkState
from edge_app.sync import problems as sync_problems
from edge_app.ui import news, wording
from edge_app.ui.i18n import LOCALE, Translator
from edge_app.ui.presenters import words
from edge_app.ui.presenters.shell import News
from shared.boxes import Box
from shared.calibration import State
from shared.correction import Correction
from shared.diagnosis import Diagnosis, Ranked
from shared.errors import RadiographError
from shared.findings import KEYS
from shared.quality import CORRECTIONS, MESSAGES, Problem, Severity, Verdict
from shared.radiograph import ERRORS
from shared.records import EncounterFields, PatientFields, VitalSignsFields

ROOT = Path(edge_app.__file__).parent
CATALOGUE = LOCALE / "ko" / "LC_MESSAGES" / "firstray.po"
EN, KO = Translator("en"), Translator("ko")


def problem(code: str, severity: Severity) -> Problem:
    message, action = MESSAGES[code]
    return Problem(code=code, severity=severity, message=message, action=action, overridable=True)


def diagnosis(**changes: object) -> Diagnosis:
    values: dict[str, object] = {
        "probabilities": dict.fromkeys(KEYS, 0.05),
        "states": dict.fromkeys(KEYS, State.UNLIKELY) | {"Pneumothorax": State.LIKELY, "Mass": State.UNCERTAIN},
        "top3": (
            Ranked(finding="Pneumothorax", probability=0.874),
            Ranked(finding="Mass", probability=0.12),
            Ranked(finding="Edema", probability=0.004),
        ),
        "boxes": (Box(finding="Mass", score=0.5, x=0.1, y=0.1, w=0.2, h=0.2, source="detector"),),
        "verdict": Verdict(problems=(), scores={}),
        "urgent": ("Pneumothorax",),
        "prevalence": "NIH ChestX-ray14",
        "release": "r1",
        "precision": "int8",
        "runtime": "litert",
        "timing_ms": {"total": 12.0},
        "sha256": "0" * 64,
    }
    return Diagnosis.model_validate(values | changes)


@pytest.mark.parametrize(
    ("probability", "text"),
    [
        (0.0, "<1%"),
        (0.0099, "<1%"),
        (0.01, "1%"),
        (0.126, "13%"),
        (0.87, "87%"),
        (0.99, "99%"),
        (0.996, ">99%"),
        (1, ">99%"),
    ],
)
def test_a_probability_never_claims_certainty(probability: float, text: str) -> None:
    assert wording.percent(probability) == text


def test_the_three_findings_are_named_and_explained_in_the_chosen_language() -> None:
    english, korean = (wording.ranked_rows(diagnosis(), tr) for tr in (EN, KO))
    assert [row.name for row in english] == ["Pneumothorax", "Lung mass", "Pulmonary edema"]
    assert [row.name for row in korean] == ["기흉", "폐종괴", "폐부종"]
    assert [row.percent for row in korean] == ["87%", "12%", "<1%"]
    assert [row.urgent for row in korean] == [True, False, False]
    assert english[0].explanation.startswith("Air around the lung")
    assert korean[0].explanation.startswith("폐 주위에")


def test_a_state_is_said_in_words_and_a_rare_finding_is_suspected_rather_than_likely() -> None:
    rows = wording.ranked_rows(diagnosis(), EN)
    assert [(row.state, row.state_word) for row in rows] == [
        ("likely", "Suspected"),
        ("uncertain", "Uncertain"),
        ("unlikely", "Unlikely"),
    ]
    assert [row.state_word for row in wording.ranked_rows(diagnosis(), KO)] == ["의심됨", "불확실", "가능성 낮음"]


def test_what_the_cards_do_not_show_is_named_with_what_was_not_assessed() -> None:
    states = diagnosis().states | {"Effusion": State.LIKELY, "Fibrosis": State.UNCERTAIN, "Nodule": State.NOT_ASSESSED}
    mixed = diagnosis(states=states)
    assert wording.state_notes(mixed, EN) == [
        "Also suspected: Pleural effusion",
        "Not assessed: Lung nodule (cannot be told reliably)",
        "Also uncertain: Pulmonary fibrosis",
    ]
    assert wording.state_notes(mixed, KO)[1].startswith("평가하지 않음: 폐결절")
    assert wording.state_notes(diagnosis(), EN) == []


def test_what_may_kill_within_minutes_is_named_unless_it_is_suspected_or_unlikely() -> None:
    states = dict.fromkeys(KEYS, State.UNCERTAIN) | {"Edema": State.NOT_ASSESSED}
    assert wording.exclusion_note(diagnosis(states=states), EN) == "Cannot be excluded: Pneumothorax, Pulmonary edema"
    assert wording.exclusion_note(diagnosis(states=states), KO) == "배제할 수 없음: 기흉, 폐부종"
    assert wording.exclusion_note(diagnosis(), EN) == ""


def test_probabilities_name_their_population() -> None:
    assert wording.population_note(diagnosis(prevalence="{Site}"), EN) == "Probabilities for the population of {Site}."


def test_an_urgent_finding_is_called_out_with_what_to_do() -> None:
    banner = wording.urgent_banner(diagnosis(urgent=("Pneumothorax", "Effusion")), EN)
    assert banner == wording.Notice("Urgent: Pneumothorax, Pleural effusion", "Check the patient and tell the ER now.")
    later = wording.urgent_banner(diagnosis(urgent=("Effusion",)), KO)
    assert later == wording.Notice("긴급: 흉수", "도착 즉시 치료가 필요합니다. 응급실에 알리세요.")
    assert wording.urgent_banner(diagnosis(urgent=()), EN) is None


def test_the_second_reading_says_what_is_urgent_first_and_why_there_is_none() -> None:
    (alarm, first, *_) = wording.second_reading(diagnosis(urgent=("Pneumothorax",)), EN)
    assert alarm.action == "Urgent: Pneumothorax. Check the patient and tell the ER now."
    assert first.action == "Pneumothorax 87%, Suspected"
    assert len(wording.second_reading(diagnosis(urgent=()), EN)) == 3
    verdict = Verdict(problems=(problem("not_a_chest_radiograph", Severity.REFUSE),), scores={})
    refused = diagnosis().model_copy(update={"probabilities": {}, "top3": (), "verdict": verdict})
    plain, why = wording.second_reading(refused, EN)
    assert plain.message == "They did not read it."
    assert "chest radiograph" in why.message


def test_a_line_is_marked_only_where_it_asks_for_attention() -> None:
    assert words.marked("Urgent: Edema", "urgent") == "■ Urgent: Edema"
    assert words.marked("Lung mass 77%", "plain") == "Lung mass 77%"


def test_an_image_without_boxes_is_not_called_normal() -> None:
    assert "does not mean that the image is normal" in wording.box_note(diagnosis(boxes=()), EN)
    assert "정상이라는 뜻은 아닙니다" in wording.box_note(diagnosis(boxes=()), KO)
    assert wording.box_note(diagnosis(), EN) == ""


def test_warnings_stay_with_a_result_and_an_overruled_refusal_is_named_as_one() -> None:
    warned = diagnosis(verdict=Verdict(problems=(problem("cut_off", Severity.WARN),), scores={}))
    overruled = diagnosis(verdict=Verdict(problems=(problem("over_exposed", Severity.REFUSE),), scores={}))
    assert wording.warnings(warned, EN) == [wording.Notice(*MESSAGES["cut_off"])]
    assert wording.warnings(warned, KO)[0].message.startswith("폐의 일부가")
    assert wording.warning_heading(warned, EN) == "Image quality"
    assert wording.warning_heading(overruled, EN) == "Read on request although the quality is too low"


@pytest.mark.parametrize(
    ("codes", "english", "korean"),
    [
        (["rotated_90"], "Turn upright and read", "바로 세워 판독하기"),
        (["inverted"], "Invert and read", "흑백 되돌려 판독하기"),
        (["inverted", "rotated_180"], "Turn upright, invert and read", "바로 세우고 흑백 되돌려 판독하기"),
        (["over_exposed"], "", ""),
        (["not_a_chest_radiograph"], "", ""),
    ],
)
def test_the_button_says_how_the_image_would_be_corrected(codes: list[str], english: str, korean: str) -> None:
    problems = tuple(
        problem(code, Severity.REFUSE).model_copy(update={"correction": CORRECTIONS.get(code)}) for code in codes
    )
    refused = diagnosis(verdict=Verdict(problems=problems, scores={}), probabilities={})
    assert wording.correction_offer(refused, EN) == english
    assert wording.correction_offer(refused, KO) == korean


def test_a_corrected_image_is_never_shown_as_the_one_received() -> None:
    corrected = diagnosis(correction=Correction(quarter_turns=3, invert=True))
    english, korean = (wording.correction_note(corrected, tr) for tr in (EN, KO))
    assert english is not None
    assert korean is not None
    assert english.message.endswith("on request: turned 90° clockwise and black and white swapped.")
    assert "시계 방향으로 90도 회전, 흑백 반전" in korean.message
    assert wording.correction_note(diagnosis(), EN) is None


def test_an_error_without_a_translation_is_shown_in_english_rather_than_not_at_all() -> None:
    error = RadiographError("from_the_future", "Something new.", "Do this.")
    assert words.error(error, KO) == wording.Notice("Something new.", "Do this.")


def test_a_result_says_which_models_answered_and_how_long_it_took() -> None:
    assert wording.made_by(diagnosis(timing_ms={"total": 164.0}), EN) == "Models r1 · int8 litert · read in 0.16 s"


def test_each_state_that_is_there_is_explained() -> None:
    notes = wording.level_notes(diagnosis(), EN)
    assert [note.split(":")[0] for note in notes] == ["Suspected", "Uncertain", "Unlikely"]
    assert all("1 in 10" in note for note in (notes[0], notes[2]))
    assert wording.level_notes(diagnosis(states=dict.fromkeys(KEYS, State.NOT_ASSESSED)), EN) == []


@pytest.mark.parametrize(
    ("fields", "english", "korean"),
    [
        ({}, "Unknown patient", "신원 미상 환자"),
        ({"sex": "male", "estimated_age": 60}, "Unknown man", "신원 미상 남성"),
        ({"sex": "female"}, "Unknown woman", "신원 미상 여성"),
        ({"name": "홍길동", "sex": "male"}, "홍길동", "홍길동"),
    ],
)
def test_a_patient_is_named_by_what_is_known(fields: dict[str, object], english: str, korean: str) -> None:
    who = PatientFields.model_validate(fields)
    assert (words.who(who, EN), words.who(who, KO)) == (english, korean)


def test_an_age_says_whether_it_is_estimated() -> None:
    day = date(2026, 4, 22)
    assert words.age(PatientFields(birth_date=date(1968, 4, 23)), EN, day) == "57 years"
    assert words.age(PatientFields(estimated_age=60), EN, day) == "about 60 years"
    assert words.age(PatientFields(estimated_age=60), KO, day) == "약 60세"
    assert words.age(PatientFields(), EN, day) == ""


def test_vital_signs_leave_out_what_was_not_taken() -> None:
    signs = VitalSignsFields(spo2=94, systolic=120, heart_rate=110)
    assert words.vital_figures(signs, EN) == [("SpO2", "94%"), ("HR", "110"), ("BP", "120/–")]


def test_delivered_is_said_only_of_what_the_hospital_provably_holds() -> None:
    said = {state: words.delivery(state, EN)[0] for state in Delivery}
    assert [state for state, text in said.items() if "has it" in text] == [Delivery.HELD]
    assert "Not" in said[Delivery.WAITING]


NOTHING = Standing(0, 0, 0, 0, 0, None, (), None)
ONLINE = LinkState(LinkKind.ONLINE, datetime.now(UTC))


@pytest.mark.parametrize(
    ("link", "standing", "said", "kind"),
    [
        (None, replace(NOTHING, events_waiting=3), "No hospital: 3 waiting", "plain"),
        (ONLINE, replace(NOTHING, events_held=9, originals_waiting=1), "Sending: 1 waiting", "plain"),
        (replace(ONLINE, kind=LinkKind.OFFLINE), replace(NOTHING, events_waiting=2), "Offline: 2 waiting", "warning"),
        (ONLINE, replace(NOTHING, events_held=9), "All delivered", "good"),
        (replace(ONLINE, kind=LinkKind.OFFLINE), replace(NOTHING, events_held=9), "All delivered", "good"),
        (ONLINE, NOTHING, "Connected", "good"),
        (
            replace(ONLINE, kind=LinkKind.FOREIGN),
            replace(NOTHING, events_waiting=2),
            "This is not the hospital",
            "urgent",
        ),
        (ONLINE, replace(NOTHING, events_held=9, refusals=(Refusal("3", "x", "y"),)), "Refused: see Status", "urgent"),
    ],
)
def test_the_state_at_the_top_is_good_only_where_everything_is_held(
    link: LinkState | None, standing: Standing, said: str, kind: str
) -> None:
    assert words.chip(link, standing, EN) == (said, kind)


@pytest.mark.parametrize("kind", list(LinkKind))
def test_every_state_of_the_link_has_words(kind: LinkKind) -> None:
    assert words.link(replace(ONLINE, kind=kind), EN)[0] != kind.value


RUN = RunRow(
    id=UUID(int=1),
    patient=UUID(int=2),
    who=PatientFields(),
    encounter=EncounterFields(),
    radiographs=1,
    unread=0,
    latest=diagnosis(probabilities={}, states={}, top3=(), boxes=(), urgent=()),
    urgent=(),
    delivery=Delivery.WAITING,
    acknowledged=False,
    news=0,
)


def test_an_unread_run_is_never_said_to_be_without_finding() -> None:
    assert words.run_line(RUN, EN) == ("Not read: image quality", "warning")
    assert words.run_line(replace(RUN, latest=None), EN) == ("Could not be read", "warning")
    assert words.run_line(replace(RUN, unread=1), EN)[0] == "Not read yet"
    assert words.run_line(replace(RUN, urgent=("Pneumothorax",)), EN) == ("Urgent: Pneumothorax", "urgent")


def test_that_a_run_was_seen_never_hides_news_of_it() -> None:
    row = replace(RUN, delivery=Delivery.HELD)
    assert words.run_delivery(row, EN) == ("The hospital has it", "good")
    assert words.run_delivery(replace(row, acknowledged=True), EN) == ("ER has seen it", "good")
    assert words.run_delivery(replace(row, acknowledged=True, news=1), EN) == ("News from the ER", "warning")


def test_news_has_a_button_only_where_there_is_something_to_do() -> None:
    assert news.said(News("deleted"), EN) == ("Deleted.", "Undo")
    assert news.said(News("undone"), KO) == ("되돌렸습니다.", "")
    problem = RadiographError("file_empty", "The file is empty.", "Send it again.")
    assert news.said(News("error", error=problem), EN) == ("The file is empty. Send it again.", "")


def texts_of_the_window() -> set[str]:
    """The literal of every ``tr("...")`` in the sources and the layout."""
    call = re.compile(r'\b(?:tr|mistake)\(\s*("(?:[^"\\]|\\.)*")')
    sources = [*ROOT.rglob("*.py"), *ROOT.rglob("*.kv")]
    return {ast.literal_eval(found) for path in sources for found in call.findall(path.read_text())}


RAISING = {
    "FirstRayError",
    "StoreError",
    "RadiographError",
    "ReleaseError",
    "RuntimeUnavailable",
    "PinWrong",
    "dicom_error",
}

ELSEWHERE = {"demo_not_sent", "no_display", "outline_unwritable", "pin_file_open", "pin_missing"}
"""Codes that end a command before there is a window, so that the command line says them."""


def codes_raised() -> set[str]:
    """The code of every error that is raised with a literal code in the app, and in loading a release or a runtime."""
    shared = ROOT.parent / "shared"
    models = [shared / name for name in ("release.py", "runtime.py", "variants.py", "receipts.py", "hybrid_clock.py")]
    codes = set()
    for path in [*ROOT.rglob("*.py"), *models]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                if name in RAISING and isinstance(node.args[0].value, str):
                    codes.add(node.args[0].value)
    return {code for code in codes if not code.startswith("signing_key")}


CODES = {
    *ERRORS,
    *READING_ERRORS,
    *dicom_errors.ERRORS,
    *hot_folder.ERRORS,
    *store_errors._TEXTS,
    *sync_problems.TEXTS,
    *enrolment.TEXTS,
    *codes_raised(),
    "app_error",
} - ELSEWHERE


@pytest.mark.parametrize("text", sorted(texts_of_the_window()))
def test_every_text_of_the_window_is_translated(text: str) -> None:
    with CATALOGUE.open("rb") as file:
        message = read_po(file).get(text)
    assert message is not None
    assert message.string
    assert sorted(re.findall(r"{\w+}", message.string)) == sorted(re.findall(r"{\w+}", text))


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_error_the_window_may_show_is_translated(code: str) -> None:
    assert re.search("[가-힣]", KO.message(code, ""))
    assert re.search("[가-힣]", KO.action(code, ""))


def test_the_compiled_catalogue_is_that_of_the_source() -> None:
    with CATALOGUE.open("rb") as source, CATALOGUE.with_suffix(".mo").open("rb") as compiled:
        written, built = read_po(source), GNUTranslations(compiled)
    for message in written:
        if message.id:
            found = built.pgettext(message.context, message.id) if message.context else built.gettext(message.id)
            assert found == message.string, "run 'make translations'"
