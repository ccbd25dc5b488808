"""What the window says in both languages, and that no text is left untranslated."""

import ast
import re
from gettext import GNUTranslations
from pathlib import Path

import pytest
from babel.messages.pofile import read_po

import edge_app.ui.presenter
from edge_app.ui import wording
from edge_app.ui.i18n import LOCALE, Translator
from edge_app.ui.presenter import Failed, Idle, Reading, Refused, Shown, Starting
from shared.boxes import Box
from shared.calibration import State
from shared.correction import Correction
from shared.diagnosis import Diagnosis, Ranked
from shared.errors import RadiographError
from shared.findings import KEYS
from shared.quality import CORRECTIONS, MESSAGES, Problem, Severity, Verdict
from shared.radiograph import ERRORS

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
    failed = Failed(None, RadiographError("from_the_future", "Something new.", "Do this."))
    assert wording.failure(failed, KO) == wording.Notice("Something new.", "Do this.")


def test_every_state_has_a_title_of_its_own_that_names_no_file() -> None:
    refusal = problem("over_exposed", Severity.REFUSE)
    path = Path("Hong_Gildong.dcm")
    states = [
        Starting(),
        Idle(),
        Reading(path),
        Shown(path, None, diagnosis(), None, "en", 0.1),  # type: ignore[arg-type]
        Refused(path, None, diagnosis(), refusal, None, "en", 0.1),  # type: ignore[arg-type]
        Failed(path, RadiographError("file_empty", "", "")),
    ]
    for tr in (EN, KO):
        titles = [wording.title(state, tr) for state in states]
        assert len(set(titles)) == len(states)
        assert not [title for title in titles if "Hong" in title]
    assert wording.title(states[3], KO) == "FirstRay – 결과: 기흉, 폐종괴, 폐부종"
    assert wording.title(states[4], EN) == "FirstRay – refused (over_exposed)"


def test_the_footer_says_which_models_answered_and_how_long_it_took() -> None:
    shown = Shown(Path("a"), None, diagnosis(), None, "en", 0.164)  # type: ignore[arg-type]
    assert wording.footer(shown, EN) == "Models r1 · int8 litert · read in 0.16 s"


def texts_of_the_window() -> set[str]:
    """The literal of every ``tr("...")`` in the sources and the layout."""
    call = re.compile(r'\btr\(\s*("(?:[^"\\]|\\.)*")')
    sources = [*ROOT.rglob("*.py"), *ROOT.rglob("*.kv")]
    return {ast.literal_eval(found) for path in sources for found in call.findall(path.read_text())}


def codes_of_the_models() -> set[str]:
    """The code of every error that loading a release or a runtime raises."""
    codes = set()
    shared = Path(wording.__file__).parents[2] / "shared"
    for name in ("release.py", "runtime.py", "variants.py"):
        for node in ast.walk(ast.parse((shared / name).read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("ReleaseError", "RuntimeUnavailable"):
                codes.add(ast.literal_eval(node.args[0]))
    return {code for code in codes if not code.startswith("signing_key")}


@pytest.mark.parametrize("text", sorted(texts_of_the_window()))
def test_every_text_of_the_window_is_translated(text: str) -> None:
    with CATALOGUE.open("rb") as file:
        message = read_po(file).get(text)
    assert message is not None
    assert message.string
    assert sorted(re.findall(r"{\w+}", message.string)) == sorted(re.findall(r"{\w+}", text))


@pytest.mark.parametrize("code", sorted({*ERRORS, *codes_of_the_models(), "internal_error", "folder_unreadable"}))
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
