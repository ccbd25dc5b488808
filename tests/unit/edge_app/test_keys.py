"""The pages of the on-screen keyboard: nothing is missing, nothing is there twice."""

import pytest
from PIL import ImageFont

from edge_app.ui import keys
from edge_app.ui.editing import Editor, Kind
from edge_app.ui.hangul import LATIN_KEYS
from edge_app.ui.keys import Page
from shared.enrolment import ALPHABET
from shared.fonts import BOLD

PAGES = [
    *(keys.letters(language, shifted, lines) for language in ("ko", "en") for shifted in (0, 1) for lines in (0, 1)),
    *(keys.symbols(language, lines) for language in ("ko", "en") for lines in (False, True)),
    keys.pad(point=False),
    keys.pad(point=True),
    keys.address(),
    keys.code(),
]


def faces(page: Page) -> list[str]:
    return [cap.text for row in page for cap in row if cap.action is None and cap.text]


def actions(page: Page) -> list[str]:
    return sorted(cap.action for row in page for cap in row if cap.action)


def test_both_shifts_together_type_every_korean_letter() -> None:
    assert set(faces(keys.letters("ko", False, False)) + faces(keys.letters("ko", True, False))) == set(
        LATIN_KEYS.values()
    )


def test_latin_letters_and_their_capitals() -> None:
    small, large = faces(keys.letters("en", False, False)), faces(keys.letters("en", True, False))
    assert sorted(small) == list("abcdefghijklmnopqrstuvwxyz")
    assert large == [letter.upper() for letter in small]


@pytest.mark.parametrize("page", PAGES)
def test_every_page_can_be_left_and_corrected(page: Page) -> None:
    assert {"backspace", "enter", "hide"} <= set(actions(page))
    assert len(actions(page)) == len(set(actions(page)))
    assert len(page) == 4
    assert max(sum(cap.width for cap in row) for row in page) <= (11 if page == keys.address() else 10.01)


def test_only_fields_of_several_lines_have_a_key_for_a_new_line() -> None:
    assert "newline" in actions(keys.letters("ko", False, True))
    assert "newline" not in actions(keys.letters("ko", False, False))


@pytest.mark.parametrize("kind", [Kind.DIGITS, Kind.DECIMAL, Kind.DATE, Kind.PIN])
def test_a_pad_types_what_its_field_takes(kind: Kind) -> None:
    for face in faces(keys.pad(point=kind is Kind.DECIMAL)):
        editor = Editor(kind)
        editor.type(face)
        assert editor.text == face


def test_an_address_and_a_code_are_typed_on_one_page() -> None:
    assert set("https://er-2.hospital.example:8443/0123456789") <= set(faces(keys.address()))
    assert sorted(faces(keys.code())) == sorted(ALPHABET)
    for page, kind in ((keys.address(), Kind.ADDRESS), (keys.code(), Kind.CODE)):
        for face in faces(page):
            editor = Editor(kind)
            editor.type(face)
            assert editor.text == face


def test_the_font_has_every_face() -> None:
    font = ImageFont.truetype(str(BOLD), 30)
    missing = bytes(font.getmask("\U0010fffd"))
    signs = {sign for page in PAGES for row in page for cap in row for sign in cap.text}
    assert not [sign for sign in signs if bytes(font.getmask(sign)) == missing]
